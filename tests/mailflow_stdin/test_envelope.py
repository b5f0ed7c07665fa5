"""Who sent it and to whom, as each mail system says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.errors import BadMailError
from mailflow.mail import Envelope
from mailflow_stdin.envelope import envelope, split_from_line

DATE = b"Fri Nov 21 01:02:03 2025"


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        (b"From ann@example.org  " + DATE + b"\n", "ann@example.org"),  # Postfix, procmail
        (b"From ann@example.org " + DATE + b"\r\n", "ann@example.org"),
        (b"From ann@example.org Fri Nov  1 01:02 2025\n", "ann@example.org"),
        (b"From ann@example.org Fri Nov 21 01:02:03 CET 2025 remote from b\n", "ann@example.org"),
        (b'From "ann  b"@example.org ' + DATE + b"\n", '"ann  b"@example.org'),
        (b'From "a\\"b "@example.org ' + DATE + b"\n", '"a\\"b "@example.org'),
        (b'From "x ' + DATE + b'"@example.org ' + DATE + b"\n", f'"x {DATE.decode()}"@example.org'),
        (b"From MAILER-DAEMON  " + DATE + b"\n", ""),  # Postfix, qmail, Exim: the null sender
        (b"From mailer-daemon@mx.example.org " + DATE + b"\n", ""),
        (b"From <> " + DATE + b"\n", ""),
        (b"From <ann@example.org> " + DATE + b"\n", "ann@example.org"),
        (b"From " + DATE + b"\n", None),
        ("From j\xf6rg@example.org ".encode() + DATE + b"\n", "j\xf6rg@example.org"),
        (b"From j\xf6rg@example.org " + DATE + b"\n", None),
    ],
)
def test_an_mbox_line_tells_the_sender(line: bytes, sender: str | None) -> None:
    assert split_from_line(line + b"Subject: x\n\n" + line) == (sender, len(line))


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"Subject: x\nFrom ann@example.org " + DATE + b"\n",
        b"From: Ann <ann@example.org>\n",
        b"From : ann@example.org " + DATE + b"\n",
        b"From here on, Fri is a working day\n",
        b"From ann@example.org\n",
        b"From ann@example.org " + DATE,  # the line has not ended
        b"from ann@example.org " + DATE + b"\n",
        b'From "ann\n"@example.org ' + DATE + b"\n",
        b"From ann and bob " + DATE + b"\n",
        b"From ann@example.org Fri Nov 21\n",
        b">From ann@example.org " + DATE + b"\n",
    ],
)
def test_anything_else_is_message(start: bytes) -> None:
    assert split_from_line(start) == (None, 0)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("filling", [b"a", b'"', b'\\"', b" ", b"Fri Nov 21 01:02 ", b"Fri Nov "])
def test_a_hostile_first_line_costs_no_time(filling: bytes) -> None:
    assert split_from_line(b"From " + filling * 100_000 + b"\n") == (None, 0)


def test_options_come_before_the_environment_before_the_mbox_line() -> None:
    environ = {"SENDER": "env@example.org", "RECIPIENT": "red@example.org"}
    told = envelope("told@example.org", ["a@x.org", "b@x.org", "a@x.org"], environ, "f@x.org")
    assert told == Envelope("told@example.org", ("a@x.org", "b@x.org"))
    assert envelope(None, [], environ, "f@x.org") == Envelope(
        "env@example.org", ("red@example.org",)
    )
    assert envelope(None, [], {}, "f@x.org") == Envelope("f@x.org", ())
    assert envelope(None, [], {}, None) == Envelope(None, ())


@pytest.mark.parametrize("null", ["", "<>", "MAILER-DAEMON", "Mailer-Daemon@mx.org", "#@[]"])
def test_d20_every_spelling_of_the_null_sender_is_the_null_sender(null: str) -> None:
    assert envelope(null, [], {}, None).sender == ""
    assert envelope(None, [], {"SENDER": null}, "ann@example.org").sender == ""


def test_what_postfix_censored_is_taken_from_the_mbox_line() -> None:
    exact = "o'neil~1{x}@example.org"
    assert envelope(None, [], {"SENDER": "o_neil_1_x_@example.org"}, exact).sender == exact
    assert envelope(None, [], {"SENDER": "x_neil_1_x_@example.org"}, exact).sender == (
        "x_neil_1_x_@example.org"
    )
    assert envelope(None, [], {"SENDER": "bob@example.org"}, "ann@example.org").sender == (
        "bob@example.org"
    )


BAD = ["a\nb@example.org", "a\r\nRCPT TO:<x>", "a\0b@x.org", "\udcff@x.org", "a b@example.org"]


@pytest.mark.parametrize("address", BAD)
def test_d18_a_sender_that_could_end_a_line_is_not_known(address: str) -> None:
    assert envelope(address, [], {}, None).sender is None
    assert envelope(None, [], {"SENDER": address}, None).sender is None


@pytest.mark.parametrize("address", [*BAD, "<>", " "])
def test_d18_mail_for_a_recipient_that_cannot_be_used_is_not_taken(address: str) -> None:
    with pytest.raises(BadMailError, match="not a recipient") as raised:
        envelope(None, [address], {}, None)
    assert raised.value.text.isprintable()
    with pytest.raises(BadMailError):
        envelope(None, [], {"RECIPIENT": address}, None)


def test_an_empty_recipient_in_the_environment_is_none() -> None:
    assert envelope(None, [], {"RECIPIENT": ""}, None).recipients == ()


def test_angle_brackets_are_no_part_of_an_address() -> None:
    told = envelope("<ann@example.org>", ["<red@example.org>"], {}, None)
    assert told == Envelope("ann@example.org", ("red@example.org",))


@given(st.binary())
def test_any_octets_are_taken(start: bytes) -> None:
    sender, length = split_from_line(b"From " + start)
    assert 0 <= length <= len(start) + 5
    assert sender is None or sender == "" or sender.isprintable()
