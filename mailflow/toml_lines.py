"""Where in a TOML file a key stands: tomli gives values, and no lines for them.

Rule of the file: it runs on the error path only, on text that tomli has accepted, so
it skips over values and checks nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right

Path = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = {
    '"""': re.compile(r'"""(?:[^\\]|\\.)*?"""{1,3}', re.DOTALL),
    "'''": re.compile(r"'''.*?'''{1,3}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


class Lines:
    """`line(path)` is the line of a key, table or element, counted from 1."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._scan()

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest that is there above it; 1 at the least."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _scan(self) -> None:
        table: Path = ()
        self._skip()
        while self._at < len(self._text):
            begin = self._at
            if self._text.startswith("[[", begin):
                self._at += 2
                table = self._element(self._keys("]"))
                self._at += 2
                self._mark(table, begin)
            elif self._text[begin] == "[":
                self._at += 1
                table = self._resolved(self._keys("]"))
                self._at += 1
                self._mark(table, begin)
            else:
                self._pair(table)
            self._skip()

    def _pair(self, table: Path) -> None:
        begin = self._at
        path = (*table, *self._keys("="))
        self._mark(path, begin)
        self._at += 1
        self._value(path)

    def _keys(self, end: str) -> list[str]:
        """The parts of a dotted key, up to `end`."""
        keys: list[str] = []
        while True:
            self._skip()
            character = self._text[self._at]
            if character == end:
                return keys
            if character == ".":
                self._at += 1
            elif character in "\"'":
                keys.append(_unquoted(self._take(_STRINGS[character])))
            else:
                keys.append(self._take(_BARE))

    def _value(self, path: Path) -> None:
        self._skip()
        character = self._text[self._at]
        if character == "[":
            self._array(path)
        elif character == "{":
            self._at += 1
            while not self._closes("}"):
                self._pair(path)
        elif character in "\"'":
            long = self._text[self._at : self._at + 3]
            self._take(_STRINGS[long if long in _STRINGS else character])
        else:
            self._take(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        number = 0
        while not self._closes("]"):
            self._mark((*path, number), self._at)
            self._value((*path, number))
            number += 1

    def _closes(self, bracket: str) -> bool:
        self._skip()
        closes = self._text[self._at] == bracket
        self._at += closes
        return closes

    def _element(self, keys: list[str]) -> Path:
        """The path of one more [[table]] of an array."""
        array = (*self._resolved(keys[:-1]), keys[-1])
        number = self._arrays.get(array, 0)
        self._arrays[array] = number + 1
        return (*array, number)

    def _resolved(self, keys: list[str]) -> Path:
        """The path of a [table]; an array in it stands for its last element."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        return path

    def _mark(self, path: Path, at: int) -> None:
        line = bisect_right(self._starts, at)
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _skip(self) -> None:
        self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None  # noqa: S101  # tomli has read it
        self._at = match.end()
        return match.group()


def _unquoted(key: str) -> str:
    """A quoted key as tomli gives it."""
    import tomli

    return str(next(iter(tomli.loads(f"{key} = 0"))))
