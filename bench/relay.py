"""The server that everybody sends to, and the check of what it was sent.

Rule of the file: what was taken is kept, and a run counts only if every recipient was
sent every message once, octet for octet.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.fetchers import someone
from mailflow.testing.daemon import greets
from mailflow.testing.postfix import Postfix
from mailflow.testing.proxy import Proxy
from mailflow.testing.serving import free_ports

PROGRAM = "/usr/sbin/smtp-sink"

Sent = Counter[tuple[str, bytes]]
"""(recipient, digest of what was sent), and how often."""


class Link:
    """The way from the contenders to a server: `delay` seconds each way, or none."""

    def __init__(self, delay: float) -> None:
        self._proxy = Proxy(("127.0.0.1", 0), delay=delay) if delay else None

    def __enter__(self) -> Self:
        if self._proxy:
            self._proxy.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._proxy:
            self._proxy.__exit__(kind, error, trace)

    def to(self, port: int) -> int:
        """Where a contender reaches the server on that port."""
        if not self._proxy:
            return port
        self._proxy.target = ("127.0.0.1", port)
        return self._proxy.port


class Sink(Link):
    """A new smtp-sink for each run; `body_only` where headers are to be changed."""

    def __init__(self, delay: float, *, body_only: bool = False) -> None:
        super().__init__(delay)
        self.body_only = body_only

    @contextmanager
    def taking(self, directory: Path) -> Iterator[int]:
        """Take mail, and keep it in `directory`; the port to send to."""
        directory.mkdir()
        (port,) = free_ports(1)
        argv = [PROGRAM, "-h", "sink.example.org", "-m", "1000", "-d", "sent."]
        if someone(directory):
            argv += ["-u", "nobody"]
        process = subprocess.Popen(
            [*argv, f"127.0.0.1:{port}", "1024"],
            cwd=directory,  # whoever it becomes, it need not reach it by its path
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it says of each client that it left
        )
        try:
            if not greets(process, port):
                raise TimeoutError(f"no server greets on port {port}")
            yield self.to(port)
        finally:
            process.terminate()
            process.wait()

    def sent(self, directory: Path) -> Sent:
        found: Sent = Counter()
        for path in directory.iterdir():
            recipients, message = transaction(path.read_bytes())
            key = digest(message, body_only=self.body_only)
            found.update((recipient, key) for recipient in recipients)
        return found


class PostfixLink(Link):
    """One Postfix for all runs; it delivers all that it takes to the Maildir of `address`."""

    body_only = True  # it adds to the header

    def __init__(self, directory: Path, delay: float, address: str) -> None:
        super().__init__(delay)
        self.address = address
        self.postfix = Postfix(directory / "postfix", [address])

    def __enter__(self) -> Self:
        self.postfix.__enter__()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self.postfix.__exit__(kind, error, trace)

    @contextmanager
    def taking(self, directory: Path) -> Iterator[int]:
        """Take mail, and move it to `directory` once all is delivered."""
        yield self.to(self.postfix.port)
        self.postfix.settle(120)
        mailbox = Path(self.postfix.maildir(self.address))
        if mailbox.exists():
            mailbox.rename(directory)

    def sent(self, directory: Path) -> Sent:
        if not directory.exists():
            return Counter()
        paths = (directory / "new").iterdir()
        return Counter((self.address, digest(path.read_bytes(), body_only=True)) for path in paths)


def digest(message: bytes, *, body_only: bool) -> bytes:
    """Of a message with LF line ends; `body_only` where its header is to be changed.
    mlmmj and smtp-source put an empty line at the end: it does not count."""
    part = message.partition(b"\n\n")[2] if body_only else message
    return hashlib.sha1(part.rstrip(b"\n")).digest()


def expected(messages: Iterable[bytes], to: Iterable[str], *, body_only: bool = False) -> Sent:
    """Each of `messages` to each of `to`."""
    digests = [digest(message, body_only=body_only) for message in messages]
    return Counter((recipient, each) for recipient in to for each in digests)


def transaction(dump: bytes) -> tuple[list[str], bytes]:
    """(recipients, message) of a file that smtp-sink has written: see its manual."""
    recipients = []
    place = 0
    while True:
        line = dump[place : dump.index(b"\n", place) + 1]
        place += len(line)
        if line.startswith(b"X-Rcpt-Args: "):
            recipients.append(line.decode().split(">")[0].partition("<")[2])
        elif line.startswith(b"Received: "):
            break
    for _ in range(2):  # it goes on for two lines
        place = dump.index(b"\n", place) + 1
    return recipients, dump[place : len(dump) - 1]


def fault(found: Sent, wanted: Sent) -> str:
    """Why a run does not count; "" if it does."""
    if missing := (wanted - found).total():
        return f"{missing} of {wanted.total()} deliveries missing or changed"
    if extra := (found - wanted).total():
        return f"{extra} deliveries more than there should be"
    return ""
