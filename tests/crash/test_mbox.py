"""The mbox distributor and fetcher alone, killed and cut off before every step."""

from __future__ import annotations

import mailbox
import sys
from collections import Counter
from pathlib import Path

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.testing import kill
from mailflow.verdicts import LATER, SENT, Report
from mailflow_mbox.distributor import MboxDistributor, MboxOptions

from .conftest import Disks
from .drawn import drawn

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.interop("xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(600),
]

COUNT = 4

DELIVER = """
import sys
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.net import Halt
from mailflow_mbox.distributor import MboxDistributor, MboxOptions

path, count = sys.argv[1], int(sys.argv[2])
options = MboxOptions.read({"path": path})
with MboxDistributor(options, Runtime("mbox", "test", Halt(), Logger(), "")) as distributor:
    octets = [Octets(b"Subject: %d\\r\\n\\r\\nx\\r\\n" % n) for n in range(count)]
    mails = [Mail(f"m{n}", Envelope("a@x.org"), each) for n, each in enumerate(octets)]
    for half in (mails[: count // 2], mails):
        for ticket, report in distributor.distribute_many((m, Ticket(m.id, ("",))) for m in half):
            print(ticket.key, report.outcome.value, flush=True)
    print("all final", flush=True)
    distributor.finish([mail.id for mail in mails])
"""
"""Two groups, the second with the tickets of the first in it. What is final in the journal
is never handed in again."""

DELETE = """
import sys
from mailflow.kinds import Runtime
from mailflow.log import Logger
from mailflow.net import Halt
from mailflow.query import Query
from mailflow.verdicts import Fate
from mailflow_mbox.fetcher import MboxFetcher, MboxSourceOptions

options = MboxSourceOptions.read({"path": sys.argv[1]})
with MboxFetcher(options, Runtime("mbox", "test", Halt(), Logger(), ".")) as fetcher:
    for item in list(fetcher.listing(Query.always)):
        [got] = fetcher.retrieve([item.key])
        if b"Subject: 1\\r\\n" in got.content.data:
            fetcher.settle(item.key, Fate.DONE)
"""
"""Settles one of them, in the middle."""


def command(code: str, box: Path) -> list[str]:
    return [sys.executable, "-B", "-c", code, str(box), str(COUNT)]


def found(path: Path) -> Counter[str]:
    """The messages, each by its number, read by Python."""
    if not path.exists():
        return Counter()
    box = mailbox.mbox(path, create=False)
    try:
        messages = [box.get_bytes(key) for key in box.iterkeys()]
    finally:
        box.close()
    for message in messages:
        assert message == b"Subject: %s\n\nx\n" % message.split()[1], message
    return Counter(message.split()[1].decode() for message in messages)


ALL = Counter({f"{number}": 1 for number in range(COUNT)})
LEFT = ALL - Counter("1")


def sent(outcome: kill.Outcome) -> set[str]:
    """What the program has said is durable."""
    words = [line.split() for line in outcome.stdout.splitlines()]
    return {key.removeprefix("m") for key, state in words if state == "sent"}


def again(code: str, box: Path) -> Counter[str]:
    """What the next undisturbed run leaves."""
    kill.undisturbed(command(code, box))
    assert list(box.parent.glob("*.lock")) == []
    return found(box)


def test_d04_killed_before_any_step_it_delivers_once(tmp_path: Path) -> None:
    steps = kill.undisturbed(command(DELIVER, tmp_path / "box"))
    assert len(steps) > 20
    for step in drawn(steps, 5):
        box = tmp_path / str(step.number) / "box"
        box.parent.mkdir()
        outcome = kill.run_killed(command(DELIVER, box), step.number)
        assert outcome.status == -9, step
        if "all final" in outcome.stdout:
            assert found(box) == ALL, step
            continue
        assert again(DELIVER, box) == ALL, step
        assert [each.name for each in box.parent.iterdir()] == ["box"], step


def test_d05_cut_off_before_any_step_it_delivers_once(tmp_path: Path, disks: Disks) -> None:
    steps = kill.undisturbed(command(DELIVER, tmp_path / "box"))
    for step in drawn(steps, 10):
        box = disks.both[0].path / str(step.number) / "box"
        box.parent.mkdir()
        outcome = kill.run_killed(command(DELIVER, box), step.number, before_kill=disks.off)
        assert outcome.status == -9, step
        disks.on()
        if "all final" not in outcome.stdout:
            assert not sent(outcome) or box.exists(), step
            box.parent.mkdir(exist_ok=True)
            assert again(DELIVER, box) == ALL, step
        disks.off()
        disks.on()
        assert found(box) == ALL, f"after the exit of the next run: {step}"


def test_d04_killed_before_any_step_it_deletes_what_is_done_and_nothing_else(
    tmp_path: Path,
) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "box"))
    whole = (tmp_path / "box").read_bytes()
    steps = kill.undisturbed(command(DELETE, tmp_path / "box"))
    assert found(tmp_path / "box") == LEFT
    for step in drawn(steps, 5):
        box = tmp_path / str(step.number) / "box"
        box.parent.mkdir()
        box.write_bytes(whole)
        assert kill.run_killed(command(DELETE, box), step.number).status == -9, step
        assert again(DELETE, box) == LEFT, step


def test_d05_cut_off_before_any_step_it_deletes_what_is_done_and_nothing_else(
    tmp_path: Path, disks: Disks
) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "box"))
    steps = kill.undisturbed(command(DELETE, tmp_path / "box"))
    for step in drawn(steps, 10):
        box = disks.both[0].path / str(step.number) / "box"
        box.parent.mkdir()
        kill.undisturbed(command(DELIVER, box))
        outcome = kill.run_killed(command(DELETE, box), step.number, before_kill=disks.off)
        assert outcome.status == -9, step
        disks.on()
        assert again(DELETE, box) == LEFT, step


def test_d08_a_disk_that_dies_under_a_living_distributor_is_used_again_when_it_is_back(
    disks: Disks,
) -> None:
    box = disks.both[0].path / "box"
    halt = Halt()
    options = MboxOptions.read({"path": str(box), "timeout": "500ms"})
    with MboxDistributor(options, Runtime("mbox", "test", halt, Logger(), "")) as distributor:

        def deliver(number: int) -> Report:
            octets = Octets(b"Subject: %d\r\n\r\nx\r\n" % number)
            mail = Mail(f"m{number}", Envelope(), octets)
            return next(iter(distributor.distribute(mail, Ticket(mail.id, ("",)))))

        assert deliver(1) == Report("", SENT)
        disks.off()
        for _ in range(2):
            assert deliver(2).outcome is LATER
        disks.on()
        assert deliver(2) == Report("", SENT)
    halt.close()
    assert found(box) == Counter("12")


PIPELINE = """
[pipeline]
journal = "journal.db"

[[fetch]]
use = "maildir"
path = "Maildir"
keep = "0d"

[[distribute]]
use = "mbox"
path = "box"
"""


def test_d04_from_a_maildir_to_an_mbox_each_mail_goes_once_wherever_it_is_killed(
    tmp_path: Path,
) -> None:
    def furnished(name: str) -> Path:
        place = tmp_path / name
        for folder in ("tmp", "new", "cur"):
            (place / "Maildir" / folder).mkdir(parents=True)
        for number in range(COUNT):
            (place / "Maildir" / "cur" / f"{number}:2,S").write_text(f"Subject: {number}\n\nx\n")
        (place / "pipeline.toml").write_text(PIPELINE)
        return place

    def run(place: Path) -> list[str]:
        return [sys.executable, "-B", "-m", "mailflow", "run", str(place / "pipeline.toml")]

    place = furnished("undisturbed")
    steps = kill.undisturbed(run(place))
    assert found(place / "box") == ALL
    for step in drawn(steps, 15):
        place = furnished(str(step.number))
        kill.run_killed(run(place), step.number)
        kill.undisturbed(run(place))
        assert found(place / "box") == ALL, step
        assert list((place / "Maildir" / "cur").iterdir()) == [], step
