"""A connection through a program: its stdin and stdout are the line to the server.

    wire = Tunnel.through(["ssh", "-W", "pop.example.org:110", "gateway"], ...)

Rule of the file: when the connection ends the program is ended, with all that it
started; what it said on stderr is part of the error, since it alone knows the reason.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from mailflow.errors import ConfigError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import clean
from mailflow.net import READ_SIZE, Wire
from mailflow.secrets import child_environment
from mailflow.typed import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

MERCY = 1.0
"""Seconds between the end of the connection, the word that a program is to end, and its
end."""

SAID = 1 << 12
"""So many octets of the end of stderr are looked at."""


class Tunnel(Wire):
    """A Wire over a program's stdin and stdout."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        timeout: float,
        halt: Halt,
        name: str,
        process: subprocess.Popen[bytes],
        complaints: IO[bytes],
    ) -> None:
        super().__init__(sock, f"{peer} through {name}", timeout, halt)
        self._name = name
        self._process = process
        self._complaints = complaints

    @classmethod
    def through(cls, words: Sequence[str], *, peer: str, timeout: float, halt: Halt) -> Tunnel:
        """Start the program. It gets our environment without secrets, and no terminal.

        Raises ConfigError where there is no such program, UnavailableError where it
        cannot be started now.
        """
        import tempfile

        halt.check()
        ours, theirs = socket.socketpair()
        complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
        try:
            with theirs:
                process = subprocess.Popen(
                    words, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=complaints,
                    env=child_environment(), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            complaints.close()
            reason = os.strerror(error.errno or 0)
            if isinstance(error, FileNotFoundError | PermissionError):
                raise ConfigError(f"cannot run {words[0]}: {reason}") from None
            raise UnavailableError(f"cannot run {words[0]}: {reason}") from None
        name = os.path.basename(words[0])
        return cls(ours, peer, timeout, halt, name, process, complaints)

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """As Wire.start_tls; where the program has failed, its reason."""
        try:
            super().start_tls(context, server_name)
        except UnavailableError as error:
            raise self._explained(error) from None

    def read(self, timeout: float | None = None, most: int = READ_SIZE) -> bytes:
        """As Wire.read; where the program has failed, its reason. Raises UnavailableError."""
        try:
            data = super().read(timeout, most)
        except UnavailableError as error:
            raise self._explained(error) from None
        if not data and (why := self._death()):
            raise UnavailableError(f"the connection to {self.peer} is lost: {why}")
        return data

    def close(self) -> None:
        """Leave, and leave nothing running."""
        process = self._process
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        patience = 0.0 if self.halt.is_set() else MERCY
        for word in (signal.SIGTERM, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, word)  # what it started may well outlive it
            patience = MERCY
        process.wait()
        super().close()
        self._complaints.close()

    def _explained(self, error: UnavailableError) -> UnavailableError:
        """With what the program has to say, unless it is we who stop."""
        if self.halt.is_set():
            return error
        why = self._death() or self._said()
        return UnavailableError(f"{error.text}: {why}" if why else error.text)

    def _death(self) -> str:
        """Why it ended; "" where it ended in order, or has not."""
        try:
            status = self._process.wait(MERCY)
        except subprocess.TimeoutExpired:
            return ""
        if not status:
            return ""
        way = f"was ended by signal {-status}" if status < 0 else f"exits with status {status}"
        said = self._said()
        return f"{self._name} {way} ({said})" if said else f"{self._name} {way}"

    def _said(self) -> str:
        """The last line on its stderr."""
        with suppress(OSError):
            end = os.fstat(self._complaints.fileno()).st_size
            data = os.pread(self._complaints.fileno(), SAID, max(0, end - SAID))
            lines = data.decode("utf-8", "replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
            return clean(last.strip())[:200]
        return ""
