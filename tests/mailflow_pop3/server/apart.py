"""The gateway in a process of its own, so that its memory, descriptors and end can be watched.

    python apart.py '{"messages": 3, "octets": 20000, "options": {"connections": 500}}'

Rule of the file: run as a program it serves until its standard input ends, having written
its port; everything else is for the test that started it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE = 20.0


class Apart:
    """Runs from `__enter__` to `__exit__`. Logins are user0, user1 and so on, the password
    "sesame"; each maildrop holds the same messages."""

    def __init__(self, **wishes: object) -> None:
        self._wishes = json.dumps(wishes)
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Apart:
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._wishes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or 0)
        assert self.port, "it did not start"
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self.status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def resident(self) -> int:
        """Octets in memory now."""
        found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        assert found
        return int(found[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def worked(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)


def main() -> None:
    from shelf import Shelf

    from mailflow.accounts import Account, Accounts, Pace
    from mailflow.mail import OctetFile
    from mailflow.testing.gateway import Gateway, plain

    wishes: dict[str, Any] = json.loads(sys.argv[1])
    if "files" in wishes:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wishes["files"], wishes["files"]))
    messages: list[Any] = [b"Subject: one\r\n\r\n" + b"x" * wishes.get("octets", 100) + b"\r\n"]
    messages *= wishes.get("messages", 1)
    if "file" in wishes:
        messages.append(OctetFile(wishes["file"]))
    accounts = [
        Account(f"user{number}", Shelf(*messages), secret=plain("sesame"))
        for number in range(wishes.get("accounts", 1))
    ]
    gateway = Gateway([], **wishes.get("options", {}))
    gateway.service_host.accounts = Accounts(accounts, pace=Pace(first=0.0, most=0.0))
    with gateway:
        print(gateway.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
