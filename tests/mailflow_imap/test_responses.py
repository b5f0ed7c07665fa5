"""Response codes as errors, FETCH lines as facts."""

from __future__ import annotations

import pytest

from mailflow.errors import (
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow_imap.responses import Fact, backoff, date, fact, parse, refusal
from mailflow_imap.wire import Command, Reply, Untagged


def reply(code: str, text: str = "no", status: str = "NO") -> Reply:
    return Reply(Command("SELECT"), status, code, b"", text)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("", RefusedError),
        ("THROTTLED", UnavailableError),
        ("UNAVAILABLE", UnavailableError),
        ("LIMIT", UnavailableError),
        ("OVERQUOTA", UnavailableError),
        ("SERVERBUG", UnavailableError),
        ("INUSE", InUseError),
        ("AUTHENTICATIONFAILED", LoginError),
        ("EXPIRED", LoginError),
        ("NONEXISTENT", GoneError),
        ("CANNOT", RefusedError),
    ],
)
def test_f12_a_response_code_says_whether_trying_again_helps(
    code: str, kind: type[MailflowError]
) -> None:
    error = refusal("text", reply(code), RefusedError)
    assert type(error) is kind
    assert error.fields.get("code", "") == code


def test_f12_bad_is_a_broken_protocol() -> None:
    assert isinstance(refusal("text", reply("", status="BAD"), RefusedError), PeerError)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Request is throttled. Suggested Backoff Time: 92415 milliseconds", 92.415),
        ("Suggested Backoff Time: 1500 ms", 1.5),
        ("suggested backoff time: 30 seconds", 30),
        ("come back later", None),
    ],
)
def test_a_server_says_how_long_to_stay_away(text: str, seconds: float | None) -> None:
    assert backoff(text) == seconds
    error = refusal("text", reply("", text), RefusedError)
    assert error.temporary is (seconds is not None)
    assert error.fields.get("delay") == seconds


REST = b"FLAGS (\\Seen $Forwarded) MODSEQ (99)"

WHOLE = Fact(7, 123, 848232149.0, frozenset({"\\Seen", "$Forwarded"}))


@pytest.mark.parametrize(
    "line",
    [
        b'(UID 7 RFC822.SIZE 123 INTERNALDATE "17-Nov-1996 12:02:29 +0000" %b)' % REST,
        b'(%b RFC822.SIZE 123 INTERNALDATE "17-Nov-1996 04:02:29 -0800" UID 7)' % REST,
        b'(%b rfc822.size 123 X (1) internaldate "17-Nov-1996 04:02:29 -0800" uid 7)' % REST,
    ],
)
def test_facts_are_the_same_in_any_order_and_form(line: bytes) -> None:
    assert fact(Untagged(1, "FETCH", [line])) == WHOLE


def test_f17_a_message_without_a_uid_is_none() -> None:
    assert fact(Untagged(1, "FETCH", [b"(FLAGS (\\Seen))"])) is None
    assert fact(Untagged(1, "FETCH", [b"(FLAGS (\\Seen) X 1)"])) is None


@pytest.mark.parametrize("uid", [b"0", b"4294967296", b"-1"])
def test_f17_what_is_no_uid_names_no_message(uid: bytes) -> None:
    assert fact(Untagged(1, "FETCH", [b"(UID " + uid + b" RFC822.SIZE 1)"])) is None


def test_what_was_not_said_is_not_known() -> None:
    assert fact(Untagged(1, "FETCH", [b"(UID 3 FLAGS ())"])) == Fact(3, flags=frozenset())
    assert fact(Untagged(1, "FETCH", [b"(UID 3 RFC822.SIZE NIL X 1)"])) == Fact(3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b" 1-Jan-1970 00:00:10 +0000", 10.0),
        (b"01-Jan-1970 01:00:00 +0100", 0.0),
        (b"29-Feb-2024 23:59:59 -0030", 1709252999.0),
        (b"31-Feb-2024 00:00:00 +0000", None),
        (b"01-Foo-2024 00:00:00 +0000", None),
        (b"yesterday", None),
    ],
)
def test_a_date_is_seconds_since_the_epoch(text: bytes, seconds: float | None) -> None:
    assert date(text) == seconds


@pytest.mark.parametrize("line", [b"(UID 7", b"(UID)", b'(UID 7 X "abc)', b"UID 7", b"(" * 3000])
def test_what_cannot_be_read_is_a_broken_protocol(line: bytes) -> None:
    with pytest.raises(PeerError):
        fact(Untagged(1, "FETCH", [line]))


def test_a_literal_stands_where_a_string_may() -> None:
    parts: list[bytes | tuple[bytes, bytes]] = [(b"(UID 7 X {3}", b"a b"), b")"]
    assert parse(parts) == ((b"UID", 7, b"X", b"a b"),)
