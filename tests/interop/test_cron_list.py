"""The list from cron: posts in a real Dovecot, members behind a real Postfix, the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.postfix import Postfix

pytestmark = [
    pytest.mark.interop("dovecot-core", "dovecot-pop3d", "postfix"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Postfix"),
]

COMMAND = Path(sys.executable).parent / "mailflow"
PASSWORD = "correct horse"
MEMBERS = ("ann@example.org", "ben@example.com", "cleo@example.net")
GONE = "dora@example.org"

PIPELINE = """\
[[fetch]]
use = "pop3"
host = "localhost"
port = {pop3_port}
tls = "{pop3_tls}"
ca_file = "{pop3_ca}"
user = "{user}"
password = {{ file = "red.secret" }}
keep = "0d"

[[process]]
use = "list.post"
address = "Red <red@example.org>"
members = "red.members"
posting = {{ members = "accept", others = "hold" }}
prefix = "[Red]"

[[distribute]]
use = "smtp"
host = "localhost"
port = {smtp_port}
tls = "{smtp_tls}"
ca_file = "{smtp_ca}"
user = "red"
password = {{ file = "red.secret" }}

[[distribute]]
name = "archive"
use = "maildir"
path = "archive"
"""

BODY = b"Gr\xc3\xbc\xc3\x9fe,\n.\n..\nfrom a line of dots\n" + b"0123456789abcdef\n" * 10_000


def post(number: int, sender: str = "Ann <ann@example.org>", more: str = "") -> bytes:
    head = (
        f"From: {sender}\nTo: red@example.org\nSubject: post {number}\n"
        f"Message-ID: <{number}@example.org>\n{more}\n"
    )
    return head.encode() + BODY


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot")) as running:
        yield running


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    directory = tmp_path_factory.mktemp("postfix")
    with Postfix(directory, MEMBERS, users={"red": PASSWORD}) as running:
        yield running


class Club:
    """One list, with a mailbox of its own; what its members had before does not count."""

    def __init__(self, home: Path, dovecot: Dovecot, postfix: Postfix, way: str) -> None:
        self.home, self.dovecot, self.postfix = home, dovecot, postfix
        self.user = f"{way}-{home.parent.name}"
        dovecot.add_user(self.user, PASSWORD)
        (home / "red.members").write_text("\n".join(MEMBERS))
        self.password(PASSWORD)
        implicit = way == "implicit"
        text = PIPELINE.format(
            pop3_port=dovecot.pop3s_port if implicit else dovecot.pop3_port,
            pop3_tls=way,
            pop3_ca=dovecot.ca_file,
            user=self.user,
            smtp_port=postfix.smtps_port if implicit else postfix.submission_port,
            smtp_tls=way,
            smtp_ca=postfix.ca_file,
        )
        (home / "red.toml").write_text(text)
        postfix.settle()
        self._before = {member: len(postfix.messages(member)) for member in MEMBERS}

    def password(self, text: str) -> None:
        secret = self.home / "red.secret"
        secret.touch(0o600)
        secret.write_text(text)

    def start(self) -> subprocess.Popen[str]:
        command = [str(COMMAND), "run", "--now", "red.toml"]
        return subprocess.Popen(command, cwd=self.home, stderr=subprocess.PIPE, text=True)

    def run(self) -> tuple[int, str]:
        process = self.start()
        _, said = process.communicate(timeout=60)
        return process.returncode, said

    def received(self, member: str, count: int) -> list[bytes]:
        """What came to a member, once all that is to come is there."""
        before = self._before[member]
        found = self.postfix.messages(member, before + count)
        self.postfix.settle()
        assert len(self.postfix.messages(member)) == before + count
        return found[before:]

    def held(self) -> list[dict[str, object]]:
        done = subprocess.run(
            [COMMAND, "queue", "list", "--json"], cwd=self.home, check=True, capture_output=True
        )
        found: list[dict[str, object]] = json.loads(done.stdout)
        return found

    def archive(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.home / "archive" / "new").glob("*")]

    def left(self) -> int:
        return len(self.dovecot.messages(self.user))


@pytest.fixture(params=["implicit", "starttls"])
def club(request: pytest.FixtureRequest, home: Path, dovecot: Dovecot, postfix: Postfix) -> Club:
    return Club(home, dovecot, postfix, request.param)


def test_a_post_reaches_every_member_once_and_the_archive(club: Club) -> None:
    club.dovecot.deliver(club.user, post(1))
    assert club.run() == (0, "")
    for member in MEMBERS:
        (mail,) = club.received(member, 1)
        head, _, body = mail.partition(b"\n\n")
        assert body == BODY
        assert b"Return-Path: <red@example.org>" in head
        assert b"Subject: [Red] post 1" in head
        assert b"List-Id: Red <red.example.org>" in head
    assert [mail.partition(b"\n\n")[2] for mail in club.archive()] == [BODY]
    assert club.left() == 0


def test_a_second_run_sends_nothing_again(club: Club) -> None:
    club.dovecot.deliver(club.user, post(2))
    assert club.run() == (0, "")
    assert club.run() == (0, "")
    for member in MEMBERS:
        club.received(member, 1)


def test_what_is_no_post_goes_to_nobody(club: Club) -> None:
    club.dovecot.deliver(
        club.user,
        post(3, more="X-Loop: red@example.org\n"),
        post(4, more="Auto-Submitted: auto-replied\n"),
        post(5, sender="max@example.com"),
    )
    status, said = club.run()
    assert (status, said.count("\n")) == (0, 1)
    assert "held: max@example.com is not a member of red@example.org" in said
    for member in MEMBERS:
        club.received(member, 0)
    assert [entry["reason"] for entry in club.held()] == [
        "max@example.com is not a member of red@example.org"
    ]
    assert (club.archive(), club.left()) == ([], 0)


def test_a_member_that_postfix_does_not_know_keeps_no_other_from_the_post(club: Club) -> None:
    (club.home / "red.members").write_text("\n".join((GONE, *MEMBERS)))
    club.dovecot.deliver(club.user, post(6))
    status, said = club.run()
    assert status == 69
    assert GONE in said
    for member in MEMBERS:
        club.received(member, 1)
    (entry,) = club.held()
    assert (entry["state"], entry["recipients"]) == ("held", [GONE])


def test_two_runs_at_once_share_the_work_and_double_nothing(club: Club) -> None:
    club.dovecot.deliver(club.user, *(post(number) for number in range(10, 30)))
    both = [club.start(), club.start()]
    assert [process.wait(60) for process in both] == [0, 0]
    for process in both:
        process.communicate()
    assert club.run() == (0, "")
    for member in MEMBERS:
        subjects = {mail.partition(b"Subject: ")[2].partition(b"\n")[0]
                    for mail in club.received(member, 20)}  # fmt: skip
        assert len(subjects) == 20
    assert club.left() == 0


def test_a_wrong_password_is_one_line_and_loses_nothing(club: Club) -> None:
    club.dovecot.deliver(club.user, post(7))
    club.password("wrong")
    status, said = club.run()
    assert status == 77
    assert len(said.splitlines()) == 1
    assert "refuses the login" in said
    assert club.left() == 1
    club.password(PASSWORD)
    assert club.run() == (0, "")
    for member in MEMBERS:
        club.received(member, 1)
