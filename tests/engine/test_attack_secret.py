"""C2: a secret that a server repeats is not in the journal, nor in what shows it later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.smtp import SmtpSink

CANARY = "canary-of-the-password"

MAIL = b"From: ann@example.org\r\nTo: red@example.org\r\nMessage-ID: <1@x>\r\n\r\nhello\r\n"

Command = Callable[..., str]


@pytest.fixture
def command(home: Path) -> Command:
    """Runs the command in an empty home; gives all it says."""

    def run(*words: str, **secrets: str) -> str:
        environment = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **secrets}
        done = subprocess.run(
            [sys.executable, "-m", "mailflow", *words],
            env=environment, cwd=home, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return (done.stdout + done.stderr).decode()

    return run


def pipeline(home: Path, pop3: Pop3Server, smtp: SmtpSink) -> str:
    file = home / "red.toml"
    file.write_text(
        f'[[fetch]]\nuse = "pop3"\nhost = "127.0.0.1"\nport = {pop3.port}\nuser = "red"\n'
        'password = { env = "POP3" }\n'
        '[[process]]\nuse = "list.post"\naddress = "red@example.org"\n'
        'members = ["ann@example.org"]\n'
        f'[[distribute]]\nuse = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\nuser = "red"\n'
        'password = { env = "SMTP" }\n'
    )
    return str(file)


@pytest.mark.parametrize("code", [b"550 5.1.1", b"450 4.2.0"])
def test_by_an_smtp_server(command: Command, home: Path, code: bytes) -> None:
    words = f"{code.decode()} your password is {CANARY}"
    with Pop3Server({"red": "x-pop3"}, {"red": [MAIL]}) as pop3, SmtpSink(
        users={"red": CANARY}
    ) as smtp:  # fmt: skip
        smtp.on("RCPT", words)
        command("run", pipeline(home, pop3, smtp), POP3="x-pop3", SMTP=CANARY)
    listed = command("queue", "list")
    assert "your password is ***" in listed
    assert CANARY not in listed
    _nowhere(home)


def test_by_a_pop3_server(command: Command, home: Path) -> None:
    with Pop3Server({"red": CANARY}, {"red": [MAIL]}) as pop3, SmtpSink() as smtp:
        pop3.faults = Faults(answers={"UIDL": f"-ERR [SYS/TEMP] it is {CANARY}\r\n".encode()})
        file = pipeline(home, pop3, smtp)
        assert "UIDL" in command("run", file, POP3=CANARY, SMTP="x-smtp")
        rests = command("-v", "run", file, POP3=CANARY, SMTP="x-smtp")
    assert "it is ***" in rests
    assert CANARY not in rests
    _nowhere(home)


def _nowhere(home: Path) -> None:
    for path in home.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
