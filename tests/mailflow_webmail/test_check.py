"""`mailflow webmail check` and `login`: a definition and an account, tried at a live webmail."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from http.cookiejar import MozillaCookieJar
from pathlib import Path

import click
import pytest
import requests
from click.testing import CliRunner

from mailflow.errors import ConfigError, LoginError, MailflowError
from mailflow.testing.webmail import PASSWORD, TestBed
from mailflow_webmail.commands.account import said
from mailflow_webmail.commands.check import check
from mailflow_webmail.commands.login import login, written
from mailflow_webmail.definition.site import find
from mailflow_webmail.definition.written import key

from .web import SocksProxy


@pytest.fixture
def bed() -> Iterator[TestBed]:
    with TestBed(folders=["Archive"], page_size=2, user="ann") as running:
        running.put("INBOX", *(b"Subject: n%d\r\n\r\n" % number for number in range(3)))
        yield running


@pytest.fixture
def words(bed: TestBed, home: Path) -> list[str]:
    """What says where and who."""
    secret = home / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    return [bed.url, "--user", "ann", "--password", f"file:{secret}"]


def run(
    command: object, site: str, words: list[str], *more: str, status: int = 0
) -> dict[str, tuple[str, str]]:
    """What it prints, by the first word of each line."""
    result = CliRunner().invoke(command, [site, *words, *more], standalone_mode=False)  # type: ignore[arg-type]
    assert (result.exception, result.return_value) == (None, status), result.output
    lines = [re.split(r"\s{2,}", line, maxsplit=2) for line in result.stdout.splitlines()]
    return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}


def test_pwm_33_each_step_is_tried_and_said_to_hold(bed: TestBed, words: list[str]) -> None:
    found = run(check, "testbed", words)
    assert found["login"] == ("holds", "logged in; captured token")
    assert found["folders"][1].startswith(("2 folders", "3 folders", "4 folders"))
    assert found["list"] == ("holds", "3 messages in 'INBOX' on 2 pages")
    assert (
        found["raw"][0] == found["compose"][0] == found["send"][0] == found["logout"][0] == "holds"
    )


def test_nothing_is_changed_and_nothing_sent_unless_a_message_is_named(
    bed: TestBed, words: list[str]
) -> None:
    before = bed.uids("INBOX")
    found = run(check, "testbed", words)
    assert {found[name][0] for name in ("seen", "trash", "delete", "attach", "sent")} == {
        "not tried"
    }
    assert bed.uids("INBOX") == before
    assert not any(each.method == "POST" for each in bed.requests if each.step != "login")


def test_the_messages_that_are_named_are_changed_and_no_others(
    bed: TestBed, words: list[str]
) -> None:
    first, second, third = bed.uids("INBOX")
    found = run(check, "testbed", words, "--change", first, "--change", third)
    assert {found[name][0] for name in ("seen", "trash", "delete")} == {"holds"}
    assert bed.uids("INBOX") == [second]


def test_of_one_message_alone_it_says_what_was_not_tried(bed: TestBed, words: list[str]) -> None:
    found = run(check, "testbed", words, "--change", bed.uids("INBOX")[0])
    assert found["trash"][0] == "holds"
    assert found["delete"] == (
        "not tried", "the message is in the trash: name a second one with --change ID",
    )  # fmt: skip
    assert len(bed.uids("INBOX")) == 2


def test_a_message_that_is_not_there_is_not_taken_for_changed(
    bed: TestBed, words: list[str]
) -> None:
    found = run(check, "testbed", words, "--change", "nobody")
    assert {found[name][0] for name in ("seen", "trash", "delete")} == {"not tried"}
    assert len(bed.uids("INBOX")) == 3


def test_f26_a_selector_that_does_not_hold_is_named_with_the_saved_page(
    bed: TestBed, words: list[str], home: Path
) -> None:
    bed.trouble("layout")
    found = run(check, "testbed", words, status=76)
    assert found["login"][0] == "holds"
    assert found["list"][0] == "DOES NOT HOLD"
    page = re.search(r"is in (\S+)", found["list"][1])
    assert page is not None
    assert PASSWORD not in Path(page[1]).read_text()
    assert found["raw"] == ("not tried", "there is no message")
    assert len(bed.uids("INBOX")) == 3


def test_a_field_that_the_form_for_mail_lacks_is_named(
    bed: TestBed, words: list[str], home: Path
) -> None:
    own = home / "own.toml"
    own.write_text(Path(find("testbed")).read_text().replace("text = ", "texts = "))
    assert "fill.texts" in run(check, str(own), words, status=76)["send"][1]


def test_where_nobody_is_let_in_the_rest_is_not_tried(
    bed: TestBed, words: list[str], home: Path
) -> None:
    (home / "secret").write_text("wrong")
    found = run(check, "testbed", words, status=77)
    assert found["login"][0] == "DOES NOT HOLD"
    assert found["list"] == ("not tried", "nobody is logged in")


def test_json_says_the_same_with_the_key_and_the_saved_page(bed: TestBed, words: list[str]) -> None:
    bed.trouble("layout")
    result = CliRunner().invoke(check, ["testbed", *words, "--json"], standalone_mode=False)
    assert result.return_value == 76
    found = {each["step"]: each for each in json.loads(result.stdout)}
    assert found["login"]["holds"] is True
    assert found["list"]["holds"] is False
    assert found["list"]["key"]
    assert Path(found["list"]["saved"]).exists()
    assert found["raw"]["holds"] is None


def test_pwm_33_login_shows_folders_and_what_to_write(
    bed: TestBed, words: list[str], home: Path
) -> None:
    result = CliRunner().invoke(login, ["testbed", *words], standalone_mode=False)
    assert result.exception is None, result.output
    table, _, text = result.stdout.partition("\n\n")
    assert re.search(r"^INBOX +3 +INBOX$", table, re.M)
    assert tomllib.loads(text) == {"fetch": [{
        "use": "webmail", "site": "testbed", "url": bed.url, "user": "ann",
        "password": {"file": str(home / "secret")},
    }]}  # fmt: skip


def test_where_no_folder_is_called_inbox_what_to_write_names_one(
    words: list[str], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.toml"
    known = Path(find("testbed")).read_text()
    mine.write_text(known.replace('"#folders a"', '"#folders a[href*=Archive]"'))
    result = CliRunner().invoke(login, [str(mine), *words, "--json"], standalone_mode=False)
    assert json.loads(result.stdout)["fetch"]["folders"] == ["Archive"]


def test_a_site_that_nobody_knows_is_told_before_a_password_is_asked_for(bed: TestBed) -> None:
    error = refused("testbid", bed.url, "--user", "ann")
    assert error.text == "there is no site 'testbid'; did you mean `testbed`?"


def test_a_password_that_is_typed_is_asked_for_and_never_printed(
    bed: TestBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def typed(what: str) -> str:
        asked.append(what)
        return PASSWORD

    monkeypatch.setattr("mailflow_webmail.commands.account.typed", typed)
    words = ["testbed", bed.url, "--user", "ann", "--json"]
    result = CliRunner().invoke(login, words, standalone_mode=False)
    found = json.loads(result.stdout)
    assert found["fetch"]["password"] == {"file": "~/.config/mailflow/page.secret"}
    assert {each["name"]: each["messages"] for each in found["folders"]}["INBOX"] == 3
    assert len(asked) == 1


def test_a_password_that_is_a_word_of_what_to_write_changes_nothing_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mailflow_webmail.commands.account.typed", lambda _: "secret")
    with TestBed(user="ann", password="secret") as bed:
        words = ["testbed", bed.url, "--user", "ann"]
        result = CliRunner().invoke(login, words, standalone_mode=False)
    assert result.exception is None, result.output
    [fetch] = tomllib.loads(result.stdout.partition("\n\n")[2])["fetch"]
    assert fetch["password"] == {"file": "~/.config/mailflow/page.secret"}


@pytest.mark.parametrize("command", [login, check])
@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize("password", ["canary-77", "canary@7:7", "canary://7"])
def test_a_proxy_s_password_in_an_argument_is_refused_and_not_repeated(
    command: click.Command, scheme: str, password: str
) -> None:
    told = ["testbed", "http://127.0.0.1:1/", "--user", "ann", "--password", "env:X"]
    told += ["--proxy", f"{scheme}ann:{password}@proxy:3128"]
    result = CliRunner().invoke(command, told, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert result.exception.message.endswith(
        f"write {scheme}ann@proxy:3128 and say --proxy-password file:PATH"
    )
    assert "canary" not in result.exception.message


def test_a_proxy_is_told_its_password_from_a_file(
    bed: TestBed, words: list[str], tmp_path: Path
) -> None:
    secret = tmp_path / "proxy"
    secret.write_text("canary-77\n")
    secret.chmod(0o600)
    with SocksProxy({"webmail.example.org": bed.port}, "ann:canary-77") as proxy:
        through = f"socks5h://ann@127.0.0.1:{proxy.port}"
        words[0] = f"http://webmail.example.org:{bed.port}/"
        words += ["--proxy", through, "--proxy-password", f"file:{secret}", "--json"]
        result = CliRunner().invoke(login, ["testbed", *words], standalone_mode=False)
    assert result.exception is None, result.exception
    fetch = json.loads(result.stdout)["fetch"]
    assert (fetch["proxy"], fetch["proxy_password"]) == (through, {"file": str(secret)})
    assert proxy.asked


def test_the_password_of_a_proxy_is_asked_for_and_not_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr("mailflow_webmail.commands.account.typed", asked.append)
    table = said("a", "b", "ann", "env:X", "http://ann@proxy:3128", None, cookies=None)
    assert asked == ["ann at the proxy proxy:3128"]
    assert table["proxy"] == "http://ann@proxy:3128"
    found = written({**table, "proxy_password": "canary-77"})
    assert found["proxy_password"] == {"file": "~/.config/mailflow/proxy.secret"}


def test_a_proxy_s_password_without_a_proxy_is_a_fault(bed: TestBed, words: list[str]) -> None:
    told = ["testbed", *words, "--proxy-password", "env:X"]
    result = CliRunner().invoke(login, told, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert "there is no --proxy" in result.exception.message


@pytest.mark.parametrize("name", ["plain", "", "a b", "a'\"b\\", "caf\u00e9", "\U0001f600", "\x7f"])
def test_a_key_is_read_as_the_same_whatever_it_holds(name: str) -> None:
    assert tomllib.loads(f"{key(name)} = 1") == {name: 1}


def refused(*words: str) -> MailflowError:
    result = CliRunner().invoke(login, words, standalone_mode=False)
    assert isinstance(result.exception, MailflowError)
    return result.exception


def test_without_a_terminal_a_password_that_is_missing_is_an_error(bed: TestBed) -> None:
    error = refused("testbed", bed.url, "--user", "ann")
    assert isinstance(error, ConfigError)
    assert "say --password file:PATH" in error.text


def test_a_login_that_is_refused_is_the_error_of_the_command(
    bed: TestBed, words: list[str], home: Path
) -> None:
    (home / "secret").write_text("wrong")
    assert isinstance(refused("testbed", *words), LoginError)


def test_a_password_in_an_argument_is_no_place_where_one_is(bed: TestBed) -> None:
    words = ["testbed", bed.url, "--user", "ann", "--password", PASSWORD]
    result = CliRunner().invoke(login, words, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert PASSWORD not in result.exception.message


def test_who_logs_in_must_be_said_where_nobody_can_be_asked(bed: TestBed) -> None:
    result = CliRunner().invoke(login, ["testbed", bed.url], standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)
    assert "--user NAME" in result.exception.message


@pytest.fixture
def cookies(bed: TestBed, home: Path) -> Path:
    """Those of a browser that is logged in."""
    file = home / "page.cookies"
    jar = MozillaCookieJar(file)
    with requests.Session() as browser:
        browser.trust_env = False
        browser.cookies = jar  # type: ignore[assignment]
        page = browser.get(f"{bed.url}login", timeout=20).text
        nonce = re.search(r'name="nonce" value="([^"]+)"', page)
        assert nonce is not None
        fields = {"user": "ann", "pass": PASSWORD, "nonce": nonce[1]}
        assert "logout" in browser.post(f"{bed.url}login", data=fields, timeout=20).text
    jar.save(ignore_discard=True)
    file.chmod(0o600)
    return file


def test_the_cookies_of_a_browser_do_instead_of_a_password_and_are_written_down(
    bed: TestBed, cookies: Path
) -> None:
    words = ["testbed", bed.url, "--user", "ann", "--cookies", str(cookies), "--json"]
    result = CliRunner().invoke(login, words, standalone_mode=False)
    assert result.exception is None, result.output
    found = json.loads(result.stdout)
    assert found["fetch"]["cookies"] == str(cookies)
    assert "password" not in found["fetch"]
    assert {each["name"]: each["messages"] for each in found["folders"]}["INBOX"] == 3


def test_a_session_that_a_browser_has_lent_is_not_logged_out(bed: TestBed, cookies: Path) -> None:
    words = [bed.url, "--user", "ann", "--cookies", str(cookies)]
    assert run(check, "testbed", words)["logout"] == (
        "not tried", "the session is that of a browser",
    )  # fmt: skip
    assert run(check, "testbed", words)["list"][0] == "holds"


def test_what_is_written_names_files_from_wherever_it_is_read(
    bed: TestBed, words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "own.toml").write_text(Path(find("testbed")).read_text())
    nearby = ["own.toml", *words[:-1], "file:secret", "--json"]
    result = CliRunner().invoke(login, nearby, standalone_mode=False)
    assert result.exception is None, result.output
    fetch = json.loads(result.stdout)["fetch"]
    assert fetch["site"] == str(home / "own.toml")
    assert fetch["password"] == {"file": str(home / "secret")}
