"""The codec: the same events however the octets arrive, and nothing half believed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailflow.errors import PeerError, UnavailableError
from mailflow.lines import stuff, to_crlf
from mailflow.mail import Octets
from mailflow_pop3.reply import pieces
from mailflow_pop3.wire import (
    LINE_LIMIT,
    Challenge,
    Client,
    Closed,
    Command,
    Greeting,
    Malformed,
    Piece,
    Reply,
    Request,
    Response,
    Server,
    State,
    capabilities,
    numbered,
    printable,
    status,
)

GREETING = b"+OK ready\r\n"


def shape(event):
    """An event without the identity of its command, pieces and bodies as they are."""
    if isinstance(event, Reply):
        return (repr(event.command), event.ok, event.text, event.code, event.body)
    if isinstance(event, Piece):
        return (repr(event.command), "piece", event.data)
    return tuple(event)


def run(octets, commands, step, piece=1 << 18):
    """Every event, and the error that ended them, if any, with octets fed `step` at a time."""
    client = Client("mail.example.org", piece)
    events, sent = [], False
    fed = [octets[at : at + step] for at in range(0, len(octets), step)]
    try:
        for data in [*fed, b""]:
            client.receive(data)
            while (event := client.next_event()) is not None:
                events.append(shape(event))
                if not sent:
                    sent = True
                    for command in commands:
                        client.send(command)
    except (PeerError, UnavailableError) as error:
        events.append(repr(error))
    return events


def commands_of(*texts):
    found = []
    for text in texts:
        keyword, _, argument = text.partition(" ")
        found.append(Command(keyword, int(argument)) if argument else Command(keyword))
    return found


BODIES = st.lists(
    st.sampled_from([b"\r\n", b"\r\n.", b"\r", b"\n", b".", b"..", b"x", b"\0", b"\xff"]),
    max_size=25,
).map(b"".join)


def test_csp10_a_whole_session_needs_no_socket():
    """CSP-10: begin, log in, UIDL, RETR, DELE and QUIT, each sent ahead of its answer."""
    client = Client("mail.example.org")
    client.receive(GREETING)
    assert client.next_event() == Greeting(True, "ready", "", None)
    session = [
        (Command("USER", "red"), b"+OK\r\n", None),
        (Command("PASS", "secret"), b"+OK\r\n", None),
        (Command("UIDL"), b"+OK\r\n1 a\r\n.\r\n", b"1 a\r\n"),
        (Command("RETR", 1), b"+OK\r\nSubject: x\r\n\r\n..\r\n.\r\n", b"Subject: x\r\n\r\n.\r\n"),
        (Command("DELE", 1), b"+OK\r\n", None),
        (Command("QUIT"), b"+OK bye\r\n", None),
    ]
    flight = b"".join(client.send(command) for command, _, _ in session)
    assert flight == b"USER red\r\nPASS secret\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"
    assert client.due == len(session)
    client.receive(b"".join(answer for _, answer, _ in session))
    for command, _, body in session:
        event = client.next_event()
        assert isinstance(event, Reply)
        assert (event.command, event.ok, event.body) == (command, True, body)
    assert client.next_event() is None


class TestFeeding:
    @given(st.lists(BODIES, min_size=1, max_size=4), st.integers(1, 40), st.integers(4, 60))
    @example([b""], 1, 4)
    @example([b".", b"."], 1, 4)
    def test_octet_by_octet_and_one_lump_give_the_same_events(self, bodies, step, piece):
        octets = GREETING + b"".join(b"+OK\r\n" + stuff(b + b"\r\n") + b".\r\n" for b in bodies)
        commands = [Command("RETR", n) for n in range(1, len(bodies) + 1)]
        lump = run(octets, commands, len(octets), piece)
        assert run(octets, commands, 1, piece) == lump
        assert run(octets, commands, step, piece) == lump
        for number, body in enumerate(bodies, 1):
            parts = [e[-1] for e in lump if e[:1] == (f"RETR {number}",)]
            assert b"".join(parts) == body + b"\r\n"

    @given(st.binary(max_size=300), st.integers(1, 30))
    def test_any_octets_give_the_same_events_however_they_come(self, octets, step):
        commands = commands_of("CAPA", "RETR 1", "DELE 1", "AUTH", "QUIT")
        assert run(octets, commands, step, 8) == run(octets, commands, 1000, 8)

    @given(
        st.lists(
            st.sampled_from([b"+OK", b"-ERR", b" [AUTH] ", b" x", b"\r\n", b".", b"+ ", b"\n"]),
            max_size=30,
        ).map(b"".join),
        st.integers(1, 9),
    )
    def test_likely_octets_give_the_same_events_however_they_come(self, octets, step):
        commands = commands_of("CAPA", "RETR 1", "DELE 1", "AUTH", "LIST 2", "QUIT")
        assert run(GREETING + octets, commands, step, 6) == run(GREETING + octets, commands, 999, 6)

    def test_pieces_do_not_cut_a_line_end_in_two(self):
        body = b"ab\r\n" * 40
        octets = GREETING + b"+OK\r\n" + body + b".\r\n"
        for piece in range(4, 40):
            events = run(octets, [Command("RETR", 1)], 1000, piece)
            data = [event[-1] for event in events[1:-1]]
            assert b"".join(data) == body
            assert not any(d.endswith(b"\r") or d.startswith(b"\n") for d in data)

    def test_a_body_that_fits_comes_whole(self):
        octets = GREETING + b"+OK 6 octets\r\n..a\r\n.\r\n"
        assert run(octets, [Command("RETR", 1)], 1000)[1:] == [
            ("RETR 1", True, "6 octets", "", b".a\r\n"),
            (),
        ]

    def test_an_empty_body_is_not_no_body(self):
        events = run(GREETING + b"+OK\r\n.\r\n", [Command("UIDL")], 1)
        assert events[1] == ("UIDL", True, "", "", b"")

    def test_a_refused_multiline_command_has_no_body(self):
        octets = GREETING + b"-ERR no such message\r\n+OK\r\nx\r\n.\r\n"
        events = run(octets, commands_of("RETR 1", "RETR 2"), 1)
        assert events[1] == ("RETR 1", False, "no such message", "", None)
        assert events[2] == ("RETR 2", True, "", "", b"x\r\n")

    def test_answers_come_in_the_order_of_the_commands(self):
        octets = GREETING + b"+OK\r\nx\r\n.\r\n+OK deleted\r\n+OK 2 7\r\n+OK\r\n2 7\r\n.\r\n"
        events = run(octets, commands_of("RETR 1", "DELE 1", "LIST 2", "LIST"), 3)
        assert [event[0] for event in events[1:-1]] == ["RETR 1", "DELE 1", "LIST 2", "LIST"]
        assert events[3] == ("LIST 2", True, "2 7", "", None)

    def test_after_the_answer_to_quit_nothing_is_heard(self):
        octets = GREETING + b"+OK bye\r\n+OK more\r\nnoise"
        assert run(octets, commands_of("QUIT"), 2) == [
            (True, "ready", "", None),
            ("QUIT", True, "bye", "", None),
        ]

    def test_no_command_but_capa_is_sent_before_the_greeting(self):
        client = Client()
        with pytest.raises(ValueError, match="cannot be sent in state greeting"):
            client.send(Command("USER", "red"))
        client.send(Command("CAPA"))
        client.receive(GREETING + b"+OK\r\nTOP\r\n.\r\n")
        assert isinstance(client.next_event(), Greeting)
        assert client.next_event().body == b"TOP\r\n"

    def test_no_command_is_sent_after_the_end(self):
        client = Client()
        client.receive(GREETING)
        client.next_event()
        client.receive(b"")
        assert client.next_event() == Closed()
        with pytest.raises(ValueError, match="cannot be sent in state closed"):
            client.send(Command("CAPA"))


class TestStatusLines:
    @pytest.mark.parametrize(
        ("line", "code", "text"),
        [
            (b"-ERR [IN-USE] locked", "IN-USE", "locked"),
            (b"-ERR [sys/temp] later", "SYS/TEMP", "later"),
            (b"-ERR [AUTH]", "AUTH", ""),
            (b"-ERR", "", ""),
            (b"-ERR [not a code] x", "", "[not a code] x"),
            (b"-ERR\ttabs", "", "tabs"),
        ],
    )
    def test_a_response_code_is_told_from_the_text(self, line, code, text):
        events = run(GREETING + line + b"\r\n", commands_of("PASS"), 1)
        assert events[1] == ("PASS", False, text, code, None)

    def test_the_timestamp_of_the_greeting_is_kept_for_apop(self):
        client = Client()
        client.receive(b"+OK ready <1896.697170952@dbc.mtview.ca.us>\r\n")
        assert client.next_event() == Greeting(
            True,
            "ready <1896.697170952@dbc.mtview.ca.us>",
            "",
            b"<1896.697170952@dbc.mtview.ca.us>",
        )

    @pytest.mark.parametrize("greeting", [b"+OK <>", b"+OK <a b@c>", b"+OK <ab>", b"+OK <\x80@b>"])
    def test_what_is_no_msg_id_is_no_timestamp(self, greeting):
        client = Client()
        client.receive(greeting + b"\r\n")
        assert client.next_event().timestamp is None

    @pytest.mark.parametrize(
        "octets", [b"hello\r\n", b"+OKAY\r\n", b"+ok\r\n", b"220 smtp\r\n", b"\r\n", b"+OK\n"]
    )
    def test_anything_but_ok_and_err_breaks_the_protocol(self, octets):
        client = Client("mail.example.org")
        client.receive(octets)
        with pytest.raises(PeerError, match=r"mail\.example\.org sent"):
            client.next_event()

    def test_a_line_without_end_is_bounded(self):
        client = Client()
        client.receive(b"+OK " + b"x" * LINE_LIMIT)
        with pytest.raises(PeerError, match="a line without end"):
            client.next_event()

    def test_a_word_to_nobody_is_the_end_of_the_session(self):
        octets = GREETING + b"-ERR idle for too long\r\n"
        assert "ended the session: idle for too long" in run(octets, [], 1)[1]
        assert "an answer to nothing" in run(GREETING + b"+OK what\r\n", [], 1)[1]

    def test_what_a_server_says_is_one_printable_line(self):
        assert printable(b"a\x1b[31m\r\nb\xff\xe2\x80\xae") == "a?[31m??b\ufffd?"
        assert printable(b"x" * 5000) == "x" * 200 + "..."

    def test_a_listing_is_bounded(self, monkeypatch):
        monkeypatch.setitem(__import__("mailflow_pop3.wire").wire.MULTILINE, "UIDL", 1000)
        octets = GREETING + b"+OK\r\n" + b"1 abc\r\n" * 1000
        assert "more than 1000 octets to UIDL" in run(octets, [Command("UIDL")], 100, 64)[-1]


class TestTheEnd:
    SESSION = (
        GREETING
        + b"+OK\r\nSubject: 1\r\n\r\n..\r\n.\r\n"
        + b"+OK 3\r\nx\r\n.\r\n"
        + b"-ERR gone\r\n"
        + b"+OK bye\r\n"
    )

    def test_f01_f02_an_end_at_any_octet_gives_no_message_that_is_not_whole(self):
        commands = commands_of("RETR 1", "RETR 2", "RETR 3", "QUIT")
        whole = run(self.SESSION, commands, 1000)
        ends = [end for end in range(len(self.SESSION)) if self.SESSION[:end].endswith(b"\r\n")]
        for cut in range(len(self.SESSION)):
            events = run(self.SESSION[:cut], commands, 7)
            assert events[:-1] == whole[: len(events) - 1]
            assert "closed the connection" in events[-1]
            if b"x\r\n.\r\n" not in self.SESSION[:cut]:
                assert not any(event[0] == "RETR 2" for event in events[:-1])
        assert len(ends) > 5

    def test_a_dot_at_the_end_is_no_terminator(self):
        for half in (b".", b".\r", b"", b".x"):
            events = run(GREETING + b"+OK\r\nx\r\n" + half, [Command("RETR", 1)], 1)
            assert "in the middle of its answer to RETR 1" in events[-1]

    def test_an_end_with_nothing_due_is_in_order(self):
        assert run(GREETING, [], 1)[1:] == [()]

    def test_an_end_before_the_greeting_is_not(self):
        assert "before it greeted" in run(b"+O", [], 1)[0]


class TestSasl:
    def test_a_challenge_leaves_auth_due(self):
        client = Client()
        client.receive(GREETING)
        client.next_event()
        auth = Command("AUTH", "PLAIN")
        assert client.send(auth) == b"AUTH PLAIN\r\n"
        client.receive(b"+ \r\n+\r\n+ aGk=\r\n+OK in\r\n")
        assert client.next_event() == Challenge(auth, b"")
        assert client.respond(b"AGEAYg==") == b"AGEAYg==\r\n"
        assert client.next_event() == Challenge(auth, b"")
        assert client.next_event() == Challenge(auth, b"aGk=")
        assert client.next_event() == Reply(auth, True, "in", "")
        with pytest.raises(ValueError, match="no challenge"):
            client.respond(b"*")

    def test_a_challenge_to_another_command_breaks_the_protocol(self):
        assert "neither +OK nor -ERR" in run(GREETING + b"+ aGk=\r\n", commands_of("PASS"), 1)[1]

    def test_f24_an_endless_challenge_is_bounded(self):
        events = run(GREETING + b"+ " + b"A" * 1_000_000, commands_of("AUTH"), 4096)
        assert "a line without end" in events[1]


class TestCommands:
    def test_arguments_are_joined_by_one_space(self):
        assert Command("TOP", 3, 0).octets == b"TOP 3 0\r\n"
        assert Command("PASS", " a  b ").octets == b"PASS  a  b \r\n"
        assert Command("USER", "grün").octets == "USER grün\r\n".encode()

    @pytest.mark.parametrize("argument", ["a\r\nDELE 1", "a\nb", "a\rb", "a\0b"])
    def test_d18_no_argument_ends_the_line(self, argument):
        with pytest.raises(ValueError, match="PASS holds CR, LF or NUL") as caught:
            Command("PASS", argument)
        assert argument not in str(caught.value)

    def test_c02_the_repr_holds_no_argument_but_a_number(self):
        assert repr(Command("PASS", "secret")) == "PASS"
        assert repr(Command("RETR", 4)) == "RETR 4"

    def test_list_and_uidl_with_a_number_have_one_line(self):
        assert Command("LIST").multiline
        assert not Command("LIST", 1).multiline
        assert not Command("UIDL", 1).multiline
        assert Command("TOP", 1, 0).multiline


class TestBodies:
    def test_capabilities_are_names_with_arguments(self):
        body = b"TOP\r\nSASL PLAIN login\r\nSasl XOAUTH2\r\nEXPIRE 60\r\n\r\nPIPELINING\r\n"
        assert capabilities(body) == {
            "TOP": (),
            "SASL": ("PLAIN", "LOGIN", "XOAUTH2"),
            "EXPIRE": ("60",),
            "PIPELINING": (),
        }

    def test_numbered_lines_keep_all_but_the_number(self):
        body = b"1 abc\r\n2  two words \r\nx y\r\n-3 z\r\n4\r\n99999999999 q\r\n\xb2 r\r\n"
        assert list(numbered(body)) == [
            (1, b"abc"),
            (2, b" two words "),
            (0, b"y"),
            (0, b"z"),
            (4, b""),
            (0, b"q"),
            (0, b"r"),
        ]


def serve(octets, step, challenged=False):
    server, events = Server(), []
    server.challenged = challenged
    for at in range(0, len(octets), step):
        server.receive(octets[at : at + step])
        while (event := server.next_event()) is not None:
            events.append(event)
    return events


class TestServer:
    @pytest.mark.parametrize("step", [1, 3, 1000])
    def test_a_line_is_a_request(self, step):
        octets = b"uSeR ann\r\nPASS  a b \r\nLIST\r\nNOOP \nQUIT\r\n"
        assert serve(octets, step) == [
            Request("USER", b"ann"),
            Request("PASS", b" a b "),
            Request("LIST", None),
            Request("NOOP", b""),
            Request("QUIT", None),
        ]

    def test_half_a_command_at_the_end_is_none(self):
        assert serve(b"DELE 1", 1) == []

    @pytest.mark.parametrize("line", [b"", b" ", b"\xff", b"A\0B", b"DE\rLE 1", b"\xc3\xa9 1"])
    def test_what_is_no_command_is_malformed(self, line):
        assert [type(event) for event in serve(line + b"\r\n", 1)] == [Malformed]

    @pytest.mark.parametrize("size", [256, 300, 100_000])
    @pytest.mark.parametrize("step", [100, 1 << 20])
    def test_a_long_line_is_swallowed_whole(self, size, step):
        octets = b"X" * size + b"DELE 1\r\nNOOP\r\n"
        assert serve(octets, step) == [Malformed("line too long"), Request("NOOP", None)]

    def test_a_line_of_255_octets_is_accepted(self):
        line = b"USER " + b"x" * 248
        assert serve(line + b"\r\n", 7) == [Request("USER", b"x" * 248)]
        assert serve(line + b"x\r\n", 7) == [Malformed("line too long")]

    def test_memory_does_not_grow_with_a_line(self):
        server = Server()
        for _ in range(100):
            server.receive(b"x" * 1000)
            assert server.next_event() is None
            assert server.forget() <= 1000

    @pytest.mark.parametrize("step", [100, 1 << 20])
    def test_a_response_may_be_long(self, step):
        assert serve(b"A" * 12_000 + b"\r\nNOOP\r\n", step, challenged=True) == [
            Response(b"A" * 12_000),
            Request("NOOP", None),
        ]
        assert serve(b"A" * 20_000 + b"\r\nNOOP\r\n", step, challenged=True) == [
            Malformed("line too long"),
            Request("NOOP", None),
        ]

    def test_a_status_line_has_512_octets_at_most(self):
        assert status(True) == b"+OK\r\n"
        assert status(False, "no", "AUTH") == b"-ERR [AUTH] no\r\n"
        assert status(False, "a\r\n+OK") == b"-ERR a??+OK\r\n"
        assert status(False, "caf\xe9 \x1b[2J") == b"-ERR caf? ?[2J\r\n"
        assert len(status(True, "x" * 1000)) == 512

    @given(BODIES)
    def test_what_the_server_formats_the_client_reads(self, body):
        octets = GREETING + status(True, "here") + b"".join(pieces(Octets(body)))
        ended = to_crlf(body)
        if ended and not ended.endswith(b"\r\n"):
            ended += b"\r\n"
        events = run(octets, [Command("RETR", 1)], 5)
        assert events[1] == ("RETR 1", True, "here", "", ended)

    def test_state_names_are_words(self):
        assert [state.value for state in State] == ["greeting", "status", "body", "closed"]
