"""The fetcher: few flights, whole messages, and DELE only for what was settled."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
from base64 import b64encode

import pytest

from mailflow.engine.registry import Registry
from mailflow.errors import BadMailError, GoneError, UnavailableError
from mailflow.kinds import Fetched, Item, Missed
from mailflow.mail import OctetFile, Octets, read
from mailflow.testing.pop3 import CAPABILITIES, Faults, Pop3Server
from mailflow.verdicts import Fate
from mailflow_pop3 import wire
from mailflow_pop3.settings import Pop3Options

from .conftest import SECRET

POSTS = [b"Subject: %d\r\n\r\n%s\r\n" % (n, b"x" * n) for n in (1, 2, 3)]
LOGIN = b"AUTH PLAIN " + b64encode(f"\0red\0{SECRET}".encode()) + b"\r\n"
CAPA = b"+OK\r\nPIPELINING\r\nSASL PLAIN\r\nUIDL\r\nTOP\r\n.\r\n"
LISTS = b"+OK\r\n1 a\r\n2 b\r\n.\r\n+OK\r\n1 3\r\n2 3\r\n.\r\n"


@pytest.fixture
def server():
    with Pop3Server({"red": SECRET}, {"red": POSTS}) as running:
        yield running


class TestFlights:
    def test_streaming_takes_three_flights_however_many_messages(self, script, session):
        steps = [
            (b"CAPA\r\n", b"+OK\r\n" + CAPA),  # it is asked before the greeting
            (LOGIN + b"UIDL\r\nLIST\r\n", b"+OK\r\n" + LISTS),
            (b"RETR 1\r\nRETR 2\r\n", b"+OK\r\na\r\n.\r\n+OK\r\nb\r\n.\r\n"),
            (b"DELE 1\r\nDELE 2\r\nQUIT\r\n", b"+OK\r\n+OK\r\n+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server) == {"a": b"a\r\n", "b": b"b\r\n"}

    def test_a_server_that_leaves_when_spoken_to_early_is_asked_in_turn(self, script, session):
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", CAPA),
            (LOGIN + b"UIDL\r\nLIST\r\n", b"+OK\r\n+OK\r\n.\r\n+OK\r\n.\r\n"),
            (b"QUIT\r\n", b""),
        ]
        with script(*steps) as server:
            server.leaves_first = True
            assert session(server) == {}

    def test_dele_joins_the_stream_between_arrivals(self, script, session):
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", CAPA),
            (LOGIN + b"UIDL\r\nLIST\r\n", b"+OK\r\n" + LISTS),
            (b"RETR 1\r\nRETR 2\r\n", b"+OK\r\na\r\n.\r\n"),
            (b"DELE 1\r\n", b"+OK\r\nb\r\n.\r\n+OK deleted\r\n"),
            (b"DELE 2\r\nQUIT\r\n", b"+OK\r\n+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server) == {"a": b"a\r\n", "b": b"b\r\n"}

    def test_without_pipelining_each_command_waits_for_its_answer(self, script, session):
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", b"+OK\r\nUSER\r\nUIDL\r\n.\r\n"),
            (b"USER red\r\n", b"+OK\r\n"),
            (f"PASS {SECRET}\r\n".encode(), b"+OK\r\n"),
            (b"UIDL\r\n", b"+OK\r\n1 a\r\n2 b\r\n.\r\n"),
            (b"LIST\r\n", b"+OK\r\n1 3\r\n2 3\r\n.\r\n"),
            (b"RETR 1\r\n", b"+OK\r\na\r\n.\r\n"),
            (b"RETR 2\r\n", b"+OK\r\nb\r\n.\r\n"),
            (b"DELE 1\r\n", b"+OK\r\n"),
            (b"DELE 2\r\n", b"+OK\r\n"),
            (b"QUIT\r\n", b"+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server) == {"a": b"a\r\n", "b": b"b\r\n"}

    def test_never_pipelining_is_lock_step_whatever_is_offered(self, script, session):
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", CAPA),
            (LOGIN, b"+OK\r\n"),
            (b"UIDL\r\n", b"+OK\r\n1 a\r\n.\r\n"),
            (b"LIST\r\n", b"+OK\r\n1 3\r\n.\r\n"),
            (b"RETR 1\r\n", b"+OK\r\na\r\n.\r\n"),
            (b"QUIT\r\n", b"+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server, pipelining="never", settle=False) == {"a": b"a\r\n"}

    def test_always_pipelining_does_not_ask_first(self, script, session):
        flight = f"USER red\r\nPASS {SECRET}\r\nCAPA\r\nUIDL\r\nLIST\r\n".encode()
        steps = [
            (b"", b"+OK\r\n"),
            (flight, b"+OK\r\n+OK\r\n" + CAPA + LISTS),
            (b"RETR 1\r\nRETR 2\r\n", b"+OK\r\na\r\n.\r\n+OK\r\nb\r\n.\r\n"),
            (b"DELE 1\r\nDELE 2\r\nQUIT\r\n", b"+OK\r\n+OK\r\n+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server, pipelining="always") == {"a": b"a\r\n", "b": b"b\r\n"}

    def test_nobody_waits_for_the_answer_to_quit_with_nothing_to_delete(self, script, session):
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", CAPA),
            (LOGIN + b"UIDL\r\nLIST\r\n", b"+OK\r\n+OK\r\n.\r\n+OK\r\n.\r\n"),
            (b"QUIT\r\n", b""),  # no answer, ever
        ]
        with script(*steps) as server:
            assert session(server) == {}

    def test_two_full_buffers_do_not_dead_lock(self, session):
        """More commands and more answers than all buffers between the two hold."""
        posts = [b"Subject: %d\r\n\r\n" % n + b"x" * 2000 + b"\r\n" for n in range(8000)]
        with Pop3Server({"red": SECRET}, {"red": posts}) as server:
            got = session(server)
            assert list(got.values()) == posts
            assert server.messages("red") == []


class TestListing:
    def test_a_key_is_the_uidl_and_a_size_what_list_says(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            assert list(fetcher.listing(None)) == [
                Item("red-000001", 17),
                Item("red-000002", 18),
                Item("red-000003", 19),
            ]

    def test_an_empty_maildrop_is_empty(self, session):
        with Pop3Server({"red": SECRET}) as server:
            assert session(server) == {}

    def test_what_is_over_max_size_stays_on_the_server_with_one_warning(self, server, session, log):
        assert session(server, max_size=17) == {"red-000001": POSTS[0]}
        assert server.messages("red") == POSTS[1:]
        assert log.warnings() == ["messages over max_size stay on the server"]

    def test_the_account_is_named_by_user_and_host(self, server, fetcher_of):
        fetcher = fetcher_of(server)
        assert (fetcher.source, fetcher.mark) == ("red@127.0.0.1", "")


class TestHeads:
    @pytest.mark.parametrize("lines", [("TOP",), ()], ids=["top", "retr"])
    def test_a_head_is_the_header_section(self, fetcher_of, lines):
        names = [name for name in CAPABILITIES if name != "TOP"]
        with Pop3Server({"red": SECRET}, {"red": POSTS}, capabilities=[*names, *lines]) as server:
            with fetcher_of(server) as fetcher:
                keys = [item.key for item in fetcher.listing(None)]
                heads = {head.key: read(head.content) for head in fetcher.heads(keys[1:])}
                assert heads == {
                    "red-000002": b"Subject: 2\r\n",
                    "red-000003": b"Subject: 3\r\n",
                }
                assert [read(f.content) for f in fetcher.retrieve(keys)] == POSTS
            assert server.commands.count("RETR 2") == (1 if lines else 2)

    def test_a_head_without_body_or_end_is_a_head(self, fetcher_of):
        server = Pop3Server({"red": SECRET}, {"red": [b"Subject: 1", b""]})
        with server, fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            heads = [read(head.content).strip() for head in fetcher.heads(keys)]
            assert heads == [b"Subject: 1", b""]

    def test_a_head_that_is_gone_is_left_out(self, server, fetcher_of):
        server.faults = Faults(answers={"TOP 2 0": b"-ERR gone\r\n", "RETR 2": b"-ERR gone\r\n"})
        with fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            assert [head.key for head in fetcher.heads(keys)] == [keys[0], keys[2]]

    def test_f10_a_head_of_ten_million_octets_is_bounded(self, fetcher_of):
        post = b"X-Long: " + b"x" * 10_000_000 + b"\r\n\r\nbody\r\n"
        server = Pop3Server({"red": SECRET}, {"red": [post, POSTS[0]]})
        with server, fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            heads = [head.content.size for head in fetcher.heads(keys)]
        assert heads == [0, len(b"Subject: 1\r\n")]  # of a field that is cut, nothing counts


class TestRetrieving:
    def test_messages_come_in_the_order_asked_for(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)][::-1]
            assert [got.key for got in fetcher.retrieve(keys)] == keys

    def test_a_key_that_was_not_listed_is_missed(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            got = list(fetcher.retrieve(["red-000001", "nobody"]))
        assert [type(one) for one in got] == [Missed, Fetched]
        assert isinstance(got[0].error, GoneError)

    def test_what_was_given_up_is_not_taken_for_what_is_asked_now(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            for _ in fetcher.retrieve(keys):
                break
            assert [read(got.content) for got in fetcher.retrieve(keys[::-1])] == POSTS[::-1]
            assert [head.key for head in fetcher.heads(keys)] == keys

    def test_two_cannot_wait_for_arrivals_at_once(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            running = fetcher.retrieve(keys)
            next(running)
            with pytest.raises(ValueError, match="wait for the end of an earlier"):
                next(fetcher.heads(keys))
            assert len(list(running)) == 2

    def test_progress_counts_what_arrives(self, server, fetcher_of):
        fetcher = fetcher_of(server)
        octets = []
        fetcher._runtime = fetcher._runtime._replace(progress=octets.append)
        with fetcher:
            list(fetcher.retrieve([item.key for item in fetcher.listing(None)]))
        assert sum(octets) == sum(map(len, POSTS))

    def test_a_small_message_stays_in_memory_a_long_one_is_a_file(self, fetcher_of, scratch):
        long = b"Subject: long\r\n\r\n" + b"0123456789abcde\n" * 20_000 + b".\r\n..\r\nend"
        server = Pop3Server({"red": SECRET}, {"red": [POSTS[0], long, POSTS[1]]})
        with server, fetcher_of(server) as fetcher:
            got = list(fetcher.retrieve([item.key for item in fetcher.listing(None)]))
        assert [type(one.content) for one in got] == [Octets, OctetFile, Octets]
        assert read(got[1].content) == long.replace(b"e\n", b"e\r\n") + b"\r\n"
        assert os.listdir(scratch) == [os.path.basename(got[1].content.path)]

    @pytest.mark.parametrize("size", range(wire.PIECE - 6, wire.PIECE + 7))
    def test_the_border_between_memory_and_file_is_exact(self, session, size):
        for tail in (b"\r\n", b"\r\n.\r\n", b"\r\n..\r\n"):
            post = b"x" * (size - len(tail)) + tail
            with Pop3Server({"red": SECRET}, {"red": [post, POSTS[0]]}) as server:
                assert list(session(server).values()) == [post, POSTS[0]]

    def test_csp11_a_message_that_was_handed_on_is_not_kept(self, fetcher_of, log):
        """CSP-11: memory holds what is on its way, however many messages there are."""
        posts = [b"Subject: %d\r\n\r\n" % number for number in range(50)]
        most = 0
        with Pop3Server({"red": SECRET}, {"red": posts}) as server, fetcher_of(server) as fetcher:
            gc.collect()
            others = sum(isinstance(each, Octets) for each in gc.get_objects())
            for one in fetcher.retrieve([item.key for item in fetcher.listing(None)]):
                fetcher.settle(one.key, Fate.DONE)
                log.lines.clear()
                kept = sum(isinstance(each, Octets) for each in gc.get_objects()) - others
                most = max(most, kept)
        assert 1 <= most <= 2

    def test_f10_a_long_message_takes_no_memory(self, tmp_path, script, fetcher_of):
        body = (b"x" * 70 + b"\r\n") * 900_000
        steps = [
            (b"", b"+OK\r\n"),
            (b"CAPA\r\n", CAPA),
            (LOGIN + b"UIDL\r\nLIST\r\n", b"+OK\r\n+OK\r\n1 a\r\n.\r\n+OK\r\n1 9\r\n.\r\n"),
            (b"RETR 1\r\n", b"+OK\r\n" + body + b".\r\n"),
            (b"QUIT\r\n", b""),
        ]
        with script(*steps) as server, fetcher_of(server) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            tracemalloc.start()
            (got,) = fetcher.retrieve(keys)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert got.content.size == len(body)
            assert peak < 4 << 20

    def test_a_message_longer_than_max_size_whatever_list_said_is_missed(
        self, session, log, scratch
    ):
        long = b"Subject: long\r\n\r\n" + b"x" * 600_000 + b"\r\n"
        with Pop3Server({"red": SECRET}, {"red": [long, POSTS[0]]}) as server:
            server.faults = Faults(size_error=-599_000)
            got = session(server, max_size=300_000)
            assert isinstance(got["red-000001"], BadMailError)
            assert got["red-000002"] == POSTS[0]
            assert server.messages("red") == [long]
        assert os.listdir(scratch) == []

    def test_a_message_cut_in_the_middle_leaves_no_file(self, session, scratch):
        long = b"Subject: long\r\n\r\n" + b"x" * 900_000 + b"\r\n"
        with Pop3Server({"red": SECRET}, {"red": [long]}) as server:
            server.faults = Faults(cut_at=700_000)
            with pytest.raises(UnavailableError, match="in the middle of its answer to RETR 1"):
                session(server)
        assert os.listdir(scratch) == []

    def test_a_scratch_directory_that_cannot_be_written_ends_the_session(self, session, scratch):
        long = b"Subject: long\r\n\r\n" + b"x" * 900_000 + b"\r\n"
        scratch.rmdir()
        with Pop3Server({"red": SECRET}, {"red": [long]}) as server:
            with pytest.raises(UnavailableError, match=r"cannot write .*pop3-.*: No such file"):
                session(server)
            assert server.messages("red") == [long]


class TestSettling:
    def test_settled_messages_are_deleted_at_quit(self, server, session):
        assert list(session(server).values()) == POSTS
        assert server.messages("red") == []

    def test_with_on_done_keep_they_stay(self, server, session):
        assert list(session(server, on_done="keep").values()) == POSTS
        assert server.messages("red") == POSTS
        assert not any(command.startswith("DELE") for command in server.commands)

    def test_a_message_that_is_not_retrieved_can_be_settled(self, server, session):
        assert session(server, known={"red-000002"}).keys() == {"red-000001", "red-000003"}
        assert server.messages("red") == []
        assert "RETR 2" not in server.commands

    def test_settling_twice_says_dele_once(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            (got, *_) = fetcher.retrieve([item.key for item in fetcher.listing(None)])
            fetcher.settle(got.key, Fate.DONE)
            fetcher.settle(got.key, Fate.DONE)
        assert server.commands.count("DELE 1") == 1
        assert server.messages("red") == POSTS[1:]

    @pytest.mark.parametrize("fate", [Fate.REFUSED, Fate.LATER])
    def test_only_what_is_done_is_deleted(self, server, fetcher_of, fate):
        with fetcher_of(server) as fetcher:
            for got in fetcher.retrieve([item.key for item in fetcher.listing(None)]):
                fetcher.settle(got.key, fate)
        assert server.messages("red") == POSTS

    def test_an_error_here_deletes_nothing(self, server, fetcher_of):
        fetcher = fetcher_of(server).__enter__()
        for got in fetcher.retrieve([item.key for item in fetcher.listing(None)]):
            fetcher.settle(got.key, Fate.DONE)
        error = ZeroDivisionError()
        fetcher.__exit__(type(error), error, None)
        assert server.messages("red") == POSTS
        assert "QUIT" not in server.commands

    def test_leaving_before_the_end_deletes_what_was_settled(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            for got in fetcher.retrieve([item.key for item in fetcher.listing(None)]):
                fetcher.settle(got.key, Fate.DONE)
                break
        assert server.messages("red") == POSTS[1:]

    def test_leaving_before_much_more_has_arrived_does_not_wait_for_it(self, fetcher_of, log):
        posts = [b"Subject: %d\r\n\r\n" % n + b"x" * 1_000_000 + b"\r\n" for n in range(40)]
        with Pop3Server({"red": SECRET}, {"red": posts}) as server:
            with fetcher_of(server) as fetcher:
                for got in fetcher.retrieve([item.key for item in fetcher.listing(None)]):
                    fetcher.settle(got.key, Fate.DONE)
                    break
            assert len(server.messages("red")) == 40
        assert "left before the end" in log.warnings()[0]

    def test_a_halt_ends_the_session_at_once(self, server, session, halt):
        server.faults = Faults(keep_deleted=True)
        session(server)
        server.faults = Faults(
            stall_at=server.sent - len(b"+OK deleted\r\n" * 3 + b"+OK bye\r\n") - 9
        )
        threading.Timer(0.05, halt.set).start()
        with pytest.raises(UnavailableError, match="stopped on request"):
            session(server, timeout=60.0)
        assert server.messages("red") == POSTS


@pytest.mark.parametrize(
    ("table", "use", "name"),
    [
        ("fetch", "pop3", "Pop3Fetcher"),
        ("serve", "pop3", "Pop3Gateway"),
        ("maildrop", "pop3.probe", "Probe"),
        ("maildrop", "pop3.manager", "Manager"),
    ],
)
def test_the_plugin_registers_what_it_has(table, use, name):
    assert Registry().component(table, use).__name__ == name


def test_a_connection_without_tls_does_not_pay_for_it():
    code = "import sys, mailflow_pop3.fetcher; print(sorted({'ssl', 'logging'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class TestOptions:
    @pytest.mark.parametrize(
        ("values", "protection"),
        [
            ({"host": "pop.example.org"}, "implicit"),
            ({"host": "127.0.0.1"}, "none"),
            ({"host": "localhost", "tls": "starttls"}, "starttls"),
            ({"host": "pop.example.org", "tls": "none"}, "none"),
        ],
    )
    def test_tls_is_the_default_off_loopback(self, values, protection):
        assert Pop3Options(values).protection == protection

    def test_what_toml_says_becomes_what_is_used(self):
        table = {"auth": "user", "max_size": "10MB", "pipelining": "always", "timeout": "90s"}
        declared = Pop3Options.declared()
        values = {name: declared[name].convert(value, ".") for name, value in table.items()}
        options = Pop3Options({"host": "localhost", **values})
        assert (options.auth, options.max_size) == (("user",), 10_000_000)
        assert (options.pipelining, options.timeout) == ("always", 90.0)
        assert (options.on_done, options.tls_name) == ("delete", None)

    def test_user_and_password_are_needed(self):
        faults = [name for name, _ in Pop3Options({"host": "localhost"}).faults()]
        assert faults == ["user", "password"]
