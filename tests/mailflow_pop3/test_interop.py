"""The fetcher against a real Dovecot."""

from __future__ import annotations

import itertools
import time

import pytest

from mailflow.errors import LoginError
from mailflow.lines import to_crlf
from mailflow.mail import read
from mailflow.options import SecretValue
from mailflow.query import Query
from mailflow.testing.dovecot import Dovecot
from mailflow_pop3.guess import MOST, Guess

from .conftest import SECRET

pytestmark = pytest.mark.interop("dovecot-core", "dovecot-pop3d")

POSTS = [
    b"Subject: plain\n\nhello\n",
    b"Subject: crlf\r\n\r\n.dot\r\n..\r\n.\r\n",
    b"Subject: 8-bit\n\n\xfc\xff\x80\n",
    b"Subject: long\n\n" + b"0123456789abcdef\n" * 60_000,
    b"Subject: no end\n\nof line",
    b"no header\n",
]
WIRE = [to_crlf(post) for post in POSTS]
WIRE[4] += b"\r\n"


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory):
    with Dovecot(tmp_path_factory.mktemp("dovecot")) as running:
        yield running


NUMBERS = itertools.count(1)


@pytest.fixture
def mailbox(dovecot):
    """A user of this test's own, with mail."""
    user = f"user{next(NUMBERS)}"
    dovecot.add_user(user, SECRET)
    dovecot.deliver(user, *POSTS)
    return user


SECURITY = {
    "plain": lambda d: {"port": d.pop3_port},
    "starttls": lambda d: {"port": d.pop3_port, "tls": "starttls", "ca_file": d.ca_file},
    "implicit": lambda d: {"port": d.pop3s_port, "tls": "implicit", "ca_file": d.ca_file},
}


@pytest.mark.parametrize("security", SECURITY)
@pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
def test_every_octet_arrives_and_what_is_settled_is_deleted(
    dovecot, mailbox, session, security, pipelining, log
):
    options = SECURITY[security](dovecot) | {"host": "localhost", "user": mailbox}
    assert list(session(dovecot, pipelining=pipelining, **options).values()) == WIRE
    assert dovecot.messages(mailbox) == []
    assert log.warnings() == []


@pytest.mark.parametrize("way", ["plain", "login", "user"])
def test_every_way_to_log_in(dovecot, mailbox, session, way):
    options = SECURITY["plain"](dovecot) | {"user": mailbox, "auth": (way,)}
    assert list(session(dovecot, on_done="keep", **options).values()) == WIRE


def test_keys_stay_and_what_is_kept_is_not_asked_for_again(dovecot, mailbox, session):
    options = SECURITY["plain"](dovecot) | {"user": mailbox}
    first = session(dovecot, on_done="keep", **options)
    dovecot.deliver(mailbox, b"Subject: new\n\n")
    assert list(session(dovecot, known=first, **options).values()) == [b"Subject: new\r\n\r\n"]
    assert dovecot.messages(mailbox) == []


@pytest.mark.parametrize("security", SECURITY)
def test_a_wrong_password_is_refused(dovecot, mailbox, session, security):
    options = SECURITY[security](dovecot) | {"host": "localhost", "user": mailbox}
    secret = SecretValue(lambda: "guessed", "the test")
    with pytest.raises(LoginError, match=r"refuses the login of user.*Authentication failed"):
        session(dovecot, **options | {"password": secret})


@pytest.mark.parametrize("security", ["starttls", "implicit"])
def test_f23_a_certificate_of_another_is_refused(dovecot, mailbox, session, security):
    options = SECURITY[security](dovecot) | {"host": "localhost", "user": mailbox}
    with pytest.raises(LoginError, match=r"certificate of localhost:\d+ is refused: unable to get"):
        session(dovecot, **options | {"ca_file": None})
    with pytest.raises(LoginError, match="Hostname mismatch"):
        session(dovecot, **options | {"tls_name": "pop.example.org"})


def test_heads_come_by_top(dovecot, mailbox, fetcher_of):
    options = SECURITY["plain"](dovecot) | {"user": mailbox}
    with fetcher_of(dovecot, **options) as fetcher:
        keys = [item.key for item in fetcher.listing(None)]
        heads = [head.content.data for head in fetcher.heads(keys[:3])]
    assert heads == [b"Subject: %s\r\n" % word for word in (b"plain", b"crlf", b"8-bit")]


def test_two_thousand_messages_in_one_flight(dovecot, session):
    posts = [b"Subject: %d\n\n" % number + b"x" * 70 + b"\n" for number in range(2000)]
    dovecot.add_user("many", SECRET)
    dovecot.deliver_many("many", posts)
    got = session(dovecot, port=dovecot.pop3_port, user="many")
    assert list(got.values()) == [to_crlf(post) for post in posts]
    assert dovecot.messages("many") == []


def test_as_many_wrong_guesses_as_there_may_be_end_no_session(dovecot, mailbox, fetcher_of):
    told = Guess(2, MOST, "plain").mark(time.time())
    with fetcher_of(dovecot, user=mailbox, port=dovecot.pop3_port) as fetcher:
        found = [item.key for item in fetcher.listing(Query.always, told)]
        assert [read(one.content) for one in fetcher.retrieve(found[2:])] == WIRE[2:]
    assert Guess.of(fetcher.mark, time.time()) == Guess(len(POSTS), MOST // 2, "plain")
