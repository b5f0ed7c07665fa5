"""The server of the soak, and its clients, each of which knows what must be in its drop.

Rule of the file: a client is told by nobody but its own `random` what to do, and believes
nothing that it has not read.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import corpus
from bench.held import PASSWORD
from bench.servers import Mailflow, fill_maildirs, fill_spool
from mailflow.testing.serving import free_ports
from mailflow.testing.tls import Authority

PATIENCE = 60.0
FEW, MANY = 8, 24
"""A drop with fewer messages than FEW is filled up to MANY."""

FED = 20
"""Mails that go into the pipeline at a time."""

KINDS = {
    "list": 6, "read": 8, "delete": 6, "leave": 4, "reset": 2, "burst": 2, "top": 2, "slow": 1,
    "garbage": 2, "silent": 2, "half": 2, "stranger": 1, "twice": 2,
}  # fmt: skip
"""What a client does, and how often in comparison."""


class SoakError(Exception):
    """The server did what it must not do."""


def digest(message: bytes) -> bytes:
    return hashlib.sha1(message.replace(b"\r\n", b"\n")).digest()


class Wire:
    """One connection; `protection` is none, starttls or implicit."""

    def __init__(self, ports: dict[str, int], protection: str, number: int, trust: str) -> None:
        address = (f"127.3.{number // 250}.{number % 250 + 1}", 0)
        where = ("127.0.0.1", ports[protection])
        self.sock = socket.create_connection(where, PATIENCE, source_address=address)
        self._inbox = b""
        if protection == "implicit":
            self._secure(trust)
        self.good(self.line())
        if protection == "starttls":
            self.ask("STLS")
            self._secure(trust)

    def _secure(self, trust: str) -> None:
        context = ssl.create_default_context(cafile=trust)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def _more(self) -> None:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("the server has left")
        self._inbox += data

    def line(self) -> bytes:
        while (end := self._inbox.find(b"\r\n")) < 0:
            self._more()
        line, self._inbox = self._inbox[:end], self._inbox[end + 2 :]
        return line

    def lines(self) -> bytes:
        """A multi-line answer behind its first line, unstuffed."""
        start = 0
        text = b"\r\n" + self._inbox
        while (end := text.find(b"\r\n.\r\n", start)) < 0:
            start = max(0, len(text) - 4)
            self._inbox = b""
            self._more()
            text += self._inbox
        self._inbox = text[end + 5 :]
        return text[:end].replace(b"\r\n.", b"\r\n")[2:] + b"\r\n" * (end > 0)

    def good(self, line: bytes) -> bytes:
        if not line.startswith(b"+OK"):
            raise SoakError(f"the server says {line!r}")
        return line

    def send(self, *commands: str) -> None:
        self.sock.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def ask(self, command: str) -> bytes:
        self.send(command)
        return self.good(self.line())

    def listing(self, command: str) -> list[bytes]:
        """The second word of each line."""
        self.ask(command)
        return [line.split()[1] for line in self.lines().splitlines()]

    def close(self) -> None:
        self.sock.close()


class Installation:
    """`mailflow serve` with a pipeline into the spool and three doors."""

    def __init__(self, script: Path, directory: Path, clients: int, workers: int) -> None:
        self.server = Mailflow(script, directory, "spool", workers)
        self.fed = 0
        self._base = directory / "mailflow-spool"
        self._count = clients
        self._mails = corpus.messages(10_000_000, size=4000, seed=7)
        self._common: Common | None = None
        self.ports = dict(zip(("starttls", "implicit"), free_ports(2), strict=True))
        (self._base / "tls").mkdir()
        authority = Authority(self._base / "tls")
        self.trust = authority.ca_file
        self._certificate = authority.issue()

    @property
    def pid(self) -> int:
        return self.server.pid

    def __enter__(self) -> Installation:
        for folder in ("tmp", "new", "cur"):
            (self._base / "in" / folder).mkdir(parents=True)
        self.server.know("common", *(self._name(number) for number in range(self._count)))
        self.server.more = self._more_of_the_file()
        self.server.__enter__()
        self.ports["none"] = self.server.port
        return self

    def __exit__(self, *error: object) -> None:
        self.server.__exit__(None, None, None)

    def _name(self, number: int) -> str:
        return f"{'maildir' if number % 3 == 2 else 'user'}{number}"

    def _more_of_the_file(self) -> str:
        both = (
            f'certificate = "{self._certificate.cert_file}"\nkey = "{self._certificate.key_file}"\n'
        )
        doors = "".join(
            f'\n[[serve]]\nname = "{tls}"\nuse = "pop3"\nlisten = ["127.0.0.1:{port}"]\n'
            f'tls = "{tls}"\n{both}'
            for tls, port in self.ports.items()
        )
        passwords = f'passwords = "{self._base}/passwords"\n'
        return (
            f'\n[maildrop.common]\nuse = "spool"\npath = "{self.server.store}"\n{passwords}'
            f'\n[maildrop."maildir*"]\nuse = "maildir"\npath = "{self._base}/drops/{{login}}"\n'
            f"{passwords}{doors}"
            f'\n[[fetch]]\nuse = "maildir"\npath = "{self._base}/in"\nevery = "1s"\n'
            'keep = "0d"\non_done = "delete"\n'
            f'\n[[distribute]]\nuse = "spool"\ndrop = "common"\npath = "{self.server.store}"\n'
        )

    def clients(self, draw: Callable[[int], random.Random]) -> Iterator[Client]:
        """Of each third one the drop is a Maildir; one more reads what the pipeline brings."""
        for number in range(self._count):
            yield Client(self, self._name(number), number, draw(number))
        self._common = Common(self, "common", self._count, draw(self._count))
        yield self._common

    def fill(self, name: str, mails: list[bytes], done: int) -> None:
        """More mail into a client's own drop."""
        if name.startswith("maildir"):
            fill_maildirs(self._base / "drops", [name], mails, done)
        else:
            fill_spool(self.server.store, [name], mails, done)

    def feed(self) -> None:
        """Mails for the pipeline."""
        for mail in itertools.islice(self._mails, FED):
            path = self._base / "in" / "tmp" / f"{self.fed}.M1P1.soak"
            path.write_bytes(mail)
            if self._common:
                self._common.expected[digest(mail)] += 1
            os.rename(path, self._base / "in" / "new" / path.name)
            self.fed += 1

    def settle(self) -> None:
        """What was fed has all been read, each mail once."""
        assert self._common is not None
        deadline = time.monotonic() + PATIENCE
        while self._common.expected and time.monotonic() < deadline:
            self._common.turn()
            time.sleep(0.1)  # the pipeline is another process: nothing tells when it is done
        if left := self._common.expected.total():
            raise SoakError(f"{left} of {self.fed} mails did not come through the pipeline")


class Client:
    """`expected` is what is in the drop; `known` the digests of the UIDLs it has read, `gone`
    the UIDLs it has removed."""

    def __init__(self, where: Installation, name: str, number: int, chance: random.Random) -> None:
        self.name = name
        self.random = chance
        self.done = ""
        self.expected: Counter[bytes] = Counter()
        self.known: dict[bytes, bytes] = {}
        self.gone: set[bytes] = set()
        self._where = where
        self._number = number
        self._filled = 0
        self._mails = corpus.messages(10_000_000, size=6000, seed=100 + number)
        self._abrupt = False

    def turn(self) -> str:
        """One session of some kind; which."""
        if self.expected.total() < FEW:
            mails = list(itertools.islice(self._mails, MANY))
            self._where.fill(self.name, mails, self._filled)
            self._filled += len(mails)
            self.expected.update(map(digest, mails))
        (kind,) = self.random.choices(list(KINDS), list(KINDS.values()))
        self.done = kind
        getattr(self, f"_{kind}")()
        return kind

    def _connect(self) -> Wire:
        protection = self.random.choice(("none", "none", "starttls", "implicit"))
        return Wire(self._where.ports, protection, self._number, self._where.trust)

    def _enter(self) -> tuple[Wire, list[bytes]]:
        """A session, and the UIDLs of its drop, which are those that must be there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            wire = self._connect()
            wire.ask(f"USER {self.name}")
            wire.send(f"PASS {PASSWORD}")
            answer = wire.line()
            late = self._abrupt and time.monotonic() < deadline
            if not (late and answer.startswith(b"-ERR [IN-USE]")):
                break
            wire.close()
            time.sleep(0.01)  # the server has not seen yet that the session before is over
        wire.good(answer)
        self._abrupt = False
        uidls = wire.listing("UIDL")
        if len(uidls) != self.expected.total():
            raise SoakError(f"{len(uidls)} messages instead of {self.expected.total()}")
        if missing := self.known.keys() - set(uidls):
            raise SoakError(f"the UIDLs {missing} have gone")
        if self.gone & set(uidls):
            raise SoakError(f"the UIDLs {self.gone & set(uidls)} are there again")
        return wire, uidls

    def _some(self, uidls: list[bytes], most: int) -> list[int]:
        count = min(len(uidls), self.random.randint(1, most))
        return sorted(self.random.sample(range(1, len(uidls) + 1), count))

    def _take(self, wire: Wire, uidls: list[bytes], numbers: list[int]) -> None:
        """RETR in one flight; each is what it was, or one of those not read before."""
        wire.send(*(f"RETR {number}" for number in numbers))
        for number in numbers:
            wire.good(wire.line())
            found, uidl = digest(wire.lines()), uidls[number - 1]
            unread = self.expected - Counter(self.known.values())
            if self.known.get(uidl, found) != found or (
                uidl not in self.known and not unread[found]
            ):
                raise SoakError(f"message {number} ({uidl!r}) is not what it was")
            self.known[uidl] = found

    def _remove(self, wire: Wire, uidls: list[bytes], numbers: list[int]) -> None:
        """DELE, QUIT, and the drop is without them."""
        wire.send(*(f"DELE {number}" for number in numbers), "QUIT")
        for _ in range(len(numbers) + 1):
            wire.good(wire.line())
        for number in numbers:
            uidl = uidls[number - 1]
            self.expected[self.known.pop(uidl)] -= 1
            self.gone.add(uidl)
        self.expected += Counter()
        wire.close()

    # What it does

    def _list(self) -> None:
        wire, uidls = self._enter()
        sizes = [int(size) for size in wire.listing("LIST")]
        if wire.ask("STAT").split()[1:3] != [b"%d" % len(uidls), b"%d" % sum(sizes)]:
            raise SoakError("STAT is not the sum of LIST")
        wire.ask("QUIT")
        wire.close()

    def _read(self) -> None:
        wire, uidls = self._enter()
        self._take(wire, uidls, self._some(uidls, 20))
        wire.ask("QUIT")
        wire.close()

    def _delete(self) -> None:
        wire, uidls = self._enter()
        numbers = self._some(uidls, 6)
        self._take(wire, uidls, numbers)
        self._remove(wire, uidls, numbers)

    def _leave(self) -> None:
        """DELE, and gone without QUIT: nothing is removed."""
        wire, uidls = self._enter()
        wire.send(*(f"DELE {number}" for number in self._some(uidls, 6)))
        wire.good(wire.line())
        wire.close()
        self._abrupt = True

    def _reset(self) -> None:
        wire, uidls = self._enter()
        for number in self._some(uidls, 3):
            wire.ask(f"DELE {number}")
        wire.ask("RSET")
        wire.ask("QUIT")
        wire.close()

    def _burst(self) -> None:
        wire, uidls = self._enter()
        wire.send(*["NOOP"] * 500)
        for _ in range(500):
            wire.good(wire.line())
        self._take(wire, uidls, list(range(1, len(uidls) + 1)))
        wire.ask("QUIT")
        wire.close()

    def _top(self) -> None:
        wire, uidls = self._enter()
        for number in self._some(uidls, 5):
            wire.ask(f"TOP {number} {self.random.randint(0, 30)}")
            wire.lines()
        wire.ask("QUIT")
        wire.close()

    def _slow(self) -> None:
        """Asks for all, reads little, and goes."""
        wire, uidls = self._enter()
        wire.send(*(f"RETR {number}" for number in range(1, len(uidls) + 1)))
        for _ in range(20):
            wire.sock.recv(512)
            time.sleep(0.02)
        wire.close()
        self._abrupt = True

    def _garbage(self) -> None:
        wire = self._connect()
        for _ in range(self.random.randint(1, 8)):
            octets = self.random.randbytes(self.random.randint(1, 400)).replace(b"\n", b"")
            wire.sock.sendall(octets + b"\r\n")
            if not wire.line().startswith(b"-ERR"):
                raise SoakError(f"{octets!r} was answered with +OK")
        wire.close()

    def _silent(self) -> None:
        self._connect().close()

    def _half(self) -> None:
        wire, _ = self._enter()
        wire.sock.sendall(b"DELE 1")
        wire.close()
        self._abrupt = True

    def _stranger(self) -> None:
        """A wrong password, by someone who does not wait for the answer."""
        wire = self._connect()
        wire.ask(f"USER nobody{self.random.randrange(200)}")
        wire.send("PASS guessed")
        wire.close()

    def _twice(self) -> None:
        """A second session is refused, and the first one not harmed."""
        wire, uidls = self._enter()
        other = self._connect()
        other.ask(f"USER {self.name}")
        other.send(f"PASS {PASSWORD}")
        if not (answer := other.line()).startswith(b"-ERR [IN-USE]"):
            raise SoakError(f"a second session is told {answer!r}")
        other.close()
        self._take(wire, uidls, self._some(uidls, 3))
        wire.ask("QUIT")
        wire.close()


class Common(Client):
    """Reads and removes what the pipeline brings; `expected` is what was fed and not read."""

    def turn(self) -> str:
        self.done = "drain"
        wire = self._connect()
        wire.ask(f"USER {self.name}")
        wire.ask(f"PASS {PASSWORD}")
        uidls = wire.listing("UIDL")
        numbers = list(range(1, len(uidls) + 1))
        self.known.clear()
        self._take(wire, uidls, numbers)
        self._remove(wire, uidls, numbers)
        return "drain"
