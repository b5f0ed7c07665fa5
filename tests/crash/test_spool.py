"""The spool killed, cut off and refused at every step of delivery, QUIT, expiry and tidying."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.testing import kill
from mailflow.verdicts import LATER, SENT, Report
from mailflow_spool import tidy
from mailflow_spool.distributor import SpoolDistributor, SpoolOptions
from mailflow_spool.maildrop import MaildropOptions, OpenSpool, SpoolMaildrop
from mailflow_spool.store import Store
from mailflow_spool.verify import verify

from .conftest import Disks, demand
from .drawn import drawn

pytestmark = [
    pytest.mark.crash,
    pytest.mark.usefixtures("watched"),
    pytest.mark.interop("xfsprogs", "e2fsprogs"),
    pytest.mark.timeout(900),
]

COUNT = 6

BEGIN = """
import os, sys
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets

path = sys.argv[1]
runtime = Runtime("spool", "test", Halt(), Logger(), "")
"""

DELIVER = (
    BEGIN
    + """
from mailflow_spool.distributor import SpoolDistributor, SpoolOptions

resumed, done = len(sys.argv) > 2, sys.argv[3:]
options = SpoolOptions.read({"path": path, "drop": "ann"})
with SpoolDistributor(options, runtime) as distributor:
    sizes = (10, 10, 40_000, 40_000, 10, 10)
    texts = [b"Subject: %d\\r\\n\\r\\n%s\\r\\n" % (n, b"x" * sizes[n]) for n in range(6)]
    mails = [Mail(f"m{n}", Envelope("a@x.org"), Octets(texts[n])) for n in range(6)]
    sent = set()
    for group in (mails[:2], mails[1:5], mails[5:]):
        jobs = [(m, Ticket(m.id, ("",), resumed=resumed)) for m in group if m.id not in done]
        for ticket, report in distributor.distribute_many(jobs):
            print(ticket.key, report.outcome.value, flush=True)
            if report.outcome.value == "sent":
                sent.add(ticket.key)
    print("all final", flush=True)
    distributor.finish(sent)
"""
)
"""Rows of the index, a file, and a row; one of them with a ticket of the group before. What is
final in the journal is never handed in again."""

QUIT = (
    BEGIN
    + """
from mailflow_spool.maildrop import MaildropOptions, SpoolMaildrop

drop = SpoolMaildrop(MaildropOptions.read({"path": path}), runtime).login(
    Credentials("ann", checked=True)
)
drop.close([item.key for item in drop.items()][1:4])
print("+OK", flush=True)
"""
)
"""Deletes a row, and most of a file, which is written anew."""

EXPIRE = (
    BEGIN
    + """
from mailflow_spool import tidy
from mailflow_spool.expire import expire
from mailflow_spool.store import Policy, Store

tidy.ROWS = 1
store = Store(path)
expire(store, "ann", Policy(most=41_000))
tidy.tidy(store)
tidy.sweep(store)
store.close()
"""
)
"""Leaves the last three, moves rows into a file, and sweeps."""


def command(code: str, spool: Path, *words: str) -> list[str]:
    return [sys.executable, "-B", "-c", code, str(spool), *words]


@contextmanager
def session(spool: Path) -> Iterator[OpenSpool]:
    """A client's, whose drop the caller closes."""
    store = Store(str(spool))
    try:
        yield OpenSpool(store, "ann")
    finally:
        store.close()


def found(spool: Path) -> dict[str, str]:
    """UIDL by the message's number, of what a client gets; everything is whole, and nothing
    is there but what somebody has."""
    store = Store(str(spool))
    try:
        tidy.sweep(store)
        assert [str(each) for each in verify(store)] == []
    finally:
        store.close()
    there = {}
    with session(spool) as drop:
        for item in drop.items():
            octets = read(drop.read(item.key))
            number = octets.split()[1].decode()
            size = 40_000 if number in "23" else 10
            assert octets == b"Subject: %s\r\n\r\n%s\r\n" % (number.encode(), b"x" * size)
            assert number not in there, "twice"
            there[number] = item.key
        drop.close()
    return there


ALL = {str(number) for number in range(COUNT)}


def sent(outcome: kill.Outcome) -> set[str]:
    """What the program has said is durable."""
    words = [line.split() for line in outcome.stdout.splitlines()]
    return {key.removeprefix("m") for key, state in words if state == "sent"}


def test_d04_killed_before_any_step_it_delivers_once(tmp_path: Path) -> None:
    steps = kill.undisturbed(command(DELIVER, tmp_path / "control"))
    assert found(tmp_path / "control").keys() == ALL
    assert len(steps) > 20
    for step in drawn(steps, 6):
        spool = tmp_path / str(step.number)
        outcome = kill.run_killed(command(DELIVER, spool), step.number)
        before = found(spool) if spool.exists() else {}
        assert sent(outcome) <= before.keys(), step
        if "all final" in outcome.stdout:
            assert before.keys() == ALL, step
            continue
        kill.undisturbed(command(DELIVER, spool, "resumed"))
        after = found(spool)
        assert after.keys() == ALL, step
        assert before.items() <= after.items(), "a UIDL has changed"


def test_d04_what_a_client_deleted_after_a_kill_does_not_come_again(tmp_path: Path) -> None:
    steps = kill.undisturbed(command(DELIVER, tmp_path / "control"))
    for step in drawn(steps, 10):
        spool = tmp_path / str(step.number)
        outcome = kill.run_killed(command(DELIVER, spool), step.number)
        if not spool.exists() or "all final" in outcome.stdout:
            continue
        before = found(spool)
        with session(spool) as drop:
            drop.close(before.values())
        kill.undisturbed(command(DELIVER, spool, "resumed"))
        after = found(spool)
        assert not before.keys() & after.keys(), step
        assert before.keys() | after.keys() == ALL, step


def test_d05_a_file_and_its_name_are_flushed_before_the_index_names_it(tmp_path: Path) -> None:
    """A later flush of the same disk would hide it on ext4 and xfs, and not elsewhere."""
    spool = tmp_path / "spool"
    steps = [
        (step.call, Path(step.target).relative_to(spool).parts[0], Path(step.target).name)
        for step in kill.undisturbed(command(DELIVER, spool))
        if step.target.startswith(f"{spool}/")
    ]
    calls = [(call, place, name != place) for call, place, name in steps]
    written = [n for n, step in enumerate(calls) if step == ("write", "bodies", True)]
    assert len(written) > 1
    octets = calls.index(("fsync", "bodies", True), written[-1])
    name = calls.index(("fsync", "bodies", False), octets)
    named = calls.index(("pwrite64", "index.db-wal", False), written[-1])
    assert octets < name < named


def test_d05_cut_off_before_any_step_it_delivers_once(tmp_path: Path, disks: Disks) -> None:
    steps = kill.undisturbed(command(DELIVER, tmp_path / "control"))
    for step in drawn(steps, 12):
        spool = disks.both[0].path / str(step.number)
        outcome = kill.run_killed(command(DELIVER, spool), step.number, before_kill=disks.off)
        disks.on()
        before = found(spool) if spool.exists() else {}
        assert sent(outcome) <= before.keys(), step
        disks.off()
        disks.on()
        if "all final" not in outcome.stdout:
            kill.undisturbed(command(DELIVER, spool, "resumed"))
        disks.off()
        disks.on()
        after = found(spool)
        assert after.keys() == ALL, f"after the exit of the next run: {step}"
        assert before.items() <= after.items(), "a UIDL has changed"


def quit_was_whole(outcome: kill.Outcome, before: dict[str, str], after: dict[str, str]) -> None:
    """All that was deleted is gone, or nothing; after "+OK" it is gone."""
    left = {number: uidl for number, uidl in before.items() if number in "045"}
    if "+OK" in outcome.stdout:
        assert after == left, outcome.last
    assert after in (before, left), outcome.last


def test_086_g10_killed_before_any_step_of_quit_all_is_deleted_or_nothing(tmp_path: Path) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "control"))
    steps = kill.undisturbed(command(QUIT, tmp_path / "control"))
    states = Counter[int]()
    for step in drawn(steps, 6):
        spool = tmp_path / str(step.number)
        kill.undisturbed(command(DELIVER, spool))
        before = found(spool)
        outcome = kill.run_killed(command(QUIT, spool), step.number)
        after = found(spool)
        quit_was_whole(outcome, before, after)
        states[len(after)] += 1
    assert set(states) == {COUNT, COUNT - 3}, "no kill was before, or none after the commit"


def test_086_cut_off_before_any_step_of_quit_all_is_deleted_or_nothing(
    tmp_path: Path, disks: Disks
) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "control"))
    steps = kill.undisturbed(command(QUIT, tmp_path / "control"))
    for step in [*drawn(steps, 8), None]:
        spool = disks.both[0].path / str(step and step.number)
        kill.undisturbed(command(DELIVER, spool))
        before = found(spool)
        if step is None:  # right after "+OK"
            outcome = kill.watch(command(QUIT, spool))
            disks.off()
        else:
            outcome = kill.run_killed(command(QUIT, spool), step.number, before_kill=disks.off)
        disks.on()
        quit_was_whole(outcome, before, found(spool))


def test_killed_before_any_step_of_expiry_no_other_mail_is_harmed(tmp_path: Path) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "control"))
    steps = kill.undisturbed(command(EXPIRE, tmp_path / "control"))
    assert found(tmp_path / "control").keys() == {"3", "4", "5"}
    for step in drawn(steps, 6):
        spool = tmp_path / str(step.number)
        kill.undisturbed(command(DELIVER, spool))
        before = found(spool)
        kill.run_killed(command(EXPIRE, spool), step.number)
        after = found(spool)
        left = {number: uidl for number, uidl in before.items() if number in "345"}
        assert after in (before, left), step
        kill.undisturbed(command(EXPIRE, spool))
        assert found(spool) == left, step


def test_cut_off_before_any_step_of_expiry_no_other_mail_is_harmed(
    tmp_path: Path, disks: Disks
) -> None:
    kill.undisturbed(command(DELIVER, tmp_path / "control"))
    steps = kill.undisturbed(command(EXPIRE, tmp_path / "control"))
    for step in drawn(steps, 12):
        spool = disks.both[0].path / str(step.number)
        kill.undisturbed(command(DELIVER, spool))
        before = found(spool)
        kill.run_killed(command(EXPIRE, spool), step.number, before_kill=disks.off)
        disks.on()
        left = {number: uidl for number, uidl in before.items() if number in "345"}
        assert found(spool) in (before, left), step


@pytest.mark.parametrize("number", [28, 5, 122], ids=["ENOSPC", "EIO", "EDQUOT"])
def test_d01_d03_whatever_step_fails_once_nothing_is_lost_or_doubled(
    tmp_path: Path, number: int
) -> None:
    """What was not SENT, since a flush failed among others, is written anew."""
    steps = kill.undisturbed(command(DELIVER, tmp_path / "control"))
    for step in drawn(steps[number % 3 :: 3], 4):
        spool = tmp_path / str(step.number)
        outcome = kill.watch(
            command(DELIVER, spool),
            lambda each, n=step.number: number if each.number == n else None,  # type: ignore[misc]
        )
        before = found(spool) if spool.exists() else {}
        assert sent(outcome) <= before.keys(), step
        done = [f"m{each}" for each in sent(outcome)] if "all final" in outcome.stdout else []
        kill.undisturbed(command(DELIVER, spool, "resumed", *done))
        assert found(spool).keys() == ALL, step


def deliver(distributor: SpoolDistributor, number: int, size: int) -> Report:
    octets = Octets(b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * size))
    mail = Mail(f"m{number}", Envelope(), octets)
    return next(iter(distributor.distribute(mail, Ticket(mail.id, ("",)))))


def test_d08_a_disk_that_dies_under_a_spool_in_use_is_used_again_when_it_is_back(
    disks: Disks,
) -> None:
    spool = disks.both[0].path / "spool"
    halt = Halt()
    runtime = Runtime("spool", "test", halt, Logger(), "")
    options = SpoolOptions.read({"path": str(spool), "drop": "ann"})
    maildrop = SpoolMaildrop(MaildropOptions.read({"path": str(spool)}), runtime)
    ann = Credentials("ann", checked=True)
    with SpoolDistributor(options, runtime) as distributor:
        assert deliver(distributor, 0, 10) == Report("", SENT)
        assert deliver(distributor, 1, 200_000) == Report("", SENT)
        drop = maildrop.login(ann)
        keys = [item.key for item in drop.items()]
        disks.off()
        for size in (10, 200_000):
            assert deliver(distributor, 2, size).outcome is LATER
        with pytest.raises(MailflowError) as told:
            drop.close(keys)
        assert told.value.temporary
        with pytest.raises(MailflowError):
            maildrop.login(ann)
        disks.on()
        assert deliver(distributor, 2, 10) == Report("", SENT)
        drop = maildrop.login(ann)
        assert [item.key for item in drop.items()][:2] == keys
        assert len(read(drop.read(keys[1]))) > 200_000
        drop.close(keys)
        drop = maildrop.login(ann)
        assert len(drop.items()) == 1
        drop.close()
    assert maildrop._store is not None
    maildrop._store.close()
    halt.close()


def test_d01_on_a_full_disk_a_client_can_make_room_by_deleting(tmp_path: Path) -> None:
    demand("" if os.geteuid() == 0 else "needs root: mounts")
    place = tmp_path / "small"
    place.mkdir()
    options = ("-o", "size=6m,mode=700")
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(place)], check=True)
    try:
        fill_and_empty(place / "spool")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill_and_empty(spool: Path) -> None:
    halt = Halt()
    options = SpoolOptions.read({"path": str(spool), "drop": "ann"})
    runtime = Runtime("spool", "test", halt, Logger(), "")
    count = 0
    with SpoolDistributor(options, runtime) as distributor:
        while deliver(distributor, count, (10, 200_000, 30_000)[count % 3]).outcome is SENT:
            count += 1
        report = deliver(distributor, count, 200_000)
        assert (report.outcome, report.code) == (LATER, "4.3.1")
    with session(spool) as drop:
        keys = [item.key for item in drop.items()]
        assert len(keys) == count
        drop.close(keys[:30])
    with session(spool) as drop:
        assert [item.key for item in drop.items()] == keys[30:]
        drop.close()
    with SpoolDistributor(options, runtime) as distributor:
        assert deliver(distributor, count, 200_000).outcome is SENT
    halt.close()
