"""The Maildir distributor alone, killed and cut off before every step of a group."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.net import Halt
from mailflow.testing import kill
from mailflow.verdicts import LATER, SENT, Report
from mailflow_maildir.distributor import MaildirDistributor, MaildirOptions

from .conftest import Disks
from .drawn import drawn

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.interop("xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(600),
]

COUNT = 8
"""Enough for several threads to flush."""

PROGRAM = """
import sys
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.net import Halt
from mailflow.options import Pattern
from mailflow_maildir.distributor import MaildirDistributor, MaildirOptions

path, count, resumed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resumed"
options = MaildirOptions({"path": path, "folder": Pattern("Lists.red")})
with MaildirDistributor(options, Runtime("maildir", "test", Halt(), Logger(), "")) as distributor:
    jobs = [
        (Mail(f"m{n}", Envelope(), Octets(b"%d\\r\\n" % n)), Ticket(f"m{n}", (), resumed=resumed))
        for n in range(count)
    ]
    for ticket, report in distributor.distribute_many(jobs):
        print(ticket.key, report.outcome.value, flush=True)
    distributor.finish([ticket.key for _, ticket in jobs])
"""


def command(maildir: Path, resumed: str = "") -> list[str]:
    return [sys.executable, "-B", "-c", PROGRAM, str(maildir), str(COUNT), resumed]


def found(maildir: Path) -> Counter[str]:
    """Mails in the folder, each by what is in its file."""
    places = [*maildir.glob(".Lists.red/new/*"), *maildir.glob(".Lists.red/cur/*")]
    return Counter(file.read_text() for file in places)


ALL = Counter({f"{number}\n": 1 for number in range(COUNT)})


def sent(outcome: kill.Outcome) -> set[str]:
    """What the program has said is durable."""
    words = [line.split() for line in outcome.stdout.splitlines()]
    return {f"{key.removeprefix('m')}\n" for key, state in words if state == "sent"}


def test_d04_killed_before_any_step_it_delivers_once(tmp_path: Path) -> None:
    steps = kill.undisturbed(command(tmp_path / "Maildir"))
    for step in drawn(steps, 4):
        maildir = tmp_path / str(step.number) / "Maildir"
        outcome = kill.run_killed(command(maildir), step.number)
        assert outcome.status == -9, step
        assert not sent(outcome) - found(maildir).keys(), step
        kill.undisturbed(command(maildir, "resumed"))
        assert found(maildir) == ALL, step


def test_d05_cut_off_before_any_step_it_delivers_once(tmp_path: Path, disks: Disks) -> None:
    steps = kill.undisturbed(command(tmp_path / "Maildir"))
    for step in drawn(steps, 8):
        maildir = disks.both[0].path / str(step.number) / "Maildir"
        outcome = kill.run_killed(command(maildir), step.number, before_kill=disks.off)
        assert outcome.status == -9, step
        disks.on()
        assert not sent(outcome) - found(maildir).keys(), step
        kill.undisturbed(command(maildir, "resumed"))
        assert found(maildir) == ALL, step
        disks.off()
        disks.on()
        assert found(maildir) == ALL, f"after the exit of the resumed run: {step}"


def test_d05_the_directories_it_makes_last(disks: Disks) -> None:
    maildir = disks.both[0].path / "a" / "b" / "Maildir"
    kill.undisturbed(command(maildir))
    disks.off()
    disks.on()
    assert found(maildir) == ALL
    assert (maildir / ".Lists.red" / "maildirfolder").exists()


def test_d08_a_disk_that_dies_under_a_living_distributor_is_used_again_when_it_is_back(
    disks: Disks,
) -> None:
    maildir = disks.both[0].path / "Maildir"
    halt = Halt()
    runtime = Runtime("maildir", "test", halt, Logger(), "")
    with MaildirDistributor(MaildirOptions({"path": str(maildir)}), runtime) as distributor:

        def deliver(number: int) -> Report:
            mail = Mail(f"m{number}", Envelope(), Octets(b"%d\r\n" % number))
            return next(iter(distributor.distribute(mail, Ticket(mail.id, ()))))

        assert deliver(1) == Report("", SENT)
        disks.off()
        for _ in range(2):
            failed = deliver(2)
            assert failed.outcome is LATER
            assert failed.text.startswith(f"cannot deliver into {maildir}: ")
        disks.on()
        assert deliver(2) == Report("", SENT)
        assert sorted(file.read_text() for file in maildir.glob("new/*")) == ["1\n", "2\n"]
    halt.close()
