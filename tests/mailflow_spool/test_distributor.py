"""Mail goes into a drop once, durably, whoever else is at work there."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import queue
import re
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from mailflow.errors import ConfigError, InUseError
from mailflow.kinds import Ticket
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.testing.corpus import Large
from mailflow.verdicts import FAILED, LATER, SENT
from mailflow_spool import distributor
from mailflow_spool.distributor import GROUP, SpoolOptions
from mailflow_spool.wire import FRAME

from .conftest import LARGE, Spool, mail, text


def test_a_mail_that_a_client_deleted_does_not_come_again_before_it_is_final(spool: Spool) -> None:
    spool.deliver(text(1), keys=["k-1"], finish=False)
    spool.delete()
    for resumed in (False, True):
        assert (
            spool.deliver(text(1), keys=["k-1"], finish=False, resumed=resumed)[0].outcome is SENT
        )
    assert spool.messages() == []


def test_what_is_final_is_forgotten(spool: Spool) -> None:
    spool.deliver(text(1), text(2), keys=["k-1", "k-2"])
    assert spool.store.known(["k-1", "k-2"]) == set()


def test_what_was_not_called_final_is_known_for_long_and_not_for_ever(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    spool.deliver(text(1), keys=["k-1"], finish=False)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 59 * 86400)
    spool.fill(text(2))
    assert spool.store.known(["k-1"]) == {"k-1"}
    monkeypatch.setattr(time, "time", lambda: now + 61 * 86400)
    spool.fill(text(3))
    assert spool.store.known(["k-1"]) == set()


def test_several_sources_are_merged_into_one_drop_in_the_order_they_arrive(spool: Spool) -> None:
    with spool.distributor() as work, spool.distributor() as home:
        for number, one in enumerate((work, home, work, home)):
            list(one.distribute(mail(text(number)), Ticket(f"k-{number}", ("",))))
    assert spool.messages() == [text(number) for number in range(4)]


def test_a_group_is_one_file_and_one_commit(spool: Spool) -> None:
    spool.fill(*(text(number, 2000) for number in range(GROUP)))
    assert len(spool.bodies()) == 1
    assert len(spool.messages()) == GROUP


def test_a_large_message_has_a_file_of_its_own_and_keeps_its_place(spool: Spool) -> None:
    large = Large(3 << 20)
    spool.fill(LARGE, large, LARGE)
    assert len(spool.bodies()) == 3
    assert spool.messages() == [LARGE, b"".join(large.pieces()), LARGE]


def test_few_small_mails_are_no_file_at_all(spool: Spool) -> None:
    spool.fill(text(1), text(2))
    assert spool.bodies() == []
    assert spool.messages() == [text(1), text(2)]


def test_the_drop_may_be_told_by_the_mail(spool: Spool) -> None:
    jobs = [
        (Mail(str(n), Envelope("x@y", (to,)), Octets(text(n))), Ticket(f"k-{n}", ("",)))
        for n, to in enumerate(("ann@example.org", "bob@example.org"))
    ]
    with spool.distributor(drop="{recipient}") as distributor:
        assert [r.outcome for _, r in distributor.distribute_many(jobs)] == [SENT, SENT]
    assert spool.messages("ann@example.org") == [text(0)]
    assert spool.messages("bob@example.org") == [text(1)]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x00b", "x" * 256, "a\u202eb"])
def test_a_name_that_no_drop_can_have_fails_its_mail_alone(spool: Spool, name: str) -> None:
    jobs = [
        (mail(text(n)).noted(drop=drop), Ticket(f"k-{n}", ("",)))
        for n, drop in enumerate((name, "ann"))
    ]
    with spool.distributor(drop="{note:drop}") as distributor:
        assert [r.outcome for _, r in distributor.distribute_many(jobs)] == [FAILED, SENT]
    assert spool.messages() == [text(1)]


def test_g05_no_name_of_a_drop_is_ever_part_of_a_path(spool: Spool) -> None:
    names = ("../../x", "/etc/passwd", ".", "..", "a/b", "%2e", "{}", "$(id)", "Ann", "ANN")
    for number, name in enumerate(names):
        jobs = [(mail(text(number)).noted(drop=name), Ticket(f"k-{number}", ("",)))]
        with spool.distributor(drop="{note:drop}") as distributor:
            assert [r.outcome for _, r in distributor.distribute_many(jobs)] == [SENT]
    for number, name in enumerate(names):
        assert spool.messages(name) == [text(number)]
    there = {str(path.relative_to(spool.path)) for path in spool.path.rglob("*")}
    assert all(
        re.fullmatch(r"bodies|locks|locks/\d+|locks/tidy|index\.db.*|reserve", each)
        for each in there
    )
    assert {path.name for path in spool.path.parent.iterdir()} == {"spool"}


def _write(path: Path, name: str, count: int) -> None:
    spool = Spool(path)
    with spool.distributor() as distributor:
        for number in range(count):
            octets = name.encode() + text(number, 20_000 * (number % 5))
            (report,) = distributor.distribute(mail(octets), Ticket(f"{name}.{number}", ("",)))
            assert report.outcome is SENT
    spool.close()


def test_several_processes_write_at_once_and_none_loses_or_doubles(spool: Spool) -> None:
    context = multiprocessing.get_context("spawn")
    names, count = "abc", 20
    writers = [context.Process(target=_write, args=(spool.path, name, count)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    wanted = {name.encode() + text(n, 20_000 * (n % 5)) for name in names for n in range(count)}
    found = spool.messages()
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert len(set(spool.uidls())) == len(found)
    assert spool.damage() == []


def test_what_lies_in_the_spool_is_for_its_user_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        spool = Spool(tmp_path / "above" / "spool")
        spool.fill(text(1), LARGE, LARGE)
        spool.uidls()
        for path in (spool.path, *spool.path.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
        spool.close()
    finally:
        os.umask(mask)


@pytest.mark.parametrize(
    "form", ["%u", "%v", "abc", "%08Xu", "%q%u%v", "%u %v", "%m" * 3, "é%u.%v", 7]
)
def test_a_format_that_would_not_tell_messages_apart_is_refused(form: object) -> None:
    with pytest.raises(ConfigError, match="uidl"):
        SpoolOptions.read({"drop": "ann", "uidl": form})


@pytest.mark.parametrize("drop", ["", " ann", "a\tb"])
def test_a_name_that_no_drop_can_have_is_a_fault_of_the_file(drop: str) -> None:
    with pytest.raises(ConfigError, match="drop: no drop can be called"):
        SpoolOptions.read({"drop": drop})
    assert SpoolOptions.read({"drop": "{recipient}"}).drop.fixed is None


def test_a_sender_that_is_no_utf_8_harms_no_mail(spool: Spool) -> None:
    odd = mail(text(1)).replace(envelope=Envelope("\udcfc@example.org"))
    with spool.distributor() as distributor:
        (report,) = distributor.distribute(odd, Ticket("k-1", ("",)))
    assert report.outcome is SENT
    assert spool.messages() == [text(1)]


def test_a_mail_larger_than_memory_goes_through_in_pieces(spool: Spool) -> None:
    spool.fill(text(1))
    tracemalloc.start()
    try:
        spool.fill(Large(16 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


class Torn:
    """Content that cannot be read to its end."""

    size = 2 << 20

    def open(self) -> BinaryIO:
        class Reader(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell():
                    raise OSError(errno.EIO, "torn")
                return super().read(1000)

        return Reader(LARGE)


def test_no_octet_of_what_cannot_be_read_stays_in_the_file_of_its_group(spool: Spool) -> None:
    torn = Torn()
    torn.size = distributor.LARGE - 1
    reports = spool.deliver(LARGE, torn, LARGE, torn)
    assert [report.outcome for report in reports] == [SENT, LATER, SENT, LATER]
    (path,) = spool.bodies()
    assert path.stat().st_size == 2 * (len(LARGE) + FRAME)
    assert spool.messages() == [LARGE, LARGE]


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from conftest import Spool, text
spool = Spool(Path(sys.argv[1]))
spool.fill(text(0))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
contents = [text(n, size) for n, size in enumerate((300_000, 900_000, 400_000), 1)]
for report in spool.deliver(*contents):
    print(report.outcome.name, report.text)
"""


def test_d02_of_what_the_disk_takes_half_nothing_stays_and_the_others_go_on(
    spool: Spool, tmp_path: Path
) -> None:
    """A write that is cut short, and then fails (RLIMIT_FSIZE), in the middle of a group."""
    code = LIMITED.format(here=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(spool.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == ["SENT", "LATER", "SENT"]
    assert "File too large" in said[1]
    assert spool.messages() == [text(0), text(1, 300_000), text(3, 400_000)]
    assert spool.damage() == []


def _read_and_delete(path: Path, seconds: float, taken: Any) -> None:
    spool = Spool(path)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            drop = spool.login()
        except InUseError:
            time.sleep(0.001)
            continue
        items = list(drop.items())
        for item in items:
            taken.put(read(drop.read(item.key)))
        drop.close([item.key for item in items])
    spool.close()


def test_mail_that_is_delivered_read_deleted_and_tidied_at_once_is_read_once(spool: Spool) -> None:
    """Two processes deliver while two others read and delete all they find."""
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    spool.fill(text(0))
    names, count = "ab", 20
    writers = [context.Process(target=_write, args=(spool.path, name, count)) for name in names]
    readers = [
        context.Process(target=_read_and_delete, args=(spool.path, 1.5, taken)) for _ in range(2)
    ]
    for each in (*writers, *readers):
        each.start()
    for writer in writers:
        writer.join()
    found = []
    while any(reader.is_alive() for reader in readers) or not taken.empty():
        with suppress(queue.Empty):
            found.append(taken.get(timeout=0.1))
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0
    found += spool.messages()
    wanted = [name.encode() + text(n, 20_000 * (n % 5)) for name in names for n in range(count)]
    assert Counter(found) == Counter([text(0), *wanted])
    assert spool.damage() == []
