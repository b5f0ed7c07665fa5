"""Encoded words: what is not ASCII becomes ASCII, and reads the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.addresses import addresses
from mailflow.mail import decode_words
from mailflow.words import encoded


def test_ascii_stays_as_it_is() -> None:
    assert encoded('  two  spaces, "a" =x') == '  two  spaces, "a" =x'


@pytest.mark.parametrize(
    "text", ["Grüße", "Grüße an alle", "an Ann: Grüße  von Jörg", "ö ", " ö", "a  ö  b", "ö ä", "→"]
)
def test_what_is_encoded_reads_as_it_was(text: str) -> None:
    assert encoded(text).isascii()
    assert decode_words(encoded(text)) == text


def test_a_word_is_no_longer_than_it_may_be_and_breaks_between_characters() -> None:
    """RFC 2047, 2: 75 characters; 5: each is whole characters."""
    written = encoded("€" * 100)
    assert all(len(word) <= 75 for word in written.split(" "))
    assert all(decode_words(word).strip("€") == "" for word in written.split(" "))
    assert decode_words(written) == "€" * 100


@pytest.mark.parametrize("text", ["Jörg <j@x.org>", '"Jörg von X" <j@x.org>'])
def test_an_address_beside_a_name_stays_one(text: str) -> None:
    assert addresses(encoded(text)) == (("j@x.org",), True)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]) | st.just(" ")))
def test_any_text_is_written_in_ascii_and_read_again(text: str) -> None:
    assert encoded(text).isascii()
    if "=?" not in text:
        assert decode_words(encoded(text)) == text
