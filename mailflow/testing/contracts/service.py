"""The suite of a service: whatever it speaks, `mailflow serve` can rely on these.

    class TestPigeonService(ServiceContract):
        component = PigeonService

        def at(self, host, port):
            return {"listen": f"{host}:{port}"}     # the options, as a file has them

        def visit(self, address):
            with socket.create_connection(address) as client:
                ...                                 # a whole visit; raises where it is not served

Rule of the file: it is run as `mailflow serve` runs it, in a thread, on sockets that were
bound before; its clients are real and some are rude.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar

import pytest

from mailflow.accounts import Account, Accounts
from mailflow.errors import InUseError, MailflowError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Item, Service
from mailflow.mail import Octets
from mailflow.options import Options
from mailflow.testing.contracts.component import (
    ComponentContract,
    Stage,
    lasting,
    nothing_left,
    one_line,
)
from mailflow.testing.contracts.fetcher import SOON, message
from mailflow.testing.gateway import HostDouble, plain

HOST = "127.0.0.1"

RUDE = [b"", b"\xff\0\r\n", b"half a wor", b"\r\n" * 50, b"x" * 100_000, b"\n\0\n" * 1000]
"""What a client says before it goes, which no server likes."""


class Run:
    """A service at work; `address` is where its first socket listens."""

    def __init__(self, service: Service, host: HostDouble) -> None:
        self.service = service
        self.host = host
        self.sockets: Sequence[socket.socket] = service.listen()
        self.error: BaseException | None = None
        self.failures: list[threading.ExceptHookArgs] = []
        """Of threads that an exception has ended."""

    @property
    def address(self) -> tuple[str, int]:
        name = self.sockets[0].getsockname()
        return name[0], name[1]

    @contextmanager
    def serving(self, service: Service | None = None) -> Iterator[None]:
        """Until the end of the block, in which it has said that it is ready."""
        self.host.is_ready.clear()
        halt = Halt()
        thread = threading.Thread(
            target=self._serve, args=(service or self.service, halt), name="service", daemon=True
        )
        thread.start()
        try:
            assert self.host.is_ready.wait(SOON), f"it was not ready: {self.error!r}"
            yield
        finally:
            halt.set()
            thread.join(SOON)
            assert not thread.is_alive(), "it does not end"
            halt.close()
        if self.error is not None:
            raise self.error
        assert not self.failures, [each.exc_value for each in self.failures]

    def _serve(self, service: Service, halt: Halt) -> None:
        try:
            service.serve(self.host, self.sockets, halt)
        except BaseException as error:
            self.error = error
            raise

    def close(self) -> None:
        for each in self.sockets:
            each.close()


class ServiceContract(ComponentContract):
    """Give `component`, and the methods `at` and `visit`."""

    component: ClassVar[type[Service]]
    kind = "service"

    @abstractmethod
    def at(self, host: str, port: int) -> Mapping[str, object]:
        """The options with which it listens there; port 0 is any free one."""

    @abstractmethod
    def visit(self, address: tuple[str, int]) -> None:
        """A client comes, is served, and goes. Raises where it is not served."""

    @pytest.fixture
    def table(self) -> Mapping[str, object]:
        return self.at(HOST, 0)

    @pytest.fixture
    def accounts(self) -> Accounts:
        return Accounts(())

    @pytest.fixture
    def run(
        self, stage: Stage, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Run]:
        host = HostDouble(accounts)
        host.log = stage.log
        run = Run(stage.make(), host)
        monkeypatch.setattr(threading, "excepthook", run.failures.append)
        yield run
        run.close()

    def test_it_listens_before_it_serves(self, run: Run) -> None:
        """As root, and then it serves as somebody else."""
        assert run.sockets
        for each in run.sockets:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            socket.create_connection(each.getsockname(), SOON).close()
        assert not run.host.is_ready.is_set()

    def test_once_it_is_ready_a_client_is_served(self, run: Run) -> None:
        with run.serving():
            self.visit(run.address)

    def test_who_came_before_it_served_is_served_too(self, run: Run) -> None:
        waited: list[BaseException] = []

        def visit() -> None:
            try:
                self.visit(run.address)
            except Exception as error:  # noqa: BLE001  # what it is, is told below
                waited.append(error)

        client = threading.Thread(target=visit)
        client.start()
        with run.serving():
            client.join(SOON)
            assert not client.is_alive()
        assert waited == []

    def test_clients_come_one_after_the_other(self, run: Run) -> None:
        with run.serving():
            for _ in range(20):
                self.visit(run.address)

    def test_a_client_that_says_nothing_keeps_nobody_waiting(self, run: Run) -> None:
        with run.serving(), ExitStack() as silent:
            for _ in range(5):
                silent.enter_context(socket.create_connection(run.address, SOON))
            assert lasting(lambda: self.visit(run.address)) < SOON

    @pytest.mark.parametrize("words", RUDE, ids=range(len(RUDE)))
    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_a_rude_client_harms_nobody(self, run: Run, words: bytes, end: str) -> None:
        with run.serving():
            client = socket.create_connection(run.address, SOON)
            try:
                client.sendall(words)
            except OSError:
                assert len(words) > 1000, "it has closed the connection in the middle"
            if end == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            self.visit(run.address)

    def test_it_ends_soon_when_it_is_told_to(self, run: Run) -> None:
        with ExitStack() as silent:

            def serve() -> None:
                with run.serving():
                    for _ in range(5):
                        silent.enter_context(socket.create_connection(run.address, SOON))
                    self.visit(run.address)

            assert lasting(serve) < SOON

    def test_told_to_end_before_it_began_it_ends(self, run: Run) -> None:
        halt = Halt()
        halt.set()
        assert lasting(lambda: run.service.serve(run.host, run.sockets, halt)) < SOON
        halt.close()

    def test_the_sockets_stay_open_for_who_gave_them(self, run: Run) -> None:
        """It is called again with them after a failure; a client waits meanwhile."""
        for _ in range(2):
            with run.serving():
                self.visit(run.address)
            assert all(each.fileno() >= 0 for each in run.sockets)
            assert all(
                each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for each in run.sockets
            )

    def test_several_can_share_the_sockets(self, run: Run, stage: Stage) -> None:
        with run.serving(), run.serving(stage.make()):
            for _ in range(200):  # each wakes both, and one of them comes too late
                self.visit(run.address)
        assert run.error is None

    def test_when_it_has_ended_nothing_is_left_open(self, stage: Stage, accounts: Accounts) -> None:
        def serve() -> None:
            run = Run(stage.make(), HostDouble(accounts))
            with run.serving():
                self.visit(run.address)
                cut = socket.create_connection(run.address, SOON)
                cut.close()
            run.close()

        serve()
        with nothing_left():
            serve()

    def test_an_address_that_is_taken_is_an_error_at_once(
        self, stage: Stage, accounts: Accounts
    ) -> None:
        with socket.create_server((HOST, 0)) as taken:
            stage.table = self.at(HOST, taken.getsockname()[1])
            service: Service = stage.make()
            with nothing_left(), pytest.raises(UnavailableError) as caught:
                service.listen()
        assert one_line(caught.value.text)

    def test_what_it_reports_are_facts_that_can_be_written_down(self, run: Run) -> None:
        with run.serving():
            self.visit(run.address)
        assert isinstance(run.host.reports, Mapping)
        assert json.loads(json.dumps(run.host.reports)) == run.host.reports


PASSWORD = "canary-71c2-secret"


class MailServiceContract(ServiceContract):
    """For services that let clients into maildrops; give `ask`, too. `visit` is one that does
    not log in, or does it with other names than ann."""

    secrets = (PASSWORD,)

    @abstractmethod
    def ask(self, address: tuple[str, int], login: str, password: str) -> int | None:
        """A client logs in, is told how many messages there are, and goes. None where it is
        not let in."""

    @pytest.fixture
    def shelf(self) -> Shelf:
        return Shelf(message(1), message(2))

    @pytest.fixture
    def accounts(self, shelf: Shelf) -> Accounts:
        return self.known(shelf, PASSWORD)

    def known(self, shelf: Shelf, password: str) -> Accounts:
        return Accounts([Account("ann", shelf, secret=plain(password))])

    def test_who_is_known_is_let_in(self, run: Run) -> None:
        with run.serving():
            assert self.ask(run.address, "ann", PASSWORD) == 2

    @pytest.mark.parametrize(
        ("login", "password"), [("ann", "wrong"), ("eve", PASSWORD), ("ANN", PASSWORD)]
    )
    def test_nobody_else_is(self, run: Run, shelf: Shelf, login: str, password: str) -> None:
        with run.serving():
            assert self.ask(run.address, login, password) is None
        assert shelf.sessions == 0

    def test_after_a_reload_the_new_accounts_count(self, run: Run, shelf: Shelf) -> None:
        with run.serving():
            assert self.ask(run.address, "ann", PASSWORD) == 2
            run.host.accounts = self.known(shelf, "another")
            assert self.ask(run.address, "ann", PASSWORD) is None
            assert self.ask(run.address, "ann", "another") == 2

    def test_a_drop_is_left_as_it_was_and_free(self, run: Run, shelf: Shelf) -> None:
        with run.serving():
            for _ in range(3):
                assert self.ask(run.address, "ann", PASSWORD) == 2
        assert shelf.sessions == 3
        assert not shelf.lock.locked()
        assert len(shelf.messages) == 2

    def test_nobody_is_let_into_a_drop_that_is_in_use(self, run: Run, shelf: Shelf) -> None:
        with run.serving():
            with shelf.lock:
                assert self.ask(run.address, "ann", PASSWORD) is None
            assert self.ask(run.address, "ann", PASSWORD) == 2

    def test_a_drop_that_cannot_be_opened_is_no_end_of_the_service(
        self, run: Run, shelf: Shelf
    ) -> None:
        with run.serving():
            shelf.fault = UnavailableError("the disk is away")
            assert self.ask(run.address, "ann", PASSWORD) is None
            shelf.fault = None
            assert self.ask(run.address, "ann", PASSWORD) == 2


class Shelf:
    """Messages in memory as a maildrop. `fault` is raised by every login; `sessions` counts
    those that were let in."""

    options: ClassVar[type[Options]] = Options

    def __init__(self, *messages: bytes) -> None:
        self.messages = {f"key-{number}": octets for number, octets in enumerate(messages)}
        self.lock = threading.Lock()
        self.sessions = 0
        self.fault: MailflowError | None = None

    def login(self, who: Credentials) -> _OpenShelf:
        if self.fault is not None:
            raise self.fault
        if not self.lock.acquire(blocking=False):
            raise InUseError("another session has it")
        self.sessions += 1
        return _OpenShelf(self)


class _OpenShelf:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def items(self) -> Sequence[Item]:
        return [Item(key, len(octets)) for key, octets in self._shelf.messages.items()]

    def read(self, key: str) -> Octets:
        return Octets(self._shelf.messages[key])

    def close(self, delete: Collection[str] = ()) -> None:
        for key in delete:
            del self._shelf.messages[key]
        self._shelf.lock.release()
