"""Patterns: text that is filled in for each mail."""

from __future__ import annotations

import pytest

from mailflow.errors import BadMailError
from mailflow.mail import Envelope, Mail, Octets
from mailflow.pattern import Pattern

MAIL = Mail(
    "id7",
    Envelope("ann@x.org"),
    Octets(b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\n"),
    {"folder": ".Lists"},
)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{id}-{sender}", "id7-ann@x.org"),
        ("a{note:folder}b", "a.Listsb"),
        ("{header:Subject}", "grüße"),
        ("{note:none|.Other}", ".Other"),
        ("{note:none|}", ""),
        ("{header:X-None|a:b|c}", "a:b|c"),
    ],
)
def test_it_is_filled_in(text: str, filled: str) -> None:
    assert Pattern(text).render(MAIL) == filled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{id", "expected } after {"),
        (
            "{subject}",
            "expected {note:NAME}, {header:NAME}, {sender}, {recipient} or {id}; found {subject}",
        ),
        (
            "{note}",
            "expected {note:NAME}, {header:NAME}, {sender}, {recipient} or {id}; found {note}",
        ),
        (
            "{id:x}",
            "expected {note:NAME}, {header:NAME}, {sender}, {recipient} or {id}; found {id:x}",
        ),
        ("{}", "expected {note:NAME}, {header:NAME}, {sender}, {recipient} or {id}; found {}"),
    ],
)
def test_what_is_no_pattern_is_told_when_it_is_read(text: str, said: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the text is the point
        Pattern(text)
    assert str(raised.value) == said


def test_the_recipient_of_a_mail_is_known_where_there_is_one() -> None:
    one, two = (MAIL.replace(envelope=Envelope("", to)) for to in (("a@x.org",), ("a@x", "b@x")))
    assert Pattern("<{recipient}>").render(one) == "<a@x.org>"
    assert Pattern("{recipient|all}").render(two) == "all"
    with pytest.raises(BadMailError, match="is not set"):
        Pattern("{recipient}").render(two)


def test_what_a_mail_lacks_is_a_fault_of_that_mail() -> None:
    with pytest.raises(BadMailError) as raised:
        Pattern("{note:x}").render(MAIL)
    assert str(raised.value) == "{note:x} is not set for this mail; add a default: {note:x|x}"
    with pytest.raises(BadMailError, match=r"\{sender\} is not set"):
        Pattern("{sender}").render(MAIL.replace(envelope=Envelope(None)))
