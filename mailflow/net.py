"""Connections: connect, TLS, deadlines, and reading while writing.

Rule of the file: every wait has a deadline and ends when the engine stops, and a
side that writes never stops reading, so that two full buffers cannot dead-lock.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mailflow.errors import LoginError, PeerError, UnavailableError

if TYPE_CHECKING:
    import ssl

READ_SIZE = 1 << 18


class Halt:
    """The word that everything ends: waits on sockets and on time see it at once."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._event = threading.Event()

    def set(self) -> None:
        """End all waits. Safe in a signal handler."""
        self._event.set()
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass

    def is_set(self) -> bool:
        return self._event.is_set()

    def fileno(self) -> int:
        """Readable once `set` was called."""
        return self._reader

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as `set` was called."""
        return bool(select.select([self._reader], [], [], max(0.0, seconds))[0])

    def check(self) -> None:
        """Raise UnavailableError if the engine stops."""
        if self._event.is_set():
            raise UnavailableError("stopped on request")

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine without asking the network."""
    return host in ("localhost", "::1", "ip6-localhost") or host.startswith(("127.", "/"))


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A client context: TLS 1.2 or newer, certificate and name checked (RFC 8314, 5.2)."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise LoginError(f"cannot use ca_file {ca_file}: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Wire:
    """One connection. `write` queues, `read` waits; each sends what is queued.

    `peer` names the other side in errors. `timeout` is the longest silence, in
    seconds; `grace`, how long waits go on when the engine stops (an answer that
    decides what became of a mail is worth some time). Errors: UnavailableError (lost,
    silent, stopped), LoginError (TLS refused before anything was said).
    """

    def __init__(self, sock: socket.socket, peer: str, timeout: float, halt: Halt) -> None:
        self.peer = peer
        self.timeout = timeout
        self.grace = 0.0
        self.halt = halt
        self._grace_ends: float | None = None
        self._sock = sock
        self._out = bytearray()
        self._ready = b""
        self._last_wait = 0.0
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(
        cls, host: str, port: int, *, timeout: float, halt: Halt, peer: str | None = None
    ) -> Wire:
        """Try each address of `host` in turn (RFC 8305 in its simplest form)."""
        halt.check()
        peer = peer or f"{host}:{port}"
        if host.startswith("/"):
            return cls(_connected(socket.AF_UNIX, host, timeout, halt, peer), peer, timeout, halt)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise UnavailableError(f"cannot find {host}: {error.args[-1]}") from None
        failure: UnavailableError | None = None
        for family, _, _, _, address in found:
            try:
                return cls(_connected(family, address, timeout, halt, peer), peer, timeout, halt)
            except UnavailableError as error:
                failure = failure or error
        raise failure or UnavailableError(f"cannot find {host}: no address")

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Shake hands. What was received before it in clear breaks the protocol.

        Raises PeerError on octets injected before the handshake (CVE-2011-0411),
        LoginError on a certificate or protocol that is refused.
        """
        import ssl

        self.flush()
        if self._ready or (self._readable_now() and self._peek_is_clear()):
            raise PeerError(f"{self.peer} sent octets in clear behind its answer to STARTTLS")
        wrapped = context.wrap_socket(
            self._sock, server_hostname=server_name, do_handshake_on_connect=False
        )
        self._sock = wrapped
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                wrapped.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(True, False, deadline, "the TLS handshake")
            except ssl.SSLWantWriteError:
                self._wait(False, True, deadline, "the TLS handshake")
            except ssl.SSLCertVerificationError as error:
                reason = error.verify_message or error.reason
                raise LoginError(
                    f"the certificate of {self.peer} is refused: {reason} "
                    f"(server name {server_name})"
                ) from None
            except (ssl.SSLError, OSError) as error:
                reason = getattr(error, "reason", None) or error.strerror or str(error)
                raise UnavailableError(f"no TLS with {self.peer}: {reason}") from None

    def _readable_now(self) -> bool:
        return bool(select.select([self._sock], [], [], 0)[0])

    def _peek_is_clear(self) -> bool:
        """A server says nothing before our ClientHello: whatever is there is not TLS."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def write(self, data: bytes) -> None:
        """Queue octets; they leave with the next `read` or `flush`."""
        self._out += data

    @property
    def local_address(self) -> str:
        """The numeric address of this end, "" on a socket that has none."""
        name = self._sock.getsockname()
        return name[0] if isinstance(name, tuple) else ""

    @property
    def unsent(self) -> int:
        """Octets queued and not yet handed to the system."""
        return len(self._out)

    def read(self, timeout: float | None = None, most: int = READ_SIZE) -> bytes:
        """At least one octet, as soon as there is one; b"" when the peer has ended."""
        if self._ready:
            data, self._ready = self._ready, b""
            return data
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            self._send()
            try:
                return self._recv(most)
            except BlockingIOError:
                self._wait(True, bool(self._out), deadline, "an answer")

    def poll(self, most: int = READ_SIZE) -> bytes | None:
        """What is there now, without waiting: None if nothing, b"" at the end."""
        if self._ready:
            return self.read()
        self._send()
        try:
            return self._recv(most)
        except BlockingIOError:
            return None

    def flush(self, timeout: float | None = None) -> None:
        """Send all that is queued, taking in what arrives meanwhile."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            before = len(self._out)
            self._send()
            if not self._out:
                return
            if len(self._out) < before:
                deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
            if len(self._ready) < READ_SIZE:
                try:
                    data = self._recv(READ_SIZE)
                except BlockingIOError:
                    self._wait(True, True, deadline, "room to send")
                    continue
                if not data:
                    raise UnavailableError(f"{self.peer} closed the connection")
                self._ready += data
            else:
                self._wait(False, True, deadline, "room to send")

    def close(self) -> None:
        """Just leave; nothing more is sent."""
        self._sock.close()

    def _recv(self, most: int) -> bytes:
        """Raises BlockingIOError where nothing is there."""
        import ssl  # loaded with socket use of TLS; a name lookup afterwards

        try:
            return self._sock.recv(most)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except BlockingIOError:
            raise
        except ssl.SSLEOFError:
            raise UnavailableError(f"{self.peer} cut the TLS connection") from None
        except OSError as error:
            raise UnavailableError(
                f"the connection to {self.peer} is lost: {error.strerror or error}"
            ) from None

    def _send(self) -> None:
        import ssl

        while self._out:
            try:
                with memoryview(self._out) as view, view[:READ_SIZE] as piece:
                    sent = self._sock.send(piece)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                if self._readable_now():
                    return  # what the peer said before it left is worth reading
                raise UnavailableError(
                    f"the connection to {self.peer} is lost: {error.strerror or error}"
                ) from None
            del self._out[:sent]

    def _wait(self, reading: bool, writing: bool, deadline: float, what: str) -> None:
        """Until the socket is ready. Raises UnavailableError at the deadline or the halt."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(f"{self.peer} keeps silent: no {what} in time")
        readers: list[object] = [self._sock] if reading else []
        if self.halt.is_set():
            left = min(left, self._grace_left())
        else:
            readers.append(self.halt)
        ready = _select(readers, [self._sock] if writing else [], left)
        if self.halt in ready:
            self._grace_left()
            return
        if not ready:
            self._grace_left()
            raise UnavailableError(f"{self.peer} keeps silent: no {what} in time")

    def _grace_left(self) -> float:
        """Seconds that a wait may still go on. Raises UnavailableError once there are none."""
        if not self.halt.is_set():
            return float("inf")
        if self._grace_ends is None:
            self._grace_ends = time.monotonic() + self.grace
        left = self._grace_ends - time.monotonic()
        if left <= 0:
            raise UnavailableError("stopped on request")
        return left


def _select(readers: Iterable[object], writers: Iterable[object], seconds: float) -> list[object]:
    """poll(2): select(2) cannot see descriptors over 1023."""
    poller = select.poll()
    waiting: dict[int, object] = {}
    masks: dict[int, int] = {}
    for mask, parts in ((select.POLLIN, readers), (select.POLLOUT, writers)):
        for part in parts:
            number = part.fileno()  # type: ignore[attr-defined]
            waiting[number] = part
            masks[number] = masks.get(number, 0) | mask
    for number, mask in masks.items():
        poller.register(number, mask)
    return [waiting[number] for number, _ in poller.poll(min(seconds, 3600.0) * 1000)]


def _connected(
    family: int, address: object, timeout: float, halt: Halt, peer: str
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.connect(address)  # type: ignore[arg-type]
        except BlockingIOError:
            ready = _select([halt], [sock], timeout)
            if halt in ready:
                raise UnavailableError("stopped on request") from None
            if not ready:
                raise UnavailableError(f"cannot connect to {peer}: no answer in time") from None
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code)) from None
    except OSError as error:
        sock.close()
        raise UnavailableError(f"cannot connect to {peer}: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise
    return sock
