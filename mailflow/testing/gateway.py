"""A POP3 gateway on loopback in this process, with the maildrops that a test gives it.

    with Gateway({"ann": maildrop}) as gateway:        # her password is "secret"
        poplib.POP3(gateway.host, gateway.port)

Rule of the file: it is the service that `mailflow serve` runs, with a host that does nothing
but keep what it is told.
"""

from __future__ import annotations

import poplib
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mailflow.accounts import Account, Accounts, Pace
from mailflow.errors import ConfigError
from mailflow.halt import Halt
from mailflow.kinds import Maildrop, Runtime
from mailflow.options import SecretValue
from mailflow.testing.engine import LogDouble

if TYPE_CHECKING:
    from mailflow.testing.tls import Certificate

PASSWORD = "secret"
PATIENCE = 10.0

AT_ONCE = Pace(first=0.0, most=0.0, address=10_000, account=10_000)
"""No answer is kept back."""


class HostDouble:
    """What a service sees of `mailflow serve`; `reports` is what it said last, `poked` the
    sources that it was asked to fetch from."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.log: Any = LogDouble()
        self.reports: Mapping[str, object] = {}
        self.poked: list[str] = []
        self.sources = ("work",)
        self.is_ready = threading.Event()

    def ready(self) -> None:
        self.is_ready.set()

    def report(self, facts: Mapping[str, object]) -> None:
        self.reports = facts

    def status(self) -> Mapping[str, object]:
        return {"sources": {name: {"state": "idle"} for name in self.sources}}

    def poke(self, source: str) -> None:
        if source not in self.sources:
            raise ConfigError(f"there is no source {source!r}")
        self.poked.append(source)


class Gateway:
    """Serves from `__enter__` to `__exit__`, in a thread.

    `maildrops`: one for each login name, whose password is PASSWORD, or accounts as they are.
    `options` are those of [[serve]] as a file says them; it listens at a free port of
    127.0.0.1 unless they say otherwise. `certificate` is for TLS from the first octet, or as
    the option `tls` says. `ports` are those of all TCP listeners, `port` the first.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        maildrops: Mapping[str, Maildrop] | Sequence[Account],
        *,
        certificate: Certificate | None = None,
        **options: object,
    ) -> None:
        from mailflow.engine.registry import Registry

        if isinstance(maildrops, Mapping):
            maildrops = [Account(name, drop, secret=plain()) for name, drop in maildrops.items()]
        self.service_host = HostDouble(Accounts(maildrops))
        self.halt = Halt()
        if certificate is not None:
            options = {"certificate": certificate.cert_file, "key": certificate.key_file, **options}
        component = Registry().component("serve", "pop3")
        read = component.options.read({"listen": ["127.0.0.1:0"], **options})
        self._scratch = TemporaryDirectory(prefix="gateway")
        log: Any = self.log
        runtime = Runtime("pop3", "tests", self.halt, log, self._scratch.name)
        self._service = component(read, runtime)
        self._error: BaseException | None = None

    @property
    def log(self) -> LogDouble:
        log: LogDouble = self.service_host.log
        return log

    def __enter__(self) -> Self:
        self._sockets = self._service.listen()
        names = [sock.getsockname() for sock in self._sockets]
        self.ports: list[int] = [name[1] for name in names if isinstance(name, tuple)]
        self.port = self.ports[0] if self.ports else 0
        self._thread = threading.Thread(target=self._serve, name="gateway", daemon=True)
        self._thread.start()
        assert self.service_host.is_ready.wait(PATIENCE), f"it did not start: {self._error}"
        return self

    def _serve(self) -> None:
        try:
            self._service.serve(self.service_host, self._sockets, self.halt)
        except BaseException as error:
            self._error = error
            raise

    def stop(self) -> None:
        """End it in order, and wait for that."""
        self.halt.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "it does not end"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for sock in self._sockets:
            sock.close()
        self.halt.close()
        self._scratch.cleanup()
        if self._error is not None and error is None:
            raise self._error


class Clients:
    """Calls it: a client of a new gateway that serves this maildrop; `again` gives one more of
    the same. All end with it, and wrong passwords are answered at once."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(
        self, maildrop: Maildrop, name: str = "ann", *, passthrough: bool = False
    ) -> poplib.POP3:
        how: dict[str, Any] = {"login": "passthrough"} if passthrough else {"secret": plain()}
        gateway = Gateway({})
        gateway.service_host.accounts = Accounts([Account(name, maildrop, **how)], pace=AT_ONCE)
        self._gateway = self._stack.enter_context(gateway)
        return self.again()

    def again(self) -> poplib.POP3:
        client = poplib.POP3(self._gateway.host, self._gateway.port, timeout=20)
        self._stack.callback(client.close)
        return client


def plain(password: str = PASSWORD) -> SecretValue:
    """A secret that stands in the file."""
    return SecretValue(lambda: password, "a test", literal=True)


def answers(session: Any, pieces: Iterable[bytes]) -> bytes:
    """Feed a session without a socket (a greeted mailflow_pop3.server.ServerSession) the pieces,
    do what it asks for at once, and give all that it would send."""
    said = b""
    for piece in (b"", *pieces):
        session.receive(piece)
        while True:
            more = session.advance()
            said += b"".join(session.out)
            session.out, session.weight, session.hold = [], 0, 0.0
            if (ask := session.ask) is not None:
                try:
                    session.resume(ask.call(), None)
                except Exception as error:  # noqa: BLE001  # as the service hands it over
                    session.resume(None, error)
            elif not more:
                break
        if session.ending:
            break
    return said
