"""Durations, sizes, paths and addresses, as a file says them."""

from __future__ import annotations

from email.utils import formataddr
from pathlib import Path

import pytest

from mailflow.values import (
    FOREVER,
    Mailbox,
    counted,
    duration,
    instead,
    mailbox,
    nearest,
    path,
    size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1.5m", 90),
        ("10 m", 600),
        ("2H", 7200),
        ("14d", 1209600),
        ("1w", 604800),
        ("250ms", 0.25),
        ("0d", 0),
        (0, 0),
        ("0", 0),
        ("forever", FOREVER),
    ],
)
def test_a_duration_is_seconds(text: object, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", 5, "m", "-1d", "1y", "1d2h", "nan s", "inf d", "1e999d", True, None, [1]]
)
def test_what_is_no_duration_is_told_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "30s", "10m"'):
        duration(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (4096, 4096),
        ("0", 0),
        ("64k", 65536),
        ("64kB", 64000),
        ("64 KiB", 65536),
        ("2MB", 2_000_000),
        ("2MiB", 2 << 20),
        ("1g", 1 << 30),
        ("1.5GB", 1_500_000_000),
        ("7b", 7),
    ],
)
def test_a_size_is_octets(text: object, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize("text", ["", "big", "-1", -1, "1TB", "2 M B", "nan", "inf", False, None])
def test_what_is_no_size_is_told_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match='expected a size such as 4096, "64k"'):
        size(text)


def test_a_path_starts_at_the_file_or_at_home(home: Path) -> None:
    assert path("x/./y", "/base") == "/base/x/y"
    assert path("~/x", "/base") == str(home / "x")


def test_c07_without_a_home_a_tilde_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="no home directory is known for '~nobody-of-that-name/x'"):
        path("~nobody-of-that-name/x", "/base")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann@example.org", Mailbox("", "ann@example.org")),
        (" Ann Other <ann@example.org>", Mailbox("Ann Other", "ann@example.org")),
        ('"Other, Ann" <ann@example.org>', Mailbox("Other, Ann", "ann@example.org")),
        ("<ann@example.org>", Mailbox("", "ann@example.org")),
    ],
)
def test_a_mailbox_has_a_name_and_an_address(text: str, expected: Mailbox) -> None:
    assert mailbox(text) == expected
    assert expected.domain == "example.org"


@pytest.mark.parametrize(
    "text",
    ["", "ann", "@example.org", "ann@", "a b@x.org", "a@x.org, b@y.org", "<a@x.org", "a@b@c.org",
     "Ann\r\nBcc: x <a@x.org>", "a@x\0.org", 5],
)  # fmt: skip
def test_d18_what_is_no_mailbox_is_told(text: object) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        mailbox(text)


def test_a_mailbox_is_written_with_its_name_quoted_where_needed() -> None:
    assert str(Mailbox("", "a@x.org")) == "a@x.org"
    assert str(Mailbox("Other, Ann", "a@x.org")) == '"Other, Ann" <a@x.org>'


def test_the_nearest_word_is_named_if_there_is_one() -> None:
    assert nearest("hots", ("host", "port")) == "; did you mean `host`?"
    assert nearest("qqqq", ("host", "port")) == ""


def test_else_all_that_there_are_and_each_once() -> None:
    assert instead("hots", ("host", "port")) == "; did you mean `host`?"
    assert instead("qqqq", ("host", "port", "host")) == "; there are host, port"
    assert instead("qqqq", ("host",)) == "; there is host"
    assert instead("qqqq", ()) == ""


def test_of_one_there_is_one() -> None:
    assert [counted(number, "octet") for number in (0, 1, 2)] == ["0 octets", "1 octet", "2 octets"]


@pytest.mark.parametrize(
    "name", ["", "Red", "Ann B. Lee", "Red, the list", 'the "red" one', "a\\b", "J\u00fcrgen"]
)
def test_a_mailbox_is_written_as_the_standard_library_writes_it(name: str) -> None:
    assert str(Mailbox(name, "red@example.org")) == formataddr((name, "red@example.org"))
