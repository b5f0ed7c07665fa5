"""Content, Envelope, Mail, and header edits that leave every other octet alone.

Rule of the file: a message is octets. Nothing here parses MIME or writes a
message anew; an edit replaces header lines and shares the body.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping

from mailflow.record import NamedTuple
from mailflow.typed import Any, BinaryIO, Protocol

HEADER_LIMIT = 1 << 20
"""A header section is looked for in this many octets; what follows is body."""

CHUNK = 1 << 18


class Content(Protocol):
    """The octets of one message: CRLF lines, immutable, readable many times."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO:
        """A fresh, seekable reader at octet 0; the caller closes it."""
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
    """Content made of a new header section and another content's body.

    `head` stands before the octets of `base` from `offset` on; the blank line is in
    whichever of the two had it.
    """

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
        self._offset = content.offset
        self._size = content.size
        self._at = 0
        self._base = content.base.open()
        self._base.seek(self._offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data: bytes | memoryview
        if self._at < len(self._head):
            data = self._head[self._at : self._at + len(buffer)]
        else:
            data = self._base.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        self._base.seek(self._offset + max(0, self._at - len(self._head)))
        return self._at

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
    if isinstance(content, Octets) and 0 < len(content.data) <= size:
        yield content.data
        return
    with content.open() as reader:
        while piece := reader.read(size):
            yield piece


def head(content: Content) -> bytes:
    """The header section with the CRLF of its last field, without the blank line.

    It ends before the first line that is no field, as a relay would see it. Looked
    for in HEADER_LIMIT octets: of a longer section (see `is_cut`) only its whole
    fields within that limit count.
    """
    if isinstance(content, Spliced):
        return content.head[: _end_of_fields(content.head)]
    section = _peek(content, 0, HEADER_LIMIT)
    return section[: _end_of_fields(section, whole=content.size <= HEADER_LIMIT)]


class _Pattern:
    """A pattern that is compiled at its first use: a hook may need none of them."""

    def __init__(self, text: bytes | str) -> None:
        self._text = text

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = getattr(re.compile(self._text), name)
        return found


def is_cut(content: Content) -> bool:
    """Whether fields go on behind those that `head` gives: there are too many octets."""
    if content.size <= HEADER_LIMIT:
        return False
    return _FIELD_BEGINS.match(_peek(content, len(head(content)), _NAME_LIMIT)) is not None


_NAME_LIMIT = 1024  # octets: no field name is longer, where a section was cut
_FIELD_BEGINS = _Pattern(rb"[!-9;-~]++[ \t]*:")
_MBOX_BEGINS = _Pattern(rb"(?:>?From (?![ \t]*:)[^\n]*\n(?=[!-9;-~]++[ \t]*:))?")
_FIELDS_END = _Pattern(rb"\n(?![ \t]|[!-9;-~]++[ \t]*:)")
_UNENDED = _Pattern(rb"(?:[!-9;-~]++[ \t]*:|[ \t])[^\n]*\Z")
_ONE_FIELD = _Pattern(rb"[^\n]+\n?(?:[ \t][^\n]*\n?)*+")
_MBOX_LINE = _Pattern(rb">?From (?![ \t]*:)")
_FOLD = (b" ", b"\t")


def _end_of_fields(section: bytes, *, whole: bool = True) -> int:
    """Where the fields end that `section` begins with; more of it follows if not `whole`."""
    end = _end_of_lines(section)
    if whole:
        unended = _UNENDED.match(section, end) and (end or section[:1] not in _FOLD)
        return len(section) if unended else end
    rest = section[end:]
    if b"\n" in rest or (rest and rest[:1] not in _FOLD):
        return end
    return _last_field(section, end)  # which may go on behind the limit


def _end_of_lines(section: bytes) -> int:
    """Where the lines end that are fields, the line an mbox begins with among them.

    A search and not one large match: possessive groups would do, but Python 3.11.2
    (Debian 12) does not go back where one fails half-way, and others take memory for
    every field.
    """
    start: int = _MBOX_BEGINS.match(section).end()
    if not _FIELD_BEGINS.match(section, start):
        return start
    found = _FIELDS_END.search(section, start)
    end: int = found.end() if found else section.rfind(b"\n") + 1
    return end


def _last_field(section: bytes, end: int) -> int:
    """Where the last of the fields before `end` begins."""
    while (newline := section.rfind(b"\n", 0, max(0, end - 1))) >= 0:
        end = newline + 1
        if section[end : end + 1] not in _FOLD:
            return end
    return 0


def _peek(content: Content, offset: int, size: int) -> bytes:
    if isinstance(content, Octets):
        return content.data[offset : offset + size]
    with content.open() as reader:
        reader.seek(offset)
        return reader.read(size)


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
        base, old, section = self.content, head(self.content), bytes(header)
        if section == old:
            return self
        offset, tail = len(old), b""
        if isinstance(base, Spliced):
            tail = base.head[offset:]
            offset, base = base.offset, base.base
        if section and not section.endswith(b"\n"):
            section += b"\r\n"
        section += tail or _blank_line(base, offset)
        return self._replace(content=Spliced(section, base, offset))


def _blank_line(base: Content, offset: int) -> bytes:
    """What must stand between fields and what follows them: nothing if that is a
    blank line already, or more fields (of a section that was cut)."""
    follows = _peek(base, offset, _NAME_LIMIT)
    if not follows or follows.startswith((b"\r\n", b"\n")) or _FIELD_BEGINS.match(follows):
        return b""
    return b"\r\n"


class Header:
    """A header section as raw fields (RFC 5322, 2.2), each with its line ends.

    Reading gives unfolded text; octets outside ASCII are read as UTF-8, else as
    surrogate escapes. Writing refuses CR, LF and NUL in a value (ValueError), and
    never touches a field it was not asked to change. Names ignore case. What is
    behind the fields of `section` is left out; an mbox "From " line stays first.
    """

    __slots__ = ("_fields", "_names")

    def __init__(self, section: bytes = b"") -> None:
        self._fields: list[bytes] = _ONE_FIELD.findall(section, 0, _end_of_fields(section))
        self._names = [field.partition(b":")[0].rstrip().lower() for field in self._fields]
        if self._fields and _MBOX_LINE.match(self._fields[0]):
            self._names[0] = b""

    def __bytes__(self) -> bytes:
        return b"".join(self._fields)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._names

    def raw(self, name: str) -> bytes | None:
        """The octets of the first field of that name, with its line ends."""
        key = _key(name)
        return self._fields[self._names.index(key)] if key in self._names else None

    def get(self, name: str) -> str | None:
        """The unfolded value of the first field of that name."""
        field = self.raw(name)
        return None if field is None else _value(field)

    def get_all(self, name: str) -> list[str]:
        """The unfolded values of every field of that name, in order."""
        key = _key(name)
        if key not in self._names:
            return []
        named = zip(self._names, self._fields, strict=True)
        return [_value(field) for each, field in named if each == key]

    def decoded(self, name: str) -> str | None:
        """The first value with its encoded words decoded once (RFC 2047), for a human.

        It can always be encoded again. It may hold control characters: no field,
        file name or command is to be made of it unseen.
        """
        value = self.get(name)
        return None if value is None else decode_words(value)

    def names(self) -> list[str]:
        """The field names, in order, as they are written."""
        return [
            field.partition(b":")[0].decode("ascii").rstrip()
            for key, field in zip(self._names, self._fields, strict=True)
            if key
        ]

    def set(self, name: str, value: str) -> None:
        """Replace the first field of that name and remove the others; else append."""
        field, key = _field(name, value), _key(name)
        if key not in self._names:
            self._append(key, field)
            return
        first = self._names.index(key)
        self._fields[first] = field
        self._keep(lambda number: number == first or self._names[number] != key)

    def add(self, name: str, value: str, *, first: bool = False) -> None:
        """Add a field at the end, or (trace fields) before all others."""
        field, key = _field(name, value), _key(name)
        if first:
            place = 1 if self._names[:1] == [b""] else 0
            self._fields.insert(place, field)
            self._names.insert(place, key)
        else:
            self._append(key, field)

    def remove(self, name: str) -> None:
        """Remove every field of that name."""
        key = _key(name)
        if key in self._names:
            self._keep(lambda number: self._names[number] != key)

    def rename(self, name: str, new: str) -> None:
        """Give every field of that name another; their values stay octet for octet."""
        key = _key(name)
        written = _field(new, "").partition(b":")[0]
        for number, each in enumerate(self._names):
            if each == key:
                value = self._fields[number].partition(b":")[2]
                self._fields[number] = written + b":" + value
                self._names[number] = _key(new)

    def prepend(self, name: str, text: str) -> None:
        """Put `text` before the value of the first field of that name, if there is one;
        the value stays octet for octet."""
        key = _key(name)
        if key not in self._names:
            return
        number = self._names.index(key)
        written, _, value = self._fields[number].partition(b":")
        value = value.lstrip(b" \t")
        begun = _field(written.decode("ascii").rstrip(), text).rstrip(b"\r\n")
        last = len(begun) - begun.rfind(b"\n") - 1
        long = last + 1 + len(value.partition(b"\n")[0]) > 78
        between = b"" if value[:1] in (b"", b"\r", b"\n") else b"\r\n " if long else b" "
        self._fields[number] = begun + between + value

    def remove_mbox_line(self) -> None:
        """Remove the "From " line, which is no field and does not travel by SMTP."""
        self._keep(lambda number: bool(self._names[number]))

    def _append(self, key: bytes, field: bytes) -> None:
        if self._fields and not self._fields[-1].endswith(b"\n"):
            self._fields[-1] += b"\r\n"
        self._fields.append(field)
        self._names.append(key)

    def _keep(self, wanted: Callable[[int], bool]) -> None:
        kept = [number for number in range(len(self._names)) if wanted(number)]
        self._fields = [self._fields[number] for number in kept]
        self._names = [self._names[number] for number in kept]


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass").lower()


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
    octets = value.encode("utf-8", "surrogateescape").strip(b" \t")
    if len(name) + 2 + len(octets) <= 78:
        return name.encode("ascii") + b": " + octets + b"\r\n"
    return _folded(name.encode("ascii") + b":", octets)


def _folded(line: bytes, value: bytes) -> bytes:
    """Fold before spaces at 78 octets where there is one (RFC 5322, 2.2.3)."""
    lines = []
    for number, word in enumerate(value.split(b" ")):
        if number and len(line) + 1 + len(word) > 78 and line.strip():
            lines.append(line)
            line = b""
        line += b" " + word
    lines.append(line)
    return b"\r\n".join(lines) + b"\r\n"


def decode_words(value: str) -> str:
    """Decode encoded words (RFC 2047) once; what cannot be decoded stays as it is.

    Octets that are no text become U+FFFD. Not by email.header, which gives up a
    whole value for one bad word, takes quadratic time, and would be imported for
    every message of the hook.
    """
    if "=?" not in value:
        return _encodable(value)
    parts: list[str] = []
    codec, octets, end = "", b"", 0
    for word in _WORD.finditer(value):
        found, decoded = codec_of(word[1]), _word_octets(word[2], word[3])
        if not found or decoded is None:
            continue
        gap = value[end : word.start()]
        joined = bool(codec) and not gap.strip(" \t\r\n")  # the space between two words goes
        if not (joined and found == codec):
            parts += [octets.decode(codec or "ascii", "replace"), "" if joined else gap]
            octets = b""
        octets += decoded
        codec, end = found, word.end()
    parts += [octets.decode(codec or "ascii", "replace"), value[end:]]
    return _encodable("".join(parts))


_WORD = _Pattern(r"=\?([^?\s]+)\?([bBqQ])\?([^?\r\n]*)\?=")

_NO_CHARSETS = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape")
"""Python's codecs that are no charset, and slow or dangerous on foreign octets."""


def _encodable(text: str) -> str:
    """`text` with U+FFFD for what was no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)
    return text


def codec_of(charset: str) -> str:
    """Python's name for a charset (RFC 2231: with a language behind "*"), or ""."""
    import codecs

    try:
        name = codecs.lookup(charset.partition("*")[0]).name
        b"a".decode(name, "replace")
    except (LookupError, ValueError):  # not known, or no text encoding
        return ""
    return "" if name.replace("-", "_") in _NO_CHARSETS else name


def _word_octets(encoding: str, text: str) -> bytes | None:
    import binascii

    try:
        raw = text.encode("ascii")
        if encoding in "qQ":
            return binascii.a2b_qp(raw, header=True)
        return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))
    except ValueError:  # binascii.Error and UnicodeError are such
        return None
