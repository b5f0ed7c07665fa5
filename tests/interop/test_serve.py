"""The whole way through `mailflow serve`: servers as sources, the spool, POP3 clients."""

from __future__ import annotations

import json
import poplib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.pop3 import Pop3Server

from ..cli.command import CANARY, Shop
from ..engine.standing import eventually

GATEWAY = """
[[distribute]]
use = "spool"
drop = "ann"
path = "{home}/spool"
[maildrop.ann]
use = "spool"
path = "{home}/spool"
secret = {secret}
[maildrop.operator]
use = "pop3.manager"
secret = {secret}
[[serve]]
use = "pop3"
listen = ["127.0.0.1:{port}"]
"""
SOURCE = """
[[fetch]]
name = "{name}"
use = "pop3"
host = "127.0.0.1"
port = {source}
tls = "none"
user = "{user}"
password = {secret}
every = "1h"
auto = "{auto}"
"""


def message(name: str) -> bytes:
    return f"Subject: {name}\r\nMessage-ID: <{name}@example.org>\r\n\r\nhello\r\n".encode()


class Gateway:
    """`mailflow serve` in a shop, and its client."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.sources = ""
        self.child = None

    def source(self, name: str, port: int, user: str, secret: str, auto: str = "yes") -> None:
        text = SOURCE
        words = {"name": name, "source": port, "user": user, "secret": secret, "auto": auto}
        for key, value in words.items():
            text = text.replace("{" + key + "}", str(value))
        self.sources += text

    def start(self, more: str = "") -> None:
        secret = self.shop.secret("gateway")
        text = self.sources + GATEWAY + more
        self.shop.write(text, port=self.port, secret=secret)
        self.child = self.shop.start("serve", self.shop.file)

    def client(self, user: str = "ann") -> poplib.POP3:
        """Logged in, as soon as that is possible."""

        def login() -> poplib.POP3 | None:
            try:
                client = poplib.POP3("127.0.0.1", self.port, timeout=20)
            except OSError:
                return None
            client.user(user)
            client.pass_(CANARY)
            return client

        client: poplib.POP3 = eventually(login, "the gateway")
        return client

    def subjects(self) -> list[str]:
        """What a client finds in the drop now."""
        client = self.client()
        count, _ = client.stat()
        found = [client.retr(number + 1)[1][0].decode() for number in range(count)]
        client.quit()
        return sorted(line.removeprefix("Subject: ") for line in found)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(Shop(tmp_path))
    yield made
    if made.child is not None:
        made.child.send_signal(signal.SIGTERM)
        assert made.shop.end(made.child).status == 0


@pytest.mark.interop("dovecot-core", "dovecot-pop3d")
def test_p3s_19_a_program_that_speaks_pop3_alone_reads_what_lies_on_several_servers(
    gateway: Gateway, tmp_path: Path
) -> None:
    with (
        Dovecot(tmp_path / "dovecot") as dovecot,
        Pop3Server({"blue": CANARY}, {"blue": [message("from-blue")]}) as other,
    ):
        dovecot.add_user("red", CANARY)
        dovecot.deliver("red", message("one-from-red"), message("two-from-red"))
        secret = gateway.shop.secret()
        gateway.source("red", dovecot.pop3_port, "red", secret)
        gateway.source("blue", other.port, "blue", secret)
        gateway.start()
        everything = ["from-blue", "one-from-red", "two-from-red"]
        eventually(lambda: gateway.subjects() == everything)
        client = gateway.client()
        client.dele(1)
        client.quit()
        assert len(gateway.subjects()) == 2
        assert len(dovecot.messages("red")) == 2


def test_pwm_27_who_has_only_pop3_asks_how_things_stand_and_has_mail_fetched(
    gateway: Gateway,
) -> None:
    with Pop3Server({"blue": CANARY}, {"blue": [message("a")]}) as server:
        gateway.source("blue", server.port, "blue", gateway.shop.secret(), auto="no")
        gateway.start()
        operator = gateway.client("operator")
        told = b"\r\n".join(operator._longcmd("XSTAT")[1]).decode()  # type: ignore[attr-defined]
        assert "blue" in told
        with pytest.raises(poplib.error_proto, match="there is no source"):
            operator._shortcmd("XPOKE nobody")  # type: ignore[attr-defined]
        assert gateway.subjects() == []
        assert operator._shortcmd("XPOKE blue").startswith(b"+OK")  # type: ignore[attr-defined]
        eventually(lambda: gateway.subjects() == ["a"])
        operator.quit()
        user = gateway.client()
        with pytest.raises(poplib.error_proto):
            user._shortcmd("XPOKE blue")  # type: ignore[attr-defined]
        user.quit()


def test_pwm_28_mail_lies_in_the_drop_before_any_client_asks(gateway: Gateway) -> None:
    with Pop3Server({"blue": CANARY}, {"blue": [message("a")]}) as server:
        gateway.source("blue", server.port, "blue", gateway.shop.secret())
        gateway.start()

        def fetched() -> bool:
            told = json.loads(gateway.shop("status", "--json").out)["installations"]
            return any(each["drop"] == "ann" and each["messages"] == 1 for one in told
                       for each in one["drops"])  # fmt: skip

        eventually(fetched)
    assert gateway.subjects() == ["a"]  # the server is gone


def test_pwm_12_offline_the_drop_is_served_and_nothing_is_asked_for(gateway: Gateway) -> None:
    with Pop3Server({"blue": CANARY}, {"blue": [message("a")]}) as server:
        gateway.source("blue", server.port, "blue", gateway.shop.secret())
        gateway.sources = gateway.sources.replace("[[fetch]]", "offline = true\n[[fetch]]", 1)
        gateway.start()
        assert gateway.subjects() == []
        assert server.connections == 0
        assert gateway.shop("poke", "blue").status == 0
        eventually(lambda: gateway.subjects() == ["a"])


def test_p3s_16_many_clients_are_served_at_once_by_two_workers(gateway: Gateway) -> None:
    with Pop3Server({"blue": CANARY}, {"blue": [message("a")]}) as server:
        gateway.source("blue", server.port, "blue", gateway.shop.secret())
        gateway.start("workers = 2\n")
        eventually(lambda: gateway.subjects() == ["a"])
        idle = [poplib.POP3("127.0.0.1", gateway.port, timeout=20) for _ in range(40)]
        assert gateway.subjects() == ["a"]
        first = gateway.client()
        for client in idle:
            client.user("ann")
            with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
                client.pass_(CANARY)
            client.close()
        first.quit()
        assert gateway.subjects() == ["a"]
