"""A message made of fields, of which none begins another."""

from __future__ import annotations

import pytest

from mailflow.mail import read
from mailflow.mailboxes.compose import compose

ENCODED = "=?utf-8?q?x=0d=0aBcc:_all@example.org?="
"""What email decodes, and would write decoded."""


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": ENCODED}, {"headers": {"X-A": ENCODED}}, {"sender": f"{ENCODED} <a@b.c>"},
        {"subject": "=?utf-8?b?AA==?="}, {"content": [{"text": "x", "mime": f"text/{ENCODED}"}]},
        {"attachments": [{"payload": b"x", "filename": ENCODED}]},
        {"attachments": [{"payload": b"x", "disposition": ENCODED}]},
        {"attachments": [{"payload": b"x", "encoding": ENCODED, "mime": "text/plain"}]},
    ],
)  # fmt: skip
def test_no_line_end_is_smuggled_in_as_an_encoded_word(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"CR|carriage return"):
        compose(fields)


def test_other_encoded_words_say_what_they_mean() -> None:
    made = read(compose({"subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?="}))
    assert b"\r\nSubject: =?utf-8?" in b"\r\n" + made


def test_a_moment_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no message can be made of this"):
        compose({}, 1e30)
