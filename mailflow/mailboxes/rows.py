"""One message as a row: its fields are read and decoded when they are asked for.

Rule of the file: what a listing said costs nothing, the header a request where it was not
asked for at once, the body likewise; what was read is kept.
"""

from __future__ import annotations

from datetime import datetime

from mailflow.errors import BadMailError, GoneError, UnavailableError
from mailflow.mail import Header, decode_words, head
from mailflow.mail import read as whole
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.kinds import Found, Item, Mailbox
    from mailflow.mail import Content
    from mailflow.mailboxes.parts import Part

LISTED = ("id", "uid", "folder", "created", "size", "flags",
          "answered", "deleted", "draft", "flagged", "recent", "seen")  # fmt: skip
HEADED = ("sender", "from", "to", "cc", "bcc", "subject", "mime", "encoding")
BODIED = ("email", "content", "attachments")
NAMES = (*LISTED, *HEADED, *BODIED)
"""The fields of a row, by what has to be had for them."""

FLAGS = LISTED[6:]

_ADDRESSES = {"sender": "From", "from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc"}


def reach(names: tuple[str, ...]) -> str:
    """What must be had for these fields. Raises ValueError for one that is none."""
    for name in names:
        if name not in NAMES and not name.startswith("header "):
            from mailflow.values import instead

            hint = instead(name, NAMES)
            raise ValueError(f"there is no field {name!r}{hint}")
    if any(name in BODIED for name in names):
        return "body"
    return "listing" if all(name in LISTED for name in names) else "header"


class Row:
    """A message of a table.

    Fields are attributes, and `row["subject"]`, where `from` needs that. `id` names the
    message for good. `content` is a list of {"mime", "text"}, `attachments` one of {"mime",
    "filename", "encoding", "disposition", "payload"}, `email` all octets; `raw` is the
    Content, for messages too large for memory. Reading what was not asked for at once may
    raise GoneError, UnavailableError or PeerError; BadMailError for more than `most` octets.
    """

    def __init__(self, mailbox: Mailbox, folder: str, found: Found, got: str, most: float) -> None:
        self._mailbox = mailbox
        self._item = found.item
        self._folder = folder
        self._header: Header | None = None
        self._raw: Content | None = None
        self._parts: tuple[list[Part], list[Part]] | None = None
        self._most = most
        if found.content is not None:
            self._take(found.content, got)

    def _take(self, content: Content, got: str) -> None:
        if got == "body":
            self._raw = content
        self._header = Header(head(content))

    def _read(self, got: str) -> Content:
        """What was not asked for at once."""
        name = f"message {self._item.uid} of {self._folder}"
        for found in self._mailbox.select(self._folder, [self._item.key], reach=got):
            if found.content is None:
                raise UnavailableError(f"{name} is there, and the server does not give it")
            self._take(found.content, got)
            return found.content
        raise GoneError(f"{name} is not there any more")

    @property
    def item(self) -> Item:
        """What the listing said."""
        return self._item

    @property
    def id(self) -> str:
        return self._item.key

    @property
    def uid(self) -> int | None:
        return self._item.uid

    @property
    def folder(self) -> str:
        return self._folder

    @property
    def size(self) -> int | None:
        """Octets, as the server says."""
        return self._item.size

    @property
    def created(self) -> datetime | None:
        """When it arrived, in local time."""
        date = self._item.date
        return None if date is None else datetime.fromtimestamp(date).astimezone()

    @property
    def flags(self) -> list[str]:
        """All that are set, as the server writes them, sorted."""
        return sorted(self._item.flags or ())

    def _flag(self, name: str) -> bool:
        return f"\\{name}" in {flag.lower() for flag in self._item.flags or ()}

    @property
    def header(self) -> Header:
        """The header section; `decoded(name)` gives a field of it."""
        return self._header or Header(head(self._read("header")))

    @property
    def subject(self) -> str:
        return self.header.decoded("Subject") or ""

    @property
    def mime(self) -> str:
        """The type of the whole, such as "multipart/mixed"."""
        return str(self._typed().get_content_type())

    @property
    def encoding(self) -> str:
        """The charset of the whole, "" where none is said."""
        return str(self._typed().get_content_charset() or "")

    def _typed(self) -> Any:
        from email.message import Message

        from mailflow.mime import BOUNDED

        typed = Message(policy=BOUNDED)
        value = self.header.get("Content-Type")
        if value is not None:
            typed["Content-Type"] = value.encode("ascii", "replace").decode()
        return typed

    @property
    def raw(self) -> Content:
        return self._read("body") if self._raw is None else self._raw

    @property
    def email(self) -> bytes:
        size = self.size or 0
        if size <= self._most:
            size = self.raw.size
        if size > self._most:
            raise BadMailError(
                f"message {self.uid} of {self._folder} has {size} octets, more than are taken"
                " into memory; `raw` reads it in pieces"
            )
        return whole(self.raw)

    @property
    def content(self) -> list[Part]:
        return self._split()[0]

    @property
    def attachments(self) -> list[Part]:
        return self._split()[1]

    def _split(self) -> tuple[list[Part], list[Part]]:
        if self._parts is None:
            from mailflow.mailboxes.parts import split

            self._parts = split(self.email)
        return self._parts

    def __getitem__(self, name: str) -> Any:
        if name.startswith("header "):
            return self.header.decoded(name.partition(" ")[2]) or ""
        if name in FLAGS:
            return self._flag(name)
        if name in _ADDRESSES:
            values = self.header.get_all(_ADDRESSES[name])
            return ", ".join(decode_words(value) for value in values)
        if name not in NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        if name in FLAGS or name in _ADDRESSES:
            return self[name]
        raise AttributeError(f"a row has no field {name!r}")

    def as_dict(self, *names: str) -> dict[str, Any]:
        """These fields by name; by default all that need no body."""
        return {name: self[name] for name in names or LISTED + HEADED}

    def update(self, **flags: bool) -> int:
        """Set flags of this message (`seen=True`) or remove them; 0 where it is gone."""
        return self._mailbox.update(self._folder, [self.id], flags)

    def delete(self) -> int:
        """Remove this message for good; 0 where it is gone."""
        return self._mailbox.delete(self._folder, [self.id])

    def __repr__(self) -> str:
        return f"<message {self.uid} of {self._folder}>"
