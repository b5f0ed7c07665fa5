"""UTF8 and LANG (RFC 6856): a client gets UTF-8 headers only where it asked for them."""

from __future__ import annotations

import email
import email.policy

import pytest

PLAIN = b"Subject: one\r\n\r\nbody\r\n"
WIDE = "From: Jörg <jörg@exämple.org>\r\nSubject: Grüße aus 日本\r\n\r\nGrüße\r\n".encode()


@pytest.fixture
def running(gateway):
    return gateway(PLAIN, WIDE)


def test_108_utf8_is_for_the_authorization_state(running):
    dialogue = running.connect()
    assert "UTF8" in dialogue.capabilities()
    assert dialogue.say("UTF8").ok
    assert dialogue.log_in(*running.drop).ok
    assert not dialogue.say("UTF8").ok
    assert dialogue.stat()[0] == 2


@pytest.mark.parametrize("line", ["UTF8 x", "UTF8 USER", "UTF8 1"])
def test_108_utf8_takes_no_argument(gateway, line):
    running = gateway(PLAIN, WIDE, utf8="refuse")
    dialogue = running.connect()
    assert not dialogue.say(line).ok
    assert dialogue.log_in(*running.drop).ok
    assert dialogue.say("RETR 2").code == "UTF8"


def test_109_without_utf8_a_message_with_encoded_words_comes_instead(running):
    """The surrogate of RFC 6857 in its simplest form: ASCII headers, the body as it is."""
    dialogue = running.enter()
    size = int(dialogue.listing()[2])
    got = dialogue.retrieve(2)
    assert len(got) == size
    header, _, body = got.partition(b"\r\n\r\n")
    assert header.isascii()
    assert body == "Grüße\r\n".encode()
    parsed = email.message_from_bytes(got, policy=email.policy.default)
    assert parsed["Subject"] == "Grüße aus 日本"
    assert "Jörg" in str(parsed["From"])
    assert dialogue.ask("TOP 2 0").octets == header + b"\r\n\r\n"
    assert dialogue.stat()[1] == sum(map(int, dialogue.listing().values()))


def test_109_a_large_header_section_is_written_so_too(gateway):
    """By another way than the parser of the standard library, which would take seconds."""
    subject = "Grüße aus 日本 " * 9_000
    octets = f"From: Jörg <jörg@exämple.org>\r\nSubject: {subject}\r\n\r\nbody\r\n".encode()
    dialogue = gateway(octets).enter()
    size = int(dialogue.listing()[1])
    got = dialogue.retrieve(1)
    assert len(got) == size
    assert got.isascii()
    assert all(len(line) <= 78 for line in got.split(b"\r\n"))
    parsed = email.message_from_bytes(got, policy=email.policy.default)
    assert parsed["Subject"] == subject.strip()
    assert "jörg@exämple.org" in str(parsed["From"])


def test_109_or_it_is_refused_with_its_code(gateway):
    dialogue = gateway(PLAIN, WIDE, utf8="refuse").enter()
    for command in ("RETR 2", "TOP 2 0"):
        answer = dialogue.say(command)
        assert not answer.ok
        assert answer.code == "UTF8"
    assert dialogue.retrieve(1) == PLAIN
    assert list(dialogue.listing()) == [1, 2]
    assert dialogue.say("DELE 2").ok


def test_109_eight_bit_bodies_need_no_utf8(gateway):
    octets = b"Subject: one\r\n\r\n" + "Grüße".encode() + b"\xff\r\n"
    assert gateway(octets).enter().retrieve(1) == octets


def test_109_a_header_in_an_old_charset_is_no_utf_8(gateway):
    """8-bit octets that are no UTF-8 are passed as they are, as ever."""
    octets = b"Subject: Gr\xfc\xdfe\r\n\r\nbody\r\n"
    assert gateway(octets).enter().retrieve(1) == octets


def test_110_with_utf8_a_message_comes_as_it_is_and_list_says_its_octets(running):
    dialogue = running.connect()
    assert dialogue.say("UTF8").ok
    dialogue.log_in(*running.drop)
    assert dialogue.retrieve(2) == WIDE
    assert dialogue.listing()[2] == b"%d" % len(WIDE)
    assert dialogue.ask("TOP 2 0").octets == WIDE[: WIDE.index(b"\r\n\r\n") + 4]
    parsed = email.message_from_bytes(dialogue.retrieve(2), policy=email.policy.SMTPUTF8)
    assert parsed["Subject"] == "Grüße aus 日本"


def test_110_plain_messages_are_the_same_in_both_modes(running):
    dialogue = running.connect()
    dialogue.say("UTF8")
    dialogue.log_in(*running.drop)
    assert dialogue.retrieve(1) == PLAIN


@pytest.mark.parametrize("command", ["LANG", "LANG *", "LANG de"])
def test_111_lang_is_not_known_where_it_is_not_offered(server, command):
    dialogue = server.connect()
    if "LANG" in dialogue.capabilities():
        assert not dialogue.say("LANG x-no-such").ok
        answer = dialogue.ask(command) if command == "LANG" else dialogue.say(command)
        assert b"ann" not in answer.line
    else:
        assert not dialogue.say(command).ok
    assert dialogue.alive()
