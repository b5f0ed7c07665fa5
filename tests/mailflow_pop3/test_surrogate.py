"""Header sections in UTF-8 for clients that have not said UTF8 (RFC 6856, RFC 6858)."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow_pop3.surrogate import Utf8NeededError, head_of, is_utf8, refused, written


def head(*fields: str) -> bytes:
    return ("".join(f"{field}\r\n" for field in fields) + "\r\n").encode()


def parsed(octets: bytes) -> email.message.EmailMessage:
    return email.message_from_bytes(octets, policy=email.policy.default)  # type: ignore[return-value]


def test_a_subject_is_written_in_encoded_words() -> None:
    made = written(head("Subject: Grüße aus 日本", "X-Plain: as it is"))
    assert made.isascii()
    assert parsed(made)["Subject"] == "Grüße aus 日本"
    assert b"X-Plain: as it is\r\n" in made
    assert made.endswith(b"\r\n\r\n")


def test_a_name_keeps_its_address() -> None:
    made = parsed(written(head('To: "Müller, Jörg" <jm@example.org>, ann@example.org')))
    people = made["To"].addresses
    assert [each.addr_spec for each in people] == ["jm@example.org", "ann@example.org"]
    assert people[0].display_name == "Müller, Jörg"


def test_an_address_that_is_no_ascii_becomes_a_group_of_nobody() -> None:
    made = parsed(written(head("From: Jörg <jörg@exämple.org>")))
    (group,) = made["From"].groups
    assert group.display_name == "Jörg jörg@exämple.org"
    assert group.addresses == ()


def test_a_file_name_is_written_as_a_parameter() -> None:
    made = parsed(written(head('Content-Disposition: attachment; filename="größe.txt"')))
    assert made.get_filename() == "größe.txt"


def test_a_folded_field_is_one_field() -> None:
    made = parsed(written(head("Subject: ein langer\r\n Gruß", "To: a@example.org")))
    assert made["Subject"] == "ein langer Gruß"
    assert made["To"] == "a@example.org"


@pytest.mark.parametrize(
    "octets", [b"Subject: one\r\n\r\n", b"Subject: Gr\xfc\xdfe\r\n\r\n", b"", b"\r\n"]
)
def test_what_is_ascii_or_no_utf_8_is_not_touched(octets: bytes) -> None:
    assert not is_utf8(octets)
    assert written(octets) == octets
    assert refused(octets) == octets


def test_a_message_that_needs_utf8_is_refused_in_words() -> None:
    with pytest.raises(Utf8NeededError, match="UTF8"):
        refused(head("Subject: ü"))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_whatever_a_field_holds_becomes_ascii_lines_with_an_end(text: str) -> None:
    made = written(head(f"X-Any: {text}ü", "Subject: last"))
    assert made.isascii()
    assert made.endswith(b"Subject: last\r\n\r\n")
    assert b"\r\n\r\n" not in made[:-4]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_header_section_ends_at_the_blank_line_however_it_is_cut(size: int) -> None:
    octets = b"A: b\r\nC: d\r\n\r\nbody\r\n\r\nmore"
    pieces = iter([octets[at : at + size] for at in range(0, len(octets), size)])
    found, rest = head_of(pieces)
    assert found == b"A: b\r\nC: d\r\n\r\n"
    assert rest + b"".join(pieces) == b"body\r\n\r\nmore"


def test_a_message_may_begin_with_the_blank_line_or_have_none() -> None:
    assert head_of(iter([b"\r\nbody"])) == (b"\r\n", b"body")
    assert head_of(iter([b"A: b", b"\r\n"])) == (b"A: b\r\n", b"")


DEEP = 'To: "é" ' + "(" * 5000
"""Deeper than the parser of the standard library can count."""


def test_a_field_that_no_parser_can_take_apart_is_written_all_the_same() -> None:
    """Else the message could not be read, nor the drop be listed."""
    made = written(head(DEEP, "Subject: é"))
    assert made.isascii()
    assert parsed(made)["Subject"] == "é"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("é" + "a" * 200_000, id="a line without an end"),
        pytest.param("Content-Type: text/plain; é" + ";" * 30_000 + "\r\n", id="semicolons"),
        pytest.param("é" + "\r\n " * 50_000, id="folded often"),
    ],
)
def test_no_sender_decides_how_long_it_takes(field: str) -> None:
    """Nobody waits for it to be interrupted: what is quadratic here takes minutes."""
    before = time.process_time()
    written(field.encode())
    assert time.process_time() - before < 10


@pytest.mark.parametrize(
    "octets",
    [
        "é".encode(),
        "Subject: é\r\nTo: a".encode(),
        "Subject: a\r\n\r\nrést".encode(),
        "\r\nSubject: é\r\n".encode(),
        " é\r\n é\r\n\r\n\r\n".encode(),
    ],
)
def test_what_is_no_field_stays(octets: bytes) -> None:
    lines = [line for line in octets.split(b"\r\n") if b":" not in line]
    assert [line for line in written(octets).split(b"\r\n") if b":" not in line] == lines
