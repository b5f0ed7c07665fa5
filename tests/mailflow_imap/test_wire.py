"""The codec: what goes out, what comes in, and what is no IMAP."""

from __future__ import annotations

import sys

import pytest

from mailflow.errors import PeerError, UnavailableError
from mailflow.mail import Octets
from mailflow_imap.wire import (
    MINUS_LIMIT,
    RESPONSE_LIMIT,
    UNASKED_CONTENT,
    WITHOUT_LIMIT,
    Client,
    Closed,
    Command,
    Continuation,
    Literal,
    Piece,
    Reply,
    Status,
    Untagged,
    Word,
)

GREETING = b"* OK [CAPABILITY IMAP4rev1 IDLE] ready\r\n"


def client_after(*commands: Command, piece: int = 1 << 18) -> Client:
    """A greeted client that has sent these."""
    client = Client("test", piece)
    client.receive(GREETING)
    assert isinstance(client.next_event(), Status)
    for command in commands:
        client.send(command)
    while client.outgoing():
        pass
    return client


def events(client: Client, data: bytes) -> list[object]:
    client.receive(data)
    return list(iter(client.next_event, None))


def spelled(*words: Word, free: int = 0) -> bytes:
    client = client_after()
    client.free = free
    client.send(Command("X", *words))
    sent = b""
    while data := client.outgoing():
        sent += data
        if client._waiting:
            sent += b"<leave>"
            client.receive(b"+ go\r\n")
            client.next_event()
    return sent


def test_a_greeting_tells_its_code_and_text() -> None:
    client = Client()
    assert events(client, GREETING) == [
        Status("OK", "CAPABILITY", b"IMAP4rev1 IDLE", "ready"),
    ]


@pytest.mark.parametrize(
    ("word", "octets"),
    [
        (b"(FLAGS)", b"(FLAGS)"),
        ("INBOX", b'"INBOX"'),
        ('a "quoted" \\ name', b'"a \\"quoted\\" \\\\ name"'),
        ("", b'""'),
        (7, b"7"),
        ((b"\\Seen", b"\\Deleted"), b"(\\Seen \\Deleted)"),
        ((b"OR", (b"A", "b"), b"C"), b'(OR (A "b") C)'),
        ((), b"()"),
    ],
)
def test_words_are_spelled_as_what_they_are(word: Word, octets: bytes) -> None:
    assert spelled(word) == b"m1 X " + octets + b"\r\n"


@pytest.mark.parametrize("text", ["a\r\nm2 DELETE INBOX", "a\nb", "a\rb", "gr\u00fcn", "x" * 1001])
def test_dal_30_what_cannot_be_quoted_goes_as_a_literal_and_ends_no_command(text: str) -> None:
    octets = text.encode()
    assert spelled(text) == b"m1 X {%d}\r\n<leave>%b\r\n" % (len(octets), octets)
    assert spelled(text, free=WITHOUT_LIMIT) == b"m1 X {%d+}\r\n%b\r\n" % (len(octets), octets)


def test_a_nul_can_be_told_to_no_server() -> None:
    with pytest.raises(ValueError, match="NUL"):
        spelled("a\0b")


@pytest.mark.parametrize("syntax", [b"A\r\nB", b"A {3}", b"A\0"])
def test_syntax_ends_no_command_and_begins_no_literal(syntax: bytes) -> None:
    with pytest.raises(ValueError, match="syntax"):
        spelled(syntax)


def test_under_literal_minus_a_long_literal_waits_for_leave() -> None:
    long = "\n" * (MINUS_LIMIT + 1)
    assert b"<leave>" in spelled(long, free=MINUS_LIMIT)
    assert b"<leave>" not in spelled(long[1:], free=MINUS_LIMIT)


def test_a_content_is_sent_octet_for_octet() -> None:
    data = b"a\nb\r\n\0\xff" * 100_000
    sent = spelled("INBOX", Literal(Octets(data)), free=WITHOUT_LIMIT)
    assert sent.endswith(b"+}\r\n" + data + b"\r\n")


def test_a_large_content_waits_for_leave_so_that_a_refusal_spares_it() -> None:
    client = client_after()
    client.free = WITHOUT_LIMIT
    client.send(Command("APPEND", Literal(Octets(bytes(UNASKED_CONTENT + 1)))))
    assert client.outgoing() == b"m1 APPEND {1048577}\r\n"
    [reply] = events(client, b"m1 NO [TOOBIG] no\r\n")
    assert isinstance(reply, Reply)
    assert client.outgoing() == b""


class Shrunk(Octets):
    """Tells more octets than it has."""

    @property
    def size(self) -> int:
        return len(self.data) + 3


def test_a_content_with_fewer_octets_than_it_told_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="3 octets less"):
        spelled(Literal(Shrunk(b"abc")), free=WITHOUT_LIMIT)


def test_commands_leave_together_and_wait_for_the_one_that_is_alone() -> None:
    client = client_after()
    client.send(Command("A"))
    client.send(Command("B", alone=True))
    client.send(Command("C"))
    assert client.outgoing() == b"m1 A\r\nm2 B\r\n"
    assert client.outgoing() == b""
    events(client, b"m1 OK done\r\nm2 OK done\r\n")
    assert client.outgoing() == b"m3 C\r\n"


def test_without_pipelining_a_command_leaves_when_nothing_is_due() -> None:
    client = client_after()
    client.pipelining = False
    client.send(Command("A"))
    client.send(Command("B"))
    assert client.outgoing() == b"m1 A\r\n"
    assert client.outgoing() == b""
    events(client, b"m1 NO\r\n")
    assert client.outgoing() == b"m2 B\r\n"


def test_a_refused_literal_takes_the_rest_of_its_command_back() -> None:
    client = client_after()
    client.send(Command("A", "\n"))
    client.send(Command("B"))
    assert client.outgoing() == b"m1 A {1}\r\n"
    [reply] = events(client, b"m1 NO [TOOBIG] no\r\n")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.code) == ("NO", "TOOBIG")
    assert client.outgoing() == b"m2 B\r\n"


DIALOGUE = (
    b"* 3 EXISTS\r\n"
    b"* OK [UIDVALIDITY 7] valid\r\n"
    b'* LIST (\\Noselect) "/" {3}\r\na b\r\n'
    b"* 1 FETCH (UID 5 BODY[] {12}\r\nA: b\r\n\r\n{3}\n FLAGS (\\Seen))\r\n"
    b"* 2 FETCH (UID 6 BODY[] {0}\r\n)\r\n"
    b"* 3 FETCH (UID 7 BODY[] {40}\r\n0123456789012345678901234567890123456789)\r\n"
    b"* SEARCH\r\n"
    b"m1 OK [READ-WRITE] done (0.1 secs).\r\n"
)


def joined(found: list[object]) -> list[object]:
    """Pieces of one literal as one: how they are cut depends on how they arrive."""
    whole: list[object] = []
    for event in found:
        if isinstance(event, Piece) and whole and isinstance(whole[-1], Piece):
            whole[-1] = whole[-1]._replace(data=whole[-1].data + event.data)
        else:
            whole.append(event)
    return whole


def test_octet_by_octet_gives_what_one_lump_gives() -> None:
    command = Command("UID FETCH")
    lump = events(client_after(command, piece=20), DIALOGUE)
    client = client_after(command, piece=20)
    single = [event for octet in DIALOGUE for event in events(client, bytes((octet,)))]
    assert joined(single) == joined(lump)
    assert joined(lump) == [
        Untagged(3, "EXISTS", [b""]),
        Status("OK", "UIDVALIDITY", b"7", "valid"),
        Untagged(0, "LIST", [(b'(\\Noselect) "/" {3}', b"a b"), b""]),
        Untagged(1, "FETCH", [(b"(UID 5 BODY[] {12}", b"A: b\r\n\r\n{3}\n"), b" FLAGS (\\Seen))"]),
        Untagged(2, "FETCH", [(b"(UID 6 BODY[] {0}", b""), b")"]),
        Piece(3, 0, b"(UID 7 BODY[] {40}", 40, b"0123456789" * 4, True),
        Untagged(3, "FETCH", [(b"(UID 7 BODY[] {0}", b""), b")"]),
        Untagged(0, "SEARCH", [b""]),
        Reply(command, "OK", "READ-WRITE", b"", "done (0.1 secs)."),
    ]


def test_a_brace_in_the_text_of_a_status_is_no_literal() -> None:
    assert events(client_after(), b"* OK see {5}\r\n") == [Status("OK", "", b"", "see {5}")]


@pytest.mark.parametrize(
    "size", [b"{4294967296}", b"{99999999999}", b"{-1}", b"{5+}", b"{}", b"{ 5}", b"~{5+}"]
)
def test_f15_a_literal_of_no_possible_size_is_no_imap(size: bytes) -> None:
    client = client_after(Command("UID FETCH"))
    with pytest.raises(PeerError, match="no possible size"):
        events(client, b"* 1 FETCH (UID 1 BODY[] " + size + b"\r\n")


def test_f15_nothing_is_allocated_of_a_size_that_is_only_claimed() -> None:
    import tracemalloc

    client = client_after(Command("UID FETCH"))
    tracemalloc.start()
    events(client, b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\nabc")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_f15_a_long_literal_belongs_to_a_message_only() -> None:
    with pytest.raises(PeerError, match="in LIST"):
        events(client_after(), b'* LIST () "/" {1000000}\r\n')


@pytest.mark.parametrize(
    "octets",
    [
        b"m2 OK not sent yet\r\n",
        b"x1 OK not ours\r\n",
        b"m1 YES\r\n",
        b"hello\r\n",
        b"* \r\n",
        b"* PREAUTH again\r\n",
        b"* 99999999999 EXISTS\r\n",
        b"* 4294967296 EXISTS\r\n",
        b"+ go on\r\n",
    ],
)
def test_f18_what_answers_nothing_is_no_imap(octets: bytes) -> None:
    with pytest.raises(PeerError):
        events(client_after(Command("NOOP")), octets)


@pytest.mark.parametrize(
    "octets", [b"+OK ready\r\n", b"220 smtp\r\n", b"* 3 EXISTS\r\n", b"* NO\r\n"]
)
def test_only_a_greeting_of_imap_begins_a_session(octets: bytes) -> None:
    with pytest.raises(PeerError, match=r"no (greeting|response) of IMAP: "):
        events(Client(), octets)


def test_f18_a_response_without_end_is_given_up() -> None:
    client = client_after()
    data = b"* SEARCH " + b"1 " * (RESPONSE_LIMIT // 2 + 1)
    with pytest.raises(PeerError, match="more than"):
        events(client, data)


def test_f18_a_response_of_many_literals_is_given_up() -> None:
    client = client_after()
    data = b"* 1 FETCH (" + (b"X {200000}\r\n" + b"x" * 200_000 + b" ") * 200
    with pytest.raises(PeerError, match="more than"):
        events(client, data)


def test_a_continuation_belongs_to_the_command_that_is_alone() -> None:
    idle = Command("IDLE", alone=True)
    client = client_after(idle)
    assert events(client, b"+ idling\r\n") == [Continuation(idle, b"idling")]
    assert client.respond(b"DONE") == b"DONE\r\n"
    assert events(client, b"* 4 EXISTS\r\nm1 OK\r\n") == [
        Untagged(4, "EXISTS", [b""]),
        Reply(idle, "OK", "", b"", ""),
    ]


def test_answers_may_come_in_another_order() -> None:
    first, second = Command("NOOP"), Command("CHECK")
    found = events(client_after(first, second), b"m2 OK\r\nm1 OK\r\n")
    assert [reply.command for reply in found if isinstance(reply, Reply)] == [second, first]


@pytest.mark.parametrize("cut", range(1, len(DIALOGUE), 7))
def test_f1_the_end_in_the_middle_says_so_and_gives_no_half_message(cut: int) -> None:
    client = client_after(Command("UID FETCH"))
    events(client, DIALOGUE[:cut])
    with pytest.raises(UnavailableError, match="closed the connection"):
        events(client, b"")


def test_the_end_where_nothing_is_due_is_an_end_in_order() -> None:
    client = client_after()
    client.receive(b"")
    assert client.next_event() == Closed()


def test_what_a_command_says_is_in_no_repr() -> None:
    assert repr(Command("LOGIN", "ann", "secret")) == "LOGIN"


def test_a_client_that_waits_for_nothing_holds_no_octets() -> None:
    """A session may rest for long, with many others beside it."""
    fetch = Command("UID FETCH")
    client = client_after(fetch)
    body = b"* 1 FETCH (UID 1 BODY[] {100000}\r\n" + b"x" * 100_000 + b")\r\nm1 OK done\r\n"
    assert isinstance(events(client, body)[-1], Reply)
    assert sys.getsizeof(client._buffer) < 1000
    assert events(client, b"* 2 EXISTS\r\n") == [Untagged(2, "EXISTS", [b""])]


def test_a_response_that_nobody_asked_for_may_come_in_parts() -> None:
    client = client_after()
    assert events(client, b"* 1 FETCH (UID 1 BODY[] {3}\r\n") == []
    assert events(client, b"abc") == []
    (found,) = events(client, b")\r\n")
    assert found == Untagged(1, "FETCH", [(b"(UID 1 BODY[] {3}", b"abc"), b")"])
