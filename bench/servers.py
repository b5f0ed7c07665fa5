"""The POP3 servers that are loaded: mailflow with its maildrops, and Dovecot twice.

Rule of the file: each has the same mail for user0, user1 and so on, in its own store, and
checks a password at every log-in; nothing is left out of what it does by default but logs.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench.fetchers import installed, output_of, secret, version_in
from mailflow.testing.daemon import greets
from mailflow.testing.dovecot import BINARY, Dovecot
from mailflow.testing.serving import free_ports

PASSWORD = "secret"

TUNED = """\
pop3_no_flag_updates = yes
mail_fsync = never
default_client_limit = 20000
default_process_limit = 20000
service anvil {
  client_limit = 20000
}
service auth {
  client_limit = 20000
}
service pop3-login {
  service_count = 0
  client_limit = 10000
  process_min_avail = 2
  process_limit = 2
}
service pop3 {
  process_limit = 8000
  process_min_avail = 20
  service_count = 1000
}
"""
"""The high-performance log-in of Dovecot's manual: a process for each core. Processes that
serve sessions are kept and used again a thousand times."""

DEFAULT = """\
service pop3-login {
  service_count = 1
}
"""
"""As it comes: a process for each log-in and a process for each session."""


class Server(Protocol):
    """Runs from `__enter__` to `__exit__`; `pid` is the first of its processes."""

    name: str
    role: str
    version: str

    @property
    def port(self) -> int: ...

    @property
    def pid(self) -> int: ...

    def fill(self, users: int, mails: Sequence[bytes], first: int = 0) -> None:
        """Give mail (with LF) to users, before it is started."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class DovecotServer:
    """Dovecot 2.3 with Maildirs."""

    def __init__(self, directory: Path, name: str, role: str, settings: str) -> None:
        self.name = name
        self.role = role
        self.version = version_in(output_of(BINARY, "--version"))
        self._dovecot = Dovecot(directory / name.replace(" ", "-"), settings=settings)

    @property
    def port(self) -> int:
        return self._dovecot.pop3_port

    @property
    def pid(self) -> int:
        return self._dovecot.pid

    def fill(self, users: int, mails: Sequence[bytes], first: int = 0) -> None:
        for number in range(first, first + users):
            self._dovecot.add_user(f"user{number}", PASSWORD)
            self._dovecot.deliver(f"user{number}", *mails)

    def __enter__(self) -> Self:
        self._dovecot.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._dovecot.__exit__(kind, error, trace)


class Mailflow:
    """`mailflow serve` with one kind of maildrop, and a salted digest for each user. `more` are
    further tables of its file."""

    role = "ours"

    def __init__(self, script: Path, directory: Path, maildrop: str, workers: int) -> None:
        self.name = f"mailflow, {maildrop}"
        self.version = installed(script, "mailflow")
        self.port = 0
        self._script = script
        self._maildrop = maildrop
        self._workers = workers
        self._directory = directory / f"mailflow-{maildrop}"
        self._directory.mkdir()
        self.more = ""
        self._passwords: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def store(self) -> Path:
        return self._directory / "store"

    def fill(self, users: int, mails: Sequence[bytes], first: int = 0) -> None:
        fill = {"spool": fill_spool, "maildir": fill_maildirs}[self._maildrop]
        names = [f"user{number}" for number in range(first, first + users)]
        fill(self.store, names, mails)
        self.know(*names)

    def know(self, *names: str) -> None:
        """These may log in."""
        for name in names:
            salt = hashlib.md5(name.encode()).digest()
            digest = hashlib.sha256(PASSWORD.encode() + salt).digest()
            self._passwords[name] = "{SSHA256}" + b64encode(digest + salt).decode()

    def configure(self) -> Path:
        where = f'"{self.store}"' if self._maildrop == "spool" else f'"{self.store}/{{login}}"'
        lines = "".join(f"{name}:{word}\n" for name, word in self._passwords.items())
        passwords = secret(self._directory / "passwords", lines)
        pipeline = self._directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{self._directory}/journal"\n\n'
            f'[maildrop."user*"]\nuse = "{self._maildrop}"\npath = {where}\n'
            f'passwords = "{passwords}"\n\n'
            f'[[serve]]\nuse = "pop3"\nlisten = ["127.0.0.1:{self.port}"]\n'
            f"workers = {self._workers}\n{self.more}"
        )
        return pipeline

    def __enter__(self) -> Self:
        (self.port,) = free_ports(1)
        environment = {"PATH": os.defpath, "HOME": str(self._directory), "LC_ALL": "C.UTF-8"}
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [str(self._script), "serve", str(self.configure())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._directory,
            )
        try:
            if not greets(self._process, self.port):
                raise RuntimeError(f"mailflow does not start: {self.log}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-1000:]


def fill_spool(path: Path, names: Sequence[str], mails: Sequence[bytes], done: int = 0) -> None:
    """By the distributor, as a pipeline fills it; `done` mails went there before."""
    from mailflow.halt import Halt
    from mailflow.kinds import Runtime, Ticket
    from mailflow.log import get_logger
    from mailflow.mail import Envelope, Mail, Octets
    from mailflow_spool.distributor import SpoolDistributor, SpoolOptions

    contents = [Octets(mail.replace(b"\n", b"\r\n")) for mail in mails]
    halt = Halt()
    for name in names:
        options = SpoolOptions.read({"drop": name, "path": str(path)})
        runtime = Runtime("spool", "bench", halt, get_logger(), str(path))
        jobs = (
            (Mail(f"{name}-{number}", Envelope(), content), Ticket(f"{name}.{number}", ("",)))
            for number, content in enumerate(contents, done)
        )
        with SpoolDistributor(options, runtime) as distributor:
            keys = [ticket.key for ticket, _ in distributor.distribute_many(jobs)]
            distributor.finish(keys)
    halt.close()


def fill_maildirs(path: Path, names: Sequence[str], mails: Sequence[bytes], done: int = 0) -> None:
    """As Dovecot's own delivery names them, with their sizes; `done` went there before."""
    for name in names:
        for folder in ("tmp", "new", "cur"):
            (path / name / folder).mkdir(parents=True, exist_ok=True)
        for number, mail in enumerate(mails, 1_700_000_000 + done):
            sizes = f"S={len(mail)},W={len(mail) + mail.count(10)}"
            (path / name / "cur" / f"{number}.M1P1.test,{sizes}:2,").write_bytes(mail)


def all_of(script: Path, directory: Path, *, default: bool = True) -> list[Server]:
    """Those of a row; Dovecot as it comes is only context."""
    workers = os.cpu_count() or 1
    found: list[Server] = [
        Mailflow(script, directory, "spool", workers),
        Mailflow(script, directory, "maildir", workers),
    ]
    if os.path.exists(BINARY):
        found.append(DovecotServer(directory, "Dovecot tuned", "gauge", TUNED))
        if default:
            found.append(DovecotServer(directory, "Dovecot as it comes", "context", DEFAULT))
    return found
