"""A server that says the same octets to whoever comes, whatever it hears."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

PATIENCE = 5.0


class Sayer:
    """Listens from the first on; `words` are for the next client and those after it."""

    def __init__(self) -> None:
        self.words = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._socket.accept()
            with client, suppress(OSError):
                client.settimeout(PATIENCE)
                client.recv(1 << 16)
                client.sendall(self.words)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
