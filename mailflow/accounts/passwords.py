"""A file of secrets by login name, as Dovecot's passwd-file is: "ann:{SSHA256}...".

Rule of the file: it is read anew when it has changed, and written whole or not at all; one
that strangers can read or write lets nobody in.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from shlex import quote

from mailflow import durable
from mailflow.accounts.locks import ABSENT, LATER, Lock, Stamp, stamp
from mailflow.accounts.networks import Networks
from mailflow.accounts.verifiers import Verifier, read, sort
from mailflow.directories import settings_directory
from mailflow.errors import ConfigError, UnavailableError, from_os
from mailflow.log import Logger
from mailflow.record import NamedTuple

LIMIT = 1 << 26
"""Octets of such a file."""

QUICK = 1 << 18
"""Of more octets it is read in a thread."""


def default_path() -> str:
    """The file that `mailflow maildrop add` writes. Raises ConfigError."""
    return os.path.join(settings_directory(), "maildrops")


class Entry(NamedTuple):
    """One line. `networks` are those of its extra field allow_nets; `closed`, that it has
    the field nologin."""

    login: str
    secret: str
    line: int
    networks: tuple[str, ...] = ()
    closed: bool = False


class Table(NamedTuple):
    """What a file said: its entries, a name for each sort of secret, and (line, what is wrong)
    of others."""

    entries: Mapping[str, Entry]
    samples: tuple[str, ...]
    faults: tuple[tuple[int, str], ...]


def parsed(data: bytes) -> Table:
    """The entries of a file; of two lines with one name, the last counts."""
    entries: dict[str, Entry] = {}
    faults: list[tuple[int, str]] = []
    for number, octets in enumerate(data.split(b"\n"), 1):
        line = octets.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            entry = _entry(line.decode("utf-8"), number)
        except UnicodeDecodeError:
            faults.append((number, "is not UTF-8"))
        except ValueError as error:
            faults.append((number, str(error)))
        else:
            if entry.login in entries:
                faults.append((number, f"{entry.login!r} is there twice; this line counts"))
            entries[entry.login] = entry
    samples = {sort(each.secret): login for login, each in entries.items() if each.secret}
    return Table(entries, tuple(samples.values()), tuple(faults))


def _entry(line: str, number: int) -> Entry:
    login, colon, rest = line.partition(":")
    if not (login and colon) or not login.isprintable():
        raise ValueError("is not login:secret")
    fields = rest.split(":", 6)
    extra = dict(word.partition("=")[::2] for word in fields[6].split()) if fields[6:] else {}
    networks = tuple(filter(None, extra.get("allow_nets", "").split(",")))
    return Entry(login, fields[0], number, networks, "nologin" in extra)


class PasswordFile:
    """A file that is looked at again whenever somebody asks: locks, for many doors. Used by
    many threads.

    `optional`: where there is none, it has no entries. `changed` is called when it was read.
    """

    def __init__(
        self, path: str, log: Logger, changed: Callable[[], None], *, optional: bool = False
    ) -> None:
        self.path = path
        self._optional = optional
        self._log = log
        self._changed = changed
        self._guard = threading.Lock()
        self._stamp: Stamp | str | None = "never looked at"
        self._table: Table | None = None
        self._locks: dict[str, Lock] = {}

    def quick(self) -> bool:
        now = stamp(self.path)
        return now is None or now == self._stamp or now[2] <= QUICK

    def lock(self, login: str) -> Lock:
        """By what the file says now; or said before, where it cannot be read any more."""
        return self._of(self._now(), login)

    def samples(self) -> list[Verifier]:
        table = self._table
        found = [] if table is None else [self._of(table, login) for login in table.samples]
        return [lock.verifier for lock in found if lock.verifier is not None]

    def _of(self, table: Table, login: str) -> Lock:
        locks = self._locks
        entry, found = table.entries.get(login), locks.get(login, ABSENT)
        if entry is not None and found is ABSENT:
            found = locks[login] = self._made(entry)
        return found

    def _made(self, entry: Entry) -> Lock:
        if entry.closed:
            return Lock(None, "its line says nologin")
        try:
            verifier = read(entry.secret) if entry.secret else None
            networks = Networks(entry.networks) if entry.networks else None
        except ValueError as error:
            self._log.error(f"{self.path}:{entry.line}: {entry.login!r}: {error}")
            return Lock(None, str(error))
        return Lock(verifier, "" if verifier else "its secret is empty", networks)

    def _now(self) -> Table:
        now = stamp(self.path)
        if now != self._stamp:
            with self._guard:
                if now != self._stamp:
                    self._look()
                    self._stamp = now
        if self._table is None:
            raise UnavailableError(LATER)
        return self._table

    def _look(self) -> None:
        try:
            table = parsed(contents(self.path, optional=self._optional))
        except ConfigError as error:
            kept = "" if self._table is None else "; what it said before still counts"
            self._log.error(f"{error.text}{kept}")
            return
        for line, text in table.faults:
            self._log.error(f"{self.path}:{line}: {text}")
        self._table, self._locks = table, {}
        self._changed()


def contents(path: str, *, optional: bool = False) -> bytes:
    """A file that is nobody else's to read. Raises ConfigError that says what to do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if optional:
            return b""
        raise ConfigError(_absent(path)) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"cannot read passwords file {path}: {reason}") from None
    with open(descriptor, "rb") as reader:
        status = os.fstat(descriptor)
        fault = _exposed(path, status)
        if fault:
            raise ConfigError(f"passwords file {path} {fault}")
        data = reader.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise ConfigError(f"passwords file {path} is larger than {LIMIT} octets")
    return data


def _exposed(path: str, status: os.stat_result) -> str:
    """What is wrong with a file's owner and mode, "" if nothing; its group may read it, as
    Dovecot's does."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (uid {status.st_uid})"
    if status.st_mode & 0o027:
        mode = f"{status.st_mode & 0o777:04o}"
        return f"is open to others (mode {mode}); run: chmod 600 {quote(path)}"
    return ""


def _absent(path: str) -> str:
    return f"there is no file {path}; `mailflow maildrop add` makes it"


def name_fault(login: str) -> str:
    """Why a line of the file cannot begin with this login name; "" where it can. It is not
    said again: whoever writes NAME:PASSWORD wants it nowhere."""
    if not login or ":" in login or login.startswith("#") or not login.isprintable():
        return "expected a login name: printable, without a colon, and with no # before it"
    return ""


def add(path: str, login: str, secret: str, *, replace: bool = False) -> None:
    """Put a line into the file, which is made where there is none; durable when it returns.
    Raises ConfigError, UnavailableError."""
    if fault := name_fault(login):
        raise ConfigError(fault)
    if ":" in secret or not secret.isprintable():
        raise ConfigError("such a file holds no secret with a colon or a control character")
    with _changing(path, make=True) as lines:
        mine = [number for number, line in enumerate(lines) if _names(line, login)]
        if mine and not replace:
            raise ConfigError(f"{login} is there already, in {path}; see --replace")
        if not mine:
            lines.append(b"")
        last = mine[-1] if mine else -1
        more = b"".join(b":" + field for field in lines[last].split(b":")[2:])
        lines[last] = f"{login}:{secret}".encode() + more
        for number in reversed(mine[:-1]):
            del lines[number]


def remove(path: str, login: str) -> None:
    """Take a name out of the file; durable when it returns. Raises ConfigError,
    UnavailableError."""
    with _changing(path) as lines:
        kept = [line for line in lines if not _names(line, login)]
        if len(kept) == len(lines):
            raise ConfigError(f"there is no {login} in {path}")
        lines[:] = kept


def _names(line: bytes, login: str) -> bool:
    return line.partition(b":")[0] == login.encode()


@contextmanager
def _changing(path: str, *, make: bool = False) -> Iterator[list[bytes]]:
    """Its lines, to be changed in place by one process at a time, then written."""
    path = os.path.realpath(path)
    try:
        if make:
            durable.make_directory(os.path.dirname(path))
        with _locked(path, make=make) as status:
            data = contents(path)
            lines = data.split(b"\n")
            if not lines[-1]:
                del lines[-1]
            yield lines
            whole = b"".join(line + b"\n" for line in lines)
            durable.replace(path, whole, stat.S_IMODE(status.st_mode), status)
    except FileNotFoundError:
        raise ConfigError(_absent(path)) from None
    except OSError as error:
        raise from_os(error, f"write {path}") from None


@contextmanager
def _locked(path: str, *, make: bool) -> Iterator[os.stat_result]:
    """Hold the lock of the file that has this name now: a writer puts another in its place."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            mine = os.fstat(descriptor)
            if stamp(path) == stamp(descriptor):
                yield mine
                return
        finally:
            os.close(descriptor)
