"""The options of an IMAP mailbox as a source."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.options import Flag, ListOf, Option, Size
from mailflow_imap.choice import FolderPattern, reads, special
from mailflow_imap.names import canonical
from mailflow_imap.settings import ImapOptions

FLAGS = {"seen": "\\Seen", "flag": "\\Flagged"}
"""`on_done` -> the flag that it sets."""


class OnDone(Option[str]):
    """delete, keep, seen, flag, or "move FOLDER"."""

    expected = '"delete", "keep", "seen", "flag" or "move FOLDER"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        if value in ("delete", "keep", *FLAGS):
            return str(value)
        if not isinstance(value, str) or not value.startswith("move "):
            raise self.reject()
        folder = value.removeprefix("move ").strip()
        if not folder or not folder.isprintable():
            raise ValueError(r'expected a folder, such as "move Done" or "move \\Archive"')
        special(folder)
        return f"move {canonical(folder)}"


class ImapSourceOptions(ImapOptions):
    """A mailbox on an IMAP server whose messages are fetched."""

    folders = ListOf(
        'The folders that are read: names, with "*" for any letters and "%" for any but those'
        r' that part folders, and what a folder is for, such as "\\Sent" or "\\Junk". What'
        ' stands after a "!" is left out.',
        FolderPattern("A folder's name, or a pattern."),
        default=("INBOX",),
    )
    on_done = OnDone(
        "What becomes of a message at the server once it is safe here and the time in `keep`,"
        ' which is "forever" by default, is over: delete, keep, seen, flag, or "move FOLDER",'
        r' such as "move Done" or "move \\Trash".',
        default="delete",
    )
    idle = Flag(
        "Whether `serve` keeps a connection, on which the server tells of new mail at once, where"
        " it can. With several folders it tells of the first; the others are asked for each"
        " minute.",
        default=True,
    )
    max_size = Size.optional("Messages with more octets stay on the server.")
    batch = Size(
        "So many octets of messages are asked for with one command, to which all that were"
        " settled meanwhile are deleted, moved or flagged.",
        default=1 << 20,
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if not any(not pattern.startswith("!") for pattern in self.folders):
            yield "folders", 'expected at least one folder to read, such as "INBOX"'
        target = self.target
        if target and reads(self.folders, target):
            yield "on_done", f"{target} is one of the folders that are read: it would come again"

    @property
    def target(self) -> str:
        """The folder to move to, "" where nothing is moved."""
        return self.on_done.removeprefix("move ") if self.on_done.startswith("move ") else ""
