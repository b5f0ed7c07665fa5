"""A maildrop whose mail lies on another server: what its sessions have in common.

Rule of the file: nothing of anybody's mail is written down here but how many octets a message
has; whatever of that is lost is found out again.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress

from mailflow.column import Column
from mailflow.digests import blake2b, sha256
from mailflow.errors import InUseError, LoginError, from_os
from mailflow.kinds import Credentials, Item
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow.log import Logger
    from mailflow.options import SecretValue, ServerOptions

T = TypeVar("T")

DIRECTORY = "live"
"""Of the runtime's scratch: where the mailboxes have their files."""

MOST = 1 << 24
"""Octets of such a file that are read; what a server of that many wrong sizes says is lost."""

KEPT = 200
"""Sessions of a maildrop that wait for their next client: each is a process, or nearly one, at
the other server, which has an end to them (Dovecot's is 1,000)."""

_NAMES = re.compile(r"\{(login|user|domain)\}")
_ENTRY = re.compile(rb"([!-~]{1,70}) ([0-9]{1,15})\n")


def user_of(pattern: str, login: str) -> str:
    """The user at the other server: {login}, {user} and {domain} of `pattern` filled in with
    the login name. Raises LoginError for one that holds what would end a line."""
    user, _, domain = login.rpartition("@") if "@" in login else (login, "", "")
    facts = {"login": login, "user": user, "domain": domain}
    name = _NAMES.sub(lambda found: facts[found[1]], pattern)
    if not name or not name.isprintable():
        raise LoginError("this login name is none for the other server")
    return name


def passed_on(who: Credentials) -> str:
    """The password or the token that a client gave, for the other server to check. Raises
    LoginError for one that cannot be sent."""
    secret = who.token or who.password
    if not secret or any(character in secret for character in "\r\n\0"):
        raise LoginError("a password that is empty, or holds a line end")
    return secret


def secret_of(options: ServerOptions, user: str) -> SecretValue | None:
    """What the file has to log in with there as `user`; None where it has nothing."""
    return options.secret if options.oauth2 is None else options.oauth2.token(user)


def faults_of_secret(options: ServerOptions) -> Iterator[tuple[str, str]]:
    """What is wrong with what the file has to log in with, which is one thing at most."""
    words = ("password", "token", "oauth2")
    given = [word for word in words if getattr(options, word) is not None]
    for word in given[1:]:
        yield word, f"a `{given[0]}` is given too; expected one of them"


def missing_secret(options: ServerOptions) -> LoginError:
    """Nobody can log in."""
    return LoginError(
        f'nothing to log in with at {options.host}: set a `password`, or login = "passthrough"'
    )


class Listing(Sequence[Item]):
    """The messages of a drop in their order, in little memory; an Item is made when it is asked
    for. `sizes` are as the contract of OpenDrop says; `utf8` is not known."""

    __slots__ = ("keys", "sizes")

    utf8: Sequence[bool] = ()

    def __init__(self, keys: Sequence[str], sizes: Iterable[int]) -> None:
        """Parallel."""
        self.keys = Column(keys)
        self.sizes = array("Q", sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return list(map(Item, self.keys[index], self.sizes[index]))
        return Item(self.keys[index], self.sizes[index])

    def __iter__(self) -> Iterator[Item]:
        return map(Item, self.keys, self.sizes)


class Hold:
    """One session at a time with a mailbox elsewhere, whatever process has it, and how many
    octets those of its messages have of which the other server says another number."""

    def __init__(self, directory: str, *names: str) -> None:
        """`directory` is the scratch of a Runtime, `names` tell the mailbox from all others."""
        digest = sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = os.path.join(directory, DIRECTORY, digest)
        self._file = -1
        self._measured: dict[str, int] = {}
        self._changed = False

    def take(self) -> None:
        """Raises InUseError where another session has it, UnavailableError."""
        try:
            with suppress(FileExistsError):
                os.makedirs(os.path.dirname(self._path), 0o700)
            file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = _ENTRY.findall(os.pread(file, MOST, 0))
        except BlockingIOError:
            os.close(file)
            raise InUseError("another session has this mailbox") from None
        except OSError as error:
            os.close(file)
            raise from_os(error, f"lock {self._path}") from None
        self._file = file
        self._measured = {key.decode("ascii"): int(size) for key, size in found}

    def known(self, key: str) -> int | None:
        """How many octets a message has, where somebody has measured it."""
        return self._measured.get(key)

    def listing(self, keys: Sequence[str], said: Sequence[int]) -> Listing:
        """The messages, with the size that the server has said of each, or a better one."""
        if not self._measured:
            return Listing(keys, said)
        known = self._measured
        here = {key: known[key] for key in compress(keys, (key in known for key in keys))}
        self._changed |= len(here) != len(known)
        self._measured = here
        return Listing(keys, (here.get(key, size) for key, size in zip(keys, said, strict=True)))

    def measured(self, key: str, octets: int, listed: int) -> bool:
        """Keep how many octets a message has, if they are not as many as were `listed`; whether
        that is so."""
        if octets == listed:
            return False
        self._measured[key] = octets
        self._changed = True
        return True

    def release(self, log: Logger) -> None:
        """Write down what was measured, and let others in."""
        file, self._file = self._file, -1
        if file < 0:
            return
        try:
            if self._changed:
                lines = "".join(f"{key} {size}\n" for key, size in self._measured.items())
                os.ftruncate(file, 0)
                os.pwrite(file, lines.encode("ascii"), 0)
        except OSError as error:
            log.warning("sizes are not kept", path=self._path, error=str(error))
        finally:
            os.close(file)


class _Spare(NamedTuple, Generic[T]):
    """A session that waits for the next one of the same login, until `end`."""

    session: T
    end: float


class Spares(Generic[T]):
    """Sessions that ended in order and stay open for `seconds`, each for the next one of the
    same login name with the same password, KEPT of them at most. Used by many threads."""

    def __init__(self, seconds: float, close: Callable[[T], None], halt: Halt) -> None:
        self._seconds = seconds
        self._close = close
        self._halt = halt
        self._salt = os.urandom(16)
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Spare[T]] = {}
        self._watching = False

    def take(self, login: str, secret: str) -> T | None:
        """The one of that login, if there is one."""
        with self._lock:
            found = self._kept.pop(self._mark(login, secret), None)
        if found is not None and found.end <= time.monotonic():
            self._close(found.session)
            return None
        return None if found is None else found.session

    def keep(self, login: str, secret: str, session: T, since: float | None = None) -> None:
        """Keep it; one that is there already is closed, and the oldest where there are many.

        `since`, in seconds of the monotonic clock, is when the password was checked, where the
        other server alone does that: the time counts from then, so that who goes on using a
        password that was changed there cannot keep it good for ever.
        """
        now = time.monotonic()
        spare = _Spare(session, (now if since is None else since) + self._seconds)
        if spare.end <= now or self._halt.is_set():
            self._close(session)
            return
        with self._lock:
            over = self._kept.pop(mark := self._mark(login, secret), None)
            self._kept[mark] = spare
            if len(self._kept) > KEPT:
                over = self._kept.pop(next(iter(self._kept)))
            start, self._watching = not self._watching, True
        if over is not None:
            self._close(over.session)
        if start:
            threading.Thread(target=self._watch, name="spare sessions", daemon=True).start()

    def _mark(self, login: str, secret: str) -> bytes:
        """Names a login and its password without keeping it."""
        said = f"{len(login)} {login}{secret}".encode("utf-8", "surrogatepass")
        return blake2b(said, key=self._salt, digest_size=32).digest()

    def _watch(self) -> None:
        """Close those whose time is over, and all at the end."""
        ended = False
        while True:
            now = time.monotonic()
            with self._lock:
                over = [m for m, spare in self._kept.items() if ended or spare.end <= now]
                closing = [self._kept.pop(mark) for mark in over]
                first = min(self._kept.values(), key=lambda each: each.end, default=None)
                self._watching = first is not None
            for spare in closing:
                self._close(spare.session)
            if first is None:
                return
            ended = self._halt.wait(max(0.0, first.end - now))
