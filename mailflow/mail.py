"""Content, Envelope, Mail, and header edits that leave every other octet alone.

Rule of the file: a message is octets. Nothing here parses MIME or writes a
message anew; an edit replaces header lines and shares the body.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple, Protocol

HEADER_LIMIT = 1 << 20
"""A header section is looked for in this many octets; what follows is body."""

CHUNK = 1 << 18


class Content(Protocol):
    """The octets of one message: CRLF lines, immutable, readable many times."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO:
        """A fresh reader at octet 0; the caller closes it."""
        ...


class Octets:
    """Content held in memory."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


class OctetFile:
    """Content in a file of its own, which the owner of `path` keeps in place."""

    __slots__ = ("path", "size")

    def __init__(self, path: str, size: int | None = None) -> None:
        self.path = path
        self.size = os.stat(path).st_size if size is None else size

    def open(self) -> BinaryIO:
        return open(self.path, "rb")


class Spliced:
    """Content made of a new header section and another content's body."""

    __slots__ = ("base", "head", "offset")

    def __init__(self, head: bytes, base: Content, offset: int) -> None:
        self.head = head
        self.base = base
        self.offset = offset

    @property
    def size(self) -> int:
        return len(self.head) + self.base.size - self.offset

    def open(self) -> BinaryIO:
        if isinstance(self.base, Octets):
            return io.BytesIO(self.head + self.base.data[self.offset :])
        return io.BufferedReader(_SplicedReader(self), CHUNK)


class _SplicedReader(io.RawIOBase):
    """The new head, then the base from its body on."""

    def __init__(self, content: Spliced) -> None:
        self._head = memoryview(content.head)
        self._base = content.base.open()
        self._base.seek(content.offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._head:
            taken = min(len(buffer), len(self._head))
            buffer[:taken] = self._head[:taken]
            self._head = self._head[taken:]
            return taken
        data = self._base.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._base.close()
        super().close()


def read(content: Content) -> bytes:
    """All octets at once: for messages known to be small."""
    if isinstance(content, Octets):
        return content.data
    with content.open() as reader:
        return reader.read()


def chunks(content: Content, size: int = CHUNK) -> Iterator[bytes]:
    """The octets in pieces of at most `size`."""
    if isinstance(content, Octets) and len(content.data) <= size:
        yield content.data
        return
    with content.open() as reader:
        while piece := reader.read(size):
            yield piece


def head(content: Content) -> bytes:
    """The header section with the CRLF of its last field, without the blank line.

    It ends before the first line that is no field, as a relay would see it. Looked
    for in HEADER_LIMIT octets: of a longer section only its whole fields within
    that limit count.
    """
    if isinstance(content, Spliced):
        return _FIELDS.match(content.head).group()  # type: ignore[union-attr]
    if isinstance(content, Octets):
        start = content.data[:HEADER_LIMIT]
    else:
        with content.open() as reader:
            start = reader.read(HEADER_LIMIT)
    end = _FIELDS.match(start).end()  # type: ignore[union-attr]  # it matches b"" too
    if content.size > HEADER_LIMIT and b"\n" not in start[end:]:
        end = max(0, _last_field(start, end))
    elif content.size <= HEADER_LIMIT and _UNENDED.match(start, end):
        end = len(start)
    return start[:end]


_FIELDS = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*)*")
_UNENDED = re.compile(rb"(?:[!-9;-~]+[ \t]*:|[ \t])[^\n]*\Z")


def _last_field(start: bytes, end: int) -> int:
    """Where the last whole field before `end` begins: it may go on after the limit."""
    while (end := start.rfind(b"\n", 0, max(0, end - 1))) >= 0:
        if start[end + 1 : end + 2] not in (b" ", b"\t"):
            return end + 1
        end += 1
    return 0


class Envelope(NamedTuple):
    """What the transport says of a mail, apart from its content (RFC 5321, 2.3.1).

    `sender` is the reverse-path: "" is the null sender <>, never bounced to;
    None is not known. `recipients` are forward-paths, in order, without repeats;
    () is nobody (a mailbox gives none).
    """

    sender: str | None = None
    recipients: tuple[str, ...] = ()


class Mail(NamedTuple):
    """One mail on its way: frozen; `replace` and `with_header` give changed copies.

    `id` is made by the engine and sorts by arrival; `notes` are small facts left
    for later steps, and are journalled.
    """

    id: str
    envelope: Envelope
    content: Content
    notes: Mapping[str, str] = {}

    def replace(self, **changes: object) -> Mail:
        """A copy with other `envelope`, `content` or `notes`."""
        return self._replace(**changes)  # type: ignore[arg-type]

    def noted(self, **notes: str) -> Mail:
        """A copy with these notes added."""
        return self._replace(notes={**self.notes, **notes})

    def header(self) -> Header:
        """The header section, to read, or to edit and hand to `with_header`."""
        return Header(head(self.content))

    def with_header(self, header: Header) -> Mail:
        """A copy with this header section; every octet of the body stays."""
        base, offset = self.content, len(head(self.content))
        if isinstance(base, Spliced):
            base, offset = base.base, base.offset
        section = bytes(header)
        if section and not section.endswith(b"\n"):
            section += b"\r\n"
        if base.size > offset:
            section += _blank_line(base, offset)
        return self._replace(content=Spliced(section, base, offset))


def _blank_line(base: Content, offset: int) -> bytes:
    """What must stand between fields and a body that does not begin with one."""
    if isinstance(base, Octets):
        return b"" if base.data[offset : offset + 2] == b"\r\n" else b"\r\n"
    with base.open() as reader:
        reader.seek(offset)
        return b"" if reader.read(2) == b"\r\n" else b"\r\n"


class Header:
    """A header section as raw fields (RFC 5322, 2.2), each with its line ends.

    Reading gives unfolded text; octets outside ASCII are read as UTF-8, else as
    surrogate escapes. Writing refuses CR, LF and NUL in a value (ValueError), and
    never touches a field it was not asked to change. Names ignore case.
    """

    __slots__ = ("_fields",)

    def __init__(self, section: bytes = b"") -> None:
        self._fields: list[bytes] = []
        for line in _lines(section):
            if line[:1] in (b" ", b"\t") and self._fields:
                self._fields[-1] += line
            else:
                self._fields.append(line)

    def __bytes__(self) -> bytes:
        return b"".join(self._fields)

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def raw(self, name: str) -> bytes | None:
        """The octets of the first field of that name, with its line ends."""
        found = self._find(name)
        return None if found is None else self._fields[found]

    def get(self, name: str) -> str | None:
        """The unfolded value of the first field of that name."""
        found = self._find(name)
        return None if found is None else _value(self._fields[found])

    def get_all(self, name: str) -> list[str]:
        """The unfolded values of every field of that name, in order."""
        return [_value(field) for field in self._fields if _named(field, name)]

    def decoded(self, name: str) -> str | None:
        """The first value with its encoded words decoded (RFC 2047), for a human."""
        value = self.get(name)
        return None if value is None else decode_words(value)

    def names(self) -> list[str]:
        """The field names, in order, as they are written."""
        return [
            field.partition(b":")[0].decode("ascii", "replace").rstrip()
            for field in self._fields
            if b":" in field
        ]

    def set(self, name: str, value: str) -> None:
        """Replace the first field of that name and remove the others; else append."""
        field = _field(name, value)
        found = self._find(name)
        if found is None:
            self._append(field)
            return
        self._fields[found] = field
        self._fields[found + 1 :] = [f for f in self._fields[found + 1 :] if not _named(f, name)]

    def add(self, name: str, value: str, *, first: bool = False) -> None:
        """Add a field at the end, or (trace fields) before all others."""
        if first:
            self._fields.insert(0, _field(name, value))
        else:
            self._append(_field(name, value))

    def remove(self, name: str) -> None:
        """Remove every field of that name."""
        self._fields = [field for field in self._fields if not _named(field, name)]

    def _append(self, field: bytes) -> None:
        if self._fields and not self._fields[-1].endswith(b"\n"):
            self._fields[-1] += b"\r\n"
        self._fields.append(field)

    def _find(self, name: str) -> int | None:
        for number, field in enumerate(self._fields):
            if _named(field, name):
                return number
        return None


def decode_words(value: str) -> str:
    """Decode encoded words (RFC 2047); what cannot be decoded stays as it is."""
    if "=?" not in value:
        return value
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value


def _lines(section: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in section.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def _named(field: bytes, name: str) -> bool:
    raw = name.encode("ascii")
    return field[: len(raw)].lower() == raw.lower() and field[len(raw) :].lstrip(b" \t")[:1] == b":"


def _value(field: bytes) -> str:
    value = field.partition(b":")[2]
    text = value.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t\r")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("ascii", "surrogateescape")


def _field(name: str, value: str) -> bytes:
    if not name or any(not "!" <= character <= "~" or character == ":" for character in name):
        raise ValueError(f"not a header field name: {name!r}")
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"CR, LF or NUL in the value of {name}")
    octets = value.encode("utf-8", "surrogateescape")
    if len(name) + 2 + len(octets) <= 78:
        return name.encode("ascii") + b": " + octets + b"\r\n"
    return _folded(name.encode("ascii") + b":", octets)


def _folded(line: bytes, value: bytes) -> bytes:
    """Fold before spaces at 78 octets where there is one (RFC 5322, 2.2.3)."""
    lines = []
    for word in value.split(b" "):
        if len(line) + 1 + len(word) > 78 and line.strip() and not line.endswith(b":"):
            lines.append(line)
            line = b""
        line += b" " + word
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"
