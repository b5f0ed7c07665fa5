"""A fetcher without an engine, against whatever serves POP3."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Fetched, Missed, Runtime
from mailflow.mail import read
from mailflow.options import SecretValue
from mailflow.verdicts import Fate
from mailflow_pop3.fetcher import Pop3Fetcher
from mailflow_pop3.settings import Pop3Options

SECRET = "canary-2c7f"


class Log:
    """Keeps every line."""

    def __init__(self):
        self.lines = []

    def _say(self, level):
        return lambda event, **facts: self.lines.append((level, event, facts))

    debug = property(lambda self: self._say("debug"))
    info = property(lambda self: self._say("info"))
    warning = property(lambda self: self._say("warning"))
    error = property(lambda self: self._say("error"))

    def warnings(self):
        return [event for level, event, _ in self.lines if level == "warning"]


@pytest.fixture
def log():
    """What was logged; no test may have logged the password."""
    log = Log()
    yield log
    assert SECRET not in repr(log.lines)


@pytest.fixture
def halt():
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def scratch(tmp_path):
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def fetcher_of(log, halt, scratch) -> Callable[..., Pop3Fetcher]:
    """A fetcher of the mailbox red at `server`, with more or other options."""

    def make(server, **options):
        known = {
            "host": server.host,
            "port": getattr(server, "port", None),
            "user": "red",
            "password": SecretValue(lambda: SECRET, "the test"),
            "timeout": 5.0,
        }
        runtime = Runtime("inbox", "red", halt, log, str(scratch))
        return Pop3Fetcher(Pop3Options(known | options), runtime)

    return make


@pytest.fixture
def session(fetcher_of):
    """One session as the engine has it: list, retrieve what is not `known`, settle, leave.

    Gives {key: octets or error}; `yielded`, if given, has them even where it raises.
    """

    def run(server, *, known=(), settle=True, yielded=None, **options):
        got = {} if yielded is None else yielded
        with fetcher_of(server, **options) as fetcher:
            keys = [item.key for item in fetcher.listing(None)]
            for key in keys:
                if key in known:
                    fetcher.settle(key, Fate.DONE)
            for one in fetcher.retrieve([key for key in keys if key not in known]):
                if isinstance(one, Missed):
                    got[one.key] = one.error
                    continue
                assert isinstance(one, Fetched)
                assert one.envelope == (None, ())
                got[one.key] = read(one.content)
                assert len(got[one.key]) == one.content.size
                if settle:
                    fetcher.settle(one.key, Fate.DONE)
        return got

    return run


class Script:
    """A server that waits for exactly these octets, then says those: it proves flights."""

    def __init__(self, path, steps):
        self.host = str(path)
        self.failure = None
        self.leaves_first = False
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self.host)
        self._sock.listen()
        self._steps = steps
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(5)
        if kind is None:
            assert self.failure is None, self.failure

    def _run(self):
        try:
            sock, _ = self._sock.accept()
            if self.leaves_first:
                sock.recv(100)
                sock.close()
                sock, _ = self._sock.accept()
        except OSError:
            return
        with sock:
            sock.settimeout(3)
            for expected, answer in self._steps:
                got = b""
                try:
                    while len(got) < len(expected):
                        data = sock.recv(len(expected) - len(got))
                        if not data:
                            break
                        got += data
                except TimeoutError:
                    pass
                if got != expected:
                    self.failure = f"expected {expected!r}, got {got!r}"
                    return
                with suppress(OSError):  # a client that leaves fails at the next step
                    sock.sendall(answer)
            with suppress(OSError):
                if rest := sock.recv(1):
                    self.failure = f"unexpected: {rest!r}"


@pytest.fixture
def script(tmp_path):
    def make(*steps):
        return Script(tmp_path / "socket", steps)

    return make
