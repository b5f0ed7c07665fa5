"""A file of TOML: read, taken apart by tomli, and its faults with their lines.

Rule of the file: whatever is wrong with a file as a whole is one clear line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from mailflow.errors import ConfigError
from mailflow.options import Fault, dotted
from mailflow.record import NamedTuple
from mailflow.typed import Any

LIMIT = 1 << 20
"""A file is at most this many octets."""


class FileFault(NamedTuple):
    """One thing that is wrong with a file. `line` is 0 where there is none.

    `path` is dotted, counted as a user counts: distribute[2].host. `detail` is more
    lines, such as a mark below the word of an expression.
    """

    file: str
    line: int
    path: str
    text: str
    detail: str = ""

    def __str__(self) -> str:
        from mailflow.log import clean

        place = f"{self.file}:{self.line}" if self.line else self.file
        return clean(": ".join(part for part in (place, self.path, self.text) if part))


class ConfigFaults(ConfigError):  # noqa: N818  # several faults, one error
    """All that is wrong with the files that were given; its text has a line for each."""

    def __init__(self, faults: Iterable[FileFault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @property
    def detailed(self) -> str:
        """The same, with the detail of each fault, indented, below it."""
        lines = []
        for fault in self.faults:
            lines.append(str(fault))
            lines += [f"    {line}" for line in fault.detail.splitlines()]
        return "\n".join(lines)


class Source:
    """One file's data; `file` is as the user named it, `path` absolute."""

    def __init__(self, file: str, path: str, data: Mapping[str, Any], text: str = "") -> None:
        self.file = file
        self.path = path
        self.data = data
        self._text = text

    @classmethod
    def read(cls, file: str) -> Source:
        """Raises ConfigFaults with one fault."""
        held = _held.get(os.path.abspath(file)) if _held else None
        text = _text(file) if held is None else held
        path = os.path.abspath(file)
        if _heard is not None:
            _heard[path] = text
        return cls(file, path, _parsed(file, text), text)

    @property
    def is_file(self) -> bool:
        """False where a program gave the data."""
        return bool(self._text)

    @property
    def base(self) -> str:
        """The directory that relative paths start from."""
        return os.path.dirname(self.path)

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return os.path.splitext(os.path.basename(self.path))[0]

    def line(self, path: tuple[str | int, ...]) -> int:
        """The line of a key, 0 where there is no text."""
        [fault] = self.located([Fault(path, "")])
        return fault.line

    def located(self, faults: Sequence[Fault]) -> list[FileFault]:
        """The faults with their lines, from the top of the file to its end."""
        if not faults:
            return []
        if not self._text:
            return [FileFault(self.file, 0, dotted(f.path), f.text, f.detail) for f in faults]
        from mailflow.toml_lines import Lines

        lines = Lines(self._text)
        found = [
            FileFault(self.file, lines.line(f.path), dotted(f.path), f.text, f.detail)
            for f in faults
        ]
        return sorted(found, key=lambda fault: fault.line)


_held: dict[str, str] = {}
_heard: dict[str, str] | None = None


def hold(texts: Mapping[str, str]) -> None:
    """From now on these files, by their absolute paths, say this, whatever is on the disk: a
    process is to see what another has seen."""
    _held.clear()
    _held.update(texts)


@contextmanager
def heard() -> Iterator[dict[str, str]]:
    """What files say that are read meanwhile, for `hold`."""
    global _heard
    before, _heard = _heard, {}
    try:
        yield _heard
    finally:
        _heard = before


def place_of(file: str, path: tuple[str | int, ...]) -> str:
    """file:line of a key, found once more in the file; the file alone where it is none."""
    try:
        return f"{file}:{Source.read(file).line(path)}"
    except ConfigError:
        return file


def of_file(file: str, text: str, line: int = 0) -> ConfigFaults:
    """What is wrong with a file as a whole."""
    return ConfigFaults([FileFault(file, line, "", text)])


def _text(file: str) -> str:
    try:
        with open(file, "rb") as reader:
            octets = reader.read(LIMIT + 1)
    except OSError as error:
        raise of_file(file, f"cannot be read: {os.strerror(error.errno or 0)}") from None
    return _decoded(file, octets)


def _decoded(file: str, octets: bytes) -> str:
    if len(octets) > LIMIT:
        raise of_file(file, f"is larger than {LIMIT} octets, too large for such a file")
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise of_file(file, "is UTF-16; save it as UTF-8", 1)
    if octets.startswith(b"\xef\xbb\xbf"):
        raise of_file(file, "begins with a byte order mark; save it as UTF-8 without one", 1)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        text = f"octet 0x{octets[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise of_file(file, text, line) from None


def _parsed(file: str, text: str) -> dict[str, Any]:
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        if error.msg in _OPEN or (error.msg == "Invalid value" and error.pos >= len(text)):
            said = f"not TOML: {_OPEN.get(error.msg, 'a value is not complete')}"
            raise of_file(file, said, _opening(text, error.lineno)) from None
        said = f"not TOML at column {error.colno}: {_plain(error.msg)}"
        raise of_file(file, said, error.lineno) from None
    except RecursionError:
        raise of_file(file, "arrays and tables are nested too deep") from None
    except ValueError as error:  # a number of thousands of digits
        raise of_file(file, f"not TOML: {error}") from None


_OPEN = {
    'Expected "\'"': "a text is not closed",
    "Expected \"'''\"": "a text is not closed",
    "Illegal character '\\n'": "a text is not closed",
    "Unterminated string": "a text is not closed",
    "Unclosed array": "an array is not closed",
    "Unclosed inline table": "an inline table is not closed",
}
"""What tomli misses only at the end of the file, or far below where it began."""


def _opening(text: str, last: int) -> int:
    """The line on which something begins that is never closed: what is before it is whole."""
    import tomli

    lines = text.splitlines(keepends=True)
    for line in range(min(last, len(lines)), max(0, last - 200), -1):
        try:
            tomli.loads("".join(lines[: line - 1]))
        except (ValueError, RecursionError):
            continue
        return line
    return last


def _plain(message: str) -> str:
    """What tomli says, in the words of a user who knows no parser."""
    twice = re.fullmatch(r"Cannot declare \((.*)\) twice", message)
    if twice:
        keys = re.findall(r"'([^']*)'", twice[1])
        return f"[{'.'.join(keys)}] is there twice"
    return _SAID.get(message) or message[:1].lower() + message[1:]


_SAID = {
    "Invalid initial character for a key part": "expected the name of a key or table",
    "Cannot overwrite a value": "this key is there twice",
    "Invalid value": "invalid value; text stands in quotes",
    "Unescaped '\\' in a string": r"a \ in a text is written \\, or the text stands in '...'",
    "Expected newline or end of document after a statement":
        "expected the end of the line behind the value",
}  # fmt: skip
