"""The mailbox that everybody fetches from, and the check of what they fetched.

Rule of the file: a real Dovecot, its indexes warm, the disk quiet; a run counts only if
every message arrived, octet for octet but for line ends, and the server kept or lost
exactly what it should.
"""

from __future__ import annotations

import hashlib
import imaplib
import os
import poplib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy
from mailflow.testing.roundcube import Roundcube

PASSWORD = "secret"
SETTINGS = """\
pop3_no_flag_updates = yes
service {protocol}-login {{
  process_min_avail = 1
}}
"""


@dataclass(frozen=True)
class Account:
    """Where a contender fetches from; `port` may be that of a slow link, `protocol` is "pop3",
    "imap" or "webmail"."""

    protocol: str
    user: str
    port: int
    password: str = PASSWORD


class Mailbox:
    """One Dovecot, many users; `delay` seconds each way between it and the contenders, who
    speak `protocol`. As a webmail it is behind Roundcube, whose web server keeps connections."""

    def __init__(self, directory: Path, delay: float, protocol: str = "pop3") -> None:
        imap = protocol != "pop3"
        settings = SETTINGS.format(protocol="imap" if imap else "pop3")
        self.dovecot = Dovecot(directory / "dovecot", imap=imap, settings=settings)
        self.delay = delay
        self.protocol = protocol
        self._users = 0
        self._roundcube = (
            Roundcube(self.dovecot, front="lighttpd") if protocol == "webmail" else None
        )
        self._proxy: Proxy | None = None
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as running:
            running.enter_context(self.dovecot)
            if self._roundcube:
                running.enter_context(self._roundcube)
            if self.delay:
                proxy = Proxy(("127.0.0.1", self._server_port), delay=self.delay)
                self._proxy = running.enter_context(proxy)
            self._running = running.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, trace)

    def account(self, messages: Iterable[bytes]) -> Account:
        """A new user with these messages, and Dovecot's indexes of them written."""
        self._users += 1
        user = f"user{self._users}"
        self.dovecot.add_user(user, PASSWORD)
        self.dovecot.deliver_many(user, messages)
        self._warm(user)
        return Account(self.protocol, user, self.port)

    @property
    def port(self) -> int:
        """Where the contenders connect to."""
        return self._proxy.port if self._proxy else self._server_port

    @property
    def _server_port(self) -> int:
        if self._roundcube:
            return self._roundcube.port
        return self.dovecot.imap_port if self.dovecot.imap else self.dovecot.pop3_port

    @contextmanager
    def near(self) -> Iterator[None]:
        """Meanwhile there is no delay: for a visit that is not measured."""
        if self._proxy:
            self._proxy.delay = 0.0
        try:
            yield
        finally:
            if self._proxy:
                self._proxy.delay = self.delay

    def add(self, account: Account, messages: Iterable[bytes]) -> None:
        """More messages, behind those that are there."""
        self.dovecot.deliver_many(account.user, messages)
        self._warm(account.user)

    def long_account(self, pieces: Iterable[bytes]) -> Account:
        """A new user with one message, given in pieces."""
        account = self.account([])
        path = Path(self.dovecot.maildir(account.user), "new", "1700000000.long.test")
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        self._warm(account.user)
        return account

    def count(self, account: Account) -> int:
        """Messages on the server now."""
        return self._ask(account.user, warm=False)[0]

    def _warm(self, user: str) -> None:
        """Two sessions that list all: the second finds what the first one wrote."""
        for _ in range(2):
            if self.dovecot.imap:
                self._list(user)
            else:
                self._ask(user, warm=True)

    def _list(self, user: str) -> None:
        with imaplib.IMAP4("127.0.0.1", self.dovecot.imap_port, timeout=600) as session:
            session.login(user, PASSWORD)
            session.select()
            session.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE INTERNALDATE)")

    def _ask(self, user: str, *, warm: bool) -> tuple[int, int]:
        session = poplib.POP3("127.0.0.1", self.dovecot.pop3_port, timeout=600)
        session.user(user)
        session.pass_(PASSWORD)
        answer = session.stat()
        if warm:
            session.uidl()
            session.list()
        session.quit()
        return answer


def digests(messages: Iterable[bytes]) -> Counter[bytes]:
    return Counter(hashlib.sha1(message).digest() for message in messages)


ADDED = re.compile(
    rb"^(Delivered-To: unknown|X-getmail-\S+ \S+|X-TUID: \S+|X-OfflineIMAP: \S+)\n",
    re.MULTILINE,
)
"""What getmail_maildir, mbsync and offlineimap know no way to leave out."""


def fetched(maildir: Path) -> Iterator[bytes]:
    """What lies in a Maildir, as it was sent."""
    for folder in ("new", "cur"):
        for path in (maildir / folder).iterdir():
            yield as_sent(path.read_bytes())


def as_sent(stored: bytes) -> bytes:
    """A message with LF line ends and without what a peer cannot but add."""
    return ADDED.sub(b"", stored.replace(b"\r\n", b"\n"), 1)


def fault(maildir: Path, expected: Counter[bytes], on_server: int, kept: int) -> str:
    """Why a run does not count; "" if it does."""
    found = digests(fetched(maildir))
    if missing := (expected - found).total():
        return f"{missing} of {expected.total()} messages missing or changed"
    if extra := (found - expected).total():
        return f"{extra} messages more than there were"
    if left := sum(1 for _ in (maildir / "tmp").iterdir()):
        return f"{left} files left in tmp"
    if on_server != kept:
        return f"{on_server} messages on the server instead of {kept}"
    return ""


def settle_disk() -> None:
    """What earlier runs left unwritten must not be written during the next one."""
    os.sync()
