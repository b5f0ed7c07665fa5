"""The codec: what is read of replies, what goes into commands, what content becomes."""

from __future__ import annotations

import contextlib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow import PeerError
from mailflow_smtp.wire import (
    LINE_KEPT,
    LINES_KEPT,
    REPLY_LIMIT,
    Extensions,
    Reply,
    ReplyReader,
    Stuffer,
    Transaction,
    path,
)

ANN, BOB, CAT = "ann@example.org", "bob@example.org", "cat@example.org"


def replies(data: bytes, step: int = 0) -> list[Reply]:
    """All whole replies in `data`, fed at once or `step` octets at a time."""
    reader = ReplyReader("the server")
    found = []
    for at in range(0, len(data), step or len(data)):
        reader.feed(data[at : at + (step or len(data))])
        while reply := reader.next():
            found.append(reply)
    return found


def reply(text: str) -> Reply:
    return replies(text.encode() + b"\r\n")[0]


# Replies


@pytest.mark.parametrize("step", [0, 1])
def test_d13_a_reply_of_many_lines_is_one_reply(step):
    data = b"250-mx.example.org\r\n250-SIZE 1000\r\n250 PIPELINING\r\n354 go\r\n"
    assert replies(data, step) == [
        Reply(250, ("mx.example.org", "SIZE 1000", "PIPELINING")),
        Reply(354, ("go",)),
    ]


@pytest.mark.parametrize("data", [b"250\r\n", b"250 \r\n", b"250-\r\n250\r\n", b"250\n"])
def test_d13_a_reply_needs_no_text(data):
    (found,) = replies(data)
    assert (found.code, str(found), found.status) == (250, "250", "2.0.0")


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250-ok\r\nand no code here\r\n",
        b"250-ok\r\n550 no\r\n",
        b"\x16\x03\x01\x02\n",
        b"\xef\xbc\x92\xef\xbc\x95\xef\xbc\x90 ok\r\n",
    ],
)
def test_d13_what_is_no_reply_is_a_temporary_fault(data):
    with pytest.raises(PeerError) as raised:
        replies(data)
    assert raised.value.temporary


def test_d13_a_line_of_a_megabyte_is_a_reply_that_takes_no_memory():
    (found,) = replies(b"250 " + b"x" * (1 << 20) + b"\r\n", step=5000)
    assert found.code == 250
    assert len(found.lines[0]) < LINE_KEPT + 10
    assert len(str(found)) <= LINE_KEPT


def test_d13_a_megabyte_of_lines_is_a_reply_that_takes_no_memory():
    (found,) = replies(b"250-some text\r\n" * 70_000 + b"250 end\r\n", step=65536)
    assert len(found.lines) == LINES_KEPT


@pytest.mark.parametrize("piece", [b"x" * 65536, b"250-x\r\n" * 8192])
def test_d13_a_reply_without_end_is_given_up(piece):
    reader = ReplyReader("the server")
    reader.feed(b"250-")
    with pytest.raises(PeerError, match="more than 16 MiB"):  # noqa: PT012
        for _ in range(2 * REPLY_LIMIT // len(piece)):
            reader.feed(piece)
            assert reader.next() is None


@pytest.mark.parametrize(
    ("text", "enhanced", "status"),
    [
        ("250 2.1.5 ok", "2.1.5", "2.1.5"),
        ("550 5.1.1 no such user", "5.1.1", "5.1.1"),
        ("550 no such user", "", "5.0.0"),
        ("450 try again", "", "4.0.0"),
        ("550 2.0.0 contradicts", "", "5.0.0"),
        ("250 5.1.1 contradicts", "", "2.0.0"),
        ("450 4.2.0", "4.2.0", "4.2.0"),
        ("550 5.7.1234 too long", "", "5.0.0"),
        ("554 5.7.1<ann@example.org> glued", "", "5.0.0"),
    ],
)
def test_d13_an_enhanced_code_counts_if_it_agrees_with_the_reply(text, enhanced, status):
    assert (reply(text).enhanced, reply(text).status) == (enhanced, status)


def test_a_reply_in_one_line_says_its_enhanced_code_once():
    (found,) = replies(b"550-5.1.1 The account\r\n550 5.1.1 does not exist\r\n")
    assert str(found) == "550 5.1.1 The account does not exist"


def test_control_characters_never_leave_a_reply():
    (found,) = replies(b"550 a\x00b\x1b[31mc\rd\xff\xe2\x80\xaee\r\n")
    assert str(found) == "550 a?b?[31mc?d\ufffd?e"


@given(st.binary(max_size=300))
def test_any_octets_are_replies_or_a_peer_error(data):
    with contextlib.suppress(PeerError):
        for found in replies(data + b"\r\n"):
            assert 200 <= found.code <= 599
            assert str(found).isprintable()


def test_octets_that_nobody_asked_for_are_pending():
    reader = ReplyReader("the server")
    reader.feed(b"220 go\r\n250 injected")
    assert reader.next() == Reply(220, ("go",))
    assert reader.pending


# Extensions


def test_extensions_ignore_case_and_join_what_is_said_twice():
    offered = Extensions(["mx", "pipelining", "AUTH PLAIN", "AUTH=LOGIN", "Size 1000"])
    assert "PIPELINING" in offered
    assert "CHUNKING" not in offered
    assert offered.parameters("AUTH") == ["PLAIN", "LOGIN"]
    assert offered.size == 1000


@pytest.mark.parametrize("line", ["SIZE", "SIZE 0", "SIZE many", "SIZE -1", "SIZE ²"])
def test_a_size_without_a_limit_is_no_limit(line):
    assert Extensions(["mx", line]).size is None


def test_the_greeting_line_is_no_extension():
    assert "PIPELINING" not in Extensions(["PIPELINING"])


def test_limits_tell_the_most_recipients():
    assert Extensions(["mx", "LIMITS MAILMAX=10 RCPTMAX=42"]).recipients_max == 42
    assert Extensions(["mx", "LIMITS MAILMAX=10"]).recipients_max is None


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.org\r\nRCPT TO:<eve@example.org>",
        "ann@example.org\n",
        "ann\rb@example.org",
        "ann\0@example.org",
        "ann@example.org> SIZE=1",
        "<ann@example.org",
        "ann smith@example.org",
        "ann\t@example.org",
        "ann\x7f@example.org",
        "ann\x85@example.org",
        "ann\u2028@example.org",
        "ann\udce9@example.org",
        "a" * 243 + "@example.org",
    ],
)
def test_d18_what_could_end_a_command_is_no_address(address):
    with pytest.raises(ValueError, match="address") as raised:
        path(address)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("address", "octets"),
    [
        ("", b"<>"),
        (ANN, b"<ann@example.org>"),
        ("postmaster", b"<postmaster>"),
        ("ann+red=example.org@lists.example.org", b"<ann+red=example.org@lists.example.org>"),
        ("ännchen@example.org", "<ännchen@example.org>".encode()),
        ("ann@[192.0.2.1]", b"<ann@[192.0.2.1]>"),
    ],
)
def test_an_address_becomes_a_path(address, octets):
    assert path(address) == octets


# Transactions


def answered(*texts: str) -> Transaction:
    """A transaction for ANN, BOB and CAT, and the replies to its commands."""
    transaction = Transaction(b"<>", [ANN, BOB, CAT])
    for text in texts:
        transaction.take(reply(text))
    return transaction


def test_the_commands_of_a_transaction_stand_in_order():
    transaction = Transaction(b"<red@example.org>", [ANN, BOB], b" SIZE=10")
    assert transaction.commands == [
        b"MAIL FROM:<red@example.org> SIZE=10\r\n",
        b"RCPT TO:<ann@example.org>\r\n",
        b"RCPT TO:<bob@example.org>\r\n",
        b"DATA\r\n",
    ]


def test_d09_each_recipient_has_its_own_reply():
    found = answered("250 ok", "250 ok", "550 no", "450 later", "354 go")
    assert found.accepted == [ANN]
    assert [(who, each.code) for who, each in found.refused] == [(BOB, 550), (CAT, 450)]
    assert found.opened


def test_d09_a_refused_mail_is_refused_for_everybody():
    found = answered("552 too big", "503 mail first", "503 mail first", "503", "503")
    assert found.denied == reply("552 too big")
    assert (found.accepted, found.refused, found.opened) == ([], [], False)


def test_d09_refused_data_is_refused_for_the_accepted():
    found = answered("250", "250", "550 no", "250", "451 not now")
    assert found.accepted == []
    assert {who: each.code for who, each in found.refused} == {ANN: 451, BOB: 550, CAT: 451}


def test_data_can_be_open_while_nobody_is_accepted():
    found = answered("250", "550", "550", "550", "354 go")
    assert (found.opened, found.accepted) == (True, [])


@pytest.mark.parametrize("text", ["452 4.5.3 too many", "452 too many", "552 5.5.3 too many"])
def test_recipients_over_the_room_of_a_transaction_are_a_surplus(text):
    found = answered("250", "250", text, text, "354 go")
    assert (found.accepted, found.surplus, found.room) == ([ANN], [BOB, CAT], 1)
    assert found.refused == []


def test_nobody_is_a_surplus_where_nobody_was_accepted():
    found = answered("250", "452 4.5.3 too many", "452 4.5.3 too many", "452", "503")
    assert found.surplus == []
    assert len(found.refused) == 3


def test_a_full_disk_is_no_surplus():
    found = answered("250", "250", "452 4.3.1 disk full", "552 5.2.2 over quota", "354")
    assert [who for who, _ in found.refused] == [BOB, CAT]


@pytest.mark.parametrize(
    "texts",
    [("354 what",), ("250", "354 what"), ("250",) * 4 + ("250 taken",), ("250",) * 4 + ("334 ",)],
)
def test_replies_of_a_wrong_kind_break_the_protocol(texts):
    with pytest.raises(PeerError):
        answered(*texts)


@pytest.mark.parametrize(
    ("texts", "doomed"),
    [
        ((), False),
        (("250",), False),
        (("550",), True),
        (("250", "550", "550"), False),
        (("250", "550", "550", "550"), True),
        (("250", "550", "550", "250"), False),
    ],
)
def test_a_transaction_is_doomed_once_nobody_can_get_it(texts, doomed):
    assert answered(*texts).doomed == doomed


# Content


def stuffed(data: bytes, *cuts: int) -> bytes:
    stuffer = Stuffer()
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    return b"".join(map(stuffer.feed, pieces)) + stuffer.end()


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"", b""),
        (b"a", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b".", b"..\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\rb", b"a\r\nb\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb\r\n"),
        (b"a\n\rb", b"a\r\n\r\nb\r\n"),
        (b"a\r.\rb", b"a\r\n..\r\nb\r\n"),
    ],
)
def test_content_becomes_its_wire_form(data, wire):
    assert stuffed(data) == wire
    assert stuffed(data, *range(1, len(data))) == wire


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\r\n.\r\n", b"\0"]), max_size=12
    ).map(b"".join),
    st.lists(st.integers(0, 20), max_size=4),
)
def test_d15_no_content_ends_itself_however_it_is_cut(data, cuts):
    wire = stuffed(data, *(cut for cut in cuts if cut <= len(data)))
    assert wire == stuffed(data)
    assert wire == b"" or wire.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + wire
    assert wire.count(b"\r") == wire.count(b"\n") == wire.count(b"\r\n")
    plain = (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:]
    expected = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    assert plain == expected + (b"" if expected.endswith(b"\r\n") or not expected else b"\r\n")


def test_mended_line_ends_are_counted():
    stuffer = Stuffer()
    stuffer.feed(b"a\r\nb\nc\r")
    stuffer.feed(b"d\r")
    stuffer.end()
    assert stuffer.mended == 3
