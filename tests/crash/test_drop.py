"""The maildrop of a Maildir alone, killed and cut off before every step up to the answer to
QUIT: all that a session deleted is gone, or nothing is, and UIDLs stay what was told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.errors import UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.log import Logger
from mailflow.testing import kill
from mailflow.testing.kill import Step
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions

from .conftest import Disks
from .drawn import drawn

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.interop("xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(600),
]

SESSION = """
import sys
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.log import Logger
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions

path, delete = sys.argv[1], sys.argv[2].split(",")
options = MaildirDropOptions.read({"path": path})
maildrop = MaildirDrop(options, Runtime("drop", "test", Halt(), Logger(), "/nonexistent"))
drop = maildrop.login(Credentials("ann", checked=True))
items = list(drop.items())
for item in items:
    print("told", item.key, item.size, flush=True)
drop.close([items[int(number)].key for number in delete if number])
print("+OK", flush=True)
"""

NAMES = ("new/0", "cur/1:2,S", "new/2,S=18", "cur/3:2,", "new/4", "new/5")
DELETED = "0,1,3,4"
LEFT = {"2", "5"}
ALL = {"0", "1", "2", "3", "4", "5"}

UIDLIST = "3 V{validity} N4\n1 :0\n2 :1\n3 :2,S=18\n"
"""Dovecot has listed three of six, as it does while mail comes."""


def make(maildir: Path, validity: int | None) -> Path:
    """A Maildir that has lain there for long, with a list of Dovecot or without."""
    for place in ("new", "cur", "tmp"):
        (maildir / place).mkdir(parents=True)
    for name in NAMES:
        (maildir / name).write_bytes(b"Subject: x\n\n%s....\n" % name.encode()[4:5])
    if validity is not None:
        (maildir / "dovecot-uidlist").write_text(UIDLIST.format(validity=validity))
    subprocess.run(["sync", "-f", str(maildir)], check=True)
    return maildir


def command(maildir: Path, delete: str = DELETED) -> list[str]:
    return [sys.executable, "-B", "-c", SESSION, str(maildir), delete]


def there(maildir: Path) -> set[str]:
    """The numbers of the messages that lie there."""
    return {path.name[0] for place in ("new", "cur") for path in (maildir / place).iterdir()}


def told(outcome: kill.Outcome) -> dict[str, str]:
    """Size by UIDL, as far as it came."""
    lines = [line.split() for line in outcome.stdout.splitlines()]
    return {line[1]: line[2] for line in lines if line[0] == "told"}


def complaints(maildir: Path, struck: kill.Outcome) -> list[str]:
    """What is wrong once the next session has looked at it."""
    if struck.status != -9:
        return [f"not killed: {struck.stderr}"]
    before = told(struck)
    after = kill.watch(command(maildir, ""))
    said = []
    if after.status:
        said.append(f"the next session fails: {after.stderr}")
    found = there(maildir)
    if found not in (ALL, LEFT):
        said.append(f"half deleted: {sorted(found)} are left")
    if "+OK" in struck.stdout and found != LEFT:
        said.append(f"after +OK {sorted(found)} are left")
    now = told(after)
    if len(now) != len(found):
        said.append(f"{len(now)} of {len(found)} messages are served")
    if before and not now.keys() <= before.keys():
        said.append(f"UIDLs have changed: {sorted(now.keys() - before.keys())}")
    return [f"{struck.last}: {text}" for text in said]


@pytest.mark.parametrize("validity", [None, 7])
def test_086_d04_killed_before_any_step_it_deletes_all_or_nothing(
    tmp_path: Path, validity: int | None
) -> None:
    steps = kill.undisturbed(command(make(tmp_path / "Maildir", validity)))
    assert there(tmp_path / "Maildir") == LEFT
    found = []
    for step in drawn(steps, 3):
        maildir = make(tmp_path / str(step.number), validity)
        found += complaints(maildir, kill.run_killed(command(maildir), step.number))
    assert found == []
    assert len(steps) > 8


def cut(
    maildir: Path, disks: Disks, number: int, answer: Callable[[Step], int | None] = lambda _: None
) -> kill.Outcome:
    """The power goes before that step, or after the last where there is none such."""

    def decide(step: Step) -> int | None:
        return kill.KILL if step.number == number else answer(step)

    outcome = kill.watch(command(maildir), decide, before_kill=disks.off)
    if outcome.status == 0:
        disks.off()
        outcome = outcome._replace(status=-9)
    disks.on()
    return outcome


@pytest.mark.parametrize("validity", [None, 7])
def test_086_d05_cut_off_before_any_step_or_after_the_last_it_deletes_all_or_nothing(
    tmp_path: Path, disks: Disks, validity: int | None
) -> None:
    """After "+OK" all is gone, power cut or not, and every UIDL that was told is told again."""
    steps = kill.undisturbed(command(make(tmp_path / "Maildir", validity)))
    found = []
    for number in drawn(range(len(steps) + 1), 5):
        maildir = make(disks.both[0].path / str(number), validity)
        struck = cut(maildir, disks, number)
        if validity is not None:  # Dovecot makes its list anew
            (maildir / "dovecot-uidlist").write_text(UIDLIST.format(validity=8))
        found += complaints(maildir, struck)
        disks.off()
        disks.on()
        assert there(maildir) in (ALL, LEFT), f"after the next session, cut at {number}"
    assert found == []


def pretended(call: str, part: str) -> Callable[[Step], int | None]:
    """Say that such a flush was done, and do nothing."""
    return lambda step: 0 if step.call == call and part in step.target else None


def test_without_the_list_of_what_goes_a_kill_leaves_half_of_it(tmp_path: Path) -> None:
    """A harness that finds nothing proves nothing."""
    careless = "from mailflow_maildir.opened import OpenMaildir as O\nO._condemn = print\n"
    found = []
    for number in range(12):
        maildir = make(tmp_path / str(number), None)
        program = [sys.executable, "-B", "-c", careless + SESSION, str(maildir), DELETED]
        struck = kill.run_killed(program, number)
        found += complaints(maildir, struck) if struck.status else []
    assert any("half deleted" in text for text in found)


def test_without_the_flush_of_the_directories_mail_comes_back_after_the_answer(
    tmp_path: Path, disks: Disks
) -> None:
    maildir = make(disks.both[0].path / "Maildir", None)
    answer = pretended("fsync", "/Maildir")
    struck = cut(maildir, disks, -1, answer)
    assert "+OK" in struck.stdout
    assert there(maildir) != LEFT


def test_without_the_flush_of_the_list_uidls_that_were_told_change(
    tmp_path: Path, disks: Disks
) -> None:
    maildir = make(disks.both[0].path / "Maildir", 7)
    answer = pretended("fsync", "")
    steps = kill.undisturbed(command(make(tmp_path / "Maildir", 7)))
    first = next(step.number for step in steps if step.call.startswith("unlink"))
    struck = cut(maildir, disks, first, answer)
    (maildir / "dovecot-uidlist").write_text(UIDLIST.format(validity=8))
    assert any("UIDLs have changed" in text for text in complaints(maildir, struck))


def test_d08_a_disk_that_dies_under_a_session_takes_nothing_and_is_served_when_it_is_back(
    disks: Disks,
) -> None:
    maildir = make(disks.both[0].path / "Maildir", None)
    halt = Halt()
    options = MaildirDropOptions.read({"path": str(maildir)})
    maildrop = MaildirDrop(options, Runtime("drop", "test", halt, Logger(), "/nonexistent"))
    ann = Credentials("ann", checked=True)
    drop = maildrop.login(ann)
    keys = [item.key for item in drop.items()]
    disks.off()
    with pytest.raises(UnavailableError):
        drop.read(keys[0])
    with pytest.raises(UnavailableError):
        drop.close(keys)
    with pytest.raises(UnavailableError):
        maildrop.login(ann)
    disks.on()
    drop = maildrop.login(ann)
    assert [item.key for item in drop.items()] == keys
    drop.close()
    halt.close()
