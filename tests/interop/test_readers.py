"""Clients as people have them read, leave, delete and go on, through a real `mailflow serve`."""

from __future__ import annotations

import poplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailflow.testing.corpus import AWKWARD, stored
from mailflow.testing.proxy import Fault, Proxy
from mailflow.testing.serving import Serving, free_ports
from mailflow.testing.tls import Authority

from .readers import PASSWORD, PLAIN, READERS, TLS, Curl, Door, Mutt, Poplib, Reader

pytestmark = pytest.mark.timeout(120)

PIPELINE = """
[[fetch]]
use = "maildir"
path = "in"
keep = "0d"

[[distribute]]
use = "spool"
drop = "ann"

[maildrop.ann]
use = "spool"
secret = {{ file = "ann.secret" }}

[[serve]]
name = "clear"
use = "pop3"
workers = {workers}
listen = ["127.0.0.1:{clear}"]
tls = "starttls"
certificate = "{cert}"
key = "{key}"

[[serve]]
name = "secured"
use = "pop3"
workers = {workers}
listen = ["127.0.0.1:{secured}"]
certificate = "{cert}"
key = "{key}"
"""


def message(number: int, body: bytes) -> bytes:
    return (
        b"From: ben@example.com\r\nTo: ann@example.org\r\nSubject: %d\r\n"
        b"Message-ID: <%d@example.com>\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n\r\n%b"
    ) % (number, number, body)


MESSAGES = [
    message(number, body)
    for number, body in enumerate([
        b"hello\r\n",
        b".\r\n..two\r\n.\r\n...\r\n",
        "Grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
        b"x" * 990 + b"\r\n",
        b"no end of line",
        (b"y" * 76 + b"\r\n") * 4000,
    ])
]  # fmt: skip


def lf(octets: bytes) -> bytes:
    return stored(octets).replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"


WANTED = sorted(map(lf, MESSAGES))


class House:
    """A served drop, and the Maildir whose mail gets there."""

    def __init__(self, home: Path, workers: int = 0) -> None:
        home.mkdir()
        authority = Authority(home)
        cert = authority.issue()
        self.ca_file = authority.ca_file
        self.home = home
        self.clear, self.secured = free_ports(2)
        for folder in ("tmp", "new", "cur"):
            (home / "in" / folder).mkdir(parents=True)
        secret = home / "ann.secret"
        secret.write_text(f"{PASSWORD}\n")
        secret.chmod(0o600)
        file = home / "home.toml"
        file.write_text(PIPELINE.format(
            clear=self.clear, secured=self.secured, cert=cert.cert_file, key=cert.key_file,
            workers=workers,
        ))  # fmt: skip
        self.serving = Serving(file)

    def arrive(self, *messages: bytes) -> None:
        """Mail comes in, and is in the spool when this ends."""
        for octets in messages:
            subject = octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
            part = self.home / "in/tmp" / f"{subject}.x"
            part.write_bytes(octets.replace(b"\r\n", b"\n"))
            part.rename(self.home / "in/new" / part.name)
        done = self.serving.command("run", self.serving.file)
        assert (done.returncode, done.stderr) == (0, "")
        deadline = time.monotonic() + 20
        while [*self.home.glob("in/[nc]*/*")]:  # `serve` may have taken it, and be at work
            assert time.monotonic() < deadline, self.serving.said
            time.sleep(0.01)

    def door(self, way: str, port: int = 0) -> Door:
        return Door(way, port or (self.secured if way == TLS else self.clear), self.ca_file)

    def left(self) -> int:
        """How many messages are in the drop, by a session of its own."""
        box = self._log_in()
        count = box.stat()[0]
        box.quit()
        return count

    def _log_in(self) -> poplib.POP3:
        """The end of a session before may still be on its way to the server."""
        deadline = time.monotonic() + 10
        while True:
            box = poplib.POP3("127.0.0.1", self.clear, timeout=10)
            box.user("ann")
            try:
                box.pass_(PASSWORD)
            except poplib.error_proto as error:
                box.close()
                if b"[IN-USE]" not in error.args[0] or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return box


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house")
    with house.serving:
        house.arrive(*MESSAGES)
        yield house


Make = Callable[[], Reader]


@pytest.fixture
def make(kind: type[Reader], tmp_path: Path) -> Iterator[Make]:
    """A reader in a home of its own, at each call a new one."""
    made: list[Reader] = []

    def new() -> Reader:
        made.append(kind(tmp_path / f"reader{len(made)}"))
        return made[-1]

    yield new
    for reader in made:
        reader.close()


def marked(kind: type[Reader]) -> pytest.MarkDecorator:
    return pytest.mark.interop(*kind.packages)


EACH_WAY = [
    pytest.param(kind, way, id=f"{kind.__name__.lower()}-{way}", marks=marked(kind))
    for kind in READERS for way in kind.ways
]  # fmt: skip
BY_THEMSELVES = [each for each in EACH_WAY if not issubclass(each.values[0], Mutt)]
"""Those that end where they cannot go on, and ask nobody."""

REMEMBERING = [
    pytest.param(kind, id=kind.__name__.lower(), marks=marked(kind))
    for kind in READERS if kind.remembers
]  # fmt: skip


@pytest.mark.parametrize(("kind", "way"), EACH_WAY)
def test_p3s_19_it_reads_leaves_and_deletes(house: House, make: Make, way: str) -> None:
    reader = make()
    times = 1 if reader.remembers else 2
    for _ in range(2):
        assert reader.read(house.door(way), keep=True) == 0, reader.said
    assert sorted(reader.brought()) == sorted(WANTED * times), reader.said
    assert house.left() == len(MESSAGES)
    reader = make()
    assert reader.read(house.door(way), keep=False) == 0, reader.said
    assert sorted(reader.brought()) == WANTED, reader.said
    assert house.left() == 0


@pytest.mark.parametrize("kind", REMEMBERING)
def test_of_what_it_left_it_reads_only_what_is_new_after_a_restart_too(
    house: House, make: Make
) -> None:
    reader = make()
    assert reader.read(house.door(PLAIN), keep=True) == 0, reader.said
    assert house.serving.stop() == 0
    house.serving.start()
    new = message(99, b"later\r\n")
    house.arrive(new)
    assert reader.read(house.door(PLAIN), keep=True) == 0, reader.said
    assert sorted(reader.brought()) == sorted([*WANTED, lf(new)]), reader.said


@pytest.mark.parametrize(("kind", "way"), BY_THEMSELVES)
def test_a_line_that_breaks_deletes_nothing_and_it_goes_on(
    house: House, make: Make, way: str
) -> None:
    reader = make()
    broken = Fault(reader.notices, after=20_000)
    port = house.secured if way == TLS else house.clear
    with Proxy(("127.0.0.1", port), faults=[broken]) as proxy:
        reader.read(house.door(way, proxy.port), keep=False)
        assert house.left() == len(MESSAGES), reader.said
        proxy.faults.clear()
        assert reader.read(house.door(way, proxy.port), keep=False) == 0, reader.said
    assert set(reader.brought()) >= set(WANTED), reader.said
    assert house.left() == 0


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[House]:
    """A house whose clients are shared by two processes."""
    house = House(tmp_path / "shared", workers=2)
    with house.serving:
        house.arrive(*MESSAGES)
        yield house


@pytest.mark.parametrize("kind", [Poplib])
@pytest.mark.parametrize("way", Poplib.ways)
def test_processes_that_share_the_clients_serve_one_drop(
    shared: House, make: Make, way: str
) -> None:
    for keep in (True, False):
        reader = make()
        assert reader.read(shared.door(way), keep=keep) == 0, reader.said
        assert sorted(reader.brought()) == WANTED, reader.said
    assert shared.left() == 0


def test_p3s_06_of_many_sessions_in_two_processes_one_has_the_drop(shared: House) -> None:
    answers = []
    boxes = [poplib.POP3("127.0.0.1", shared.clear, timeout=10) for _ in range(8)]
    for box in boxes:
        box.user("ann")
        try:
            answers.append(box.pass_(PASSWORD)[:3])
        except poplib.error_proto as error:
            answers.append(error.args[0][:13])
    assert sorted(answers) == [b"+OK", *[b"-ERR [IN-USE]"] * 7]
    for box in boxes:
        box.quit()
    assert shared.left() == len(MESSAGES)


def has_utf8_header(octets: bytes) -> bool:
    """Whether a client that has not said UTF8 gets a surrogate (RFC 6856, 3)."""
    head = stored(octets).partition(b"\r\n\r\n")[0]
    try:
        return not head.decode("utf-8").isascii()
    except ValueError:
        return False


@pytest.mark.interop("curl")
def test_p3s_18_awkward_mail_reaches_curl_octet_for_octet(tmp_path: Path) -> None:
    """It alone neither cuts long lines nor decodes anything."""
    samples = [sample.octets for sample in AWKWARD if not has_utf8_header(sample.octets)]
    house = House(tmp_path / "house")
    for number, octets in enumerate(samples):
        (house.home / "in/new" / f"{number:03}.x").write_bytes(octets)
    house.arrive()
    with house.serving:
        reader = Curl(tmp_path / "reader")
        assert reader.read(house.door(TLS), keep=True) == 0, reader.said
        sizes = reader.ask(house.door(PLAIN), "").stdout.split()[1::2]
    found = [path.read_bytes() for path in (tmp_path / "reader/Maildir/new").iterdir()]
    # With an end to the last line, which the wire cannot do without.
    wanted = [stored(octets).removesuffix(b"\r\n") + b"\r\n" for octets in samples]
    assert sorted(found) == sorted(wanted)
    assert sorted(map(int, sizes)) == sorted(map(len, wanted))
