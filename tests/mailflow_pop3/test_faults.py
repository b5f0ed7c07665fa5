"""What servers do to a fetcher, and that nothing is lost, truncated or deleted unseen."""

from __future__ import annotations

import time

import pytest

from mailflow.errors import GoneError, MailflowError, PeerError, UnavailableError
from mailflow.lines import to_crlf
from mailflow.testing.pop3 import CAPABILITIES, Faults, Pop3Server
from mailflow_pop3 import session as session_module

from .conftest import SECRET

POSTS = [b"Subject: 1\r\n\r\n.one\r\n", b"Subject: 2\r\n\r\n..\r\n", b"Subject: 3\r\n\r\n"]
KEYS = ["red-000001", "red-000002", "red-000003"]
ALL = dict(zip(KEYS, POSTS, strict=True))


def serve(posts=POSTS, **options):
    return Pop3Server({"red": SECRET}, {"red": posts}, **options)


@pytest.fixture
def server():
    with serve() as running:
        yield running


def octets_of(server, session, **options):
    """How many octets a whole session is sent, with DELE and the answer to QUIT."""
    before, server.faults = server.sent, Faults(keep_deleted=True)
    session(server, **options)
    return server.sent - before


def attempt(session, server, **options):
    """(what was yielded, the error that ended the session or None)."""
    got = {}
    try:
        session(server, yielded=got, **options)
    except MailflowError as error:
        return got, error
    return got, None


class TestCuts:
    @pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
    @pytest.mark.parametrize("pipelining", ["auto", "never"])
    def test_f01_f02_a_cut_at_every_octet_yields_only_whole_messages(
        self, server, session, log, pipelining, reset
    ):
        total = octets_of(server, session, pipelining=pipelining)
        for cut in range(total):
            self.restore(server)
            log.lines.clear()
            server.faults = Faults(cut_at=cut, reset=reset)
            got, error = attempt(session, server, pipelining=pipelining)
            assert got.items() <= ALL.items(), cut
            if error is None:
                assert got == ALL
                assert log.warnings() == ["the end of the session is not confirmed"]
            else:
                assert isinstance(error, UnavailableError | PeerError)
                assert "127.0.0.1" in str(error)
                assert server.messages("red") == POSTS, cut
        self.restore(server)
        server.faults = Faults()
        assert session(server, pipelining=pipelining) == ALL

    @staticmethod
    def restore(server):
        server.mailbox("red").messages[:] = ALL.items()

    @pytest.mark.parametrize("half", [b"", b".", b".\r", b"x", b"\r\n.\r", b"\r"])
    def test_f02_an_end_before_the_terminator_is_a_drop(self, server, session, half):
        server.faults = Faults(answers={"RETR 2": b"+OK\r\nSubject: 2\r\n\r\n..\r\n" + half},
                               cut_before=["RETR 3"])  # fmt: skip
        got = {}
        with pytest.raises(UnavailableError, match="in the middle of its answer to RETR 2"):
            session(server, yielded=got)
        assert got == {KEYS[0]: POSTS[0]}
        assert server.messages("red") == POSTS

    def test_f13_a_server_that_keeps_deleted_mail_is_told_again_not_asked_again(
        self, server, session
    ):
        server.faults = Faults(keep_deleted=True)
        first = session(server)
        assert first == ALL
        server.faults = Faults()
        assert session(server, known=first) == {}
        assert server.messages("red") == []

    @pytest.mark.parametrize(
        "faults",
        [
            Faults(cut_before=["QUIT"]),
            Faults(answers={"QUIT": b"-ERR [SYS/TEMP] some messages not removed\r\n"}),
            Faults(answers={"QUIT": b"bye\r\n"}),
        ],
        ids=["cut", "refused", "nonsense"],
    )
    def test_f13_a_quit_that_is_not_confirmed_is_a_warning(self, server, session, log, faults):
        server.faults = faults
        assert session(server) == ALL
        assert log.warnings() == ["the end of the session is not confirmed"]

    def test_f13_a_silent_quit_is_a_warning(self, server, session, log):
        total = octets_of(server, session)
        server.faults = Faults(stall_at=total - 5)
        assert session(server, timeout=1.0) == ALL
        assert log.warnings() == ["the end of the session is not confirmed"]

    def test_f13_a_refused_dele_is_a_warning_said_once(self, server, session, log):
        server.faults = Faults(answers={"DELE": b"-ERR read only\r\n"})
        assert session(server) == ALL
        assert log.warnings() == ["the server does not delete"]


class TestSilence:
    def test_f03_a_message_that_trickles_ends_the_session(self, session, monkeypatch):
        monkeypatch.setattr(session_module, "SLOWEST_BODY", 1e6)
        post = b"Subject: slow\r\n\r\n" + b"x" * 5000
        with serve([post], capabilities=("PIPELINING",)) as server:
            server.faults = Faults(trickle=0.002)
            began, cpu = time.monotonic(), time.process_time()
            with pytest.raises(UnavailableError, match="too slow"):
                session(server, timeout=0.2)
            assert time.monotonic() - began < 10
            assert time.process_time() - cpu < 2

    def test_f04_silence_anywhere_ends_the_session(self, server, session):
        total = octets_of(server, session)
        for stall in (0, 5, 11, 40, total // 2, total - 52):
            server.faults = Faults(stall_at=stall)
            with pytest.raises(UnavailableError, match="keeps silent"):
                session(server, timeout=0.05)
        assert server.messages("red") == POSTS

    def test_f04_silence_in_the_handshake_ends_the_session(self, server, session):
        server.faults = Faults(stall_at=0)
        with pytest.raises(UnavailableError, match="no TLS handshake in time"):
            session(server, tls="implicit", timeout=0.05)


class TestListings:
    @pytest.mark.parametrize("error", [-5, 5, 10_000_000])
    def test_f05_octets_count_and_list_does_not(self, server, session, log, error):
        server.faults = Faults(size_error=error)
        assert session(server) == ALL
        assert log.warnings() == ["octet count is wrong"]
        (facts,) = [facts for level, _, facts in log.lines if level == "warning"]
        assert facts == {"key": KEYS[0], "said": len(POSTS[0]) + error, "had": len(POSTS[0])}

    @pytest.mark.parametrize("top", [True, False])
    def test_f06_duplicate_uidls_are_all_fetched_and_deleted_one_by_one(self, session, log, top):
        posts = [b"Subject: 1\r\n\r\na\r\n", b"Subject: 2\r\n\r\nb\r\n", b"Subject: 1\r\n\r\na\r\n"]
        capabilities = [name for name in CAPABILITIES if top or name != "TOP"]
        with serve([], capabilities=capabilities) as server:
            for post in [*posts, POSTS[2]]:
                server.deliver("red", post, "same")
            first = session(server, settle=False)
            assert sorted(first.values()) == sorted([*posts, POSTS[2]])
            again = session(server, known=list(first)[1:])
            assert again == {key: first[key] for key in list(first)[:1]}
            assert server.messages("red") == []

    @pytest.mark.parametrize("capabilities", [("PIPELINING", "TOP"), ("TOP",), ()])
    def test_f08_a_server_without_uidl_has_keys_that_stay(self, session, capabilities):
        with serve(capabilities=capabilities) as server:
            first = session(server, settle=False)
            assert list(first.values()) == POSTS
            assert session(server, known=first) == {}
            assert server.messages("red") == []

    def test_f08_a_server_without_capa_uidl_and_top(self, session):
        refused = dict.fromkeys(("UIDL", "TOP"), b"-ERR what\r\n")
        with serve(capabilities=None, faults=Faults(answers=refused)) as server:
            first = session(server, settle=False)
            assert list(first.values()) == POSTS
            assert session(server, known=first) == {}
            assert server.messages("red") == []

    @pytest.mark.parametrize("answer", [b"-ERR [SYS/TEMP] index broken\r\n", b"-ERR sorry\r\n"])
    def test_f08_a_uidl_that_fails_today_does_not_change_the_keys(self, server, session, answer):
        server.faults = Faults(answers={"UIDL": answer})
        with pytest.raises(UnavailableError, match="refuses UIDL"):
            session(server)

    def test_f08_a_refused_list_leaves_sizes_unknown(self, server, session):
        server.faults = Faults(answers={"LIST": b"-ERR no\r\n"})
        assert session(server) == ALL

    def test_f08_without_uidl_and_list_there_is_nothing_to_go_by(self, session):
        refused = dict.fromkeys(("UIDL", "LIST"), b"-ERR what\r\n")
        with serve(capabilities=None, faults=Faults(answers=refused)) as server:
            error = attempt(session, server)[1]
        assert isinstance(error, UnavailableError)
        assert "refuses LIST: what" in str(error)

    def test_f08_odd_lines_are_warned_of_and_the_others_used(self, server, session, log):
        listing = b"+OK\r\n1 red-000001\r\n2 two words\r\n3 caf\xe9\r\n9 x\r\nnonsense\r\n.\r\n"
        server.faults = Faults(answers={"UIDL": listing})
        got = session(server)
        assert list(got.values()) == POSTS
        assert KEYS[0] in got
        assert log.warnings() == ["odd listing"] * 3
        assert server.messages("red") == []


class TestMessages:
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"-ERR no such message\r\n", GoneError),
            (b"-ERR [SYS/TEMP] disk\r\n", UnavailableError),
            (b"-ERR [SYS/PERM] unreadable\r\n", GoneError),
        ],
    )
    def test_f09_a_message_that_is_gone_is_missed_and_the_others_go_on(
        self, server, session, answer, error
    ):
        server.faults = Faults(answers={"RETR 2": answer})
        got = session(server)
        missed = got.pop(KEYS[1])
        assert type(missed) is error
        assert "message 2" in str(missed)
        assert got == {KEYS[0]: POSTS[0], KEYS[2]: POSTS[2]}
        assert server.messages("red") == [POSTS[1]]

    @pytest.mark.parametrize(
        "post",
        [
            b"Subject: nul\r\n\r\na\0b\r\n",
            b"Subject: 8-bit\r\n\r\n\xfc\xff\x80\r\n",
            b"Subject: bare lf\n\nx\n",
            b"Subject: bare cr\r\n\r\na\rb\r\r\nc\r\n",
            b"Subject: lf cr\r\n\r\na\n\rb\n\r\n",
            "Subject: utf-16\r\n\r\nhé\r\n".encode("utf-16"),
            b"no header\r\n",
            b"\r\nno header either\r\n",
            b"Subject: only a header\r\n",
            b"Subject: no end of line",
            b"\r\n",
            b".",
            b"..\r\n.\r\n...\r\n",
            b".\n.\n",
            b"",
            b"\r\n.\r\n",
            b"+OK\r\n-ERR\r\n.\r\n+OK\r\n",
            b"X-Long: " + b"x" * 10_000_000 + b"\r\n\r\nbody\r\n",
        ],
        ids=lambda post: repr(post[:20]),
    )
    @pytest.mark.parametrize("pipelining", ["auto", "never"])
    def test_f10_f11_the_octets_arrive_as_they_are(self, session, post, pipelining):
        with serve([post, POSTS[0], post]) as server:
            got = list(session(server, pipelining=pipelining).values())
            expected = to_crlf(post)
            if expected and not expected.endswith(b"\r\n"):
                expected += b"\r\n"
            assert got == [expected, POSTS[0], expected]
            assert server.messages("red") == []

    def test_f10_an_endless_message_ends_the_session_where_there_is_a_limit(
        self, script, session, scratch, monkeypatch
    ):
        monkeypatch.setattr("mailflow_pop3.arrival.DRAIN", 1 << 20)
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", b"+OK\r\nUSER\r\nUIDL\r\n.\r\n"),
            (b"USER red\r\n", b"+OK\r\n"),
            (f"PASS {SECRET}\r\n".encode(), b"+OK\r\n"),
            (b"UIDL\r\n", b"+OK\r\n1 a\r\n.\r\n"),
            (b"LIST\r\n", b"+OK\r\n1 3\r\n.\r\n"),
            (b"RETR 1\r\n", b"+OK\r\n" + b"x" * 3_000_000),
        ]
        with script(*steps) as server:
            error = attempt(session, server, max_size=500_000)[1]
        assert isinstance(error, PeerError)
        assert "a message does not end after" in str(error)
        assert list(scratch.iterdir()) == []


class TestRefusals:
    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    @pytest.mark.parametrize("code", ["", "[SYS/TEMP] ", "[SYS/PERM] ", "[AUTH] "])
    @pytest.mark.parametrize(
        "command", ["", "CAPA", "AUTH", "USER", "PASS", "UIDL", "LIST", "RETR", "DELE", "QUIT"]
    )
    def test_f12_a_no_at_any_command_loses_nothing(
        self, server, session, command, code, pipelining
    ):
        server.faults = Faults(answers={command: f"-ERR {code}no\r\n".encode()})
        got, error = attempt(session, server, pipelining=pipelining)
        if error is not None:
            assert server.messages("red") == POSTS
            assert "127.0.0.1" in str(error)
            assert error.temporary is (
                code == "[SYS/TEMP] " or (command in ("", "UIDL") and code != "[SYS/PERM] ")
            )
        arrived = {key: value for key, value in got.items() if isinstance(value, bytes)}
        assert arrived.items() <= ALL.items()
        assert set(server.messages("red")) >= set(POSTS) - set(arrived.values())
        assert server.connections == 1

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    @pytest.mark.parametrize("answer", [b"what\r\n", b"\r\n", b"+OK\n", b"HTTP/1.0 400 Bad\r\n"])
    @pytest.mark.parametrize("command", ["CAPA", "AUTH", "UIDL", "LIST", "RETR", "DELE"])
    def test_f12_nonsense_at_any_command_loses_nothing(
        self, server, session, log, command, answer, pipelining
    ):
        server.faults = Faults(answers={command: answer})
        got, error = attempt(session, server, pipelining=pipelining)
        if pipelining == "always" and command == "AUTH":  # not said then
            assert (got, error) == (ALL, None)
        elif command == "DELE":  # met when leaving
            assert (got, error) == (ALL, None)
            assert log.warnings() == ["the end of the session is not confirmed"]
            assert server.messages("red") == POSTS
        else:
            assert isinstance(error, PeerError)
            assert "127.0.0.1" in str(error)
            assert got == {}
            assert server.messages("red") == POSTS
