"""The real command, in a home of its own, with plugins that a test writes.

    shop = Shop(tmp_path)
    shop.write(HOOK)
    shop("hook", shop.file, stdin=MAIL).status

Rule of the file: whatever the command prints is checked for a traceback and for the
canary, so that no test can forget it (C2).
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mailflow.testing.pop3 import Pop3Server

COMMAND = os.path.join(os.path.dirname(sys.executable), "mailflow")
CANARY = "canary-3x7q-secret"
"""The password of every account that a test of the command has."""

MAIL = b"From: ann@example.org\nTo: bob@example.org\nSubject: one\nMessage-ID: <1@x>\n\nhello\n"


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


class Shop:
    """A home, a pipeline's file, a Maildir, and the command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.home.mkdir(mode=0o700)
        self.path = self.home / "red.toml"
        self.site = root / "site"
        self.journal = self.home / "journal.db"

    @property
    def file(self) -> str:
        return str(self.path)

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        return {
            "HOME": str(self.home), "PATH": os.defpath, "PYTHONPATH": self._modules,
            "XDG_STATE_HOME": str(self.home / "state"), **more,
        }  # fmt: skip

    @property
    def _modules(self) -> str:
        """Where plugins are, and the code under test where that is not what is installed."""
        return os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))

    def write(self, text: str, **words: object) -> str:
        """Write the pipeline; {home} and {words} are put in. Gives its path."""
        for name, value in {"home": self.home, **words}.items():
            text = text.replace("{" + name + "}", str(value))
        self.path.write_text(f'[pipeline]\njournal = "{self.journal}"\nname = "red"\n{text}')
        return self.file

    def secret(self, name: str = "secret", value: str = CANARY) -> str:
        """A file with a password; the TOML for it."""
        path = self.home / name
        path.write_text(value + "\n")
        path.chmod(0o600)
        return f'{{ file = "{path}" }}'

    def plugin(self, name: str, source: str) -> None:
        """Install a plugin: a distribution with one module."""
        about = self.site / f"mailflow_{name}-1.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: mailflow-{name}\nVersion: 1\n"
        )
        (about / "entry_points.txt").write_text(f"[mailflow]\n{name} = mailflow_{name}\n")
        (self.site / f"mailflow_{name}.py").write_text(source)

    def start(self, *arguments: str, env: Mapping[str, str] = {}, **words: Any) -> Any:
        """The command, started."""
        known: dict[str, Any] = {
            "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "cwd": self.home,
        }  # fmt: skip
        return subprocess.Popen([COMMAND, *arguments], env=self.environment(env), **known | words)

    def __call__(
        self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] = {}, **words: Any
    ) -> Done:
        """Run the command to its end."""
        return self.end(self.start(*arguments, env=env, **words), stdin)

    def end(self, child: Any, stdin: bytes = b"") -> Done:
        """Wait for a command that was started."""
        out, err = child.communicate(stdin if child.stdin else None, timeout=60)
        done = Done(child.returncode, _text(out), _text(err))
        assert "Traceback" not in done.err + done.out, done.err
        assert CANARY not in done.err + done.out
        return done

    def shell(self, script: str | bytes, stdin: bytes = b"", env: Mapping[str, str] = {}) -> Done:
        """Run the command from a shell, as $mailflow."""
        child = subprocess.Popen(
            ["/bin/sh", "-c", script], env=self.environment({"mailflow": COMMAND, **env}),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.home,
        )  # fmt: skip
        return self.end(child, stdin)

    @property
    def maildir(self) -> list[bytes]:
        """What lies in ~/Maildir."""
        return [path.read_bytes() for path in sorted(self.home.glob("Maildir/new/*"))]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.journal)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def change(self, query: str) -> None:
        connection = sqlite3.connect(self.journal)
        with connection:
            connection.execute(query)
        connection.close()


def _text(octets: bytes | None) -> str:
    return (octets or b"").decode("utf-8", "backslashreplace")


@contextmanager
def pop3(*messages: bytes) -> Iterator[Pop3Server]:
    """A POP3 server with one user, red, whose password is the canary."""
    with Pop3Server({"red": CANARY}, {"red": messages}) as server:
        yield server


HOOK = """
[[fetch]]
use = "stdin"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""

FETCH = """
[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {port}
tls = "none"
user = "red"
password = {secret}
keep = "0d"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""
