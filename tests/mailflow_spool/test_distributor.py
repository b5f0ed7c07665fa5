"""Mail goes into a drop once, durably, whoever else is at work there."""

from __future__ import annotations

import multiprocessing
import os
import re
from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow.kinds import Ticket
from mailflow.mail import Envelope, Mail, Octets
from mailflow.testing.corpus import Large
from mailflow.verdicts import FAILED, SENT
from mailflow_spool.distributor import GROUP, SpoolOptions

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
        re.fullmatch(r"bodies|locks|locks/\d+|locks/tidy|index\.db.*", each) for each in there
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


def test_a_sender_that_is_no_utf_8_harms_no_mail(spool: Spool) -> None:
    odd = mail(text(1)).replace(envelope=Envelope("\udcfc@example.org"))
    with spool.distributor() as distributor:
        (report,) = distributor.distribute(odd, Ticket("k-1", ("",)))
    assert report.outcome is SENT
    assert spool.messages() == [text(1)]
