"""What is asked for together with the log-in: a round trip less, and never a wrong message."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.errors import LoginError, MailflowError
from mailflow.kinds import Fetched
from mailflow.mail import read
from mailflow.options import SecretValue
from mailflow.query import Query
from mailflow.testing.pop3 import CAPABILITIES, Faults, Pop3Server
from mailflow.verdicts import Fate
from mailflow_pop3.guess import FRESH, MOST, STRIDE, Guess

from .conftest import SECRET

POSTS = [b"Subject: %d\r\n\r\n%s\r\n" % (n, b"x" * n) for n in range(1, 6)]
LOGIN = b"AUTH PLAIN " + b64encode(f"\0red\0{SECRET}".encode()) + b"\r\n"
CAPA = b"+OK\r\nPIPELINING\r\nSASL PLAIN\r\nUIDL\r\nTOP\r\n.\r\n"
LISTS = b"+OK\r\n1 a\r\n2 b\r\n.\r\n+OK\r\n1 3\r\n2 3\r\n.\r\n"


def mark(below, likely, way="plain", at=None):
    return Guess(below, likely, way).mark(time.time() if at is None else at)


@pytest.fixture
def visit(fetcher_of):
    """One session that wants what is not in `known`; gives what came, and the next mark."""

    def run(server, mark="", known=(), where=Query.always, settle=False, limit=None, **options):
        got = {}
        fetcher = fetcher_of(server, **options)
        with fetcher:
            keys = [item.key for item in fetcher.listing(where, mark)]
            wanted = [key for key in keys if key not in known][:limit]
            for one in fetcher.retrieve(wanted):
                assert isinstance(one, Fetched), one
                got[one.key] = read(one.content)
                if settle:
                    fetcher.settle(one.key, Fate.DONE)
        return got, fetcher.mark

    return run


@pytest.fixture
def server():
    with Pop3Server({"red": SECRET}, {"red": POSTS[:2]}) as running:
        yield running


def keys(*numbers):
    return {f"red-{number:06d}": POSTS[number - 1] for number in numbers}


def retrieved(server):
    return [line for line in server.commands if line.startswith("RETR")]


class TestFlights:
    def test_what_is_likely_new_comes_with_the_log_in(self, script, visit):
        steps = [
            (b"CAPA\r\n", b"+OK\r\n" + CAPA),
            (
                LOGIN + b"UIDL\r\nLIST\r\nRETR 2\r\nRETR 3\r\n",
                b"+OK\r\n" + LISTS + b"+OK\r\nb\r\n.\r\n-ERR none\r\n",
            ),
            (b"QUIT\r\n", b""),
        ]
        with script(*steps) as server:
            assert visit(server, mark(1, 2), known=("a",))[0] == {"b": b"b\r\n"}

    def test_what_was_not_guessed_joins_the_stream(self, script, visit):
        steps = [
            (b"CAPA\r\n", b"+OK\r\n" + CAPA),
            (
                LOGIN + b"UIDL\r\nLIST\r\nRETR 2\r\n",
                b"+OK\r\n+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n+OK\r\n1 3\r\n2 3\r\n3 3\r\n.\r\n",
            ),
            (b"RETR 1\r\nRETR 3\r\n", b"+OK\r\nb\r\n.\r\n+OK\r\na\r\n.\r\n+OK\r\nc\r\n.\r\n"),
            (b"QUIT\r\n", b""),
        ]
        with script(*steps) as server:
            got = visit(server, mark(1, 1))[0]
        assert got == {"b": b"b\r\n", "a": b"a\r\n", "c": b"c\r\n"}

    def test_always_pipelining_guesses_too(self, server, visit):
        server.deliver("red", POSTS[2])
        got = visit(server, mark(2, 2, "user"), known=keys(1, 2), pipelining="always")[0]
        assert got == keys(3)
        assert retrieved(server) == ["RETR 3", "RETR 4"]


class TestWhereNotToGuess:
    def guessed(self, server, visit, mark, **options):
        visit(server, mark, known=keys(1, 2), **options)
        return bool(retrieved(server))

    def test_where_all_is_well_it_is_guessed(self, server, visit):
        assert self.guessed(server, visit, mark(2, 1))

    @pytest.mark.parametrize(
        "options",
        [
            {"speculate": False},
            {"pipelining": "never"},
            {"max_size": 10},
            {"where": Query("size < 2MB")},
            {"where": Query('subject contains "x"')},
        ],
        ids=repr,
    )
    def test_not_where_the_user_may_not_want_it(self, server, visit, options):
        assert not self.guessed(server, visit, mark(2, 1), **options)

    def test_the_rest_of_the_mail_is_read_anyway(self, server, visit):
        where = Query('content contains "x"')
        assert self.guessed(server, visit, mark(2, 1), where=where)

    def test_not_by_a_way_that_did_not_work_the_last_time(self, server, visit):
        assert not self.guessed(server, visit, mark(2, 1, "user"))

    def test_not_on_a_first_visit(self, server, visit):
        assert not self.guessed(server, visit, "")

    @pytest.mark.parametrize(
        "capabilities",
        [
            [name for name in CAPABILITIES if name != "PIPELINING"],
            [*CAPABILITIES, "EXPIRE 0"],  # it may delete what was only read
        ],
    )
    def test_not_where_the_server_says_so(self, visit, capabilities):
        with Pop3Server({"red": SECRET}, {"red": POSTS}, capabilities=capabilities) as server:
            assert visit(server, mark(2, 1), known=keys(1, 2, 3, 4, 5))[0] == {}
            assert retrieved(server) == []

    def test_a_server_that_deletes_what_was_read_is_not_guessed_about_the_next_time(self, visit):
        capabilities = [*CAPABILITIES, "EXPIRE 0"]
        with Pop3Server({"red": SECRET}, {"red": POSTS}, capabilities=capabilities) as server:
            told = visit(server, pipelining="always")[1]
        assert Guess.of(told, time.time()).likely == 0


class TestWrongGuesses:
    def test_what_is_known_is_thrown_away(self, server, visit):
        got, told = visit(server, mark(0, 2), known=keys(1, 2))
        assert got == {}
        assert retrieved(server) == ["RETR 1", "RETR 2"]
        assert Guess.of(told, time.time()) == Guess(2, 0, "plain")

    def test_numbers_that_have_moved_are_matched_by_their_uidls(self, server, visit):
        server.mailbox("red").messages[:1] = []
        for post in POSTS[2:]:
            server.deliver("red", post)
        got, _ = visit(server, mark(2, 1), known=keys(1, 2))
        assert got == keys(3, 4, 5)
        assert sorted(retrieved(server)) == ["RETR 2", "RETR 3", "RETR 4"]

    def test_what_a_limit_leaves_is_thrown_away_and_comes_the_next_time(self, server, visit):
        got, told = visit(server, mark(0, 2), limit=1)
        assert got == keys(1)
        assert Guess.of(told, time.time()).likely == 1
        assert visit(server, told, known=keys(1))[0] == keys(2)

    def test_a_message_that_shares_its_uidl_is_told_apart_as_ever(self, server, visit):
        server.mailbox("red").messages[:] = [("same", post) for post in POSTS]
        got, _ = visit(server, mark(2, 2))
        assert sorted(got.values()) == sorted(POSTS)

    def test_heads_do_not_take_bodies_for_headers(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            listed = [item.key for item in fetcher.listing(Query.always, mark(0, 2))]
            heads = {one.key: read(one.content) for one in fetcher.heads(listed)}
            assert heads == {key: post.split(b"\r\nx")[0] for key, post in keys(1, 2).items()}
            got = {one.key: read(one.content) for one in fetcher.retrieve(listed)}
        assert got == keys(1, 2)

    def test_a_long_body_that_is_not_wanted_leaves_nothing(self, visit, scratch):
        with Pop3Server({"red": SECRET}, {"red": [POSTS[0], b"x" * 3_000_000]}) as server:
            assert visit(server, mark(0, 2), known=["red-000002"])[0] == keys(1)
        assert list(scratch.iterdir()) == []

    @pytest.mark.parametrize("cut", range(100, 900, 7))
    def test_f01_a_cut_in_what_was_guessed_yields_only_whole_messages(self, server, visit, cut):
        server.faults = Faults(cut_at=cut)
        failure = None
        try:
            got, told = visit(server, mark(0, 2), settle=True)
        except MailflowError as error:
            failure = error
        if failure is not None:
            assert failure.temporary
            assert server.messages("red") == POSTS[:2]
        else:
            assert got == keys(1, 2)
            assert not told or not server.messages("red")

    def test_a_wrong_password_is_still_told_as_one(self, server, visit):
        secret = SecretValue(lambda: "guessed", "the test")
        with pytest.raises(LoginError, match="refuses the login of red"):
            visit(server, mark(0, 2), password=secret)

    def test_a_server_that_parts_from_a_wrong_password_at_once_too(self, server, visit):
        server.faults = Faults(cut_before=["RETR 1"])
        secret = SecretValue(lambda: "guessed", "the test")
        with pytest.raises(LoginError, match="refuses the login of red"):
            visit(server, mark(0, 2), password=secret)


class TestMark:
    def test_a_visit_tells_what_stays_and_how_many_were_new(self, server, visit):
        assert Guess.of(visit(server)[1], time.time()) == Guess(2, 2, "plain")

    def test_deleted_messages_do_not_stay(self, server, visit):
        told = visit(server, settle=True)[1]
        assert Guess.of(told, time.time()) == Guess(0, 2, "plain")
        server.deliver("red", POSTS[2])
        assert visit(server, told)[0] == keys(3)

    def test_a_visit_whose_end_is_not_confirmed_tells_nothing(self, server, visit):
        server.faults = Faults(cut_before=["QUIT"])
        assert visit(server, settle=True)[1] == ""

    def test_without_a_listing_there_is_nothing_to_tell(self, server, fetcher_of):
        with fetcher_of(server) as fetcher:
            pass
        assert fetcher.mark == ""

    @pytest.mark.parametrize(
        ("guess", "new", "unwanted", "likely"),
        [
            (Guess(0, 0), 0, 0, 1),  # the next message is asked for at any rate
            (Guess(5, 8), 1, 0, 4),  # a quiet visit halves
            (Guess(5, 8), 20, 0, 20),
            (Guess(5, 8), 0, 3, 0),  # what was not wanted is not asked for again
            (Guess(5, 8), 100_000, 0, MOST),
        ],
    )
    def test_what_is_likely_follows_what_came(self, guess, new, unwanted, likely):
        assert guess.next(7, new, unwanted, "plain") == Guess(7, likely, "plain")

    @pytest.mark.parametrize("age", [-10.0, FRESH + 10])
    def test_what_is_too_old_or_from_the_future_is_not_believed(self, age):
        now = 2_000_000_000.0
        assert Guess.of(Guess(1, 2, "user").mark(now - age), now) == Guess()

    @given(st.text())
    def test_a_mark_of_another_making_says_nothing(self, text):
        assert Guess.of(text, time.time()) == Guess()

    @given(st.integers(0, 10**9), st.integers(0, MOST), st.sampled_from(["user", "plain"]))
    def test_a_mark_gives_the_guess_it_was_made_of(self, below, likely, way):
        now = 1_800_000_000.0
        assert Guess.of(Guess(below, likely, way).mark(now), now + 60) == Guess(below, likely, way)

    def test_never_too_many_wrong_numbers_in_a_row(self):
        words = [repr(command) for command in Guess(10, MOST).commands()]
        assert words[: STRIDE + 1] == [*(f"RETR {11 + n}" for n in range(STRIDE)), "NOOP"]
        assert words.count("NOOP") == MOST // STRIDE
