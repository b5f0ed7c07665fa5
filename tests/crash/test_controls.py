"""The harness finds what it looks for: a harness that finds nothing proves nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.testing.kill import Step

from .conftest import Disks, Open
from .ways import Strike, Way

pytestmark = [
    pytest.mark.crash,
    pytest.mark.interop("dovecot-pop3d", "xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(300),
]


def pretended(call: str, part: str) -> Callable[[Step], int | None]:
    """Say that such a flush was done, and do nothing."""
    return lambda step: 0 if step.call == call and part in step.target else None


@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_without_the_flush_of_the_directory_a_cut_after_exit_loses_mail(
    open_way: Open, control: Callable[[str], Way], disks: Disks, name: str
) -> None:
    """On two disks: on one, the flush of the journal would save it by accident."""
    control(name)
    way = open_way(name, *disks.places("two", 0))
    last = 2 if name == "hook" else 0
    strike = Strike(
        run=last, blow=disks.off, mend=disks.on, answer=pretended("fsync", "/Maildir/new")
    )
    way.session(strike)
    assert strike.where == f"after the exit of run {last} with status 0"
    assert any("the Maildir lacks" in text for text in way.complaints())


@pytest.mark.parametrize("name", ["deliver-first", "hook"])
def test_without_the_flush_of_the_file_a_cut_after_exit_leaves_it_empty(
    open_way: Open, disks: Disks, name: str
) -> None:
    way = open_way(name, *disks.places("two", 0))
    last = 2 if name == "hook" else 0
    strike = Strike(
        run=last, blow=disks.off, mend=disks.on, answer=pretended("fsync", "/Maildir/tmp/")
    )
    way.session(strike)
    assert any("the Maildir has not the octets of" in text for text in way.complaints())


def test_without_the_flush_of_the_journal_a_cut_doubles_mail(open_way: Open, disks: Disks) -> None:
    """The Maildir is flushed, the journal forgets it, and the MTA brings it once more."""
    way = open_way("hook", *disks.places("two", 0))
    unlinks = []

    def answer(step: Step) -> int | None:
        if step.call == "unlink" and "/Maildir/tmp/" in step.target:
            unlinks.append(step)
        return 0 if step.call == "fdatasync" and step.target.endswith("-wal") else None

    control = open_way("hook")
    control.session(Strike(answer=answer))
    number = unlinks[0].number + 1
    strike = Strike(number, blow=disks.off, mend=disks.on, answer=answer)
    way.session(strike)
    assert way.complaints() == ["the Maildir has a copy of <0@example.org>: 124 octets"]


def test_the_mailbox_module_of_python_loses_mail_in_a_cut_after_exit(disks: Disks) -> None:
    _, place = disks.places("two", 0)
    program = (
        "import mailbox, sys\n"
        "maildir = mailbox.Maildir(sys.argv[1])\n"
        "for number in range(5): maildir.add(b'Subject: x\\n\\n%d\\n' % number)\n"
        "maildir.close()\n"
    )
    subprocess.run([sys.executable, "-c", "import os; os.sync()"], check=True)
    subprocess.run([sys.executable, "-c", program, str(place / "Maildir")], check=True)
    disks.off()
    disks.on()
    assert len(list(Path(place).glob("Maildir/new/*"))) < 5


def test_a_careless_fetcher_leaves_copies_and_halves_when_it_is_killed(
    open_way: Open, control: Callable[[str], Way]
) -> None:
    steps = control("careless").first_steps
    found = ""
    for number in range(len(steps)):
        way = open_way("careless")
        way.session(Strike(number))
        found += "\n".join(way.complaints())
    assert "a copy" in found
    assert "not the octets" in found


@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_undisturbed_nothing_is_found(control: Callable[[str], Way], name: str) -> None:
    control(name)
