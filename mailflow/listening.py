"""Where a service listens: TCP addresses, unix sockets, and sockets that systemd has bound.

    listen = ["127.0.0.1:1110", "[::1]:1110", "*:995", "unix:/run/mailflow/pop3", "systemd:pop3"]

Rule of the file: what is bound is bound once, by the parent, while it may still have the
privilege; a socket's file is made with its mode, and one that somebody listens on is left.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from mailflow.errors import ConfigError, UnavailableError, from_os
from mailflow.net import is_loopback
from mailflow.options import Option
from mailflow.record import NamedTuple
from mailflow.typed import Any

BACKLOG = 1024

LONGEST = 96
"""Octets of a unix socket's path: unix(7) has 107, of which a part is for its first name."""

TAKEN = "another program listens there; `mailflow status` says whether it is a `mailflow serve`"

FIRST_INHERITED = 3
"""The descriptor of the first socket that systemd hands on (sd_listen_fds(3))."""


class Address(NamedTuple):
    """`kind` is tcp, unix or systemd; `host` "*" is every address, IPv4 and IPv6; `path`
    that of a unix socket, or the FileDescriptorName of systemd ("" for all of them)."""

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        """Whether only programs of this machine reach it; not known of systemd's."""
        return self.kind == "unix" or (self.kind == "tcp" and is_loopback(self.host))

    def __str__(self) -> str:
        if self.kind == "tcp":
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{host}:{self.port}"
        return f"{self.kind}:{self.path}" if self.path else self.kind


class Listen(Option[Address]):
    """One address to listen on."""

    expected = (
        'an address such as "127.0.0.1:1110", "[::1]:1110", "*:995", "unix:/run/x" or "systemd"'
    )
    json_type = {"type": "string", "minLength": 1}

    def convert(self, value: object, base: str) -> Address:
        if not isinstance(value, str):
            raise self.reject()
        return read(value, base)


def read(text: str, base: str = ".") -> Address:
    """An address as a user writes it; a relative path of a socket starts at `base`. Raises
    ValueError saying what was expected."""
    kind, colon, rest = text.partition(":")
    if kind == "systemd":
        return Address("systemd", path=rest)
    if kind == "unix":
        path = os.path.normpath(os.path.join(base, os.path.expanduser(rest)))
        if not rest or "\0" in path or len(os.fsencode(path)) > LONGEST:
            raise ValueError(f"expected unix: and a path of at most {LONGEST} octets")
        return Address("unix", path=path)
    host, colon, port = text.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) < 6):
        raise ValueError(f"expected {Listen.expected}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("expected an IPv6 address in brackets, such as [::1]:1110")
    if int(port) > 65535:
        raise ValueError("expected a port from 0 to 65535")
    return Address("tcp", host or "*", int(port))


def bind(addresses: Iterable[Address], *, mode: int = 0o666) -> list[socket.socket]:
    """Sockets that listen, non-blocking; `mode` is that of unix sockets. All or none:
    raises UnavailableError, or ConfigError where systemd has handed on none of that name."""
    bound: list[socket.socket] = []
    try:
        for address in addresses:
            if address.kind == "tcp":
                bound += _tcp(address)
            elif address.kind == "unix":
                bound.append(_unix(address, mode))
            else:
                bound += _inherited(address)
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    for sock in bound:
        sock.setblocking(False)
    return bound


def _tcp(address: Address) -> list[socket.socket]:
    """One socket for each address that the host name has."""
    found: list[tuple[int, tuple[Any, ...]]]
    if address.host == "*":
        dual = socket.has_dualstack_ipv6()
        found = [(socket.AF_INET6, ("::",))] if dual else [(socket.AF_INET, ("0.0.0.0",))]  # noqa: S104
        found = [(family, (*where, address.port)) for family, where in found]
    else:
        try:
            infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UnavailableError(f"cannot listen on {address}: {error.strerror}") from None
        found = list(dict.fromkeys((int(info[0]), info[4]) for info in infos))
    bound: list[socket.socket] = []
    for family, where in found:
        try:
            bound.append(_one(family, where, both=address.host == "*"))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(found) > 1:
                continue  # a name such as localhost, on a machine without IPv6
            for other in bound:
                other.close()
            raise _refused(address, error) from None
    if not bound:
        raise _refused(address, OSError(errno.EADDRNOTAVAIL, ""))
    return bound


def _one(family: int, where: tuple[Any, ...], *, both: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        sock.bind(where)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _refused(address: Address, error: OSError) -> UnavailableError:
    """The error in words that say what to do."""
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.EACCES:
        reason += "; ports below 1024 need root (and --user), CAP_NET_BIND_SERVICE, or systemd"
    elif error.errno == errno.EADDRINUSE:
        reason = TAKEN
    elif error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        reason = "this machine has no such address"
    return UnavailableError(f"cannot listen on {address}: {reason}", errno=error.errno)


def _unix(address: Address, mode: int) -> socket.socket:
    """A socket's file is made under another name, so that nobody connects before its mode is
    set, and moved over what an ended process has left."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = f"{address.path}.{os.getpid()}"
    try:
        if _heard(address.path):
            raise UnavailableError(f"cannot listen on {address}: {TAKEN}")
        with suppress(FileNotFoundError):
            os.unlink(new)  # of a process that was killed right here, and had our number
        sock.bind(new)
        try:
            os.chmod(new, mode)
            sock.listen(BACKLOG)
            os.rename(new, address.path)
        except BaseException:
            os.unlink(new)
            raise
    except OSError as error:
        sock.close()
        raise from_os(error, f"listen on {address}") from None
    except BaseException:
        sock.close()
        raise
    return sock


def _heard(path: str) -> bool:
    """Whether somebody listens on this socket. Raises UnavailableError for another file."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UnavailableError(f"cannot listen on unix:{path}: there is a file of that name")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # where nobody accepts, it would wait for ever
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno not in (errno.ECONNREFUSED, errno.ENOENT)
    return True


def _inherited(address: Address) -> list[socket.socket]:
    """The sockets of systemd that bear the name, or all of them (sd_listen_fds(3))."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        raise ConfigError(
            f"cannot listen on {address}: systemd has handed on no socket; is the .socket unit"
            " started, and does it name this service?"
        )
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[socket.socket] = []
    for number in range(int(count)):
        name = names[number] if number < len(names) else ""
        if not address.path or name == address.path:
            found.append(_handed_on(FIRST_INHERITED + number, address))
    if not found:
        raise ConfigError(
            f"cannot listen on {address}: systemd has handed on sockets named"
            f" {', '.join(names) or 'nothing'}; give it FileDescriptorName={address.path}"
        )
    return found


def clashes(services: Iterable[tuple[str, Iterable[object]]]) -> Iterator[tuple[int, str]]:
    """Of services and what each listens on: the number of one, and why it cannot."""
    heard: list[tuple[str, Address]] = []
    for number, (name, given) in enumerate(services):
        for address in [each for each in given if isinstance(each, Address)]:
            taken = [other for other, each in heard if _clash(each, address)]
            if taken:
                yield number, f"{taken[0]} listens on {address} already"
            heard.append((name, address))


def _clash(one: Address, other: Address) -> bool:
    """Whether only one of the two can be listened on."""
    if one.kind != other.kind or one.kind == "systemd":
        return False
    if one.kind == "unix":
        return one.path == other.path
    same = one.host == other.host or "*" in (one.host, other.host)
    return same and one.port == other.port != 0


def where(sock: socket.socket) -> str:
    """The address of a socket that listens, as a file would say it."""
    name = sock.getsockname()
    if isinstance(name, tuple):
        host = "*" if name[0] in ("::", "0.0.0.0") else str(name[0])  # noqa: S104
        return str(Address("tcp", host, name[1]))
    return str(Address("unix", path=os.fsdecode(name)))


def _handed_on(descriptor: int, address: Address) -> socket.socket:
    """A socket of ours for one of systemd's, which must be one that clients connect to."""
    number = -1
    with suppress(OSError):
        number = os.dup(descriptor)
        sock = socket.socket(fileno=number)
        if sock.type == socket.SOCK_STREAM and _listens(sock):
            return sock
        number = sock.detach()
    if number >= 0:
        os.close(number)
    raise ConfigError(
        f"cannot listen on {address}: systemd has handed on something else than a socket that"
        " listens; the .socket unit needs ListenStream= and Accept=no"
    )


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def is_local(sock: socket.socket) -> bool:
    """Whether only programs of this machine reach this socket."""
    if sock.family == socket.AF_UNIX:
        return True
    host: str = sock.getsockname()[0]
    return is_loopback(host)
