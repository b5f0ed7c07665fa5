"""Names of folders that a pattern means, in the signs of IMAP (RFC 9051, 6.3.9).

Rule of the file: how long it takes is decided by the lengths alone. A regular expression may
take for ever with a name that somebody has made for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailflow.errors import GoneError


def fits(pattern: str, name: str, delimiter: str | None = None) -> bool:
    """Whether `name` is meant: "*" stands for any letters; where there is a delimiter, "" too,
    "%" for any but that."""
    signs = "*" if delimiter is None else "*%"
    ends = {0}  # in `name`, of the words so far
    for word in re.split(f"([{signs}])", pattern):
        if word and word in signs:
            stop = delimiter if word == "%" else ""
            before, ends = ends, set()
            for at in range(len(name) + 1):
                if at in before or (at - 1 in ends and name[at - 1] != stop):
                    ends.add(at)
        else:
            ends = {at + len(word) for at in ends if name.startswith(word, at)}
    return len(name) in ends


def none_like(peer: str, patterns: Sequence[str]) -> GoneError:
    """What it is where no folder fits: nothing could be fetched, and nobody would know."""
    return GoneError(f"{peer} has no folder like {', '.join(patterns)}")
