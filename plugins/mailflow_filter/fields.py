"""What a filter may write into a header: names of fields, and one line of text."""

from __future__ import annotations

import re

from mailflow.errors import BadMailError
from mailflow.log import clean
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Mail
    from mailflow.pattern import Pattern

_FIELD_NAME = re.compile(r"[!-9;-~]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def is_field_name(name: str) -> bool:
    """Whether a header field may have this name (RFC 5322, 2.2)."""
    return _FIELD_NAME.fullmatch(name) is not None


def line(name: str, pattern: Pattern, mail: Mail) -> str:
    """The pattern's text for one mail. Raises BadMailError where that is not one line
    without control characters; `name` is what it was meant for. A tab, by which many
    programs fold a field, is a space."""
    text = pattern.render(mail).replace("\t", " ")
    if _CONTROLS.search(text):
        raise BadMailError(f"control characters in {clean(name)} = {clean(text)[:100]}")
    return text
