"""The mailbox that everybody fetches from, and the check of what they fetched.

Rule of the file: a real Dovecot, its indexes warm, the disk quiet; a run counts only if
every message arrived, octet for octet but for line ends, and the server kept or lost
exactly what it should.
"""

from __future__ import annotations

import hashlib
import os
import poplib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.proxy import Proxy

PASSWORD = "secret"
SETTINGS = """\
pop3_no_flag_updates = yes
service pop3-login {
  process_min_avail = 1
}
"""


@dataclass(frozen=True)
class Account:
    """Where a contender fetches from; `port` may be that of a slow link."""

    user: str
    port: int
    password: str = PASSWORD


class Mailbox:
    """One Dovecot, many users; `delay` seconds each way between it and the contenders."""

    def __init__(self, directory: Path, delay: float) -> None:
        self.dovecot = Dovecot(directory / "dovecot", settings=SETTINGS)
        self.delay = delay
        self._users = 0
        self._proxy: Proxy | None = None

    def __enter__(self) -> Self:
        self.dovecot.__enter__()
        if self.delay:
            self._proxy = Proxy(("127.0.0.1", self.dovecot.pop3_port), delay=self.delay)
            self._proxy.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._proxy:
            self._proxy.__exit__(kind, error, trace)
        self.dovecot.__exit__(kind, error, trace)

    def account(self, messages: Iterable[bytes]) -> Account:
        """A new user with these messages, and Dovecot's indexes of them written."""
        self._users += 1
        user = f"user{self._users}"
        self.dovecot.add_user(user, PASSWORD)
        self.dovecot.deliver_many(user, messages)
        self._ask(user, warm=True)
        self._ask(user, warm=True)  # the second session finds what the first one wrote
        return Account(user, self._proxy.port if self._proxy else self.dovecot.pop3_port)

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
        self._ask(account.user, warm=True)
        self._ask(account.user, warm=True)

    def long_account(self, pieces: Iterable[bytes]) -> Account:
        """A new user with one message, given in pieces."""
        account = self.account([])
        path = Path(self.dovecot.maildir(account.user), "new", "1700000000.long.test")
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        self._ask(account.user, warm=True)
        return account

    def count(self, account: Account) -> int:
        """Messages on the server now."""
        return self._ask(account.user, warm=False)[0]

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


ADDED = b"\nDelivered-To: unknown\n"  # getmail_maildir knows no way to leave it out


def fetched(maildir: Path) -> Iterator[bytes]:
    """What lies in a Maildir, with LF line ends and without what a peer cannot but add."""
    for folder in ("new", "cur"):
        for path in (maildir / folder).iterdir():
            yield path.read_bytes().replace(b"\r\n", b"\n").replace(ADDED, b"\n", 1)


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
