"""A maildrop without mail, for who manages the installation over POP3: XSTAT and XPOKE.

Rule of the file: it is a door, not a drop; off unless a file has it, and open to this machine
alone unless the file says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mailflow.errors import GoneError
from mailflow.kinds import Credentials, Item, Runtime
from mailflow.mail import Content
from mailflow.options import Options
from mailflow.typed import ClassVar
from mailflow_pop3.probe import LOOPBACK


class ManagerOptions(Options):
    """The commands XSTAT and XPOKE, behind a log-in of their own."""


class Manager:
    """Lets a client ask for the state of the installation (XSTAT), and have a source fetched
    from now (XPOKE NAME)."""

    options: ClassVar[type[Options]] = ManagerOptions
    networks = LOOPBACK
    prompt = True

    def __init__(self, options: ManagerOptions, runtime: Runtime) -> None:
        """There is nothing to set."""

    def login(self, who: Credentials) -> ManagerDrop:
        return ManagerDrop()


class ManagerDrop:
    """No message; `manages` makes the commands work."""

    prompt = True
    manages = True

    def items(self) -> Sequence[Item]:
        return ()

    def read(self, key: str) -> Content:
        raise GoneError(f"there is no message {key!a}")

    def close(self, delete: Collection[str] = ()) -> None:
        """There is nothing to remove, and no lock."""
