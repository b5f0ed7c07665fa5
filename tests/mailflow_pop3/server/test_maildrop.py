"""The maildrop: one session's own from login to end, as it was at the login."""

from __future__ import annotations

import pytest

from mailflow.errors import BadMailError, UnavailableError

from .shelf import Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def test_056_a_second_session_is_refused_and_the_first_not_harmed(store):
    drop = store.fill(MAIL, MAIL)
    first = store.enter(drop)
    answer = store.connect().log_in(*drop)
    assert not answer.ok
    assert answer.code == "IN-USE"
    assert first.retrieve(2) == MAIL
    assert first.say("DELE 1").ok
    assert first.quit().ok
    assert store.enter(drop).stat()[0] == 1


def test_056_who_has_no_password_does_not_learn_that_it_is_in_use(server):
    drop = server.fill(MAIL)
    first = server.enter(drop)
    assert server.connect().log_in(drop.login, "wrong").code == "AUTH"
    assert first.stat()[0] == 1


def test_056_the_refused_one_may_try_again(server):
    drop = server.fill(MAIL)
    first = server.enter(drop)
    second = server.connect()
    assert second.log_in(*drop).code == "IN-USE"
    first.quit()
    assert second.log_in(*drop).ok


def test_057_a_session_that_is_dropped_gives_its_lock_back(store):
    drop = store.fill(MAIL)
    store.enter(drop).drop()
    assert store.enter(drop).stat()[0] == 1


def test_058_mail_that_comes_later_has_no_number_in_this_session(store):
    drop = store.fill(MAIL, MAIL)
    dialogue = store.enter(drop)
    names = dialogue.listing("UIDL")
    store.deliver(drop, MAIL + b"late\r\n")
    assert dialogue.stat()[0] == 2
    assert dialogue.listing("UIDL") == names
    assert not dialogue.say("RETR 3").ok
    dialogue.say("RSET")
    assert dialogue.stat()[0] == 2
    dialogue.quit()
    later = store.enter(drop)
    assert later.stat()[0] == 3
    assert later.retrieve(3) == MAIL + b"late\r\n"


def test_058_the_snapshot_is_that_of_the_login_and_not_of_the_first_command(store):
    drop = store.fill(MAIL, MAIL)
    dialogue = store.enter(drop)
    store.deliver(drop, MAIL)
    assert dialogue.stat()[0] == 2
    dialogue.quit()


def test_058_numbers_stay_through_deletions(store):
    dialogue = store.open(*[MAIL + b"%d\r\n" % number for number in range(1, 6)])
    for number in (2, 4):
        assert dialogue.say(f"DELE {number}").ok
        assert list(dialogue.listing()) == [n for n in (1, 2, 3, 4, 5) if n % 2 or n > number]
    assert dialogue.retrieve(5) == MAIL + b"5\r\n"
    assert dialogue.retrieve(3) == MAIL + b"3\r\n"
    dialogue.quit()


def test_059_messages_are_numbered_from_1_without_gaps(store):
    drop = store.fill(*[MAIL] * 12)
    dialogue = store.enter(drop)
    assert list(dialogue.listing()) == list(range(1, 13))
    assert [line.split(b" ")[0] for line in dialogue.ask("UIDL").lines] == [
        b"%d" % number for number in range(1, 13)
    ]
    for number in (1, 5, 12):
        dialogue.say(f"DELE {number}")
    dialogue.quit()
    assert list(store.enter(drop).listing()) == list(range(1, 10))


def test_060_a_message_that_was_removed_meanwhile_is_missed_and_nothing_else(store):
    drop = store.fill(MAIL, MAIL + b"two\r\n", MAIL)
    dialogue = store.enter(drop)
    assert dialogue.stat()[0] == 3
    store.remove(drop, 2)
    answer = dialogue.say("RETR 2")
    assert not answer.ok
    assert answer.code == "SYS/TEMP"
    assert dialogue.retrieve(3) == MAIL
    assert dialogue.stat()[0] == 3
    assert dialogue.say("DELE 2").ok
    assert dialogue.say("DELE 1").ok
    assert dialogue.quit().ok
    assert store.enter(drop).stat()[0] == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError("cannot read it: Input/output error"), "SYS/TEMP"),
        (BadMailError("not to be had"), "SYS/PERM"),
        (OSError(5, "Input/output error"), "SYS/TEMP"),
        (ValueError("a slip in a maildrop"), "SYS/TEMP"),
    ],
)
def test_061_a_message_that_cannot_be_read_does_not_block_the_others(gateway, error, code):
    shelf = Shelf(MAIL, MAIL + b"two\r\n", MAIL)
    shelf.faults[list(shelf.messages)[1]] = error
    dialogue = gateway(shelf).enter()
    assert dialogue.stat()[0] == 3
    for command in ("RETR 2", "TOP 2 0"):
        answer = dialogue.say(command)
        assert (answer.ok, answer.code) == (False, code)
    assert dialogue.retrieve(3) == MAIL
    assert list(dialogue.listing("UIDL")) == [1, 2, 3]
    assert dialogue.quit().ok


def test_061_a_broken_file_in_a_maildir_does_not_block_the_others(maildir):
    drop = maildir.fill(MAIL, MAIL + b"two\r\n", MAIL)
    broken = maildir.files(drop)[1]
    broken.unlink()
    broken.mkdir()
    dialogue = maildir.enter(drop)
    assert [dialogue.retrieve(number) for number in dialogue.listing()] == [MAIL, MAIL]
    assert dialogue.quit().ok


def test_062_an_empty_maildrop_has_nothing_and_says_so(store):
    drop = store.fill()
    dialogue = store.enter(drop)
    assert dialogue.say("STAT").line.split(b" ")[:3] == [b"+OK", b"0", b"0"]
    assert dialogue.listing() == {}
    assert dialogue.listing("UIDL") == {}
    for command in ("LIST 1", "UIDL 1", "RETR 1", "DELE 1", "TOP 1 0"):
        assert not dialogue.say(command).ok
    assert dialogue.quit().ok
