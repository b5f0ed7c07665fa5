"""Names that a pattern means."""

from __future__ import annotations

import pytest

from mailflow.wildcards import fits


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("*", ""), ("a", "a"), ("a*", "abc"), ("*c", "abc"), ("a*c", "ac"), ("a*b*c", "aXbYbc")],
)
def test_a_star_stands_for_any_letters(pattern: str, name: str) -> None:
    assert fits(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"), [("", "a"), ("a", "ab"), ("a*b", "ba"), ("ab*ba", "aba")]
)
def test_what_does_not_fit_is_not_meant(pattern: str, name: str) -> None:
    assert not fits(pattern, name)


def test_without_a_delimiter_a_percent_sign_is_a_letter() -> None:
    assert fits("100%*", "100% off")
    assert not fits("100%*", "100 off")


def test_a_percent_sign_stays_on_its_level() -> None:
    assert fits("a/%", "a/b", "/")
    assert not fits("a/%", "a/b/c", "/")
    assert fits("a/%", "a/b/c", "")
