"""A maildrop for monitoring: one message that was never sent, made at each log-in.

Rule of the file: it stores nothing, and nothing of anybody's mail is behind it; a probe that
gets its message has seen the listener, the log-in and a whole answer work.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from mailflow.errors import GoneError
from mailflow.kinds import Credentials, Item, Runtime
from mailflow.mail import Content, Octets
from mailflow.options import Options
from mailflow.typed import ClassVar

LOOPBACK = ("127.0.0.0/8", "::1/128")
"""Where its clients come from, unless the file says otherwise."""


class ProbeOptions(Options):
    """A message for a monitoring program."""


class Probe:
    """One message for a monitoring program, from this machine alone unless `networks` says
    otherwise."""

    options: ClassVar[type[Options]] = ProbeOptions
    networks = LOOPBACK
    prompt = True

    def __init__(self, options: ProbeOptions, runtime: Runtime) -> None:
        """There is nothing to set."""

    def login(self, who: Credentials) -> ProbeDrop:
        return ProbeDrop()


class ProbeDrop:
    """The one message; whoever deletes it deletes nothing."""

    prompt = True

    def __init__(self) -> None:
        from email.utils import formatdate
        from socket import gethostname
        from uuid import uuid4

        host = gethostname() or "localhost"
        mark = str(uuid4())
        text = (
            f"Date: {formatdate(time.time())}\r\n"
            f"From: <postmaster@{host}>\r\n"
            f"Message-ID: <{mark}@{host}>\r\n"
            "Subject: probe\r\n"
            "\r\n"
            f"{mark}\r\n"
        )
        self._content = Octets(text.encode("ascii", "replace"))
        self._item = Item(mark, self._content.size, flags=frozenset())

    def items(self) -> Sequence[Item]:
        return [self._item]

    def read(self, key: str) -> Content:
        if key != self._item.key:
            raise GoneError("there is no such message")
        return self._content

    def close(self, delete: Collection[str] = ()) -> None:
        """There is nothing to remove, and no lock."""
