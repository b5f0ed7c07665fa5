"""The text and the files of a mail, as the form of a webmail can take them: one text, files.

Rule of the file: whatever a form would change unseen is named as lost, or refused; nothing is
dropped, decoded with replacements or made up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from mailflow.errors import BadMailError
from mailflow.mail import codec_of, decode_words

if TYPE_CHECKING:
    from email.message import Message

LINE = 998
"""Octets that a line of a mail may have (RFC 5322, 2.1.1); forms do not break lines."""

DEPTH = 20
PARTS = 1000

_CONTROLS = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_BAD_NAME = re.compile('[\x00-\x1f\x7f"/\\\\\ufffd]')
_SEALED = ("multipart/signed", "multipart/encrypted", "application/pkcs7-mime",
           "application/x-pkcs7-mime")  # fmt: skip


class File(NamedTuple):
    """What is attached: its name is one that forms take, `type` what the mail says it is."""

    name: str
    type: str
    octets: bytes


class Body(NamedTuple):
    """What is written in the form. `lost` are the kinds of what it cannot say, with words."""

    text: str
    files: tuple[File, ...] = ()
    lost: tuple[tuple[str, str], ...] = ()


def body(octets: bytes) -> Body:
    """Raises BadMailError where that would be another mail, whatever may be lost."""
    from mailflow.mime import parsed

    try:
        return _Reader(parsed(octets)).body()
    except BadMailError:
        raise
    except Exception as error:  # noqa: BLE001  # hostile MIME makes the parser raise what it likes
        raise BadMailError(f"its MIME cannot be read: {type(error).__name__}") from None


class _Reader:
    """Walks the parts once, in order."""

    def __init__(self, root: Message) -> None:
        self._root = root
        self._text: str | None = None
        self._files: list[File] = []
        self._lost: dict[str, str] = {}
        self._parts = 0

    def body(self) -> Body:
        self._take(self._root, 0)
        return Body(self._text or "", tuple(self._files), tuple(self._lost.items()))

    def _take(self, part: Message, depth: int) -> None:
        self._parts += 1
        kind = part.get_content_type()
        if kind in _SEALED:
            raise BadMailError(f"it is signed or encrypted ({kind}), and a form would break that")
        if kind.startswith("message/"):
            raise BadMailError(f"a mail lies within it ({kind}), which no form takes as it is")
        if depth > DEPTH or self._parts > PARTS:
            raise BadMailError("its MIME has too many parts")
        if kind.startswith("multipart/"):
            self._take_parts(part, kind, depth)
        elif _is_text(part) and self._text is None and not self._files:
            self._text = _text(part)
        elif kind == "text/html" and not _is_attached(part) and self._text is None:
            raise BadMailError("it is written in HTML without a plain text")
        else:
            self._take_file(part)

    def _take_parts(self, part: Message, kind: str, depth: int) -> None:
        parts: Any = part.get_payload()
        if not isinstance(parts, list) or not parts or part.defects:
            raise BadMailError(f"its MIME is broken: {kind}")
        if kind == "multipart/alternative":
            plain = [each for each in parts if _is_text(each)]
            if not plain:
                raise BadMailError("it is written in HTML without a plain text")
            self._take(plain[0], depth + 1)
            if len(parts) > 1:
                others = ", ".join(each.get_content_type() for each in parts if each != plain[0])
                self._lost.setdefault("html", f"what stands beside its plain text ({others})")
            return
        if kind not in ("multipart/mixed", "multipart/related"):
            raise BadMailError(f"no form makes a {kind}")
        for each in parts:
            self._take(each, depth + 1)

    def _take_file(self, part: Message) -> None:
        if not _is_attached(part):
            self._lost.setdefault("inline", "that a part is shown among the text, and no file")
        octets = part.get_payload(decode=True)
        if not isinstance(octets, bytes) or part.defects:
            raise BadMailError("the encoding of an attachment is broken")
        kind = part.get_content_type()
        name = decode_words(part.get_filename() or "") or _made_up(len(self._files) + 1, kind)
        if _BAD_NAME.search(name) or name in (".", ".."):
            raise BadMailError(f"no form takes a file of the name {name[:80]!a}")
        if not octets:
            raise BadMailError(f"the file {name[:80]!a} is empty, and forms take that for none")
        self._files.append(File(name, kind, octets))


def _is_text(part: Message) -> bool:
    return part.get_content_type() == "text/plain" and not _is_attached(part)


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _made_up(number: int, kind: str) -> str:
    """A name for a file that has none: a form asks for one."""
    from mimetypes import guess_extension

    return f"part-{number}{guess_extension(kind) or '.bin'}"


def _text(part: Message) -> str:
    """As its charset says. Raises BadMailError where a form would make another text of it."""
    octets = part.get_payload(decode=True)
    if not isinstance(octets, bytes) or part.defects:
        raise BadMailError("the encoding of its text is broken")
    charset = str(part.get_content_charset() or "utf-8")
    try:
        text = octets.decode("utf-8" if charset == "us-ascii" else codec_of(charset) or "undefined")
        longest = max(len(line.rstrip(b"\r")) for line in text.encode().split(b"\n"))
    except (LookupError, ValueError):
        raise BadMailError(f"its text cannot be decoded as {charset[:40]!a}") from None
    text = re.sub("(?<!\r)\n", "\r\n", text)
    if _CONTROLS.search(text):
        raise BadMailError("its text has control characters, which no form takes")
    if longest > LINE:
        raise BadMailError(f"its text has a line of {longest} octets; mail has {LINE} at most")
    return text
