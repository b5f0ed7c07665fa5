"""The line between `serve` and one of its workers: values as JSON, one a line.

Rule of the file: either side may write from any thread; one thread of each reads.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

from mailflow.typed import Any

PATIENCE = 30
"""Seconds that a worker may leave its end unread before it counts as dead."""


class Channel:
    """One end. Closing it is the word that all ends.

    `patience`: seconds after which a side that reads nothing counts as dead; for good without.
    """

    def __init__(self, sock: socket.socket, patience: int = 0) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", patience, 0))

    def send(self, value: dict[str, Any]) -> bool:
        """Whether it went out; the other side may be gone."""
        octets = json.dumps(value, default=str).encode() + b"\n"
        with self._lock:
            try:
                self._socket.sendall(octets)
            except OSError:
                with suppress(OSError):  # half a line may have gone out: nothing may follow it
                    self._socket.shutdown(socket.SHUT_RDWR)
                return False
        return True

    def received(self) -> Iterator[dict[str, Any]]:
        """What comes, until the other side is gone."""
        rest = b""
        while True:
            try:
                more = self._socket.recv(1 << 16)
            except OSError:
                return
            if not more:
                return
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def end(self) -> None:
        """Tell the other side that nothing more comes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()
