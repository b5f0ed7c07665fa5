"""A drop of the spool served to a client that reads, deletes and comes back, and what must be true.

Rule of the file: it believes the wire and nothing else: what a session of the client has
seen, and what a later session, of a program that started anew, is told.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import poplib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from mailflow.testing.crash import Session, Strike
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.kill import Step
from mailflow.testing.serving import free_ports

PASSWORD = "correct horse"
PATIENCE = 20.0

AGAIN = 8
"""So often `run` is started again before its mail is called lost."""

COUNT = 3
LARGE = 200_000
"""Octets of the last message."""

PIPELINE = """\
[pipeline]
journal = "{journal}"
{settings}

[[fetch]]
use = "maildir"
path = "in"
keep = "0d"

[[distribute]]
use = "spool"
path = "{spool}"
drop = "ann"

[maildrop.ann]
use = "{kind}"
path = "{drop}"
secret = "{secret}"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""


LIVE = """\
[pipeline]
journal = "{journal}"

[maildrop.ann]
use = "{kind}"
host = "127.0.0.1"
port = {there}
user = "{user}"
password = "{secret}"
secret = "{secret}"

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""


def messages() -> list[bytes]:
    """With LF lines, the last one large."""
    texts = [b"one\n", b".\n..\n.two\n", b"three\n" + (b"x" * 99 + b"\n") * (LARGE // 100)]
    return [
        b"From: ben@example.com\nSubject: %d\nMessage-ID: <%d@example.com>\n\n%b" % (n, n, text)
        for n, text in enumerate(texts)
    ]


class Visit(NamedTuple):
    """What one session of the client saw: `drop` maps each UIDL to its octets with LF lines;
    `asked` are the UIDLs it asked to delete; `quit` is the answer to QUIT, "" where none came
    and None where it was not even sent."""

    drop: dict[str, bytes]
    asked: frozenset[str] = frozenset()
    quit: str | None = None


class Caller:
    """A POP3 client by hand, since one that is cut off must say what it knew. `gone` is set
    once the program has ended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.gone = threading.Event()

    def visit(self, *, delete: int = 0, at_the_end: Callable[[], None] = lambda: None) -> Visit:
        """A session that deletes the first so many; where it is cut off, what it knew until
        then. `at_the_end` is called as soon as QUIT was answered."""
        drop: dict[str, bytes] = {}
        asked: set[str] = set()
        answer: str | None = None
        with contextlib.suppress(OSError, EOFError, poplib.error_proto):
            box = poplib.POP3("127.0.0.1", self.port, timeout=PATIENCE)
            with contextlib.closing(box):
                box.user("ann")
                box.pass_(PASSWORD)
                numbers = [line.decode().split() for line in box.uidl()[1]]
                for number, uidl in numbers:
                    drop[uidl] = b"\n".join(box.retr(int(number))[1]) + b"\n"
                for number, uidl in numbers[:delete]:
                    asked.add(uidl)
                    box.dele(int(number))
                answer = ""
                box.sock.sendall(b"QUIT\r\n")
                answer = box.file.readline().decode().rstrip()
                at_the_end()
        return Visit(drop, frozenset(asked), answer)

    def wait(self) -> bool:
        """Until somebody answers; False where the program has ended."""
        while not self.gone.is_set():
            try:
                poplib.POP3("127.0.0.1", self.port, timeout=PATIENCE).close()
            except (OSError, EOFError, poplib.error_proto):
                time.sleep(0.005)  # nothing tells when a port begins to listen
            else:
                return True
        return False


class Served(Session):
    """`mailflow serve` on a spool with the messages in it, and its client.

    The client comes three times: it reads all, it deletes the first two, and, once the program
    has been started anew, it looks what is there. `spool` is where the spool lies. `hook` is
    called as soon as QUIT was answered.
    """

    deleted = 2
    kind = "spool"
    settings: ClassVar[str] = "offline = true"

    def __init__(
        self, home: Path, spool: Path | None = None, hook: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(home)
        (self.port,) = free_ports(1)
        self.hook = hook
        self.file = home / "served.toml"
        self.spool = spool or home / "spool"
        self.file.write_text(self.text())
        self.file.chmod(0o600)
        for folder in ("tmp", "new", "cur"):
            (home / "in" / folder).mkdir(parents=True)
        for number, octets in enumerate(messages()):
            (home / "in/new" / f"{number}.x").write_bytes(octets)
        self.visits: list[Visit] = []
        self.last = Visit({})
        self.prepare()

    def text(self) -> str:
        """The pipeline file."""
        return PIPELINE.format(
            journal=self.home / "journal.db", spool=self.spool, port=self.port, kind=self.kind,
            drop=self.drop(), settings=self.settings, secret=PASSWORD,
        )  # fmt: skip

    def drop(self) -> Path:
        """What the maildrop's `path` names."""
        return self.spool

    def prepare(self) -> None:
        """What is so before the first blow."""
        self.gather()

    def gather(self) -> None:
        """Let all mail get into the spool, undisturbed."""
        done = subprocess.run(
            [*self.program, "run", "--now", str(self.file)], env=self.environment,
            cwd=self.home, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode or done.stderr:
            raise AssertionError(f"mailflow run: {done.returncode}: {done.stderr}")

    def session(self, strike: Strike) -> None:
        self.visits = list(self.served(strike, self.calls))
        (self.last,) = self.served(None, self.looks)

    def calls(self, caller: Caller) -> Iterator[Visit]:
        yield caller.visit()
        yield caller.visit(delete=self.deleted, at_the_end=self.hook)

    def looks(self, caller: Caller) -> Iterator[Visit]:
        yield caller.visit()

    def served(
        self, strike: Strike | None, calls: Callable[[Caller], Iterator[Visit]]
    ) -> list[Visit]:
        """Run the program, perhaps to a blow, and the client beside it; then end it."""
        visits: list[Visit] = []
        caller = Caller(self.port)

        def call() -> None:
            if caller.wait():
                visits.extend(calls(caller))
            for pid in _running(str(self.file)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

        client = threading.Thread(target=call, daemon=True)
        client.start()
        try:
            self.start(strike, "serve", str(self.file))
        finally:
            caller.gone.set()
            client.join(PATIENCE)
        return visits

    def complaints(self) -> list[str]:
        wanted = set(messages())
        there = list(self.last.drop.values())
        said = [f"not as it was: {octets[:60]!r}" for octets in set(there) - wanted]
        said += [
            f"there twice: {octets[:60]!r}" for octets in set(there) if there.count(octets) > 1
        ]
        said += self._kept_uidls()
        missing = wanted - set(there)
        asked = {visit.drop[uidl] for visit in self.visits for uidl in visit.asked}
        answers = [visit.quit for visit in self.visits if visit.asked]
        answer = answers[-1] if answers else None
        if answer is None and missing:
            said.append(f"gone without a QUIT: {len(missing)} messages")
        elif missing - asked:
            said.append(f"gone, and never asked for: {len(missing - asked)} messages")
        elif missing and missing != asked:
            said.append(f"of {len(asked)} deletions {len(missing)} were made")
        elif answer and answer.startswith("+OK") and not missing:
            said.append(f"back after {answer!r}: {len(asked)} messages")
        return said

    def _kept_uidls(self) -> Iterator[str]:
        for visit in self.visits:
            for uidl, octets in visit.drop.items():
                if self.last.drop.get(uidl, octets) != octets:
                    yield f"the UIDL {uidl} is that of another message now"
                if octets in self.last.drop.values() and uidl not in self.last.drop:
                    yield f"the message of UIDL {uidl} has another one now"


class Gathered(Served):
    """`mailflow run` takes the messages into the spool; what is there is looked at by POP3."""

    settings = ""

    def prepare(self) -> None:
        """Nothing was fetched yet."""

    def session(self, strike: Strike) -> None:
        self.start(strike, "run", "--now", str(self.file))
        for _ in range(AGAIN):
            if self.start(None, "run", "--now", str(self.file)).status == 0:
                break
        (self.last,) = self.served(None, self.looks)

    def complaints(self) -> list[str]:
        left = [f"left at the source: {path.name}" for path in self.home.glob("in/[nc]*/*")]
        return super().complaints() + left


class Everything(Served):
    """All in one process: it fetches and spools while the client comes again and again."""

    settings = ""

    def prepare(self) -> None:
        """Nothing was fetched yet."""

    def session(self, strike: Strike) -> None:
        self.visits = list(self.served(strike, self.calls))
        self.gather()
        (self.last,) = self.served(None, self.looks)

    def calls(self, caller: Caller) -> Iterator[Visit]:
        while not caller.gone.is_set():
            visit = caller.visit()
            yield visit
            if len(visit.drop) == len(messages()):
                break
        yield caller.visit(delete=self.deleted, at_the_end=self.hook)


class ServedMaildir(Served):
    """The same of a Maildir, which is served as it is."""

    kind = "maildir"

    def drop(self) -> Path:
        return self.home / "in"

    def prepare(self) -> None:
        """It is all there."""


class ServedLive(Served):
    """The same of a mailbox of Dovecot, which is served live over IMAP or POP3; Dovecot itself
    comes to no harm."""

    _users = itertools.count(1)

    def __init__(self, home: Path, dovecot: Dovecot, kind: str) -> None:
        self.kind = kind
        self.dovecot = dovecot
        self.user = f"live{next(self._users)}"
        dovecot.add_user(self.user, PASSWORD)
        dovecot.deliver(self.user, *messages())
        super().__init__(home)

    def text(self) -> str:
        port = self.dovecot.imap_port if self.kind == "imap" else self.dovecot.pop3_port
        return LIVE.format(
            journal=self.home / "journal.db", port=self.port, kind=self.kind, there=port,
            user=self.user, secret=PASSWORD,
        )  # fmt: skip

    def prepare(self) -> None:
        """It is all there."""


class Expired(Served):
    """`mailflow spool expire` removes the first two, undisturbed or not."""

    def session(self, strike: Strike) -> None:
        self.visits = self.served(None, self.looks)
        last = messages()[-1]
        most = len(last) + last.count(b"\n")
        words = ("spool", "expire", "--spool", str(self.spool), "--over", str(most))
        self.start(strike, *words)
        for _ in range(AGAIN):
            if self.start(None, *words).status == 0:
                break
        (self.last,) = self.served(None, self.looks)

    @property
    def first_steps(self) -> list[Step]:
        return self.outcomes[1].steps

    def complaints(self) -> list[str]:
        said = list(self._kept_uidls())
        if list(self.last.drop.values()) != messages()[-1:]:
            said.append(f"there are {[octets[:60] for octets in self.last.drop.values()]}")
        return said


def _running(file: str) -> list[int]:
    """The programs that this process started with `file` on their command line."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                if file.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(int(pid))
    return found
