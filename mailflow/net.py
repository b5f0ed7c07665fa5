"""Connections: connect, TLS, deadlines, and reading while writing.

Rule of the file: every wait has a deadline and ends when the engine stops, and a
side that writes never stops reading, so that two full buffers cannot dead-lock.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from contextlib import suppress

from mailflow.errors import ConfigError, LoginError, PeerError, UnavailableError
from mailflow.halt import Halt
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted

if TYPE_CHECKING:
    import ssl

READ_SIZE = 1 << 18

STAGGER = 0.25
"""Seconds before the next address is tried beside one that does not answer (RFC 8305, 5)."""

SLOWEST = 0.5
"""Octets a second that a peer must move while it is waited for, unless told otherwise."""

PATIENCE = 5
"""How many time-outs of waiting are added up before that rate is looked at."""


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine without asking the network."""
    if host in ("localhost", "ip6-localhost", "::1") or host.startswith("/"):
        return True
    try:
        return socket.inet_pton(socket.AF_INET, host)[0] == 127
    except OSError:
        return False


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """A client context: TLS 1.2 or newer, certificate and name checked (RFC 8314, 5.2).

    Raises ConfigError where `ca_file` cannot be read, or is none.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        said = str(error).upper().replace(" ", "_")
        none = "NO_CERTIFICATE" in said or "PEM_LIB" in said
        reason = "there is no certificate in it, as PEM" if none else error.reason or str(error)
        raise ConfigError(f"cannot use ca_file {ca_file}: {reason}") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot use ca_file {ca_file}: {reason}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


_CLEAR_PORT = "this port does not speak TLS from the first octet"
_COMMAND_PORT = '; where TLS begins by a command, as on 110, 143 and 587, set tls = "starttls"'
_TLS_PORT = 'if this port is for TLS from the first octet, set tls = "implicit"'
_OWN_AUTHORITY = "; where its authority is one of your own, name that by `ca_file`"
_UNTRUSTED = (18, 19, 20, 21)
"""X509_V_ERR of a certificate that nobody we trust has signed."""


class Address(NamedTuple):
    """What socket() and connect() take."""

    family: int
    address: object


def dial(
    host: str, port: int, *, timeout: float, halt: Halt, peer: str | None = None
) -> socket.socket:
    """A socket, which does not block, to the first address of `host` that answers in time.

    A `host` that begins with "/" is a Unix socket. Raises UnavailableError.
    """
    halt.check()
    if host.startswith("/"):
        found = [Address(socket.AF_UNIX, host)]
    else:
        found = addresses(host, port, timeout, halt)
    return _race(found, peer or _place(host, port), timeout, halt)


def _place(host: str, port: int) -> str:
    if host.startswith("/"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def no_tls(
    error: OSError, peer: str, server_name: str, clear: str = ""
) -> LoginError | UnavailableError:
    """Why a handshake has failed, and what to do; `clear` is what to do where a port speaks in
    clear."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        hint = _OWN_AUTHORITY if error.verify_code in _UNTRUSTED else ""
        return LoginError(
            f"the certificate of {peer} is refused: {error.verify_message}"
            f" (expected for {server_name}){hint}"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG"):
            reason = _CLEAR_PORT + clear
        return LoginError(f"no TLS with {peer}: {reason}")
    return UnavailableError(f"{peer} broke off the TLS handshake")


class Wire:
    """One connection. `write` queues, `read` waits; each sends what is queued.

    `peer` names the other side in errors. `timeout` is the longest silence, in
    seconds; `slowest`, how many octets a second it must move, over several of them
    (only time spent waiting counts); `grace`, how long waits go on when the engine
    stops, since an answer that decides what became of a mail is worth some time.
    Errors: UnavailableError (lost, silent, stopped), LoginError (TLS refused).
    """

    def __init__(self, sock: socket.socket, peer: str, timeout: float, halt: Halt) -> None:
        self.peer = peer
        self.timeout = timeout
        self.slowest = SLOWEST
        self.grace = 0.0
        self.halt = halt
        self._halted_at: float | None = None
        self._sock = sock
        self._out = bytearray()
        self._ready = b""
        self._heard = False
        self._tls = False
        self._not_now: tuple[type[OSError], ...] = (BlockingIOError,)
        self._failure: UnavailableError | None = None
        self._waited = 0.0
        self._moved = 0
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def connect(
        cls, host: str, port: int, *, timeout: float, halt: Halt, peer: str | None = None
    ) -> Wire:
        """Connect to the first address of `host` that answers, within `timeout`.

        A `host` that begins with "/" is a Unix socket. Raises UnavailableError.
        """
        peer = peer or _place(host, port)
        return cls(dial(host, port, timeout=timeout, halt=halt, peer=peer), peer, timeout, halt)

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Shake hands. What was received before it in clear breaks the protocol.

        Raises PeerError on octets injected before the handshake (CVE-2011-0411),
        LoginError on a certificate or protocol that is refused, and on a port that
        speaks in clear.
        """
        import ssl

        self.flush()
        if self._ready or self._speaks_in_clear():
            if not self._heard:
                raise LoginError(f"no TLS with {self.peer}: {_CLEAR_PORT}{_COMMAND_PORT}")
            raise PeerError(f"{self.peer} sent octets in clear before the TLS handshake")
        wrapped = context.wrap_socket(
            self._sock, server_hostname=server_name, do_handshake_on_connect=False
        )
        self._sock = wrapped
        self._tls = True
        self._not_now = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                wrapped.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, deadline, "TLS handshake")
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, deadline, "TLS handshake")
            except OSError as error:
                hint = "" if self._heard else _COMMAND_PORT
                raise no_tls(error, self.peer, server_name, hint) from None

    def _speaks_in_clear(self) -> bool:
        """A server says nothing before our ClientHello: whatever is there is not TLS."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def write(self, data: bytes) -> None:
        """Queue octets; they leave with the next `read`, `poll` or `flush`."""
        self._out += data

    @property
    def local_address(self) -> str:
        """The numeric address of this end, "" on a socket that has none."""
        name = self._sock.getsockname()
        return name[0] if isinstance(name, tuple) else ""

    @property
    def protection(self) -> str:
        """Which TLS the connection speaks, such as "TLSv1.3"; "" for none."""
        return str(getattr(self._sock, "version", str)() or "")

    @property
    def certificate(self) -> str:
        """The names in the certificate of the other side, and its last day; "" for none."""
        told = self._sock.getpeercert() if self._tls else None  # type: ignore[attr-defined]
        if not told:
            return ""
        names = ", ".join(name for _, name in told.get("subjectAltName", ()))
        return f"{names} until {told['notAfter']}"

    @property
    def unsent(self) -> int:
        """Octets queued and not yet handed to the system."""
        return len(self._out)

    def read(self, timeout: float | None = None, most: int = READ_SIZE) -> bytes:
        """At least one octet, as soon as there is one; b"" when the peer has ended."""
        if self._ready:
            data, self._ready = self._ready, b""
            return data
        self._send()
        try:
            return self._recv(most)
        except self._not_now:
            pass
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            writing = select.POLLOUT if self._out and self._failure is None else 0
            self._wait(select.POLLIN | writing, deadline, "answer")
            self._send()
            try:
                return self._recv(most)
            except self._not_now:
                pass

    def poll(self, most: int = READ_SIZE) -> bytes | None:
        """What is there now, without waiting: None if nothing, b"" at the end."""
        if self._ready:
            return self.read()
        self._send()
        try:
            return self._recv(most)
        except self._not_now:
            return None

    def listen(self, seconds: float) -> bool:
        """Whether there is something to read within `seconds`: here silence is no fault.

        What is queued is sent before. Raises UnavailableError (lost, stopped).
        """
        self.flush()
        if self._ready or (self._tls and self._sock.pending()):  # type: ignore[attr-defined]
            return True
        masks = {self._sock.fileno(): select.POLLIN, self.halt.fileno(): select.POLLIN}
        ready = _poll(masks, max(0.0, seconds))
        self.halt.check()
        return bool(ready)

    def flush(self, timeout: float | None = None) -> None:
        """Send all that is queued, taking in what arrives meanwhile.

        Each bit of progress starts the time-out anew. When the peer has left, it
        raises UnavailableError; `read` then still gives what the peer said before.
        """
        patience = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + patience
        while not self._send():
            if self._failure is not None:
                self._hear_out()
                raise self._failure
            hearing = select.POLLIN if len(self._ready) < READ_SIZE else 0
            before = len(self._out)
            self._wait(select.POLLOUT | hearing, deadline, "room to send")
            if hearing:
                try:
                    data = self._recv(READ_SIZE)
                except self._not_now:
                    data = None
                if data:
                    self._ready += data
                elif data == b"":
                    raise UnavailableError(f"{self.peer} closed the connection")
            if self._send() or len(self._out) < before:
                deadline = time.monotonic() + patience

    def close(self) -> None:
        """Just leave; nothing more is sent."""
        self._sock.close()

    def _hear_out(self) -> None:
        """Keep what a peer said before it left."""
        with suppress(UnavailableError, *self._not_now):
            while len(self._ready) < READ_SIZE and (data := self._recv(READ_SIZE)):
                self._ready += data

    def _recv(self, most: int) -> bytes:
        """Raises one of `_not_now` where nothing is there."""
        try:
            data = self._sock.recv(most)
            if self._tls:
                data = self._more_records(data, most)
        except self._not_now:
            raise
        except OSError as error:
            raise self._lost(error) from None
        self._heard = True
        self._moved += len(data)
        return data

    def _more_records(self, data: bytes, most: int) -> bytes:
        """TLS gives one record (16 KiB at most) at a time: take those that are there."""
        records = [data]
        size = len(data)
        try:
            while data and size < most:
                data = self._sock.recv(most - size)
                records.append(data)
                size += len(data)
        except OSError:
            pass  # nothing more now, or the next call meets the same error
        return b"".join(records)

    def _send(self) -> bool:
        """Hand over what the system takes; True if all of it."""
        while self._out and self._failure is None:
            try:
                with memoryview(self._out) as view, view[:READ_SIZE] as piece:
                    sent = self._sock.send(piece)
            except self._not_now:
                return False
            except OSError as error:
                self._failure = self._lost(error)  # what it said before is still to be read
                return False
            self._moved += sent
            del self._out[:sent]
        return not self._out

    def _lost(self, error: OSError) -> UnavailableError:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        return UnavailableError(f"the connection to {self.peer} is lost: {reason}")

    def _wait(self, mask: int, deadline: float, what: str) -> None:
        """Until the socket is ready. Raises UnavailableError at the deadline or the halt."""
        began = time.monotonic()
        left = deadline - began
        masks = {self._sock.fileno(): mask}
        if self.halt.is_set():
            left = min(left, self._grace_left())
        else:
            masks[self.halt.fileno()] = select.POLLIN
        ready = _poll(masks, left) if left > 0 else {}
        if not ready or self.halt.fileno() in ready:
            self._grace_left()
        if not ready:
            raise UnavailableError(f"{self.peer} keeps silent: no {what} in time{self._guess()}")
        self._check_pace(time.monotonic() - began)

    def _guess(self) -> str:
        """Why a server that has never said a word may wait for one of ours."""
        expects_tls = self._sock.family in (socket.AF_INET, socket.AF_INET6) and not self._tls
        return f"; {_TLS_PORT}" if expects_tls and not self._heard else ""

    def _grace_left(self) -> float:
        """Seconds that a wait may still go on. Raises UnavailableError once there are none."""
        if not self.halt.is_set():
            return float("inf")
        if self._halted_at is None:
            self._halted_at = time.monotonic()
        left = self._halted_at + self.grace - time.monotonic()
        if left <= 0:
            raise UnavailableError("stopped on request")
        return left

    def _check_pace(self, waited: float) -> None:
        """A peer that sends one octet a minute is as good as silent."""
        self._waited += waited
        if self._waited <= PATIENCE * self.timeout:
            return
        if self._moved < self.slowest * self._waited:
            raise UnavailableError(
                f"{self.peer} is too slow: {counted(self._moved, 'octet')}"
                f" in {counted(round(self._waited), 'second')}"
            )
        self._waited, self._moved = 0.0, 0


def _poll(masks: dict[int, int], seconds: float) -> dict[int, int]:
    """Descriptor to event mask; empty at the end of time. select(2) ends at 1023."""
    poller = select.poll()
    for number, mask in masks.items():
        poller.register(number, mask)
    return dict(poller.poll(None if seconds == float("inf") else min(seconds, 1e6) * 1000))


def addresses(host: str, port: int, timeout: float, halt: Halt) -> list[Address]:
    """The addresses of `host`. A name is looked up in a thread, since that cannot be ended."""
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except OSError:
        pass  # a name
    except UnicodeError:
        raise UnavailableError(f"cannot find {host}: not a host name") from None
    found: list[Address] = []
    failure: list[BaseException] = []
    reader, writer = socket.socketpair()

    def look_up() -> None:
        with writer:
            try:
                found.extend(_look_up(host, port, 0))
            except (OSError, UnicodeError) as error:
                failure.append(error)

    threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
    with reader:
        waiting = {halt.fileno(): select.POLLIN, reader.fileno(): select.POLLIN}
        ready = _poll(waiting, timeout)
        if halt.fileno() in ready:
            raise UnavailableError("stopped on request")
        if not ready:
            raise UnavailableError(f"cannot find {host}: the name service does not answer")
    if failure:
        raise UnavailableError(f"cannot find {host}: {failure[0].args[-1]}")
    return found


def _look_up(host: str, port: int, flags: int) -> list[Address]:
    name = host.encode() if host.isascii() else host  # a str loads the codec for IDNA
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    return [Address(family, address) for family, _, _, _, address in found]


def _race(addresses: list[Address], peer: str, timeout: float, halt: Halt) -> socket.socket:
    """The first of `addresses` that answers; the next one starts when one fails or dawdles."""
    deadline = time.monotonic() + timeout
    running: dict[int, socket.socket] = {}
    left = list(addresses)
    reason = ""
    try:
        while left or running:
            if left:
                try:
                    sock = _begin(left.pop(0))
                except OSError as error:
                    reason = reason or error.strerror or str(error)
                    continue
                running[sock.fileno()] = sock
            patience = deadline - time.monotonic()
            if patience <= 0:
                reason = reason or "no answer in time"
                break
            masks = dict.fromkeys(running, select.POLLOUT) | {halt.fileno(): select.POLLIN}
            ready = _poll(masks, min(patience, STAGGER) if left else patience)
            if halt.fileno() in ready:
                raise UnavailableError("stopped on request")
            for number in ready:
                sock = running.pop(number)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return sock
                sock.close()
                reason = reason or os.strerror(code)
    finally:
        for sock in running.values():
            sock.close()
    raise UnavailableError(f"cannot connect to {peer}: {reason or 'no address'}")


def _begin(address: Address) -> socket.socket:
    """A socket on its way to `address`. Raises OSError if it is refused at once."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(address.address)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno != errno.EINPROGRESS:
            sock.close()
            raise
    return sock
