"""Programs as destinations: what they get, and what their answer means."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import ConfigError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, OctetFile
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.engine import mail
from mailflow.verdicts import FAILED, LATER, SENT, Report
from mailflow_command.distributor import CommandDistributor, EachCommandDistributor

DELIVER = "/usr/lib/dovecot/dovecot-lda"
TEXT = b"Subject: \xe4\n\nFrom here\n.\nto there"


class Desk:
    """Hands mail to a program as the engine would, and keeps what was committed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.halt = Halt()
        self.committed: list[str] = []
        self.component: type[CommandDistributor] = CommandDistributor

    def __call__(self, one: Mail, command: object, **table: object) -> list[Report]:
        options: Any = self.component.options.read({"command": command, **table})
        log = Logger()
        here = str(self.directory)
        runtime = Runtime("command", "test", self.halt, log, here, here)
        to = one.envelope.recipients if self.component.per_recipient else ("",)
        ticket = Ticket("key7", to, commit=self.commit)
        with self.component(options, runtime) as distributor:
            return list(distributor.distribute(one, ticket))

    def commit(self, recipients: Collection[str]) -> None:
        self.before = set(os.listdir(self.directory))
        self.committed.extend(recipients)

    def script(self, text: str) -> list[str]:
        return ["sh", "-c", text]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.halt.close()


@pytest.mark.parametrize(
    ("line_ends", "octets"), [("lf", TEXT), ("crlf", TEXT.replace(b"\n", b"\r\n"))]
)
def test_the_program_gets_the_mail_octet_for_octet(
    desk: Desk, tmp_path: Path, line_ends: str, octets: bytes
) -> None:
    report = desk(mail(TEXT), desk.script("cat > got"), line_ends=line_ends)
    assert report == [Report("", SENT)]
    assert (tmp_path / "got").read_bytes() == octets


def test_f10_a_large_mail_is_streamed(desk: Desk, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 300_000)
    one = mail("").replace(content=OctetFile(str(large)))
    assert desk(one, desk.script("cat > got")) == [Report("", SENT)]
    assert (tmp_path / "got").read_bytes() == large.read_bytes().replace(b"\r\n", b"\n")


def test_it_gets_the_envelope_as_mail_servers_tell_it(desk: Desk, tmp_path: Path) -> None:
    one = mail(TEXT, sender="ann@x.org", to=["red+lists@example.org"])
    code = "import os, sys; print(dict(os.environ), sys.argv[1:], file=open('got', 'w'))"
    words = [sys.executable, "-c", code, "{sender}", "{recipient}", "-x{note:n|0}"]
    desk(one, words, environment={"FOLDER": "{note:folder|in}"})
    got = (tmp_path / "got").read_text()
    assert "['ann@x.org', 'red+lists@example.org', '-x0']" in got
    for name, value in {
        "SENDER": "ann@x.org", "RECIPIENT": "red+lists@example.org", "LOCAL": "red+lists",
        "ORIGINAL_RECIPIENT": "red+lists@example.org", "EXTENSION": "lists",
        "DOMAIN": "example.org", "MAILFLOW_ID": one.id, "MAILFLOW_KEY": "key7", "FOLDER": "in",
    }.items():  # fmt: skip
        assert f"'{name}': '{value}'" in got


def test_what_is_not_known_is_not_told_by_an_older_environment(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDER", "somebody@else")
    monkeypatch.setenv("RECIPIENT", "somebody@else")
    desk(mail(TEXT, to=["a@x.org", "b@x.org"]), desk.script("env > got"))
    got = (tmp_path / "got").read_text()
    assert "somebody" not in got
    assert "RECIPIENT" not in got


def test_one_program_for_all_recipients_or_one_for_each(desk: Desk, tmp_path: Path) -> None:
    one = mail(TEXT, to=["a@x.org", "b@x.org"])
    words = [*desk.script('echo "$@" >> got'), "sh", "{recipients}"]
    assert desk(one, words) == [Report("", SENT)]
    desk.component = EachCommandDistributor
    assert desk(one, words) == [Report("a@x.org", SENT), Report("b@x.org", SENT)]
    assert (tmp_path / "got").read_text() == "a@x.org b@x.org\na@x.org\nb@x.org\n"
    assert desk.committed == ["", "a@x.org", "b@x.org"]


def test_one_recipient_may_be_refused_and_the_others_not(desk: Desk) -> None:
    desk.component = EachCommandDistributor
    one = mail(TEXT, to=["a@x.org", "b@x.org", "c@x.org"])
    script = "case $RECIPIENT in a*) echo nobody >&2; exit 67;; b*) exit 75;; esac"
    assert desk(one, desk.script(script)) == [
        Report("a@x.org", FAILED, "5.1.1", "sh exits with status 67 (addressee unknown): nobody"),
        Report("b@x.org", LATER, "4.3.0", "sh exits with status 75 (temporary failure)"),
        Report("c@x.org", SENT),
    ]


@pytest.mark.parametrize(
    ("status", "table", "outcome", "code"),
    [
        (0, {}, SENT, ""),
        (1, {}, LATER, "4.3.0"),
        (73, {}, LATER, "4.2.0"),
        (75, {}, LATER, "4.3.0"),
        (77, {}, FAILED, "5.7.0"),
        (99, {"99": "sent"}, SENT, ""),
        (77, {"77": "later"}, LATER, "4.7.0"),
        (1, {"1": "failed"}, FAILED, "5.3.0"),
        (0, {"0": "later"}, LATER, "4.0.0"),
    ],
)
def test_the_exit_status_is_the_answer(
    desk: Desk, status: int, table: dict[str, str], outcome: object, code: str
) -> None:
    [report] = desk(mail(TEXT), desk.script(f"exit {status}"), status=table)
    assert (report.outcome, report.code) == (outcome, code)


def test_an_mbox_line_may_stand_before_the_mail(desk: Desk, tmp_path: Path) -> None:
    desk(mail(TEXT, sender="ann@x.org"), desk.script("cat > got"), from_line=True)
    line, _, rest = (tmp_path / "got").read_bytes().partition(b"\n")
    assert line.startswith(b"From ann@x.org ")
    assert rest == TEXT


def test_d04_the_ticket_is_committed_before_the_program_is_started(
    desk: Desk, tmp_path: Path
) -> None:
    desk(mail(TEXT), desk.script("cat > got"))
    assert desk.before == set()
    assert (tmp_path / "got").exists()


def test_c03_a_program_that_hangs_leaves_the_mail_in_doubt(desk: Desk) -> None:
    with pytest.raises(UnavailableError, match=r"^sleep has not ended after 0\.2 s$"):
        desk(mail(TEXT), ["sleep", "60"], timeout="200ms")
    assert desk.committed == [""]


def test_a_program_that_a_signal_ends_leaves_the_mail_in_doubt(desk: Desk) -> None:
    with pytest.raises(UnavailableError, match="was ended by SIGKILL"):
        desk(mail(TEXT), desk.script("kill -KILL $$"))
    assert desk.committed == [""]


def test_c05_a_program_that_is_missing_is_no_doubt(desk: Desk) -> None:
    said = "cannot run no-such-program: no such program"
    assert desk(mail(TEXT), ["no-such-program"]) == [Report("", LATER, "4.3.0", said)]


def test_when_the_engine_stops_nothing_is_started(desk: Desk, tmp_path: Path) -> None:
    desk.halt.set()
    with pytest.raises(UnavailableError, match="stopped"):
        desk(mail(TEXT), desk.script("cat > got"))
    assert desk.committed == []
    assert not (tmp_path / "got").exists()


def test_when_the_engine_stops_a_program_may_answer(desk: Desk) -> None:
    timer = threading.Timer(0.1, desk.halt.set)
    timer.start()
    assert desk(mail(TEXT), desk.script("sleep 0.3")) == [Report("", SENT)]
    timer.join()


@pytest.mark.parametrize("sender", ["-oQ/tmp@x.org", "a\n@x.org"])
def test_d18_a_sender_that_would_be_an_option_is_the_mails_fault(desk: Desk, sender: str) -> None:
    [report] = desk(mail(TEXT, sender=sender), ["true", "{sender}"])
    assert (report.outcome, report.code) == (FAILED, "5.6.0")
    assert desk.committed == []


def test_d20_the_null_sender_is_told_as_it_is(desk: Desk, tmp_path: Path) -> None:
    words = [*desk.script('echo "<$1> <$SENDER>" > got'), "sh", "{sender}"]
    desk(mail(TEXT, sender=""), words)
    assert (tmp_path / "got").read_text() == "<> <>\n"


def test_d01_a_mail_that_cannot_be_read_is_never_taken_for_whole(
    desk: Desk, tmp_path: Path
) -> None:
    lost = mail(TEXT).replace(content=OctetFile(str(tmp_path / "lost"), 9))
    with pytest.raises(UnavailableError, match=r"^cannot read mail mail\d+ for sh: No such file"):
        desk(lost, desk.script("cat && touch got"))
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "`command` is missing"),
        ({"command": "x", "status": {"0": "held"}}, 'expected "sent" or "later" or "failed"'),
        ({"command": "x", "status": {"256": "sent"}}, "expected exit statuses from 0 to 255"),
        ({"command": "x", "status": {"ok": "sent"}}, "expected exit statuses from 0 to 255"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CommandDistributor.options.read(table)


def test_check_looks_whether_the_program_is_there() -> None:
    options = CommandDistributor.options.read({"command": ["no-such-program"]})
    assert list(options.look()) == [("command", "no program no-such-program")]
    assert list(CommandDistributor.options.read({"command": ["cat"]}).look()) == []


def procmail(directory: Path, recipes: str) -> list[str]:
    rc = directory / "rc"
    rc.write_text(f"DEFAULT={directory}/box\nLOGFILE={directory}/log\n{recipes}")
    rc.chmod(0o600)
    return ["procmail", "-f", "{sender}", str(rc)]


@pytest.mark.interop("procmail")
def test_real_procmail_delivers(desk: Desk, tmp_path: Path) -> None:
    one = mail(b"Subject: yes\nFrom: a@x.org\n\nFrom here\n", sender="ann@x.org")
    assert desk(one, procmail(tmp_path, "")) == [Report("", SENT)]
    box = (tmp_path / "box").read_bytes()
    assert box.startswith(b"From ann@x.org ")
    assert b"Subject: yes\nFrom: a@x.org\n\n>From here\n" in box


@pytest.mark.interop("procmail")
def test_real_procmail_that_cannot_deliver_gets_it_again(desk: Desk, tmp_path: Path) -> None:
    words = procmail(tmp_path, "EXITCODE=73\nHOST=nobody\n")
    [report] = desk(mail(TEXT, sender="ann@x.org"), words)
    assert (report.outcome, report.code) == (LATER, "4.2.0")
    assert report.text == "procmail exits with status 73 (cannot create its output)"


@pytest.mark.interop("dovecot-pop3d")
def test_real_dovecot_lda_delivers_to_whom_it_knows(desk: Desk, tmp_path: Path) -> None:
    settings = "postmaster_address = postmaster@example.org"
    with Dovecot(tmp_path / "dovecot", settings=settings) as dovecot:
        dovecot.add_user("red", "secret")
        conf = Path(dovecot.maildir("red")).parents[2] / "dovecot.conf"
        words = [DELIVER, "-c", str(conf), "-f", "{sender}", "-d", "{recipient}"]
        text = b"Subject: yes\nFrom: a@x.org\n\nFrom here\nno end"
        one = mail(text, sender="ann@x.org", to=["red"])
        assert desk(one, words) == [Report("", SENT)]
        [got] = dovecot.messages("red")
        assert got.endswith(text)
        [report] = desk(one.replace(envelope=Envelope("ann@x.org", ("blue",))), words)
    assert (report.outcome, report.code) == (FAILED, "5.1.1")
    assert report.text.startswith("dovecot-lda exits with status 67 (addressee unknown)")
