"""An existing Maildir behind the gateway, served as it is.

Rule of the file: nothing is moved or marked; the only change to a message is that it is
deleted, and all that one QUIT deletes is written down before the first of them goes.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from threading import Lock

from mailflow.errors import LoginError, UnavailableError, from_os
from mailflow.options import Flag, Option, Options
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.values import path as path_of
from mailflow_maildir.folder import Folder
from mailflow_maildir.ledger import Ledger
from mailflow_maildir.opened import OpenMaildir, Snapshot
from mailflow_maildir.taking import Taking, counted
from mailflow_maildir.uidl import UidlFormat, UidlOption

if TYPE_CHECKING:
    from mailflow.kinds import Credentials, Runtime

KEPT = 1 << 17
"""Messages whose places are remembered from one session to the next, of all drops together."""

SMALL = 2000
"""A drop with so many messages is listed in a few milliseconds."""

SETTLED = 2.0
"""Seconds after a change of a directory in which another may have left the same time."""

LOOKS = 3
"""So often a Maildir is looked at that changes meanwhile."""

PLACES = ("new", "cur")

GLOB = frozenset("*?[")

_NAMES = re.compile(r"\{([^{}]*)\}")


class DropPath(Option[str]):
    """A path in which {login}, {user} and {domain} stand for parts of the login name."""

    expected = "a path; {login}, {user} and {domain} may stand in it"
    json_type = {"type": "string", "minLength": 1}

    def convert(self, value: object, base: str) -> str:
        path = path_of(value, base)
        for name in _NAMES.findall(path):
            if name not in ("login", "user", "domain"):
                raise ValueError(f"expected {{login}}, {{user}} or {{domain}}; found {{{name}}}")
        return path


class MaildirDropOptions(Options):
    """A Maildir that clients read over POP3."""

    path = DropPath(
        "The Maildir; {login} stands for the login name, {user} for what is before its @,"
        " {domain} for what is behind it."
    )
    uidl = UidlOption(
        "How the UIDL is made of a message that Dovecot knows, as its pop3_uidl_format says: %u is"
        " the UID, %v the UIDVALIDITY, %f the file name.",
        default=UidlFormat("%08Xu%08Xv"),
    )
    create = Flag("Make the Maildir where it is missing.", default=False)

    def look(self) -> Iterator[tuple[str, str]]:
        if not (self.create or _NAMES.search(self.path) or _is_maildir(self.path)):
            yield "path", f"no Maildir at {self.path}: make it, or set create = true"


class MaildirDrop:
    """Serves an existing Maildir."""

    options: ClassVar[type[Options]] = MaildirDropOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"maildir": {}}
    url_path = "path"

    def __init__(self, options: MaildirDropOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[_Stamp, Snapshot]] = OrderedDict()
        self._count = 0
        self._small: set[str] = set()
        if GLOB & set(runtime.name) and not _NAMES.search(options.path):
            runtime.log.warning(
                "every login name has the same Maildir: set {login} in its path",
                maildrop=runtime.name, path=options.path,
            )  # fmt: skip

    def login(self, who: Credentials) -> OpenMaildir:
        """Raises LoginError for a name that can name no Maildir, InUseError, UnavailableError."""
        if not who.checked:
            raise LoginError("a Maildir knows no passwords: set a secret for its maildrop")
        root = located(self._options.path, who.login)
        try:
            drop = self._opened(root)
        except FileNotFoundError as error:
            places = (each for each in ("new", "cur") if not os.path.isdir(f"{root}/{each}"))
            reason = f"it has no {next(places, error.filename)}"
            if not os.path.isdir(root):
                reason = "make it, or set create = true"
            raise UnavailableError(f"no Maildir at {root}: {reason}") from None
        except OSError as error:
            raise from_os(error, f"open {root}") from None
        self._note(who.login, drop.prompt and len(drop.items()) <= SMALL)
        return drop

    def standing(self) -> Iterable[tuple[str, int, int]]:
        """How many messages and octets lie there, where that is one Maildir; no lock is taken."""
        name = self._runtime.name
        if GLOB & set(name):
            return []
        try:
            return [("", *counted(located(self._options.path, name)))]
        except (OSError, LoginError):  # it is missing, or has no such name
            return []

    def prompt(self, login: str) -> bool:
        """Whether that drop was small and on this machine when it was opened last."""
        return login in self._small

    def _note(self, login: str, small: bool) -> None:
        if not small:
            self._small.discard(login)
            return
        if len(self._small) >= KEPT:
            self._small.clear()
        self._small.add(login)

    def _opened(self, root: str) -> OpenMaildir:
        if self._options.create and not _is_maildir(root):
            Folder(root, create=True).close()
        ledger = Ledger(root)
        try:
            return OpenMaildir(root, ledger, self._snapshot(root, ledger), self._runtime.log)
        except BaseException:
            ledger.close()
            raise

    def _snapshot(self, root: str, ledger: Ledger) -> Snapshot:
        """What lies there now: as before where nothing has changed, else looked for anew, and
        once more where a reader has renamed something meanwhile, which may have hidden it."""
        now = time.time()
        times = _times(root)
        kept = self._recall(root, (times, ledger.stamp))
        if kept is not None:
            return kept
        for _ in range(LOOKS):
            taking = Taking(root, ledger, self._options.uidl, self._runtime)
            found = taking.snapshot()
            before, times = times, _times(root)
            if times == before:
                break
        settled = times == before and max(times[1::2]) < (now - SETTLED) * 1e9
        if settled:
            if taking.removed:
                ledger.tidy()
            if taking.complete:
                self._keep(root, ((times, ledger.stamp), found))
        return found

    def _recall(self, root: str, stamp: _Stamp) -> Snapshot | None:
        with self._lock:
            there = self._kept.get(root)
            if there is None or there[0] != stamp:
                return None
            self._kept.move_to_end(root)
            return there[1]

    def _keep(self, root: str, entry: tuple[_Stamp, Snapshot]) -> None:
        with self._lock:
            old = self._kept.pop(root, None)
            self._kept[root] = entry
            self._count += len(entry[1].keys) + 1 - (len(old[1].keys) + 1 if old else 0)
            while self._count > KEPT:
                self._count -= len(self._kept.popitem(last=False)[1][1].keys) + 1


_Times = tuple[int, int, int, int]
_Stamp = tuple[_Times, tuple[int, int]]


def located(pattern: str, login: str) -> str:
    """The Maildir of a login name. Raises LoginError where a part of it is no file name."""
    user, _, domain = login.rpartition("@") if "@" in login else (login, "", "")
    facts = {"login": login, "user": user, "domain": domain}

    def part(found: re.Match[str]) -> str:
        value = facts[found[1]]
        if not value.isprintable() or "/" in value or value[:1] in ("", ".") or len(value) > 200:
            raise LoginError("this login name can name no Maildir")
        return value

    return _NAMES.sub(part, pattern)


def _is_maildir(path: str) -> bool:
    return all(os.path.isdir(os.path.join(path, place)) for place in PLACES)


def _times(root: str) -> _Times:
    """Inode and time of change of new/ and of cur/. Raises OSError, UnavailableError."""
    found = []
    for place in PLACES:
        path = os.path.join(root, place)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise UnavailableError(f"{path} is no directory")
        found += [status.st_ino, status.st_mtime_ns]
    return found[0], found[1], found[2], found[3]
