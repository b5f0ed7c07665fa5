"""Where clients may come from.

Rule of the file: an address that cannot be read is in no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

LOCAL = "local"
"""What Dovecot calls a unix socket in allow_nets."""


class Networks:
    """A few networks; none is anywhere. Raises ValueError for what is no network.

    A unix socket is in those that hold an address of loopback, and in "local".
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._known: list[IPv4Network | IPv6Network] = []
        self._local = False
        for word in words:
            if word == LOCAL:
                self._local = True
                continue
            try:
                found = ip_network(word, strict=False)
            except ValueError:
                raise ValueError(
                    f'{word!r} is no network; expected such as "192.0.2.0/24" or "::1"'
                ) from None
            self._known.append(found)
            self._local = self._local or found.is_loopback
        self._anywhere = not self._known and not self._local

    def holds(self, address: str) -> bool:
        """`address` as a socket says it, "" for a unix socket."""
        if self._anywhere or not address:
            return self._anywhere or self._local
        try:
            found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._known)
