"""Mailboxes in one word, as cs.pop3 writes them: ssl:ann@pop.example.org!mail.example.org:995.

Rule of the file: no password stands in such a word; it says where one is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mailflow.errors import ConfigError
from mailflow.record import NamedTuple
from mailflow_pop3.settings import PORTS

TLS = {"ssl": "implicit", "tcp": "none", "stls": "starttls"}
"""The word before the colon -> `tls`. cs.pop3 knows ssl, its default, and tcp."""

FORM = "[{ssl,tcp,stls}:][user@]host[!name][:port]"

_WAY = re.compile(f"({'|'.join(TLS)}):(.*)", re.S)
_SERVER = re.compile(
    r"(?:(?P<user>.+)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s@!:\[\]]+)"
    r"(?:!(?P<name>[^\s@!:]+))?(?::(?P<port>[0-9]{1,5}))?"
)

Logins = Mapping[str, tuple[str, str]]
"""machine -> (login, account), as ~/.netrc has them."""


class PlaceError(ConfigError):
    """A word that names no mailbox."""

    exit_code = 64


class Place(NamedTuple):
    """A mailbox. `name` is what the certificate must be for, `machine` where ~/.netrc has
    its password, "" where it has none."""

    tls: str
    user: str
    host: str
    name: str
    port: int
    machine: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"

    def options(self) -> dict[str, object]:
        """What [[fetch]] says of it, but for the password."""
        said = {"user": self.user, "host": self.host, "port": self.port, "tls": self.tls}
        return {**said, "tls_name": self.name} if self.name else said


def read(word: str, logins: Logins, me: str) -> Place:
    """The mailbox that `word` names; `me` is the login name on this machine.

    The user is the login in ~/.netrc, else what stands before the "@", else `me`.
    Raises PlaceError.
    """
    found = _WAY.fullmatch(word)
    way, rest = (found[1], found[2]) if found else ("ssl", word)
    machine = next(
        (each for each, (_, account) in logins.items() if account and account == rest), ""
    )
    server = _SERVER.fullmatch(_WAY.sub(r"\2", machine) if machine else rest)
    if machine and not found and (told := _WAY.fullmatch(machine)):
        way = told[1]
    port = int(server["port"]) if server and server["port"] else PORTS[TLS[way]]
    if server is None or not 1 <= port <= 65535 or "://" in word:
        where = f"account {rest!r} is of machine {machine!r}: " if machine else f"{word!r}: "
        raise PlaceError(f"{where}expected an account of ~/.netrc or {FORM}")
    user, host = server["user"] or "", server["host"].strip("[]")
    machine = machine or _machine(user, server["host"], port, logins)
    login = logins[machine][0] if machine else ""
    return Place(TLS[way], login or user or me, host, server["name"] or "", port, machine)


def _machine(user: str, host: str, port: int, logins: Logins) -> str:
    """The machine in ~/.netrc that is meant; one without a user in its name may be
    another user's."""
    for machine in _machines(user, host, port):
        if machine in logins:
            login = logins[machine][0]
            if "@" in machine or not user or login in ("", user):
                return machine
    return ""


def _machines(user: str, host: str, port: int) -> Iterator[str]:
    """What it may be called there, from the one that says most."""
    if user:
        yield f"{user}@{host}:{port}"
        yield f"{user}@{host}"
    yield f"{host}:{port}"
    yield host
