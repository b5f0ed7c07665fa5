"""The POP3 server keeps the contract of a service."""

from __future__ import annotations

import poplib
import socket
from collections.abc import Mapping

from mailflow.testing.contracts import MailServiceContract
from mailflow_pop3.gateway import Pop3Gateway

PATIENCE = 10.0


class TestPop3Gateway(MailServiceContract):
    component = Pop3Gateway

    def at(self, host: str, port: int) -> Mapping[str, object]:
        return {"listen": [f"{host}:{port}"]}

    def visit(self, address: tuple[str, int]) -> None:
        with socket.create_connection(address, PATIENCE) as client, client.makefile("rb") as said:
            assert said.readline().startswith(b"+OK")
            client.sendall(b"QUIT\r\n")
            assert said.readline().startswith(b"+OK")
            assert said.read() == b""

    def ask(self, address: tuple[str, int], login: str, password: str) -> int | None:
        client = poplib.POP3(*address, timeout=PATIENCE)
        try:
            client.user(login)
            client.pass_(password)
        except poplib.error_proto:
            client.close()
            return None
        count, _ = client.stat()
        client.quit()
        return count
