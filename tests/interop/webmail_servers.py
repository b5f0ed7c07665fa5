"""An account on a real webmail, a pipeline that reads it, and what lies in the Maildir behind it.

Rule of the file: what the webmail has is read from the disk, never through the webmail.
"""

from __future__ import annotations

import email
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mailflow.halt import Halt
from mailflow.lines import to_crlf
from mailflow.testing.maildirs import Maildirs, folder_name
from mailflow.testing.roundcube import Roundcube
from mailflow.testing.sqwebmail import SqWebMail

from .fetching import Fetching

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Session

PASSWORD = "canary-5e11 & sécret"

HOSTILE = (
    "session_error(1)", "this.session_error(1)", "x\u2028this.session_error(1)",
    'this.display_message("x","error"', '","error"', "You must be logged in",
    "Too many failed login attempts", "Connection to storage server failed.",
    "Login failed.", "REQUEST CHECK FAILED", "Invalid request!",
    'this.add_message_row(1,{"subject":"x"},{},false);', "</script><script>alert(1)</script>",
    '<form><input name="_user"><input type="password" name="_pass"></form>',
    "<title>Sqwebmail. Expired Login.</title>", "No messages...", "Shown: 1 - 1 of 1",
    "429 Too Many Requests", "{user} {password} {0}",
)  # fmt: skip
"""Subjects that look like what a webmail itself would say."""

FOLDERS = (
    "a b", "c+d", "100%", 'x"y', "it's", "ü&amp;#x26;", "日本", "Archive/2024", "q?x=1&y=2",
    "INBOXish", "back\\slash", "semi;colon", "<b>", " lead", "trail ", "[x]", "Deep/er/still",
)  # fmt: skip
"""Names of folders that somebody has."""

Server = Roundcube | SqWebMail


def with_lf(octets: bytes) -> bytes:
    """A message as a Maildir has it that mailflow has put it into."""
    return to_crlf(octets).replace(b"\r\n", b"\n")


def message(subject: str, body: bytes = b"hello\r\n", *fields: str) -> bytes:
    head = ["From: ben@example.com", f"Subject: {subject}", f"Message-ID: <{subject}@example.com>"]
    return "".join(f"{line}\r\n" for line in (*head, *fields)).encode() + b"\r\n" + body


class WebAccount(Fetching):
    """A new user of `server`, and a pipeline from there to a Maildir in `home`."""

    site: str
    prefix = ""
    """What a folder's name begins with there."""

    def __init__(self, server: Server, mail: Maildirs, home: Path) -> None:
        self.server = server
        self.mail = mail
        self.home = home
        self.url = server.url
        self.user = f"u{os.urandom(6).hex()}"

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        self.mail.deliver(self.user, messages, folder=folder)

    def folder(self, name: str) -> str:
        """How a folder is called there."""
        name = folder_name(name).replace("/", ".")
        return name if name == "INBOX" else f"{self.prefix}{name}"

    def there(self, folder: str = "INBOX") -> list[bytes]:
        """The messages in a folder there, not marked as deleted, as our Maildir has them."""
        files = self.mail.files(self.user, folder)
        return [with_lf(Path(path).read_bytes()) for path in files if "T" not in flags_of(path)]

    def flags(self, folder: str = "INBOX") -> list[str]:
        """The flags of each message, oldest first."""
        return [flags_of(path) for path in self.mail.files(self.user, folder)]

    def remove(self, subject: str, folder: str = "INBOX") -> None:
        """Another mail program deletes a message."""
        os.unlink(self._file(subject, folder))

    def mark(self, subject: str, flag: str, folder: str = "INBOX") -> None:
        """Another mail program sets a flag."""
        path = self._file(subject, folder)
        name = os.path.basename(path).partition(":")[0]
        os.rename(path, os.path.join(self.mail.path(self.user, folder), "cur", f"{name}:2,{flag}"))

    def _file(self, subject: str, folder: str) -> str:
        for path in self.mail.files(self.user, folder):
            if email.message_from_bytes(Path(path).read_bytes())["Subject"] == subject:
                return path
        raise LookupError(subject)

    def source(self, **options: object) -> dict[str, object]:
        """A [[fetch]] of this account; None takes an option away."""
        given = {
            "use": "webmail", "site": self.site, "url": self.url, "user": self.user,
            "password": PASSWORD, "timeout": "20s", **options,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    @contextmanager
    def session(self, **options: object) -> Iterator[Session]:
        """A session of this user, without a pipeline."""
        from mailflow_webmail.account.session import opened
        from mailflow_webmail.settings import WebmailOptions

        given = {key: value for key, value in self.source(**options).items() if key != "use"}
        session = opened(WebmailOptions.read(given), Halt(), str(self.home))
        try:
            yield session
        finally:
            session.close()


class RoundcubeAccount(WebAccount):
    site = "roundcube"

    def __init__(self, server: Roundcube, home: Path) -> None:
        super().__init__(server, server.dovecot.mail, home)
        server.dovecot.add_user(self.user, PASSWORD)

    def deliver(self, *messages: bytes, folder: str = "INBOX") -> None:
        """As it says there; folders are shown to those who subscribe to them."""
        super().deliver(*messages, folder=folder)
        path = Path(self.mail.path(self.user)) / "subscriptions"
        lines = path.read_text().splitlines() if path.exists() else []
        if folder != "INBOX" and self.folder(folder) not in lines:
            path.write_text("".join(f"{line}\n" for line in (*lines, self.folder(folder))))
            os.chown(path, *self.mail.owner)


class SqWebMailAccount(WebAccount):
    site = "sqwebmail"
    prefix = "INBOX."

    def __init__(self, server: SqWebMail, home: Path) -> None:
        super().__init__(server, server.mail, home)
        server.add_user(self.user, PASSWORD)


def flags_of(path: str) -> str:
    """The flags in the name of a file in a Maildir."""
    return os.path.basename(path).partition(":2,")[2]


def once(part: str, act: Callable[[], object]) -> Callable[[str, str], None]:
    """For HttpWay.before: do it when a path with this in it is first asked for."""
    left = [act]

    def before(method: str, path: str) -> None:
        if part in path and left:
            left.pop()()

    return before


def saved(said: str) -> Path:
    """The page that an error says it has saved."""
    found = re.search(r"without what is private, is in (\S+?)[,;.]?(?: \||\s|$)", said)
    assert found is not None, said
    return Path(found[1])
