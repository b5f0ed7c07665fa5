"""Where a pipeline fetches from, filled with whole corpora at once: one of each kind.

Rule of the file: `expected` is what a mail's octets are once mailflow holds them, as the
protocol or the format of the source has it, by rules of its own.
"""

from __future__ import annotations

import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mailflow.testing.corpus import stored
from mailflow.testing.imap import ImapServer
from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.webmail import TestBed

from ..cli.command import CANARY, Shop

FROM = b"From ann@example.org Fri Nov 21 01:02:03 2025\n"

FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")


def ended(octets: bytes) -> bytes:
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


class Origin(ABC):
    """A source in the home of a shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    @abstractmethod
    def step(self, messages: Sequence[bytes]) -> str:
        """Put the messages there; gives the step as TOML."""

    def run(self) -> None:
        """Take them all."""
        done = self.shop("run", "--now", self.shop.file)
        assert (done.status, done.err) == (0, "")

    def expected(self, octets: bytes) -> bytes:
        return stored(octets)

    def holds(self, octets: bytes) -> bool:
        """Whether such a message can be there."""
        return True

    def close(self) -> None:  # noqa: B027  # files need no end
        """End what runs for it."""


class FromMaildir(Origin):
    def step(self, messages: Sequence[bytes]) -> str:
        for place in ("tmp", "new", "cur"):
            (self.shop.home / "in" / place).mkdir(parents=True)
        for number, octets in enumerate(messages):
            (self.shop.home / f"in/new/{number}.x").write_bytes(octets)
        return f'use = "maildir"\npath = "{self.shop.home}/in"\nkeep = "0d"\n'


class FromMbox(Origin):
    def step(self, messages: Sequence[bytes]) -> str:
        with open(self.shop.home / "in", "wb") as file:
            for octets in messages:
                lines = ended(stored(octets)).replace(b"\r\n", b"\n")
                file.write(FROM + re.sub(rb"(?m)^(>*From )", rb">\1", lines) + b"\n")
        return f'use = "mbox"\npath = "{self.shop.home}/in"\nkeep = "0d"\n'

    def expected(self, octets: bytes) -> bytes:
        return stored(ended(stored(octets)).replace(b"\r\n", b"\n"))


class FromPop3(Origin):
    def step(self, messages: Sequence[bytes]) -> str:
        self.server = Pop3Server({"red": CANARY}, {"red": messages})
        self.server.__enter__()
        return (
            f'use = "pop3"\nhost = "{self.server.host}"\nport = {self.server.port}\ntls = "none"\n'
            f'user = "red"\npassword = {self.shop.secret()}\nkeep = "0d"\n'
        )

    def close(self) -> None:
        self.server.__exit__(None, None, None)

    def expected(self, octets: bytes) -> bytes:
        return ended(stored(octets))


class FromImap(Origin):
    def step(self, messages: Sequence[bytes]) -> str:
        self.server = ImapServer({"red": CANARY}, {"red": messages})
        self.server.__enter__()
        return (
            f'use = "imap"\nhost = "{self.server.host}"\nport = {self.server.port}\ntls = "none"\n'
            f'user = "red"\npassword = {self.shop.secret()}\nkeep = "0d"\n'
        )

    def close(self) -> None:
        self.server.__exit__(None, None, None)


class FromPage(Origin):
    def step(self, messages: Sequence[bytes]) -> str:
        self.bed = TestBed(["INBOX", "Trash"])
        self.bed.__enter__()
        self.bed.put("INBOX", *messages)
        return (
            f'use = "webmail"\nsite = "testbed"\nurl = "{self.bed.url}"\nuser = "demo"\n'
            f'password = {self.shop.secret(value="demo")}\nkeep = "0d"\n'
        )

    def close(self) -> None:
        self.bed.__exit__(None, None, None)

    def expected(self, octets: bytes) -> bytes:
        """As an mbox file holds it: the last line ends, too."""
        lines = stored(octets)
        return lines if lines.endswith(b"\n") else lines + b"\r\n"

    def holds(self, octets: bytes) -> bool:
        """What begins with no field is taken for no message (an error page, a cut answer)."""
        return FIELD.match(octets) is not None


HOOK = """
import os, sys
from mailflow.cli import hook
from mailflow.engine import config, hook as taking, registry
pipeline, directory = sys.argv[1:]
for name in sorted(os.listdir(directory)):
    child = os.fork()
    if not child:
        os.dup2(os.open(os.path.join(directory, name), os.O_RDONLY), 0)
        hook.main([pipeline])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        print(name, "ends with", status)
"""
"""What `mailflow hook` does, a process for each message, without Python's start."""


class FromStdin(Origin):
    """Each message by itself, as an MTA's pipe has it: behind a line `From `."""

    def step(self, messages: Sequence[bytes]) -> str:
        (self.shop.home / "in").mkdir()
        for number, octets in enumerate(messages):
            (self.shop.home / f"in/{number:04}").write_bytes(FROM + octets)
        return 'use = "stdin"\n'

    def run(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", HOOK, self.shop.file, str(self.shop.home / "in")],
            env=self.shop.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        last = self.shop("run", "--now", self.shop.file)
        assert (last.status, last.err) == (0, "")


ORIGINS: dict[str, type[Origin]] = {
    "maildir": FromMaildir, "mbox": FromMbox, "pop3": FromPop3, "imap": FromImap,
    "webmail": FromPage, "stdin": FromStdin,
}  # fmt: skip


def put(shop: Shop, kind: str, messages: Iterable[bytes], rest: str) -> Origin:
    """A pipeline from such a source, with the messages in it, and those steps."""
    origin = ORIGINS[kind](shop)
    start = "" if kind == "stdin" else 'start = "all"\n'
    shop.write(f"[[fetch]]\n{origin.step(list(messages))}{start}\n{rest}")
    return origin


__all__ = ["ORIGINS", "Origin", "put"]
