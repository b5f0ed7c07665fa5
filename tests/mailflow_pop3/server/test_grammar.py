"""Greeting and grammar: what is a command, and what becomes of everything else."""

from __future__ import annotations

import pytest

from .memory import Memory

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@pytest.fixture
def session(server):
    """A session of two messages."""
    dialogue = server.open(MAIL, MAIL + b"more\r\n")
    yield dialogue
    dialogue.drop()


@pytest.fixture
def fresh(server):
    """A connection before the login."""
    dialogue = server.connect()
    yield dialogue
    dialogue.drop()


def test_001_the_greeting_is_one_positive_line(fresh):
    assert fresh.greeting.startswith(b"+OK")
    assert len(fresh.greeting) <= 510
    assert fresh.say("QUIT").ok, "more than one line stood before the first answer"


def test_002_every_first_line_is_short_and_begins_with_a_status_in_upper_case(session):
    long = "x" * 200
    for line in ["STAT", "NOOP", "LIST 1", "UIDL 1", "DELE 1", "RSET", f"XYZ {long}", "LIST 9"]:
        session.say(line)  # which checks the form of what comes
    for line in ["CAPA", "LIST", "UIDL", "RETR 1", "TOP 1 0"]:
        assert session.ask(line).ok


def test_003_keywords_are_known_in_any_case(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert dialogue.say(f"uSeR {drop.login}").ok
    assert dialogue.say(f"pass {drop.password}").ok
    assert dialogue.say("sTaT").ok
    assert dialogue.ask("retr 1").octets == MAIL
    assert dialogue.say("quit").ok


def test_004_an_unknown_command_is_refused_and_the_session_goes_on(session):
    assert not session.say("XYZZY").ok
    assert not session.say("EHLO me").ok
    assert session.stat()[0] == 2


def test_004_an_unknown_command_before_the_login_is_refused_too(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert not dialogue.say("XYZZY").ok
    assert dialogue.log_in(*drop).ok


IN_TRANSACTION = ["STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 0", "UIDL"]


@pytest.mark.parametrize("command", IN_TRANSACTION)
def test_005_what_needs_a_login_is_refused_without_one(server, command):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert not dialogue.say(command).ok
    assert dialogue.log_in(*drop).ok
    assert dialogue.stat() == (1, len(MAIL))


@pytest.mark.parametrize("command", ["USER red", "PASS sesame", "AUTH PLAIN", "STLS"])
def test_005_what_stands_before_a_login_is_refused_after_one(session, command):
    assert not session.say(command).ok
    assert session.stat()[0] == 2


def test_006_a_command_of_255_octets_is_taken(fresh):
    line = b"USER " + b"a" * (255 - 5 - 2)
    assert len(line + b"\r\n") == 255
    assert fresh.say(line).ok


def test_006_a_command_of_255_octets_is_taken_in_the_transaction_state(session):
    assert session.say(b"LIST " + b"1".rjust(248, b"0")).line  # whatever it says
    assert session.stat()[0] == 2


def test_007_a_line_of_a_megabyte_gives_one_refusal(session):
    session.send(b"NOOP " + b"x" * (1 << 20) + b"\r\nSTAT\r\n")
    assert not session.status().ok
    assert session.line().startswith(b"+OK 2 ")


def test_007_a_line_of_100_megabytes_takes_no_memory(gateway):
    """It comes and is thrown away; the peak of the process shows whether it was kept."""
    running = gateway()
    dialogue = running.connect()
    with Memory() as memory:
        piece = b"x" * (1 << 16)
        for _ in range(100 << 4):
            dialogue.send(piece)
        dialogue.send(b"\r\n")
        assert not dialogue.status().ok
    assert memory.grown < 4 << 20
    assert dialogue.alive()


LENGTHS = [250, 254, 255, 256, 257, 258, 511, 512, 513, 1023, 1024, 4096, 8191, 8192, 65536]


@pytest.mark.parametrize("length", LENGTHS)
def test_008_the_tail_of_an_overlong_line_is_never_a_command(server, length):
    """The octets of DELE 1 and QUIT stand wherever a buffer may have been cut."""
    drop = server.fill(MAIL, MAIL)
    dialogue = server.enter(drop)
    dialogue.send(b"NOOP " + b"x" * (length - 5) + b"DELE 1\r\n")
    dialogue.send(b"NOOP " + b"x" * (length - 5) + b"QUIT\r\n")
    dialogue.status()
    dialogue.end_of_sending()
    dialogue.rest()
    dialogue.drop()
    assert server.enter(drop).stat()[0] == 2


def test_008_an_overlong_line_in_pieces_is_one_line(gateway):
    dialogue = gateway(MAIL).enter()
    for piece in (b"x" * 300, b"DELE 1", b"\r", b"\nSTAT\r\n"):
        dialogue.send(piece)
    assert not dialogue.status().ok
    assert dialogue.line().startswith(b"+OK 1 ")


SPACED = ["LIST  1", "LIST\t1", "LIST 1 ", "LIST 1\t", " LIST 1", "LIST", "NOOP ", "TOP 1  0"]


@pytest.mark.parametrize("line", SPACED)
def test_009_odd_space_has_one_answer_and_harms_nothing(session, line):
    """Where the argument is taken all the same, it is the number that was meant."""
    answer = session.say(line)
    if answer.ok and line.strip() in ("LIST", "TOP 1  0"):
        session.body()
    elif answer.ok and "LIST" in line:
        assert answer.line == b"+OK 1 %d" % len(MAIL)
    assert session.stat()[0] == 2


@pytest.mark.parametrize("line", ["LIST  1", "LIST\t1", "LIST 1 ", " LIST 1", "TOP 1  0"])
def test_009_ours_separates_arguments_by_one_space(gateway, line):
    dialogue = gateway(MAIL).enter()
    assert not dialogue.say(line).ok
    assert dialogue.stat()[0] == 1


def test_010_a_bare_lf_ends_a_line_everywhere(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    dialogue.send(b"USER %b\nPASS %b\n" % (drop.login.encode(), drop.password.encode()))
    assert dialogue.status().ok
    assert dialogue.status().ok
    dialogue.send(b"STAT\nLIST 1\r\nNOOP\n")
    assert [dialogue.status().ok for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    "line",
    [b"NO\rOP", b"NOOP\rDELE 1", b"LIST 1\r2", b"NOOP\r\r"],
    ids=["in-the-keyword", "before-a-command", "in-a-number", "twice"],
)
def test_010_a_bare_cr_in_a_line_is_refused(session, line):
    assert not session.say(line).ok
    assert session.stat()[0] == 2


@pytest.mark.parametrize(
    "line",
    [b"NOOP\0", b"\0NOOP", b"LIST 1\0", b"\0", b"NO\0OP"],
    ids=["at-the-end", "in-front", "behind-a-number", "alone", "in-the-keyword"],
)
def test_010_nul_is_refused(session, line):
    assert not session.say(line).ok
    assert session.stat()[0] == 2


@pytest.mark.parametrize("octet", [b"\0", b"\r"], ids=["nul", "cr"])
@pytest.mark.parametrize("line", [b"USER a%bb", b"PASS a%bb", b"AUTH PLAIN%b"])
def test_010_neither_stands_in_a_name_or_a_password(gateway, line, octet):
    running = gateway(MAIL)
    dialogue = running.connect()
    dialogue.say("USER ann")
    answer = dialogue.say(line % octet)
    assert answer.line == b"-ERR control character in a command"
    assert running.logged() == []


@pytest.mark.parametrize(
    "line",
    [b"NOOP \xff", b"\xe9", b"LIST \xc2\xb2", "RETR \u0661".encode()],
    ids=["behind-noop", "as-the-keyword", "a-small-2", "an-arabic-1"],
)
def test_011_octets_outside_ascii_are_refused(session, line):
    assert not session.say(line).ok
    assert session.stat()[0] == 2


def test_011_octets_outside_ascii_are_escaped_in_the_log(gateway):
    running = gateway(MAIL)
    dialogue = running.enter()
    assert not dialogue.say(b"\xe2\x80\xae\x1b[2J\xff").ok
    dialogue.quit()
    for line in running.logged():
        assert line.isascii() or line.isprintable()
        assert "\x1b" not in line
        assert "\u202e" not in line


def test_012_an_empty_line_is_refused(session):
    assert not session.say("").ok
    assert session.stat()[0] == 2


def test_012_empty_lines_count_as_bad_commands(gateway):
    dialogue = gateway().connect()
    dialogue.send(b"\r\n" * 30)
    assert 5 <= dialogue.rest().count(b"-ERR") <= 20


@pytest.mark.parametrize("logged_in", [False, True], ids=["before-the-login", "after-it"])
def test_013_bad_commands_in_a_row_end_the_connection(server, logged_in):
    dialogue = server.open(MAIL) if logged_in else server.connect()
    dialogue.send(b"XYZZY\r\n" * 30)
    said = dialogue.rest()
    assert 3 <= said.count(b"-ERR") <= 25
    assert b"+OK" not in said


def test_013_ours_bears_ten(gateway):
    dialogue = gateway(MAIL).enter()
    dialogue.send(b"XYZZY\r\n" * 30)
    assert [line[:4] for line in dialogue.rest().splitlines()] == [b"-ERR"] * 10


def test_013_a_good_command_between_bad_ones_begins_the_count_anew(server):
    dialogue = server.open(MAIL)
    for _ in range(5):
        dialogue.send(b"XYZZY\r\n" * 4)
        assert not any(dialogue.status().ok for _ in range(4))
        assert dialogue.say("NOOP").ok
    assert dialogue.quit().ok


@pytest.mark.parametrize("half", [b"DELE 1", b"DELE 1\r", b"DELE 1\r\nQUIT", b"DELE 1\r\nQUIT\r"])
def test_014_half_a_command_at_the_end_is_not_executed(server, half):
    drop = server.fill(MAIL)
    dialogue = server.enter(drop)
    dialogue.send(half)
    dialogue.end_of_sending()
    dialogue.rest()
    dialogue.drop()
    assert server.enter(drop).stat() == (1, len(MAIL))


NO_NUMBERS = [
    "0", "-1", "+1", "1.0", "1e0", "0x1", "x", "1 2", "3", "2147483648", "4294967297",
    "18446744073709551617", "9" * 100, "", "1,", "*",
]  # fmt: skip


@pytest.mark.parametrize("argument", NO_NUMBERS)
@pytest.mark.parametrize("command", ["RETR", "DELE", "LIST", "UIDL", "TOP"])
def test_015_what_is_no_message_number_is_refused(session, command, argument):
    """There are two messages. LIST and UIDL followed by nothing but a space ask for all."""
    line = f"{command} {argument} 0" if command == "TOP" else f"{command} {argument}"
    answer = session.say(line)
    if answer.ok and not argument:
        session.body()
        assert command in ("LIST", "UIDL")
    else:
        assert not answer.ok
    assert session.stat()[0] == 2


def test_015_leading_zeros_have_one_meaning(session):
    """The number without them, or none at all; never another message, never an octal one."""
    answers = [session.say(f"LIST {zeros}2") for zeros in ("0", "00", "000000000")]
    wanted = session.say("LIST 2").line
    assert {answer.line if answer.ok else wanted for answer in answers} == {wanted}
    assert len({answer.ok for answer in answers}) == 1
