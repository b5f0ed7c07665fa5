"""Values as TOML writes them.

Rule of the file: what comes out is read as the same value, whatever it holds.
"""

from __future__ import annotations

import json
import re


def text(value: object) -> str:
    """A value in one line of TOML; a string as it is where that can be read."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key(name)} = {text(each)}" for name, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, str) and value.isprintable() and {*value} & {*'"\\'} and "'" not in value:
        return f"'{value}'"
    written = json.dumps(value, ensure_ascii=False)  # of scalars, JSON is TOML, but for DEL
    return "".join(each if each.isprintable() else _escaped(each) for each in written)


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def key(name: str) -> str:
    """A key as it may stand in TOML: bare, or quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text(name)
