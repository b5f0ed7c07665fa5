"""Each point, asked of ours and of Dovecot, or of the one server that `--server` names.

    pytest tests/mailflow_pop3/server --server 127.0.0.1:1110 --server-login red:secret \\
        --server-maildir ~/red/Maildir

Rule of the file: ours, with mail of its own, passes every point. What Dovecot answers otherwise
stands in dovecot.toml, which docs/pop3.rst prints; what of that cannot be mended by a gateway
that serves a mailbox of Dovecot live stands in live.toml. Such a point is asked all the same and
must fail there: a line that is not true any more fails the run.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tomli

from mailflow.accounts import Account, Accounts, Pace
from mailflow.log import Logger
from mailflow.mail import Content
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.gateway import AT_ONCE, Gateway, plain
from mailflow.testing.tls import Authority, Certificate

from .ours import (
    LiveServer,
    MemoryServer,
    OurMaildirServer,
    Running,
    SpoolServer,
    WebmailServer,
    shelf_of,
)
from .servers import DovecotServer, Drop, ForeignServer, Server
from .shelf import Shelf

DOVECOT = tomli.loads((Path(__file__).parent / "dovecot.toml").read_text(encoding="utf-8"))
LIVE = tomli.loads((Path(__file__).parent / "live.toml").read_text(encoding="utf-8"))
OTHERWISE = {"dovecot": DOVECOT, **LIVE}


ASKED = {
    "server": ["mailflow"],
    "store": ["memory", "maildir", "spool", "imap", "pop3", "webmail"],
    "shelves": ["maildir"],
}
"""What a fixture stands for at home, beside Dovecot: one server, every store, Maildirs. A store
may be another server: the gateway serves its mailboxes live."""

NOT_ASKED = {"webmail": ("test_multiline", "test_timers")}
"""Modules whose points no store decides, and that are not asked again over the slowest one."""

SOMETIMES = {"test_058_the_snapshot_is_that_of_the_login_and_not_of_the_first_command"}
"""What Dovecot answers as we do where one of its processes is slow."""

OF_DOVECOT = ("dovecot", "imap", "pop3")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("the POP3 server")
    group.addoption("--server", metavar="HOST:PORT", help="ask this server instead of ours")
    group.addoption("--server-login", metavar="NAME:PASSWORD", default="red:secret")
    group.addoption("--server-maildir", metavar="PATH", help="what that account serves")
    group.addoption("--write-tables", action="store_true", help="write those of docs/pop3.rst")
    group.addoption("--server-tls-port", metavar="PORT", type=int, help="where TLS is implicit")
    group.addoption("--server-ca", metavar="FILE", default="", help="whom its TLS needs")


def foreign(config: pytest.Config) -> str | None:
    """The other server. The options are unknown where the run did not begin here."""
    found: str | None = config.getoption("--server", None)
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = [pytest.mark.interop("dovecot-core", "dovecot-pop3d", "dovecot-imapd")]
    for fixture, ours in ASKED.items():
        if fixture in metafunc.fixturenames:
            other = foreign(metafunc.config)
            both = [
                pytest.param(name, marks=marks if name in OF_DOVECOT else ())
                for name in (*ours, "dovecot")
                if not metafunc.module.__name__.endswith(NOT_ASKED.get(name, ()) or "-")
            ]
            metafunc.parametrize(fixture, [other] if other else both, indirect=True)


def told_of(item: pytest.Item) -> str | None:
    """What dovecot.toml and live.toml say of a test, or of one variant of it."""
    name, _, variant = item.name.partition("[")
    parts = variant.removesuffix("]").split("-", 1)
    table = OTHERWISE.get(parts[0], {})
    found: str | None = table.get(name) or table.get(f"{name}[{''.join(parts[1:])}]")
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What Dovecot is known to answer otherwise must fail there (`strict`), so that the tables stay
    true; and what can be seen only where we are at home is not asked of another server."""
    for item in items:
        if told := told_of(item):
            strict = getattr(item, "originalname", "") not in SOMETIMES
            item.add_marker(pytest.mark.xfail(reason=told, strict=strict))
    if not foreign(config):
        return
    home = pytest.mark.skip(reason="can be seen only where the gateway is our own")
    for item in items:
        if not ASKED.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(home)


@pytest.fixture(scope="session")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DovecotServer]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as running:
        yield DovecotServer(running)


def asked(request: pytest.FixtureRequest) -> Server:
    config = request.config
    if foreign(config):
        return ForeignServer(
            request.param,
            config.getoption("--server-login"),
            config.getoption("--server-maildir"),
            config.getoption("--server-tls-port"),
            config.getoption("--server-ca"),
        )
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """Whoever serves this time."""
    return asked(request)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Server:
    """Whoever serves this time, ours with each of its stores."""
    return asked(request)


@pytest.fixture
def shelves(request: pytest.FixtureRequest) -> Server:
    """Whoever serves Maildirs this time."""
    return asked(request)


@pytest.fixture(params=["maildir", "spool"])
def disk_store(request: pytest.FixtureRequest) -> Server:
    """Ours, with mail on the disk."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", "maildir", "spool"])
def store_at_home(request: pytest.FixtureRequest) -> Server:
    """Ours, with each of its stores."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def outer_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # which sends nothing
        except OSError:
            pytest.skip("no other network than loopback")
        address: str = sock.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("no other network than loopback")
    return address


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue()


@pytest.fixture(scope="session")
def memory(authority: Authority, certificate: Certificate) -> Iterator[MemoryServer]:
    with MemoryServer(certificate, authority.ca_file) as running:
        yield running


@pytest.fixture(scope="session")
def mailflow(memory: MemoryServer) -> Server:
    return memory


@pytest.fixture(scope="session")
def maildir(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OurMaildirServer]:
    place = tmp_path_factory.mktemp("maildirs")
    with OurMaildirServer(certificate, authority.ca_file, place) as running:
        yield running


@pytest.fixture(scope="session")
def spool(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SpoolServer]:
    place = tmp_path_factory.mktemp("spool")
    with SpoolServer(certificate, authority.ca_file, place) as running:
        yield running


@pytest.fixture(scope="session")
def imap(
    authority: Authority, certificate: Certificate, dovecot: DovecotServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:  # fmt: skip
    place = tmp_path_factory.mktemp("imap")
    with LiveServer(certificate, authority.ca_file, place, dovecot.dovecot, "imap") as running:
        yield running


@pytest.fixture(scope="session")
def pop3(
    authority: Authority, certificate: Certificate, dovecot: DovecotServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:  # fmt: skip
    place = tmp_path_factory.mktemp("pop3")
    with LiveServer(certificate, authority.ca_file, place, dovecot.dovecot, "pop3") as running:
        yield running


@pytest.fixture(scope="session")
def webmail(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebmailServer]:
    place = tmp_path_factory.mktemp("webmail")
    with WebmailServer(certificate, authority.ca_file, place) as running:
        yield running


@pytest.fixture
def gateway(authority: Authority, certificate: Certificate) -> Iterator[Callable[..., Running]]:
    """A gateway of the test's own: messages or a shelf, and options of [[serve]].

    `secure`: it has a certificate; `host`: it listens at this address; `secret`: how the
    password is stored; `pace`: how answers to wrong ones are kept back; `log`: one that
    writes, instead of one that keeps.
    """
    with ExitStack() as stack:

        def make(
            *messages: bytes | Content | Shelf,
            password: str = "sesame",
            secure: bool = False,
            host: str = "127.0.0.1",
            secret: str | None = None,
            pace: Pace = AT_ONCE,
            login: str = "ann",
            log: Logger | None = None,
            certificate_file: object = None,
            key_file: object = None,
            **options: object,
        ) -> Running:
            shelf = shelf_of(messages)
            account = Account(login, shelf, secret=plain(secret or password))
            if secure:
                options = {"tls": "starttls", **options}
            own = Certificate(str(certificate_file), str(key_file)) if certificate_file else None
            server = Gateway(
                [],
                certificate=own or (certificate if secure else None),
                **{"listen": [f"{host}:0"], **options},
            )
            server.service_host.log = log or server.service_host.log
            server.service_host.accounts = Accounts([account], pace=pace, log=server.log)
            stack.enter_context(server)
            place = (host, server.port)
            return Running(server, shelf, Drop(login, password), place, authority.ca_file)

        yield make
