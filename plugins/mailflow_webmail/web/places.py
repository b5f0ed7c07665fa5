"""Which addresses are asked: those of one webmail, and of the hosts that its user names.

Rule of the file: an address is judged as it will be dialled, after all repairs; what is left of
it in an error is its host, since the rest may hold a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from mailflow.errors import ConfigError, PeerError
from mailflow.log import clean

PORTS = {"http": 80, "https": 443}

LONGEST = 1 << 14
"""Letters of an address; servers take half of that."""

EXPECTED = 'expected an address such as "https://webmail.example.org/"'


class Places:
    """The webmail at `url`, and others: "login.example.org" or "login.example.org:8443".

    `name` is what it is called in errors, `hosts` are the names of all of them.
    """

    def __init__(self, url: str, hosts: Sequence[str] = ()) -> None:
        """Raises ConfigError."""
        try:
            parts = urlsplit(url)
            self._home = _place(parts)
        except ValueError:
            raise ConfigError(EXPECTED) from None
        if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
            raise ConfigError(EXPECTED)
        self.name = parts.netloc
        self._scheme = parts.scheme
        self._others = {_named(each, parts.scheme) for each in hosts}
        self.hosts = frozenset({self._home[0], *(host for host, _ in self._others)})

    def check(self, url: str) -> None:
        """Raise PeerError where it leads elsewhere."""
        try:
            parts = urlsplit(url)
            place = _place(parts)
        except ValueError:
            raise PeerError(f"{self.name} sends us to an address that is none") from None
        if len(url) > LONGEST:
            raise PeerError(f"{self.name} sends us to an address of {len(url)} letters")
        if parts.scheme not in PORTS:
            kind = clean(parts.scheme[:20])
            raise PeerError(f"{self.name} sends us to a {kind}: address, which is never asked")
        if parts.username is not None:
            raise PeerError(f"{self.name} sends us to an address with a name or password in it")
        if self._scheme == "https" and parts.scheme == "http":
            raise PeerError(f"{self.name} sends us out of TLS, to http://{_shown(parts)}")
        if (parts.scheme == self._scheme and place == self._home) or place in self._others:
            return
        if place[0] == self._home[0] and parts.scheme != self._scheme:
            raise PeerError(f"{self.name} sends us to https://{_shown(parts)}; set `url` to that")
        raise PeerError(
            f"{self.name} sends us to {_shown(parts)}, which is another place; where that is"
            " right, name it in `hosts`"
        )

    def same(self, one: str, other: str) -> bool:
        """Whether two addresses, which were checked, are of the same scheme, host and port."""
        first, second = urlsplit(one), urlsplit(other)
        return first.scheme == second.scheme and _place(first) == _place(second)


def _place(parts: SplitResult) -> tuple[str, int]:
    """Raises ValueError where host or port is none."""
    host = (parts.hostname or "").rstrip(".")
    if not host.isascii():
        import idna  # as requests has it

        host = idna.encode(host, uts46=True).decode()
    return host, parts.port or PORTS.get(parts.scheme, 0)


def _shown(parts: SplitResult) -> str:
    """Host and port."""
    return clean(parts.netloc.rpartition("@")[2])[:100]


def _named(host: str, scheme: str) -> tuple[str, int]:
    """Raises ConfigError."""
    try:
        parts = urlsplit(f"{scheme}://{host}")
        if parts.hostname and parts.netloc == host and parts.username is None:
            return _place(parts)
    except ValueError:
        pass
    raise ConfigError(f"expected a host such as login.example.org in `hosts`; found {host!r}")
