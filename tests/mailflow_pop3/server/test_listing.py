"""STAT, LIST and UIDL: counts that are true, and names that never change hands."""

from __future__ import annotations

import re

import pytest

from mailflow.testing.corpus import AWKWARD

MAIL = b"Subject: one\r\n\r\nbody\r\n"
FIVE = [MAIL + b"." * number + b"\n" for number in range(5)]


@pytest.fixture
def session(store):
    dialogue = store.open(*FIVE)
    yield dialogue
    dialogue.drop()


def test_063_stat_counts_what_is_not_deleted(session):
    sizes = {number: int(size) for number, size in session.listing().items()}
    assert session.stat() == (5, sum(sizes.values()))
    session.say("DELE 2")
    assert session.stat() == (4, sum(sizes.values()) - sizes[2])
    session.say("RSET")
    assert session.stat() == (5, sum(sizes.values()))


def test_063_stat_is_two_numbers_and_nothing_but_text_after_them(session):
    assert re.fullmatch(rb"\+OK 5 \d+( [ -~]*)?", session.say("STAT").line)


@pytest.mark.parametrize("utf8", [False, True], ids=["plain", "utf8"])
def test_064_list_says_how_many_octets_retr_gives(store, utf8):
    dialogue = store.open(*[sample.octets for sample in AWKWARD], utf8=utf8)
    for number, size in dialogue.listing().items():
        sample = AWKWARD[number - 1]
        assert int(size) == len(dialogue.retrieve(number)), sample.name
    dialogue.quit()


def test_065_the_size_of_stat_is_the_sum_of_list(store):
    dialogue = store.open(*[sample.octets for sample in AWKWARD])
    sizes = [int(size) for size in dialogue.listing().values()]
    assert dialogue.stat() == (len(AWKWARD), sum(sizes))
    dialogue.quit()


def test_066_list_of_one_is_one_line(session):
    sizes = session.listing()
    for number in (1, 5):
        assert session.say(f"LIST {number}").line == b"+OK %d %b" % (number, sizes[number])
    assert not session.say("LIST 6").ok
    session.say("DELE 1")
    assert not session.say("LIST 1").ok


def test_067_deleted_messages_are_left_out_of_the_listings(session):
    session.say("DELE 1")
    session.say("DELE 4")
    assert list(session.listing()) == [2, 3, 5]
    assert list(session.listing("UIDL")) == [2, 3, 5]
    assert not session.say("UIDL 4").ok


def test_068_sizes_stay_through_the_session(store):
    """A server in use counts another way once it has read a message."""
    octets = b"Subject: lf\n\n" + b"line\n" * 40 + b"no end"
    dialogue = store.open(octets, octets)
    sizes, total = dialogue.listing(), dialogue.stat()
    dialogue.ask("RETR 1")
    dialogue.ask("TOP 2 0")
    assert dialogue.listing() == sizes
    assert dialogue.stat() == total
    dialogue.say("DELE 1")
    dialogue.say("RSET")
    assert dialogue.stat() == total


def test_069_a_unique_id_has_1_to_70_printable_octets(store):
    dialogue = store.open(*FIVE)
    for name in dialogue.listing("UIDL").values():
        assert re.fullmatch(rb"[!-~]{1,70}", name)
    dialogue.quit()


def test_070_byte_equal_messages_have_ids_of_their_own(store):
    dialogue = store.open(*[MAIL] * 8)
    assert len(set(dialogue.listing("UIDL").values())) == 8
    dialogue.quit()


def test_071_ids_are_the_same_in_every_session_and_never_used_again(store):
    drop = store.fill(*[MAIL] * 4)
    dialogue = store.enter(drop)
    first = dialogue.listing("UIDL")
    dialogue.ask("RETR 1")
    dialogue.say("DELE 4")
    dialogue.say("DELE 2")
    dialogue.quit()
    store.deliver(drop, MAIL)
    dialogue = store.enter(drop)
    second = dialogue.listing("UIDL")
    assert [second[1], second[2]] == [first[1], first[3]]
    assert second[3] not in first.values()
    dialogue.say("DELE 3")  # the newest: whoever counts up from what is there gives it again
    dialogue.quit()
    store.deliver(drop, MAIL)
    third = store.enter(drop).listing("UIDL")
    assert [third[1], third[2]] == [first[1], first[3]]
    assert third[3] not in {*first.values(), *second.values()}


def test_071_ids_of_a_maildir_outlive_flags_and_the_move_to_cur(shelves):
    drop = shelves.fill(*[MAIL] * 3)
    dialogue = shelves.enter(drop)
    before = dialogue.listing("UIDL")
    dialogue.quit()
    for path, flags in zip(shelves.files(drop), (":2,", ":2,S", ":2,FRS"), strict=True):
        name = path.name.partition(":")[0]
        path.rename(path.parent.parent / "cur" / (name + flags))
    dialogue = shelves.enter(drop)
    assert dialogue.listing("UIDL") == before
    dialogue.quit()


def test_072_an_id_tells_no_path_and_no_login_name(store):
    drop = store.fill(*FIVE)
    dialogue = store.enter(drop)
    for name in dialogue.listing("UIDL").values():
        assert b"/" not in name
        assert drop.login.encode() not in name
        assert drop.password.encode() not in name
    dialogue.quit()


def test_073_uidl_of_one_is_one_line_with_the_same_id(session):
    names = session.listing("UIDL")
    for number in (1, 3, 5):
        assert session.say(f"UIDL {number}").line == b"+OK %d %b" % (number, names[number])
    assert not session.say("UIDL 6").ok
