"""A form with files, as multipart/form-data (RFC 7578), read while it is sent.

Rule of the file: a file is held in pieces only, and its length is known before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple, Protocol

_CHUNK = 1 << 16


class Octets(Protocol):
    """What a file's octets are read from, many times if need be, such as mailflow.mail.Content."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


class Upload(NamedTuple):
    """One file: the name that the other side is told, its type, its octets."""

    name: str
    type: str
    content: Octets


class Multipart:
    """A body for requests: `type` is its Content-Type, iterating gives it anew each time.

    `moves` is called whenever another piece is asked for.
    """

    def __init__(
        self, fields: Iterable[tuple[str, str | bytes]], files: Sequence[tuple[str, Upload]]
    ) -> None:
        boundary = os.urandom(16).hex()
        self.moves: Callable[[], None] = lambda: None
        self.type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[bytes | Octets] = []
        for name, value in fields:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
            octets = value.encode() if isinstance(value, str) else value
            self._parts.append(f"{head}\r\n\r\n".encode() + octets + b"\r\n")
        for name, file in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
            kind = file.type if file.type.isprintable() else "application/octet-stream"
            head += f'; filename="{_quoted(file.name)}"\r\nContent-Type: {kind}'
            self._parts += [f"{head}\r\n\r\n".encode(), file.content, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())

    def __len__(self) -> int:
        return sum(len(each) if isinstance(each, bytes) else each.size for each in self._parts)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces():
            self.moves()
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        for each in self._parts:
            if isinstance(each, bytes):
                yield each
                continue
            with each.open() as file:
                while piece := file.read(_CHUNK):
                    yield piece


def _quoted(name: str) -> str:
    """As WHATWG has it: three characters are escaped, the rest is UTF-8."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
