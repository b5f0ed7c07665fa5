"""A wire without a network, for a session that hears what a test says."""

from __future__ import annotations


class Mouth:
    """Says `octets`, `piece` of them at a time, and then its end; hears everything."""

    peer = "test"
    unsent = 0

    def __init__(self, octets: bytes, piece: int = 4096) -> None:
        self.rest = [octets[at : at + piece] for at in range(0, len(octets), piece)]

    def read(self) -> bytes:
        return self.rest.pop(0) if self.rest else b""

    def write(self, octets: bytes) -> None:
        pass

    def close(self) -> None:
        pass
