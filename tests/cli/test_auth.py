"""`mailflow auth`: log in at a provider of tokens, look, renew, forget."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.oauth2 import SECRET, OAuth2Server

from ..engine.standing import eventually
from ..oauth2.conftest import last_address
from .command import Done, Shop
from .serving import Begin

ANN = "ann@example.org"

BROWSER = """\
import sys, urllib.request
urllib.request.urlopen(sys.argv[1]).read()
"""

DEFAULTS = """
[account.work]
host = "imap.example.org"
user = "ann@example.org"
oauth2 = { provider = "mine", flow = "browser" }
[account.open]
oauth2 = "mine"
[account.plain]
user = "red"
"""

FILE = """
[[fetch]]
use = "pop3"
host = "localhost"
user = "ben@example.org"
oauth2 = { provider = "mine" }
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""


@pytest.fixture
def server() -> Iterator[OAuth2Server]:
    with OAuth2Server() as running:
        yield running


class Desk:
    """A user with a browser and a provider of tokens."""

    def __init__(self, shop: Shop, server: OAuth2Server) -> None:
        self.shop, self.server = shop, server
        self.settings = shop.home / ".config" / "mailflow"
        (self.settings / "providers").mkdir(parents=True)
        (self.settings / "defaults.toml").write_text(DEFAULTS)
        words = {**server.provider(), "client_secret": {"file": str(self.secret())}}
        text = "".join(f"{key} = {_toml(value)}\n" for key, value in words.items())
        (self.settings / "providers" / "mine.toml").write_text(text)
        script = shop.home / "browser.py"
        script.write_text(BROWSER)
        self.env = {"BROWSER": f"{sys.executable} {script} %s"}

    def secret(self) -> Path:
        path = self.shop.home / "client.secret"
        path.write_text(SECRET)
        path.chmod(0o600)
        return path

    def __call__(self, *words: str, stdin: bytes = b"") -> Done:
        done = self.shop("auth", *words, env=self.env, stdin=stdin)
        assert SECRET not in done.out + done.err
        for token in self.server.tokens:
            assert token.access_token not in done.out + done.err
            assert token.refresh_token not in done.out + done.err
        return done

    def status(self, *words: str) -> dict[str, dict[str, Any]]:
        rows = json.loads(self("status", "--json", *words).out)
        return {row["login"]: row for row in rows}

    def change(self, **fields: object) -> None:
        [path] = (self.shop.home / "state/mailflow/oauth2").glob("*.tokens")
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


@pytest.fixture
def desk(shop: Shop, server: OAuth2Server) -> Desk:
    return Desk(shop, server)


def test_a_login_opens_the_browser_and_keeps_tokens_that_only_the_user_can_read(desk):
    done = desk("login", "work")
    assert done.status == 0, done.err
    assert f"{ANN} has logged in at mine" in done.out
    [path] = (desk.shop.home / "state/mailflow/oauth2").glob("*.tokens")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["work", "mine/ann@example.org", ANN])
def test_an_account_is_named_in_several_ways(desk, name):
    desk("login", "work")
    assert "is good for 59m" in desk("refresh", name).out
    assert len(desk.server.asked("refresh_token")) == 1


def test_a_provider_and_a_user_need_no_account(desk):
    assert desk("login", "mine/cat@example.org").status == 0
    assert list(desk.status())[1:] == ["mine/cat@example.org"]


def test_a_pipeline_names_its_logins(desk):
    file = desk.shop.write(FILE)
    assert desk("login", "ben@example.org", "--file", file).status == 0
    assert desk.status("--file", file)["mine/ben@example.org"]["logged_in"]


DROPS = """
[maildrop."dan@example.org"]
use = "imap"
host = "localhost"
oauth2 = "mine"
[maildrop."*"]
use = "imap"
host = "localhost"
user = "{login}"
oauth2 = "mine"
"""


@pytest.mark.parametrize("name", ["mine/ben@example.org", "ben@example.org"])
def test_a_pipeline_that_is_found_by_its_name_need_not_be_named(desk, name):
    text = FILE.replace('{ provider = "mine" }', '{ provider = "mine", client_id = "another" }')
    (desk.settings / "home.toml").write_text(text)
    (desk.settings / "broken.toml").write_text("[[fetch\n")
    done = desk("login", name, "--flow", "device")
    assert "gives no code" in done.err or "invalid_client" in done.err
    (desk.settings / "home.toml").write_text(FILE)
    assert desk("login", name).status == 0
    assert desk.shop("check", "home").status == 0


def test_pipelines_that_ask_as_different_clients_are_told_apart_by_the_user(desk):
    (desk.settings / "one.toml").write_text(FILE)
    two = FILE.replace('{ provider = "mine" }', '{ provider = "mine", client_id = "another" }')
    (desk.settings / "two.toml").write_text(two)
    done = desk("login", "mine/ben@example.org")
    assert done.status == 78
    assert "name one of them by --file: " in done.err
    assert desk("login", "mine/ben@example.org", "--file", "one").status == 0


def test_a_client_secret_that_cannot_be_read_is_told_before_anybody_is_asked(desk):
    desk.secret().unlink()
    done = desk("login", "work")
    assert done.status == 78
    assert "cannot read secret file" in done.err
    assert "browser" not in done.err


def test_a_maildrop_names_its_login_and_one_for_many_leaves_it_open(desk: Desk) -> None:
    file = desk.shop.write(DROPS)
    assert desk("login", "dan@example.org", "--file", file).status == 0
    assert desk("login", "mine/eve@example.org", "--file", file).status == 0
    known = ["mine/ann@example.org", "mine/dan@example.org", "mine/eve@example.org"]
    assert list(desk.status("--file", file)) == known


def test_a_pipeline_that_is_wrong_elsewhere_keeps_nobody_from_logging_in(desk):
    file = desk.shop.write(FILE + "[[process]]\nuse = 'nothing'\n")
    assert desk("login", "ben@example.org", "--file", file).status == 0


def test_the_last_address_may_be_pasted(desk):
    child = desk.shop.start(
        "auth", "login", "work", "--flow", "paste", env=desk.env
    )  # fmt: skip
    lines = [child.stderr.readline().decode() for _ in range(2)]
    done = desk.shop.end(child, last_address(lines[1].strip()).encode() + b"\n")
    assert done.status == 0, done.err
    assert desk.status()["mine/ann@example.org"]["logged_in"]


def test_a_dry_run_asks_nobody_and_keeps_nothing(desk):
    assert "would log in at mine as ann@example.org" in desk("login", "work", "--dry-run").out
    assert not (desk.shop.home / "state/mailflow/oauth2").exists()
    desk("login", "work")
    assert "would renew" in desk("refresh", "work", "--dry-run").out
    assert "would forget" in desk("forget", "work", "--dry-run").out
    assert desk.status()["mine/ann@example.org"]["logged_in"]
    assert [grant for grant, _ in desk.server.requests] == ["authorization_code"]


def test_a_name_that_nobody_has_is_told_with_those_that_are_there(desk):
    done = desk("login", "wrok")
    assert done.status == 78
    assert "no account with oauth2 is called 'wrok'; there are open, work. Write " in done.err


def test_an_account_without_a_user_asks_for_one(desk):
    done = desk("login", "open")
    assert done.status == 78
    assert "write mine/USER" in done.err


def test_a_provider_without_a_client_says_where_one_is_to_be_had(desk):
    done = desk("login", "google/ann@gmail.com")
    assert done.status == 78
    assert "`client_id` is missing" in done.err
    assert "https://console.cloud.google.com" in done.err


class TestStatus:
    def test_it_says_what_a_login_is_good_for(self, desk):
        desk("login", "work")
        done = desk("status")
        assert done.status == 0
        [heading, line] = done.out.splitlines()
        assert heading.split() == ["LOGIN", "TOKEN", "CONSENT", "ENDS", "STATE"]
        assert line.split()[:3] == ["mine/ann@example.org", "in", "59m"]
        assert line.endswith("good")

    def test_who_has_not_logged_in_is_told_by_the_exit_status_too(self, desk):
        done = desk("status")
        assert done.status == 77
        assert "nobody has logged in at mine as ann@example.org; run: mailflow auth" in done.out

    def test_the_end_of_a_consent_is_shown_and_warned_of(self, desk):
        desk("login", "work")
        with (desk.settings / "providers" / "mine.toml").open("a") as file:
            file.write('consent = "30d"\n')
        desk.change(consented=time.time() - 20 * 86400)
        line = desk("status").out.splitlines()[1]
        assert "20d ago" in line
        assert "in 9d 23h" in line
        desk.change(consented=time.time() - 28 * 86400)
        assert "log in again before 20" in desk("status").out

    def test_a_consent_that_is_over_is_shown(self, desk):
        desk("login", "work")
        desk.server.withdraw()
        assert desk("refresh", "work").status == 77
        done = desk("status")
        assert done.status == 77
        assert desk.status()["mine/ann@example.org"]["login_needed"] is True

    def test_json_has_times_and_no_secret(self, desk):
        desk("login", "work")
        row = desk.status("work")["mine/ann@example.org"]
        assert row["token_ends"] == pytest.approx(time.time() + 3600, abs=60)
        assert row["consented"] == pytest.approx(time.time(), abs=60)
        assert (row["renewable"], row["problem"], row["consent_ends"]) == (True, "", None)


class TestForget:
    def test_it_removes_the_tokens_and_gives_the_consent_back(self, desk):
        desk("login", "work")
        assert "is forgotten, here and at mine" in desk("forget", "work").out
        assert not list((desk.shop.home / "state/mailflow/oauth2").glob("*.tokens*[!k]"))
        assert all(token.revoked for token in desk.server.tokens)
        assert desk("forget", "work").status == 78

    def test_a_provider_that_is_gone_keeps_nobody_from_forgetting(self, desk):
        desk("login", "work")
        shutil.rmtree(desk.settings)
        assert "is forgotten here" in desk("forget", "mine/ann@example.org").out
        assert desk.status() == {}

    def test_a_provider_that_does_not_answer_is_told(self, desk):
        desk("login", "work")
        path = desk.settings / "providers" / "mine.toml"
        path.write_text(path.read_text().replace("/revocation", "/nowhere"))
        assert "could not be given back" in desk("forget", "work").out
        assert not desk.status()["mine/ann@example.org"]["logged_in"]

    def test_what_is_damaged_can_be_forgotten(self, desk):
        desk("login", "work")
        [path] = (desk.shop.home / "state/mailflow/oauth2").glob("*.tokens")
        path.write_text("{")
        assert desk("status").status == 0
        assert desk("forget", "work").status == 0
        assert not path.exists()


def test_config_show_hides_the_secret_of_a_client(desk):
    table = '{ provider = "mine", client_id = "x", client_secret = "canary-3x7q-secret" }'
    file = desk.shop.write(FILE.replace('{ provider = "mine" }', table))
    done = desk.shop("config", "show", file)
    assert 'client_secret = "********"' in done.out


def test_check_tells_who_must_log_in_and_warns_of_a_secret_in_the_file(desk):
    table = f'{{ provider = "mine", client_secret = "{SECRET}" }}'
    file = desk.shop.write(FILE.replace('{ provider = "mine" }', table))
    desk.shop.path.chmod(0o600)
    done = desk.shop("check", file)
    assert done.status == 78
    assert "fetch[1].oauth2: nobody has logged in at mine as ben@example.org; run:" in done.err
    desk("login", "ben@example.org", "--file", file)
    done = desk.shop("check", file)
    assert done.status == 0, done.err
    assert "fetch[1].oauth2.client_secret: the secret is in this file" in done.out + done.err


LIVE = """
[[fetch]]
use = "pop3"
host = "localhost"
port = {port}
tls = "implicit"
ca_file = "{ca_file}"
user = "ann@example.org"
oauth2 = "mine"
every = "1h"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""


@pytest.mark.interop("dovecot-pop3d")
def test_what_runs_takes_up_a_new_login_and_no_token_is_fetched_twice(
    desk: Desk, server: OAuth2Server, begin: Begin, tmp_path: Path
) -> None:
    with Dovecot(tmp_path / "dovecot", introspection=server.introspection) as dovecot:
        dovecot.add_user(ANN, "another")
        dovecot.deliver(ANN, b"Subject: one\r\n\r\nhello\r\n")
        file = desk.shop.write(LIVE, port=dovecot.pop3s_port, ca_file=dovecot.ca_file)
        serving = begin(file)
        eventually(lambda: "nobody has logged in" in desk.shop("status").out, "the refusal")
        assert desk.shop.maildir == []
        assert desk("login", "work").status == 0
        desk.shop("poke", "pop3")
        eventually(lambda: len(desk.shop.maildir) == 1, "the mail")
        assert "run: mailflow auth login mine/ann@example.org" in serving.end().err
        assert [grant for grant, _ in server.requests] == ["authorization_code"]
