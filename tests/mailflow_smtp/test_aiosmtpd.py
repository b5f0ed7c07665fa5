"""Against aiosmtpd, a server that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from mailflow.testing.serving import free_ports

ANN, BOB = "ann@example.org", "bob@example.org"
VECTORS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n.\r\n"]


class Handler:
    """Keeps envelopes; refuses bob."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address == BOB:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    wanted = (b"red", b"secret")
    return AuthResult(success=(data.login, data.password) == wanted, handled=False)


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def server(handler) -> Iterator[Controller]:
    controller = Controller(
        handler,
        hostname="127.0.0.1",
        port=free_ports(1)[0],
        enable_SMTPUTF8=True,
        data_size_limit=100_000,
        authenticator=authenticate,
        auth_require_tls=False,
    )
    controller.start()
    yield controller
    controller.stop()


def test_a_mail_arrives_octet_for_octet_and_the_refused_hears_why(
    server, handler, distributor, send
):
    data = b"Subject: x\r\n\r\n.\r\n..two\r\n\xfcber\r\n"
    result = send(distributor(host="127.0.0.1", port=server.port), ANN, BOB, data=data)
    assert result.outcome(ANN) == ("sent", "2.0.0")
    assert result.outcome(BOB) == ("failed", "5.1.1")
    (envelope,) = handler.envelopes
    assert (envelope.rcpt_tos, envelope.content) == ([ANN], data)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_each_mechanism_logs_in(server, handler, distributor, send, mechanism):
    smtp = distributor(
        host="127.0.0.1", port=server.port, user="red", password="secret", auth=(mechanism,)
    )
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")


def test_its_size_limit_is_kept(server, handler, distributor, send):
    smtp = distributor(host="127.0.0.1", port=server.port)
    result = send(smtp, ANN, data=b"Subject: x\r\n\r\n" + b"x" * 100_000)
    assert result.outcome(ANN) == ("failed", "5.3.4")
    assert handler.envelopes == []


def test_foreign_addresses_are_sent(server, handler, distributor, send):
    result = send(distributor(host="127.0.0.1", port=server.port), "jürgen@example.org")
    assert result.outcome("jürgen@example.org") == ("sent", "2.0.0")
    assert handler.envelopes[0].rcpt_tos == ["jürgen@example.org"]


@pytest.mark.parametrize("vector", VECTORS, ids=repr)
def test_d15_it_sees_one_mail(server, handler, distributor, send, vector):
    smuggled = b"MAIL FROM:<a@b>\r\nRCPT TO:<eve@example.org>\r\nDATA\r\nevil\r\n.\r\n"
    smtp = distributor(host="127.0.0.1", port=server.port)
    send(smtp, ANN, data=b"Subject: x\r\n\r\nfirst" + vector + smuggled)
    (envelope,) = handler.envelopes
    assert envelope.rcpt_tos == [ANN]
    assert envelope.content.endswith(b"evil\r\n.\r\n")
