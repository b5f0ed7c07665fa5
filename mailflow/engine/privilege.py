"""Who a service runs as: the user it becomes once it has bound its addresses; its PID file.

Rule of the file: what was given up cannot be had again, and is checked to be gone.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import sys
from contextlib import suppress
from importlib.machinery import PathFinder

from mailflow.errors import ConfigError, InUseError, UnavailableError, from_os


class Identity:
    """A user of this machine by name or number. Raises ConfigError where there is none, or
    we may not become that one."""

    def __init__(self, user: str) -> None:
        try:
            self._entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            raise ConfigError(f"there is no user {user!r} on this machine") from None
        if os.geteuid() not in (0, self._entry.pw_uid):
            itself = f", or as {user}" if self._entry.pw_uid else ""
            raise ConfigError(f"only root can become {user}; start it as root{itself}")

    def settle_in(self) -> None:
        """Its home from now on, so that files and the state directory are its own. Root's
        directories are no longer meant."""
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
            if os.geteuid() != self._entry.pw_uid:
                os.environ.pop(name, None)
        os.environ["HOME"] = self._entry.pw_dir
        os.environ["USER"] = os.environ["LOGNAME"] = self._entry.pw_name

    def become(self) -> None:
        """Give up every other right, for good, in all threads. Raises UnavailableError, and
        ConfigError where that user cannot read what is imported later."""
        modules = [path for path in sys.path if os.path.isdir(path)]
        self._give_up()
        closed = [path for path in modules if not os.access(path, os.R_OK | os.X_OK)]
        if closed and not all(map(_can_be_imported, LATER)):
            raise ConfigError(
                f"{self._entry.pw_name} cannot read {closed[0]}, where modules of this program lie;"
                " install mailflow where that user can, such as in /opt/mailflow"
            )

    def _give_up(self) -> None:
        uid, gid = self._entry.pw_uid, self._entry.pw_gid
        if os.getuid() == uid == os.geteuid() and os.getegid() == gid:
            return
        try:
            os.initgroups(self._entry.pw_name, gid)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            raise from_os(error, f"become {self._entry.pw_name}") from None
        if uid and _can_return():
            raise UnavailableError(f"the rights of root could not be given up for {uid}")


LATER = ("mailflow", "structlog", "email")
"""One of ours, one of others, one of Python's own: of each some are imported when they are
needed."""


def _can_be_imported(name: str) -> bool:
    """Whether a directory that can be read has it: one that cannot is passed over, such as the
    working directory of `python -m`."""
    PathFinder.invalidate_caches()
    spec = PathFinder.find_spec(name)
    return spec is not None and os.access(spec.origin or "", os.R_OK)


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _can_return() -> bool:
    with suppress(OSError):
        os.setuid(0)
        return True
    return False


class PidFile:
    """A file with our PID, locked as long as we live: a second one is refused, and one that a
    crash has left is used again. Raises UnavailableError, InUseError, ConfigError."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        try:
            while not self._take():
                pass
        except BlockingIOError:
            raise InUseError(f"{path} belongs to an installation that runs") from None
        except OSError as error:
            raise from_os(error, f"write {path}") from None

    def _take(self) -> bool:
        """Open, lock and write it; False where whoever had it has just removed it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._path, flags, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(file, self._path):
                os.close(file)
                return False
            if os.read(file, 32).strip(b"0123456789\n"):
                raise ConfigError(f"{self._path} is no PID file, and is left as it is")
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return True

    def close(self) -> None:
        """Remove it, or empty it where its directory is not ours any more."""
        with suppress(OSError):
            os.ftruncate(self._file, 0)
        with suppress(OSError):
            os.unlink(self._path)
        os.close(self._file)
