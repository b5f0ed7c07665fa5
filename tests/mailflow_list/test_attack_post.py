"""Mail and files that are made to hurt a list: none takes its time, none its posts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import UnavailableError
from mailflow.mail import HEADER_LIMIT
from mailflow.testing.engine import mail
from mailflow.verdicts import Hold
from mailflow_list import guards

Make = Callable[..., Any]

MANY = HEADER_LIMIT // 16
PATIENCE = 10.0  # seconds; where time grows with the square, each of these takes minutes


def post(**fields: str) -> str:
    given = {
        "From": "Ann <ann@example.org>", "To": "red@example.org", "Subject": "hello",
        "Message-ID": "<1@example.org>", **fields,
    }  # fmt: skip
    return "".join(f"{name}: {value}\n" for name, value in given.items()) + "\nbody\n"


@pytest.mark.parametrize(
    "field",
    [
        {"From": '"' + '\\"' * MANY},
        {"From": "ann@example.org", "Cc": '"' + '\\"' * MANY},
        {"Subject": "help " + "@" * (2 * MANY) + " x"},
        {"Authentication-Results": "mx; " + "(\\" * MANY},
        {"Authentication-Results": "mx; " + '"' + '\\"' * MANY},
    ],
    ids=[
        "open-quotes",
        "open-quotes-beside",
        "signs-in-a-request",
        "open-comments",
        "quoted-signs",
    ],
)
def test_no_field_takes_time_that_grows_with_its_square(step: Make, field: dict[str, str]) -> None:
    one = step('address = "red@example.org"\nmembers = ["ann@example.org"]\nauthserv = "mx"')
    began = time.monotonic()
    one.one(mail(post(**field)))
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize(
    "value",
    [
        "mx; dmarc=pass", "mx (a host); dmarc=pass (p=none)", "mx; dkim=pass (a (b) c); dmarc=pass",
        'mx; spf=pass reason="all; dmarc=fail"; dmarc=pass', r"mx; x=y (a \) b); dmarc=pass",
    ],
)  # fmt: skip
def test_comments_and_strings_are_read_over(value: str) -> None:
    header = mail(f"Authentication-Results: {value}\n\n").header()
    assert guards.confirmed(header, "mx")


@pytest.mark.parametrize(
    "value",
    [
        "mx; (dmarc=pass", 'mx; "dmarc=pass', "mx; dmarc=pass)", r"mx\; dmarc=pass",
        'mx; dmarc=fail (") dmarc=pass (")', "mx; (dmarc=pass)", 'mx; "; dmarc=pass"',
    ],
)  # fmt: skip
def test_what_is_not_closed_or_only_quoted_confirms_nothing(value: str) -> None:
    header = mail(f"Authentication-Results: {value}\n\n").header()
    assert not guards.confirmed(header, "mx")


@pytest.mark.parametrize("posting", ["accept", "hold"])
def test_a_members_file_that_is_empty_for_the_moment_costs_no_post(
    step: Make, tmp_path: Path, posting: str
) -> None:
    """An editor, or `generate > red.members`, empties it before it fills it again."""
    members = tmp_path / "red.members"
    members.write_text("# nobody yet\n")
    one = step(
        f'address = "red@example.org"\nmembers = "{members}"\nposting = {{ others = "{posting}" }}'
    )
    with pytest.raises(UnavailableError, match=r"red[.]members holds no address"):
        one.one(mail(post()))
    members.write_text("ann@example.org\n")
    assert one.made(mail(post())).envelope.recipients == ("ann@example.org",)


def test_a_wish_to_be_taken_off_may_end_with_a_full_stop(step: Make) -> None:
    one = step('address = "red@example.org"\nmembers = ["ann@example.org"]')
    result = one.one(mail(post(Subject="unsubscribe red@example.org.")))
    assert isinstance(result, Hold)
