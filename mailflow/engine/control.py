"""The control socket: how `status`, `poke` and `reload` reach an installation that runs.

Rule of the file: only the user whose installation it is, and root, are answered, and only
that user's, or root's, is believed.

One request for each connection, a line of JSON; the answer is another, up to the end:
{"do": "poke", "source": "work"} -> {"ok": null}, or {"error": "...", "exit_code": 78}.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mailflow.directories import state_directory
from mailflow.durable import make_directory
from mailflow.errors import ConfigError, MailflowError, UnavailableError, from_os
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SUFFIX = ".control"
SYSTEM = "/run/mailflow"
"""Where the unit that we ship has its sockets: root finds them there, too."""

LONGEST = 1 << 16
"""Octets of a request."""

PATIENCE = 10.0
"""Seconds that a client is waited for."""

ANSWER = 120.0
"""Seconds that an answer is waited for: a reload ends in order what it replaces."""

AT_ONCE = 16
"""Clients that are answered at the same time."""


class Control:
    """Listens for this user's commands. `answer(request)` is called in a thread for each
    client; what it gives is sent as JSON, a MailflowError as its text."""

    def __init__(self, answer: Callable[[Mapping[str, Any]], object]) -> None:
        self._answer = answer
        self._log = get_logger()
        self._seats = threading.BoundedSemaphore(AT_ONCE)
        self._ended = False
        directory = _own_directory()
        self.path = os.path.join(directory, f"{os.getpid()}{SUFFIX}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _sweep(directory)
            with suppress(FileNotFoundError):  # left by a process that had our number
                os.unlink(self.path)
            with _reachable(self.path) as path:
                self._socket.bind(path)
            os.chmod(self.path, 0o600)
            self._socket.listen(AT_ONCE)
        except OSError as error:
            self._socket.close()
            raise from_os(error, f"listen at {self.path}") from None
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Take no more commands; one that is being answered goes on."""
        self._ended = True
        with suppress(OSError):
            os.unlink(self.path)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._socket.close()

    def _run(self) -> None:
        while not self._ended:
            try:
                client, _ = self._socket.accept()
            except OSError:
                if self._ended:
                    return
                threading.Event().wait(0.5)  # too many files are open
                continue
            if not self._seats.acquire(blocking=False):
                client.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            except RuntimeError:  # there are too many
                client.close()
                self._seats.release()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(PATIENCE)
                if _uid_of(client) not in (None, 0, os.geteuid()):
                    self._log.warning("control refused", uid=_uid_of(client))
                    return
                _send(client, self._answered(_received(client)))
        except (OSError, ValueError):
            pass  # it did not wait, or spoke no JSON
        finally:
            self._seats.release()

    def _answered(self, request: object) -> dict[str, object]:
        if not isinstance(request, dict):
            return {"error": "expected an object", "exit_code": 64}
        try:
            return {"ok": self._answer(request)}
        except MailflowError as error:
            return {"error": error.text, "exit_code": error.exit_code}
        except Exception as error:  # noqa: BLE001  # a fault of ours ends no installation
            self._log.error("control failed", error=error)
            return {"error": f"internal error: {type(error).__name__}", "exit_code": 70}


class NotRunningError(UnavailableError):
    """Nothing answers at this socket: whoever made it is gone, or just going."""


def ask(path: str, request: Mapping[str, object]) -> Any:
    """The answer of the installation at that socket. Raises NotRunningError, and
    MailflowError with what it says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER)
        try:
            with _reachable(path) as name:
                sock.connect(name)
            owner = os.lstat(os.path.dirname(path)).st_uid
            if _uid_of(sock) not in (None, 0, owner):
                raise UnavailableError(f"{path} is answered by another user than its owner")
            _send(sock, request)
            answer = _received(sock, most=1 << 28)
        except TimeoutError:
            raise UnavailableError(f"no answer within {ANSWER:.0f} s; it is still at it") from None
        except (OSError, ValueError) as error:
            raise NotRunningError(f"nothing answers at {path}: {error}") from None
    if not isinstance(answer, dict):
        raise NotRunningError(f"nothing answers at {path}")
    if "error" in answer:
        refusal = MailflowError(str(answer["error"]))
        refusal.exit_code = int(answer.get("exit_code", 70))
        raise refusal
    return answer.get("ok")


def running() -> list[str]:
    """The sockets of this user's installations, root's and the system's, as far as they may
    be asked; one may be left by a process that is gone."""
    found = []
    for directory in dict.fromkeys((*_directories(), SYSTEM)):
        try:
            _check(directory, {os.geteuid()} if os.geteuid() else None)
            names = os.listdir(directory)
        except OSError:
            continue
        found += [os.path.join(directory, name) for name in names if name.endswith(SUFFIX)]
    return sorted(found)


def _directories() -> Iterator[str]:
    """Where the socket of an installation of this user may be, the best place first."""
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if os.path.isabs(given):
        yield given
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(session):
        yield os.path.join(session, "mailflow")
    with suppress(ConfigError):
        yield os.path.join(state_directory(), "run")


def _own_directory() -> str:
    """The directory for our socket, made if need be. Raises UnavailableError."""
    problem: OSError | None = None
    for directory in _directories():
        try:
            make_directory(directory)
            _check(directory, {os.geteuid()})
        except OSError as error:
            problem = error
            continue
        return directory
    if problem is None:
        raise UnavailableError("no directory is known for the control socket; set HOME")
    raise from_os(problem, f"use {problem.filename} for the control socket")


def _sweep(directory: str) -> None:
    """Remove the sockets of processes that are gone."""
    for name in os.listdir(directory):
        pid = name.removesuffix(SUFFIX)
        if name.endswith(SUFFIX) and pid.isdecimal():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                with suppress(OSError):
                    os.unlink(os.path.join(directory, name))
            except (OSError, OverflowError):
                pass  # somebody else's process has that number now


def _check(directory: str, owners: set[int] | None) -> None:
    """Raise OSError unless it is a directory of these users that nobody else may enter."""
    import errno

    facts = os.lstat(directory)
    if not stat.S_ISDIR(facts.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "no directory", directory)
    if owners is not None and facts.st_uid not in owners:
        raise PermissionError(errno.EPERM, "belongs to another user", directory)
    if stat.S_IMODE(facts.st_mode) & 0o077:
        if facts.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "open to others", directory)
        os.chmod(directory, 0o700)


@contextmanager
def _reachable(path: str) -> Iterator[str]:
    """The path as a socket's address holds it: at most 107 octets (unix(7))."""
    if len(os.fsencode(path)) < 108:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)


def _uid_of(sock: socket.socket) -> int | None:
    """Who is at the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    facts = sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return int(struct.unpack("3i", facts)[1])


def _send(sock: socket.socket, value: object) -> None:
    import json

    sock.sendall(json.dumps(value, default=str).encode() + b"\n")


def _received(sock: socket.socket, most: int = LONGEST) -> object:
    """The value on the one line that comes. Raises OSError, ValueError."""
    import json

    octets = bytearray()
    while not octets.endswith(b"\n"):
        if len(octets) > most:
            raise ValueError("too long")
        more = sock.recv(1 << 16)
        if not more:
            break
        octets += more
    return json.loads(bytes(octets))
