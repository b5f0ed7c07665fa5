"""The POP3 server as a service: its options, its doors.

Rule of the file: what one table says holds for all of its listeners but one thing: passwords
in clear text are taken on this machine alone, unless the file says otherwise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence

from mailflow import listening
from mailflow.kinds import Host, Runtime
from mailflow.log import tells
from mailflow.options import FOREVER, Choice, Duration, Integer, ListOf, Options, Path, Text
from mailflow.sasl_server import mechanisms
from mailflow.typed import TYPE_CHECKING
from mailflow_pop3.server import WAYS, Policy

if TYPE_CHECKING:
    from socket import socket

    from mailflow.accounts import Accounts
    from mailflow.halt import Halt
    from mailflow.log import Logger
    from mailflow.tls import ServerTls
    from mailflow_pop3.transport import Door

CLEAR = listening.Address("tcp", "127.0.0.1", 1110)
SECURE = listening.Address("tcp", "*", 995)


DESCRIPTORS, SPARE = 4, 1024
"""What a session needs: a socket, a lock, files of its drop; and what the rest needs."""

LONGEST = 200
"""Characters of what a status line says, which has 512 octets at most (RFC 2449, 4)."""

LEAST_IDLE = 600.0
"""RFC 1939, 3: an autologout timer is of ten minutes at least."""


class GatewayOptions(Options):
    """A POP3 server."""

    listen = ListOf(
        'Where it listens: "127.0.0.1:1110", "[::1]:1110", "*:995" (all addresses),'
        ' "unix:/run/mailflow/pop3", "systemd" or "systemd:NAME" (sockets that systemd has'
        ' bound). By default "*:995" where there is a `certificate`, else "127.0.0.1:1110".',
        listening.Listen("An address."), default=(),
    )  # fmt: skip
    socket_mode = Text("Who may connect to a unix socket, as chmod says it.", default="0666")
    certificate = Path.optional(
        "A PEM file with the certificate and its chain; read again when it changes."
    )
    key = Path.optional("A PEM file with its key; by default that of the certificate.")
    tls = Choice(
        "How connections are protected: TLS from the first octet, after STLS, or not at all."
        " By default implicit where there is a `certificate`, but on port 110 starttls.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    plaintext = Choice(
        "From where passwords may come without TLS: from this machine alone, from anywhere,"
        " or from nowhere.",
        "loopback", "anywhere", "never", default="loopback",
    )  # fmt: skip
    banner = Text("What the greeting says.", default="POP3 server ready")
    auth = ListOf(
        "The ways to log in that are offered: USER and PASS, APOP where every secret is stored as"
        " plain text, and SASL mechanisms, each only where it works; by default all but APOP.",
        Choice("A way to log in.", *WAYS), default=tuple(way for way in WAYS if way != "apop"),
    )  # fmt: skip
    utf8 = Choice(
        "What a client that has not said UTF8 (RFC 6856) gets of a message whose header section"
        " is in UTF-8: one with encoded words instead, or -ERR [UTF8]. off: UTF8 is not offered,"
        " and everybody gets it as it is.",
        "surrogate", "refuse", "off", default="surrogate",
    )  # fmt: skip
    expire = Duration(
        "How long messages are kept, which CAPA tells; it is for the back end to do it, and"
        " where a maildrop says that it keeps them for less, that is told.",
        default=FOREVER,
    )
    login_delay = Duration(
        "How long a client must wait until it logs in again; CAPA tells it.", default=0.0
    )
    implementation = Text(
        'What CAPA says it is, once a client has logged in; "" says nothing.', default="mailflow"
    )
    login_timeout = Duration("How long a client has to log in.", default=60.0)
    timeout = Duration(
        "How long a client that has logged in may say nothing; ten minutes at least.",
        default=LEAST_IDLE,
    )
    stall = Duration("How long a client may take nothing of an answer.", default=LEAST_IDLE)
    connections = Integer(
        "How many connections there may be, in each process.", default=10000, least=1
    )
    per_address = Integer(
        "How many connections one address may have; 0 for as many as it likes.", default=0
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.timeout < LEAST_IDLE:
            yield "timeout", 'expected "10m" or more (RFC 1939, 3)'
        if self.certificate is None:
            if self.tls in ("implicit", "starttls"):
                yield "certificate", f'expected one, since tls is "{self.tls}"'
            if self.key is not None:
                yield "certificate", "expected one, since there is a `key`"
        if not self.auth:
            yield "auth", "expected a way to log in"
        elif not any(map(self._reachable, self.addresses)):
            yield "plaintext", "nobody could log in: give a `certificate`, or allow it"
        for name, text in (("banner", self.banner), ("implementation", self.implementation)):
            if not text.isascii() or len(text) > LONGEST or "<" in text:
                yield name, f'expected at most {LONGEST} characters of ASCII, no "<" among them'
        mode = self.socket_mode
        if not mode.isdigit() or len(mode) > 4 or set(mode) & {"8", "9"}:
            yield "socket_mode", 'expected an octal number such as "0660"'

    def _reachable(self, address: listening.Address) -> bool:
        """Whether somebody can log in there, as far as the file tells."""
        if self.protection(address.port) != "none" or address.kind == "systemd":
            return True
        if self.plaintext == "anywhere" or {"scram-sha-256", "apop"} & set(self.auth):
            return True
        return self.plaintext == "loopback" and address.local

    def look(self) -> Iterator[tuple[str, str]]:
        if self.certificate is not None:
            from mailflow.tls import certificate_faults

            for text in certificate_faults(self.certificate, self.key):
                yield "certificate", text

    @property
    def addresses(self) -> Sequence[listening.Address]:
        """`listen`, with its default worked out."""
        return self.listen or (CLEAR if self.certificate is None else SECURE,)

    def protection(self, port: int) -> str:
        """`tls` of a listener, with its default worked out."""
        if self.tls or self.certificate is None:
            return self.tls or "none"
        return "starttls" if port == 110 else "implicit"


def _raise_descriptors(wanted: int) -> None:
    """Let this process have so many more descriptors, or as many as it may have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted + SPARE if hard == resource.RLIM_INFINITY else min(hard, wanted + SPARE)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _tls(options: GatewayOptions, log: Logger | None = None) -> ServerTls | None:
    from mailflow.tls import ServerTls

    if options.certificate is None:
        return None
    return ServerTls(options.certificate, options.key, log)


def _opens(accounts: Accounts, ways: Sequence[str], *, clear: bool) -> bool:
    """Whether one of the ways to log in works; `clear`: passwords may come as they are."""
    found = {each.lower() for each in mechanisms(accounts, plain=clear)}
    found |= {"user"} if clear else set()
    found |= {"apop"} if accounts.offers_apop else set()
    return bool(found & set(ways))


class Pop3Gateway:
    """Serves the maildrops of the file to POP3 clients."""

    options = GatewayOptions

    def __init__(self, options: GatewayOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime

    def listen(self) -> Sequence[socket]:
        tls = _tls(self._options)
        if tls is not None:
            tls.context()  # a certificate that cannot be used ends the start, not each client
        return listening.bind(self._options.addresses, mode=int(self._options.socket_mode, 8))

    def serve(self, host: Host, listening: Sequence[socket], halt: Halt) -> None:
        from mailflow_pop3.transport import Limits, Transport

        options = self._options
        limits = Limits(
            options.login_timeout, options.timeout, options.stall, options.connections,
            options.per_address,
        )  # fmt: skip
        _raise_descriptors(DESCRIPTORS * options.connections)
        doors = self._doors(host, listening)
        transport = Transport(doors, limits, halt, host.log, host.report)
        mechanisms(host.accounts, plain=True)  # what it imports, it might not without descriptors
        host.ready()
        transport.run()

    def _granted(self, host: Host) -> Policy:
        """What all listeners grant alike."""
        options = self._options
        delay = None
        if options.login_delay:
            from mailflow_pop3.delay import LoginDelay

            directory = os.path.join(self._runtime.scratch, "login-delay")
            delay = LoginDelay(directory, math.ceil(options.login_delay))
        return Policy(
            accounts=lambda: host.accounts,
            log=host.log,
            banner=options.banner,
            implementation=options.implementation,
            ways=options.auth,
            expire=options.expire,
            delay=delay,
            utf8=options.utf8,
            trace=tells("debug"),
            status=host.status,
            poke=host.poke,
        )

    def _doors(self, host: Host, sockets: Sequence[socket]) -> list[Door]:
        """What is granted behind each socket."""
        from mailflow_pop3.transport import Door

        options = self._options
        tls = _tls(options, host.log)
        if tls is not None:
            tls.context()  # what is wrong with it is told now, not to the first client
        granted = self._granted(host)
        doors = []
        for sock in sockets:
            where = sock.getsockname()
            protection = options.protection(where[1] if isinstance(where, tuple) else 0)
            near = options.plaintext == "loopback" and listening.is_local(sock)
            policy = granted._replace(
                stls=protection == "starttls", plain=near or options.plaintext == "anywhere"
            )
            context = tls.context if tls is not None and protection != "none" else None
            clear = policy.plain or context is not None
            if not _opens(host.accounts, options.auth, clear=clear):
                why = "no way of `auth` works with the secrets as they are stored"
                if not clear:
                    why = "there is no `certificate`, and SCRAM does not work with the secrets"
                host.log.warning(f"nobody can log in at {listening.where(sock)}: {why}")
            doors.append(Door(sock, policy, context, protection == "implicit"))
        return doors
