"""The folders and messages of the small IMAP server, and what its commands say of them.

Rule of the file: it is plain and complete in what it knows, so that a fault is never here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

from mailflow.lines import to_crlf

FLAG_KEYS = {"ANSWERED": "\\Answered", "DELETED": "\\Deleted", "DRAFT": "\\Draft",
             "FLAGGED": "\\Flagged", "SEEN": "\\Seen"}  # fmt: skip

HEADER_KEYS = ("BCC", "CC", "FROM", "SUBJECT", "TO")

DATE = 1_700_000_000.0
"""INTERNALDATE of the first message; each has a second more."""

_WORD = re.compile(
    rb'"((?:[^"\\\r\n]|\\.)*)"|\{(\d+)\+?\}\r\n|([^\s()"{]*\[[^\]]*\](?:<[\d.]+>)?|[^\s()"{]+)'
)


class Message:
    """One message; `data` has CRLF lines."""

    def __init__(self, uid: int, data: bytes, flags: Iterable[str], date: float) -> None:
        self.uid = uid
        self.data = data
        self.flags = set(flags)
        self.date = date

    @property
    def head(self) -> bytes:
        """The header section with its blank line."""
        head, blank, _ = self.data.partition(b"\r\n\r\n")
        return head + blank

    def values(self, name: str) -> bytes:
        """The values of a header field, in lower case."""
        found = re.findall(rb"(?im)^%b:(.*(?:\r\n[ \t].*)*)" % re.escape(name.encode()), self.head)
        return b"\n".join(found).lower()

    def change(self, item: bytes, flags: Iterable[str]) -> None:
        """STORE: +FLAGS, -FLAGS or FLAGS."""
        given = set(flags)
        if item.startswith(b"+"):
            self.flags |= given
        elif item.startswith(b"-"):
            self.flags -= given
        else:
            self.flags = given


class Folder:
    """Messages in the order of their UIDs. `attributes` are such as "\\Sent"."""

    def __init__(self, name: str, attributes: Sequence[str] = ()) -> None:
        from imapclient.imap_utf7 import encode

        self.name = name
        self.wire_name: str = encode(name).decode("ascii")
        self.attributes = list(attributes)
        self.uid_validity = 1_000_000
        self.uid_next = 1
        self.messages: list[Message] = []

    @classmethod
    def of_wire(cls, name: str) -> Folder:
        from imapclient.imap_utf7 import decode

        return cls(decode(name.encode()))

    def add(self, data: bytes, flags: Iterable[str] = (), date: float | None = None) -> int:
        """Its UID."""
        uid = self.uid_next
        self.uid_next += 1
        self.messages.append(
            Message(uid, to_crlf(data), flags, DATE + uid if date is None else date)
        )
        return uid

    def remove(self, uid: int) -> None:
        """As if somebody else had."""
        self.messages = [message for message in self.messages if message.uid != uid]

    def renumber(self) -> None:
        """Another UIDVALIDITY, and other UIDs."""
        self.uid_validity += 1
        self.messages = [
            Message(uid, each.data, each.flags, each.date)
            for uid, each in enumerate(self.messages, 1)
        ]
        self.uid_next = len(self.messages) + 1


def words_of(argument: bytes) -> list[object]:
    """The words of a command: octets, and lists for what is in parentheses. Raises ValueError."""
    stack: list[list[object]] = [[]]
    at = 0
    while at < len(argument):
        octet = argument[at : at + 1]
        if octet == b" ":
            at += 1
        elif octet == b"(":
            stack.append([])
            at += 1
        elif octet == b")":
            inner = stack.pop()
            stack[-1].append(inner)
            at += 1
        else:
            found = _WORD.match(argument, at)
            if not found:
                raise ValueError("no word")
            at = found.end()
            if found[2] is not None:
                word = argument[at : at + int(found[2])]
                at += len(word)
            elif found[1] is not None:
                word = re.sub(rb"\\(.)", rb"\1", found[1])
            else:
                word = found[3]
            stack[-1].append(word)
    if len(stack) != 1:
        raise ValueError("a parenthesis is not closed")
    return stack[0]


def members(uids: bytes, highest: int) -> list[range]:
    """The ranges of a set; "*" is the highest UID there is. Raises ValueError."""
    found = []
    for part in uids.decode("ascii").split(","):
        first, _, last = part.partition(":")
        ends = [highest if end == "*" else int(end) for end in (first, last or first)]
        found.append(range(min(ends), max(ends) + 1))
    return found


def items_of(message: Message, wanted: Iterable[object], read_only: bool) -> bytes:
    """What stands in the parentheses of a FETCH response. Raises ValueError."""
    items = [b"UID %d" % message.uid]
    for each in wanted:
        name = each.upper() if isinstance(each, bytes) else b""
        if name == b"UID":
            continue
        if name == b"RFC822.SIZE":
            items.append(b"RFC822.SIZE %d" % len(message.data))
        elif name == b"FLAGS":
            items.append(b"FLAGS (%b)" % " ".join(sorted(message.flags)).encode())
        elif name == b"INTERNALDATE":
            items.append(b'INTERNALDATE "%b"' % _date(message.date))
        elif name.startswith((b"BODY[", b"BODY.PEEK[")):
            if name.startswith(b"BODY[") and not read_only:
                message.flags.add("\\Seen")
            items.append(_body(message, name))
        else:
            raise ValueError(f"unknown item {name!r}")
    return b" ".join(items)


def _body(message: Message, name: bytes) -> bytes:
    found = re.fullmatch(rb"BODY(?:\.PEEK)?\[([^\]]*)\](?:<(\d+)\.(\d+)>)?", name)
    if not found:
        raise ValueError("no section")
    section = found[1]
    if section == b"":
        data = message.data
    elif section == b"HEADER":
        data = message.head
    elif section == b"TEXT":
        data = message.data[len(message.head) :]
    elif section.startswith(b"HEADER.FIELDS "):
        names = re.findall(rb"[^\s()]+", section[14:])
        lines = re.findall(
            rb"(?im)^(?:%b):.*\r\n(?:[ \t].*\r\n)*" % b"|".join(map(re.escape, names)), message.head
        )
        data = b"".join(lines) + b"\r\n"
    else:
        raise ValueError("unknown section")
    origin = b""
    if found[2] is not None:
        start = int(found[2])
        data, origin = data[start : start + int(found[3])], b"<%d>" % start
    return b"BODY[%b]%b {%d}\r\n" % (section, origin, len(data)) + data


def _date(seconds: float) -> bytes:
    return time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(seconds)).encode()


def matches(keys: list[object], message: Message, highest: int) -> bool:
    """Whether a message is what a SEARCH asks for: all `keys`. Raises ValueError."""
    found = True
    while keys:
        found = _key(keys, message, highest) and found
    return found


def _key(keys: list[object], message: Message, highest: int) -> bool:
    """One key with its arguments, taken from the front of `keys`."""
    key = keys.pop(0)
    if isinstance(key, list):
        return matches(list(key), message, highest)
    assert isinstance(key, bytes)
    word = key.decode("ascii").upper()
    if word == "ALL":
        return True
    if word == "NOT":
        return not _key(keys, message, highest)
    if word == "OR":
        first = _key(keys, message, highest)
        return _key(keys, message, highest) or first
    if word.removeprefix("UN") in FLAG_KEYS:
        return (FLAG_KEYS[word.removeprefix("UN")] in message.flags) is not word.startswith("UN")
    value = keys.pop(0)
    assert isinstance(value, bytes)
    if word == "UID":
        return any(message.uid in each for each in members(value, highest))
    if word in HEADER_KEYS:
        return value.lower() in message.values(word)
    if word == "HEADER":
        text = keys.pop(0)
        assert isinstance(text, bytes)
        return text.lower() in message.values(value.decode())
    if word in ("TEXT", "BODY"):
        text = message.data if word == "TEXT" else message.data[len(message.head) :]
        return value.lower() in text.lower()
    if word in ("LARGER", "SMALLER"):
        size = len(message.data)
        return size > int(value) if word == "LARGER" else size < int(value)
    raise ValueError(f"unknown key {word}")
