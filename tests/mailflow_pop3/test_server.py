"""The loopback server, asked by the standard library's client: correct until told otherwise."""

from __future__ import annotations

import poplib
import socket
import ssl

import pytest

from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.tls import Authority

POSTS = [b"Subject: 1\r\n\r\none\r\n", b"Subject: 2\n\n.dot\n..\nno end"]


@pytest.fixture
def server():
    with Pop3Server({"red": "secret"}, {"red": POSTS}) as running:
        yield running


def client_of(server, log_in=True):
    client = poplib.POP3(server.host, server.port, timeout=5)
    if log_in:
        client.user("red")
        client.pass_("secret")
    return client


def test_it_serves_the_messages_it_was_given(server):
    client = client_of(server)
    assert client.stat() == (2, 51)
    assert client.list()[1] == [b"1 19", b"2 32"]
    assert client.uidl()[1] == [b"1 red-000001", b"2 red-000002"]
    assert client.retr(2)[1] == [b"Subject: 2", b"", b".dot", b"..", b"no end"]
    assert client.top(2, 1)[1] == [b"Subject: 2", b"", b".dot"]
    assert client.capa()["SASL"] == ["PLAIN", "LOGIN"]
    client.quit()


def test_a_deleted_message_is_gone_after_quit_alone(server):
    client = client_of(server)
    client.dele(1)
    assert client.list()[1] == [b"2 32"]
    client.close()
    assert server.messages("red") == POSTS
    client = client_of(server)
    client.dele(1)
    client.quit()
    assert server.messages("red") == POSTS[1:]


def test_a_mailbox_has_one_session_at_a_time(server):
    first = client_of(server)
    with pytest.raises(poplib.error_proto, match="IN-USE"):
        client_of(server)
    first.quit()
    client_of(server).quit()


def test_a_wrong_password_is_refused_and_no_password_is_noted(server):
    client = client_of(server, log_in=False)
    client.user("red")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        client.pass_("wrong")
    assert server.commands == ["USER red", "PASS ***"]
    client.close()


def test_apop_digests_the_timestamp():
    with Pop3Server({"red": "secret"}, apop=True) as server:
        client = client_of(server, log_in=False)
        client.apop("red", "secret")
        client.quit()


def test_both_kinds_of_tls(tmp_path):
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.ca_file)
    with Pop3Server({"red": "secret"}, tls=authority.issue()) as server:
        client = client_of(server, log_in=False)
        assert "STLS" in client.capa()
        client.stls(context)
        assert "STLS" not in client.capa()
        client.quit()
    with Pop3Server({"red": "secret"}, tls=authority.issue(), implicit=True) as server:
        poplib.POP3_SSL(server.host, server.port, context=context).quit()


def test_pipelined_commands_are_answered_in_order(server):
    with socket.create_connection((server.host, server.port)) as sock:
        sock.sendall(b"USER red\r\nPASS secret\r\nSTAT\r\nRETR 9\r\nDELE 1\r\nQUIT\r\n")
        got = b"".join(iter(lambda: sock.recv(4096), b""))
    assert [line[:4] for line in got.split(b"\r\n")] == [
        b"+OK ", b"+OK ", b"+OK ", b"+OK ", b"-ERR", b"+OK ", b"+OK ", b""
    ]  # fmt: skip


def heard(server, commands=b""):
    with socket.create_connection((server.host, server.port)) as sock:
        sock.settimeout(0.3)
        parts = []
        try:
            sock.sendall(commands)
            while data := sock.recv(4096):
                parts.append(data)
        except TimeoutError:
            return b"".join(parts) + b"<stalled>"
        except ConnectionResetError:
            return b"".join(parts) + b"<reset>"
        return b"".join(parts) + b"<end>"


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (Faults(cut_at=6), b"+OK re<end>"),
        (Faults(cut_at=0), b"<end>"),
        (Faults(stall_at=3), b"+OK<stalled>"),
        (Faults(cut_at=4, trickle=0.001), b"+OK <end>"),
        (Faults(cut_before=["NOOP"]), b"+OK ready\r\n<end>"),
        (Faults(answers={"": b"-ERR no\r\n"}, cut_before=["NOOP"]), b"-ERR no\r\n<end>"),
        (
            Faults(answers={"NOOP": lambda line: b"what\r\n"}, cut_at=17),
            b"+OK ready\r\nwhat\r\n<end>",
        ),
    ],
)
def test_a_fault_is_what_it_was_told(server, faults, expected):
    server.faults = faults
    assert heard(server, b"NOOP\r\n") == expected


def test_a_reset_is_no_end(server):
    server.faults = Faults(cut_at=5, reset=True)
    assert heard(server).endswith(b"<reset>")


def test_counts_and_deletions_lie_when_told(server):
    server.faults = Faults(size_error=-5, keep_deleted=True)
    client = client_of(server)
    assert client.list()[1] == [b"1 14", b"2 27"]
    client.dele(1)
    client.quit()
    assert server.messages("red") == POSTS
