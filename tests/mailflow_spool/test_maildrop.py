"""A session has a drop for itself, as it was when it began, and removes all or nothing."""

from __future__ import annotations

import os
import threading
import tracemalloc

import pytest

from mailflow.errors import GoneError, InUseError, LoginError, UnavailableError
from mailflow.kinds import Credentials, Item, Ticket, WirePart
from mailflow.lines import stuff
from mailflow.mail import read
from mailflow.testing.corpus import AWKWARD, Large
from mailflow_spool import maildrop
from mailflow_spool.maildrop import AHEAD, FILES
from mailflow_spool.store import New
from mailflow_spool.wire import END, HEAD, IN_INDEX, Place

from .conftest import LARGE, Spool, mail, sent, text


def test_a_drop_that_nothing_has_come_to_is_empty(spool: Spool) -> None:
    drop = spool.login("nobody")
    assert list(drop.items()) == []
    drop.close()


def test_056_a_second_session_is_refused_and_the_first_is_not_harmed(spool: Spool) -> None:
    spool.fill(text(1))
    drop = spool.login()
    with pytest.raises(InUseError):
        spool.login()
    assert read(drop.read(drop.items()[0].key)) == text(1)
    drop.close()
    spool.login().close()


def test_056_an_empty_drop_is_locked_too(spool: Spool) -> None:
    drop = spool.login("new")
    with pytest.raises(InUseError):
        spool.login("new")
    drop.close()


def test_other_drops_are_free_meanwhile(spool: Spool) -> None:
    drop = spool.login("ann")
    spool.login("bob").close()
    drop.close()


def test_057_the_lock_of_a_process_that_was_killed_is_free(spool: Spool) -> None:
    pid = os.fork()
    if not pid:
        spool.login()
        os._exit(0)
    os.waitpid(pid, 0)
    spool.login().close()


def test_058_mail_that_arrives_later_is_seen_by_the_next_session(spool: Spool) -> None:
    spool.fill(text(1))
    drop = spool.login()
    before = list(drop.items())
    spool.fill(text(2))
    assert list(drop.items()) == before
    drop.close()
    assert len(spool.uidls()) == 2


def test_every_message_is_read_and_sent_as_it_was_delivered(spool: Spool) -> None:
    contents = [sample.stored for sample in AWKWARD] + [LARGE]
    spool.fill(*contents)
    drop = spool.login()
    for item, octets in zip(drop.items(), contents, strict=True):
        whole = octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"
        assert read(drop.read(item.key)) == whole
        assert item.size == len(whole)
        assert sent(drop, item.key) == HEAD + stuff(whole) + END
    drop.close()


def test_a_message_larger_than_memory_is_read_in_pieces(spool: Spool) -> None:
    large = Large(4 << 20)
    spool.fill(large)
    drop = spool.login()
    content = drop.read(drop.items()[0].key)
    with content.open() as reader:
        reader.seek(3 << 20)
        rest = reader.read()
    assert rest == b"".join(large.pieces())[3 << 20 :]
    drop.close()


def test_messages_that_came_together_lie_one_behind_the_other(spool: Spool) -> None:
    spool.fill(*(text(number, 1000) for number in range(100)))
    drop = spool.login()
    parts = [drop.wire(item.key) for item in drop.items()]
    end = 0
    first = parts[0]
    for part in parts:
        assert isinstance(part, WirePart)
        assert isinstance(first, WirePart)
        assert part.file == first.file
        assert part.offset == end
        end += part.octets
    drop.close()


def test_a_small_message_of_the_index_is_at_hand_as_it_is_sent(spool: Spool) -> None:
    spool.fill(text(1))
    drop = spool.login()
    assert drop.wire(drop.items()[0].key) == HEAD + text(1) + END
    assert read(drop.read(drop.items()[0].key)) == text(1)
    drop.close()


def test_messages_can_be_asked_for_in_any_order(spool: Spool) -> None:
    count = 3 * AHEAD
    spool.fill(*(text(number, 1000) for number in range(count)))
    drop = spool.login()
    for number in (count - 1, 0, 77, 76, 78, 150, 5, 0):
        assert read(drop.read(drop.items()[number].key)) == text(number, 1000)
        assert text(number, 1000) in sent(drop, drop.items()[number].key)
    drop.close()


def test_a_session_keeps_few_files_open_however_many_it_reads(spool: Spool) -> None:
    for _ in range(FILES + 5):
        spool.fill(LARGE)
    drop = spool.login()
    parts = [drop.wire(item.key) for item in drop.items()]
    assert sum(part is not None for part in parts) == FILES
    assert all(read(drop.read(item.key)) == LARGE for item in drop.items())
    drop.close()


def test_the_items_are_a_sequence(spool: Spool) -> None:
    spool.fill(*(text(number) for number in range(10)), "Subject: Grüße\r\n\r\nx\r\n".encode())
    drop = spool.login()
    items = drop.items()
    assert items[3] == list(items)[3] == items[-8]
    assert items[2:4] == [items[2], items[3]]
    assert isinstance(items[0], Item)
    assert [item.flags for item in items][9:] == [frozenset(), frozenset({"utf8"})]
    for index in (11, -12):
        with pytest.raises(IndexError):
            items[index]
    with pytest.raises(KeyError):
        drop.read("no such")
    drop.close()


def test_083_nothing_is_removed_by_a_session_that_does_not_say_so(spool: Spool) -> None:
    spool.fill(text(1), LARGE)
    spool.login().close()
    assert len(spool.messages()) == 2


def test_084_what_is_removed_is_gone_and_the_rest_stays_as_it_was(spool: Spool) -> None:
    spool.fill(*(text(number) for number in range(5)), LARGE)
    keys = spool.uidls()
    spool.delete(keys[1], keys[5])
    assert spool.uidls() == [keys[0], *keys[2:5]]
    assert spool.messages() == [text(0), text(2), text(3), text(4)]


def test_085_where_the_disk_refuses_nothing_is_removed_and_the_drop_is_free(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.fill(text(1), LARGE)
    drop = spool.login()

    def refuse(*arguments: object, **named: object) -> object:
        raise UnavailableError("disk full")

    monkeypatch.setattr(drop._store.index, "commit", refuse)
    with pytest.raises(UnavailableError):
        drop.close([item.key for item in drop.items()])
    monkeypatch.undo()
    assert spool.messages() == [text(1), LARGE]


def test_a_drop_that_was_made_anew_is_another_one_for_a_process_that_knew_it(spool: Spool) -> None:
    spool.fill(text(1))
    before = spool.uidls()
    store = spool.store
    number = store.drop("ann")
    assert number is not None
    store.remove_drop(number, "ann")
    assert spool.messages() == []
    spool.fill(text(1))
    assert spool.messages() == [text(1)]
    assert set(spool.uidls()).isdisjoint(before)


def test_an_index_that_was_replaced_is_the_one_that_is_read(spool: Spool) -> None:
    """As by a backup that is put back under a gateway that runs."""
    spool.fill(text(1))
    assert spool.messages() == [text(1)]
    other = Spool(spool.path.with_name("other"))
    other.fill(text(2))
    other.close()
    spool.path.rename(spool.path.with_name("old"))
    other.path.rename(spool.path)
    assert spool.messages() == [text(2)]


def test_060_a_file_that_is_gone_costs_its_messages_alone(spool: Spool) -> None:
    spool.fill(LARGE)
    spool.fill(text(1))
    drop = spool.login()
    first, second = drop.items()
    spool.bodies()[0].unlink()
    for ask in (drop.wire, drop.read):
        with pytest.raises(GoneError):
            ask(first.key)
    assert read(drop.read(second.key)) == text(1)
    drop.close([first.key])
    assert spool.messages() == [text(1)]


def test_080_a_file_that_was_cut_short_gives_no_short_message(spool: Spool) -> None:
    spool.fill(LARGE, LARGE)
    drop = spool.login()
    os.truncate(spool.bodies()[0], len(LARGE) + 100)
    assert read(drop.read(drop.items()[0].key)) == LARGE
    for ask in (drop.wire, drop.read):
        with pytest.raises(UnavailableError):
            ask(drop.items()[1].key)
    drop.close()


def test_an_open_session_reads_on_where_its_file_was_written_anew(spool: Spool) -> None:
    """Expiry of another drop that shared the file makes room meanwhile."""
    jobs = [LARGE[:-3] + b"%d\r\n" % number for number in range(6)]
    spool.fill(*jobs[:1], drop="ann")
    with spool.distributor(drop="{note:drop}") as distributor:
        group = [
            (mail(octets).noted(drop="ann" if n == 2 else "bob"), Ticket(f"k-{n}", ("",)))
            for n, octets in enumerate(jobs)
        ]
        list(distributor.distribute_many(group))
    drop = spool.login("ann")
    first, second = drop.items()
    part = drop.wire(second.key)
    assert isinstance(part, WirePart)
    again = spool.login("bob")
    again.close([item.key for item in again.items()])  # and with it, the file is made smaller
    assert jobs[2] in os.pread(part.file, part.octets, part.offset)
    assert read(drop.read(second.key)) == jobs[2]
    assert read(drop.read(first.key)) == jobs[0]
    drop.close()
    assert spool.damage() == []


@pytest.mark.parametrize("way", ["wire", "read"])
def test_a_message_is_found_where_its_file_was_written_anew_after_it_was_looked_up(
    spool: Spool, way: str
) -> None:
    """To ask for the first looks up the second, whose file bob's session then makes smaller."""
    spool.fill(LARGE)
    contents = [LARGE[:-3] + b"%d\r\n" % number for number in range(6)]
    jobs = [
        (mail(octets).noted(drop="bob" if n else "ann"), Ticket(f"k-{n}", ("",)))
        for n, octets in enumerate(contents)
    ]
    with spool.distributor(drop="{note:drop}") as distributor:
        list(distributor.distribute_many(jobs))
    drop = spool.login("ann")
    first, second = drop.items()
    drop.wire(first.key)
    before = set(spool.bodies())
    spool.delete(name="bob")
    assert set(spool.bodies()) != before
    found = sent(drop, second.key) if way == "wire" else read(drop.read(second.key))
    assert contents[0] in found
    drop.close()


def test_sessions_of_many_threads_do_not_meet(spool: Spool) -> None:
    names = [f"drop-{number}" for number in range(8)]
    for number, name in enumerate(names):
        spool.fill(*(text(number, 10 + each) for each in range(5)), drop=name)
    faults: list[object] = []

    def read_all(number: int) -> None:
        try:
            for _ in range(10):
                found = spool.messages(names[number])
                assert found == [text(number, 10 + each) for each in range(5)]
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=read_all, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_120_a_session_of_100_000_messages_takes_little_memory(spool: Spool) -> None:
    store = spool.store
    count = 100_000
    octets = HEAD + b"\r\n" + END
    place = Place(IN_INDEX, 0, len(octets), 2, 0)
    store.take(None, [New("ann", place, 1.0, octets=octets)] * count)
    spool.login().close()
    tracemalloc.start()
    try:
        drop = spool.login()
        assert sum(item.size or 0 for item in drop.items()) == 2 * count
        assert drop._listing.find(drop.items()[count // 2].key) == count // 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    drop.close()
    assert peak < 16 << 20


def test_a_drop_that_was_small_is_opened_in_the_event_loop(spool: Spool, monkeypatch) -> None:
    monkeypatch.setattr(maildrop, "SMALL", 2)
    options = maildrop.MaildropOptions.read({"path": str(spool.path)})
    served = maildrop.SpoolMaildrop(options, spool.runtime)
    spool.fill(text(1), text(2))
    assert not served.prompt("ann")  # it is not known yet
    served.login(Credentials("ann", checked=True)).close()
    assert served.prompt("ann")
    assert not served.prompt("bob")
    spool.fill(text(3))
    served.login(Credentials("ann", checked=True)).close()
    assert not served.prompt("ann")


def test_no_more_names_of_small_drops_are_remembered_than_a_few(spool: Spool, monkeypatch) -> None:
    monkeypatch.setattr(maildrop, "NAMES", 3)
    options = maildrop.MaildropOptions.read({"path": str(spool.path)})
    served = maildrop.SpoolMaildrop(options, spool.runtime)
    names = "abcdefg"
    for name in names:
        served.login(Credentials(name, checked=True)).close()
    assert served.prompt("g")
    assert sum(map(served.prompt, names)) <= 3


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "x" * 4096, " ann", "a\u202eb", "\udcff"])
def test_g05_a_login_name_that_no_drop_can_have_is_refused(spool: Spool, name: str) -> None:
    spool.fill(text(1))
    with pytest.raises(LoginError):
        spool.login(name)
    assert [each.name for each in spool.store.drops()] == ["ann"]
