"""A home as the README has it: mail of two real servers in one drop, for one old program."""

from __future__ import annotations

import json
import poplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import Serving, free_ports

pytestmark = [pytest.mark.interop("dovecot-pop3d"), pytest.mark.timeout(120)]

PIPELINE = """
[[fetch]]
name = "work"
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "office"
password = {{ file = "office.secret" }}
every = "1s"

[[fetch]]
name = "private"
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "ann"
password = {{ file = "ann.secret" }}
every = "1s"

[[distribute]]
use = "spool"
drop = "ann"

[maildrop.old-program]
use = "spool"
drop = "ann"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{listen}"]
"""


def message(subject: str) -> bytes:
    return (
        b"From: ben@example.com\r\nSubject: %b\r\nMessage-ID: <%b@example.com>\r\n\r\nhello\r\n"
        % (subject.encode(), subject.encode())
    )


class Home:
    """What stands in a home, and the provider."""

    def __init__(self, dovecot: Dovecot, home: Path) -> None:
        home.mkdir()
        self.dovecot = dovecot
        self.home = home
        (self.port,) = free_ports(1)
        for user in ("office", "ann"):
            dovecot.add_user(user, f"secret of {user}")
            path = home / f"{user}.secret"
            path.write_text(f"secret of {user}\n")
            path.chmod(0o600)
        self.file = home / "home.toml"
        self.file.write_text(PIPELINE.format(port=dovecot.pop3_port, listen=self.port))
        self.serving = Serving(self.file)
        added = self.serving.command("maildrop", "add", "old-program")
        assert added.returncode == 0, added.stderr
        self.password = added.stdout.strip()

    def log_in(self, user: str = "old-program", password: str = "") -> poplib.POP3:
        box = poplib.POP3("127.0.0.1", self.port, timeout=10)
        box.user(user)
        box.pass_(password or self.password)
        return box

    def subjects(self) -> list[str]:
        """What the old program finds, in its order."""
        box = self.log_in()
        found = [b"\n".join(box.top(n + 1, 0)[1]).decode() for n in range(box.stat()[0])]
        box.quit()
        return [head.partition("Subject: ")[2].partition("\n")[0] for head in found]

    def until(self, wanted: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not wanted():
            assert time.monotonic() < deadline, self.serving.said
            time.sleep(0.05)  # nothing tells a POP3 client when mail has come


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Dovecot(tmp_path / "dovecot") as dovecot:
        home = Home(dovecot, tmp_path / "home")
        dovecot.deliver("office", message("a contract"))
        dovecot.deliver("ann", message("a party"))
        with home.serving:
            home.until(lambda: len(home.subjects()) == 2)
            yield home


def test_pwm_18_mail_of_two_servers_by_host_port_and_user_is_in_one_drop(home: Home) -> None:
    assert sorted(home.subjects()) == ["a contract", "a party"]


def test_pwm_22_the_program_s_name_and_password_are_not_the_provider_s(home: Home) -> None:
    for user, password in (("ann", "secret of ann"), ("old-program", "secret of ann")):
        with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\]"):
            home.log_in(user, password)
    assert len(home.subjects()) == 2


def test_pwm_28_what_comes_later_is_in_the_drop_without_being_asked_for(home: Home) -> None:
    home.dovecot.deliver("ann", message("later"))
    home.until(lambda: len(home.subjects()) == 3)
    assert home.subjects()[-1] == "later"
    assert len(home.dovecot.messages("ann")) == 2  # by default nothing is deleted there


def test_what_the_program_deletes_does_not_come_again(home: Home) -> None:
    box = home.log_in()
    box.dele(1)
    box.dele(2)
    assert box.quit().startswith(b"+OK")
    home.dovecot.deliver("ann", message("later"))
    home.until(lambda: home.subjects() != [])
    assert home.subjects() == ["later"]


def test_pwm_31_the_drop_is_there_when_the_provider_is_not(home: Home) -> None:
    home.dovecot.stop()
    assert len(home.subjects()) == 2
    listed = home.serving.command("spool", "list", "--json", "ann")
    assert len(json.loads(listed.stdout)) == 2


def test_two_programs_do_not_share_a_session(home: Home) -> None:
    first = home.log_in()
    with pytest.raises(poplib.error_proto, match=r"-ERR \[IN-USE\]"):
        home.log_in()
    assert first.stat()[0] == 2
    first.quit()
    assert len(home.subjects()) == 2


def test_a_status_says_when_each_source_last_worked(home: Home) -> None:
    done = home.serving.command("status", "--json")
    (installation,) = json.loads(done.stdout)["installations"]
    (pipeline,) = installation["pipelines"]
    assert {source["step"] for source in pipeline["sources"]} == {"work", "private"}
    assert all(source["worked_at"] for source in pipeline["sources"])


def test_a_drop_that_is_added_by_a_reload_is_served_and_no_session_ends(home: Home) -> None:
    box = home.log_in()
    text = home.file.read_text() + '\n[maildrop.second]\nuse = "spool"\n'
    home.file.write_text(text)
    password = home.serving.command("maildrop", "add", "second").stdout.strip()
    assert home.serving.command("reload").returncode == 0
    other = home.log_in("second", password)
    assert other.stat() == (0, 0)
    other.quit()
    assert box.stat()[0] == 2
    box.quit()
