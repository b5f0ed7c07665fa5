"""The mail of a test's users, as Maildirs with folders (Maildir++) that a server of ours reads.

Rule of the file: what is put in lies there as a delivery agent would have left it, octet for
octet, and belongs to whom the server becomes to read it.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable


class Maildirs:
    """Made in the directory `home`; as root it belongs to nobody, else to who makes it."""

    def __init__(self, home: str | os.PathLike[str]) -> None:
        self._home = os.path.abspath(home)
        self._delivered = 0
        self._root = os.getuid() == 0
        nobody = pwd.getpwnam("nobody")
        self.owner = (nobody.pw_uid, nobody.pw_gid) if self._root else (os.getuid(), os.getgid())

    def add(self, user: str) -> str:
        """A mailbox, whose home is given."""
        inbox = self.path(user)
        for folder in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(inbox, folder), exist_ok=True)
        self._own(os.path.dirname(inbox))
        return os.path.dirname(inbox)

    def path(self, user: str, folder: str = "INBOX") -> str:
        """Where the mail of `user` lies."""
        inbox = os.path.join(self._home, user, "Maildir")
        if folder == "INBOX":
            return inbox
        return os.path.join(inbox, "." + folder_name(folder).replace("/", "."))

    def deliver(self, user: str, messages: Iterable[bytes], *, folder: str = "INBOX") -> None:
        """Put messages into a folder, in this order, unflushed: thousands a second.

        The folder is made if it is not there; "/" parts it from the one above. Names hold
        sizes (S, W), so that a server opens no file to list them.
        """
        if not os.path.isdir(self.path(user, folder)):
            self.create(user, folder)
        new = os.path.join(self.path(user, folder), "new")
        for data in messages:
            self._delivered += 1
            lines = data.count(b"\n") - data.count(b"\r\n")
            stamp = f"{1700000000 + self._delivered}.M{self._delivered:06d}P{os.getpid()}"
            name = f"{stamp}.test,S={len(data)},W={len(data) + lines}"
            with open(os.path.join(new, name), "wb") as file:
                file.write(data)
                if self._root:
                    os.fchown(file.fileno(), *self.owner)

    def messages(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """What is in a folder now, oldest first, as it lies on the disk."""
        messages = []
        for path in self.files(user, folder):
            with open(path, "rb") as file:
                messages.append(file.read())
        return messages

    def files(self, user: str, folder: str = "INBOX") -> list[str]:
        """The paths of what is in a folder now, oldest first."""
        found = []
        for part in ("new", "cur"):
            path = os.path.join(self.path(user, folder), part)
            names = os.listdir(path) if os.path.isdir(path) else ()
            found += [(name, os.path.join(path, name)) for name in names]
        return [path for _, path in sorted(found)]

    def create(self, user: str, folder: str) -> None:
        """A folder, as the server itself would make it."""
        path = self.path(user, folder)
        for name in ("tmp", "new", "cur"):
            os.makedirs(os.path.join(path, name))
        with open(os.path.join(path, "maildirfolder"), "w"):
            pass
        self._own(path)

    def _own(self, path: str) -> None:
        if self._root:
            for place, _, files in os.walk(path):
                for each in (place, *(os.path.join(place, name) for name in files)):
                    os.chown(each, *self.owner)


def folder_name(folder: str) -> str:
    """The modified UTF-7 that a folder's name is written in (RFC 3501, 5.1.3)."""
    from imapclient.imap_utf7 import encode

    return bytes(encode(folder)).decode("ascii")
