"""One client's connection: octets and ranges of files on their way out, in clear or in TLS.

Rule of the file: nothing waits; what cannot go on says what it waits for.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress

from mailflow.typed import TYPE_CHECKING
from mailflow_pop3.server import ServerSession

if TYPE_CHECKING:
    import ssl

    from mailflow.kinds import WirePart

READ = 8192
"""Octets that are read in a turn: a thousand commands."""

RECORD = 16384
"""Octets of a TLS record: with less, what is left is not seen by a poll."""

CLEAR = 1 << 16
"""Octets of a file that are read at a time, to be encrypted."""

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
LOST = select.EPOLLHUP | select.EPOLLERR


class BlockedError(Exception):
    """It goes on once the poll says `wants`; `moved`: some octets went before."""

    def __init__(self, wants: int, moved: bool = False) -> None:
        super().__init__(wants)
        self.wants = wants
        self.moved = moved


class Part:
    """What is left of a range of a file."""

    __slots__ = ("file", "octets", "offset")

    def __init__(self, part: WirePart) -> None:
        self.file, self.offset, self.octets = part


class Connection:
    """`mask` is what the poll watches for, `deadline` when it is over, `login_by` when it must
    have logged in, `busy` that a thread works for it, or will (`ticket`), `due` that it has
    another turn coming, `held` that its answer is kept back, `shaking` that the TLS handshake
    goes on, `lingering` that all was said."""

    __slots__ = (
        "_context", "_full", "_heard", "busy", "deadline", "due", "fd", "held", "lingering",
        "login_by", "mask", "queue", "session", "shaking", "sock", "ticket", "tls",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        session: ServerSession,
        context: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.session = session
        self.queue: list[bytes | memoryview | Part] = []
        self.mask = self.ticket = 0
        self.deadline = self.login_by = 0.0
        self.busy = self.due = self.held = self.shaking = self.lingering = False
        self.tls: ssl.SSLSocket | None = None
        self._context = context
        self._full = self._heard = False

    def receive(self) -> bytes | None:
        """What has come: b"" at the end, None where nothing has. Raises BlockedError."""
        if self.tls is not None:
            return self._receive_tls(self.tls)
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        self._full = len(data) == READ
        self._heard = True
        return data

    def _receive_tls(self, tls: ssl.SSLSocket) -> bytes | None:
        import ssl

        try:
            data = tls.recv(RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:  # it has to answer first, such as a new key
            raise BlockedError(WRITABLE) from None
        except OSError:
            return b""
        self._heard = True
        return data

    def all_read(self) -> bool:
        """Whether nothing more is to come: the client has ended by QUIT, or said nothing."""
        return not self._full and (self.session.quitted or not self._heard)

    def take(self) -> None:
        """Queue what the session has made: octets in one, parts that follow each other too."""
        session, queue = self.session, self.queue
        out = session.out
        session.weight = 0
        if len(out) == 1 and isinstance(out[0], bytes):
            queue.append(out[0])
            out.clear()
            return
        session.out = []
        octets: list[bytes] = []
        last: Part | None = None
        for each in out:
            if isinstance(each, bytes):
                octets.append(each)
                last = None
                continue
            part = Part(each)
            if octets:
                queue.append(b"".join(octets))
                octets = []
            if last and last.file == part.file and last.offset + last.octets == part.offset:
                last.octets += part.octets
            else:
                queue.append(part)
                last = part
        if octets:
            queue.append(b"".join(octets))

    def send(self, budget: int) -> bool:
        """Send what is queued; False where `budget` octets of files went and more is left.

        Raises BlockedError, and OSError where the connection or the file is lost.
        """
        queue = self.queue
        before = budget
        moved = False
        try:
            while queue:
                first = queue[0]
                if not isinstance(first, Part):
                    sent = self.sock.send(first)
                    moved = True
                    if sent == len(first):
                        del queue[0]
                    else:
                        queue[0] = memoryview(first)[sent:]
                    continue
                if budget <= 0:
                    return False
                budget -= self._send_part(first, budget)
                if not first.octets:
                    del queue[0]
        except BlockingIOError:
            raise BlockedError(WRITABLE, moved or budget < before) from None
        except OSError as error:
            if self.tls is None:
                raise
            raise _tls_wants(error, moved or budget < before) from None
        return True

    def _send_part(self, part: Part, budget: int) -> int:
        if self.tls is None:
            sent = os.sendfile(self.fd, part.file, part.offset, min(part.octets, budget))
        else:
            data = os.pread(part.file, min(part.octets, CLEAR), part.offset)
            sent = self.tls.send(data) if data else 0
        if not sent:
            raise OSError(errno.EIO, "the file is shorter than it was")
        part.offset += sent
        part.octets -= sent
        return sent

    def begin_tls(self) -> None:
        """From now on nothing goes in clear text. Raises OSError."""
        if self._context is None:
            raise OSError(errno.EPROTO, "no certificate")
        self.sock = self.tls = self._context().wrap_socket(
            self.sock, server_side=True, do_handshake_on_connect=False
        )
        self.shaking = True

    def shake(self) -> None:
        """Go on with the handshake. Raises BlockedError, and OSError where it failed."""
        if self.tls is None:
            return
        try:
            self.tls.do_handshake()
        except OSError as error:
            raise _tls_wants(error, False) from None
        self.shaking = False

    def close(self) -> None:
        """Close it, telling the other side where TLS asks for that (RFC 5246, 7.2.1)."""
        self.queue.clear()
        if self.tls is not None and not self.shaking:
            with suppress(OSError, ValueError):
                self.tls.unwrap()
        self.sock.close()


def _tls_wants(error: OSError, moved: bool) -> Exception:
    """The error as what is waited for, or as it is."""
    import ssl

    if isinstance(error, ssl.SSLWantReadError):
        return BlockedError(READABLE, moved)
    if isinstance(error, ssl.SSLWantWriteError):
        return BlockedError(WRITABLE, moved)
    return error
