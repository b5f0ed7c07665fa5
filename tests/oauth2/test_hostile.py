"""A provider that means harm, or breaks: an error of ours, and what it replaced is kept."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import pytest

from mailflow import LoginError, MailflowError, PeerError, UnavailableError
from mailflow.oauth2 import ask, flows
from mailflow.oauth2.store import Store
from mailflow.testing.oauth2 import SECRET, Fault

from .conftest import ANN, end, last_address


@pytest.mark.parametrize(
    "life", ["1e999", "-1e999", "NaN", "1" + "0" * 400, '"abc"', "{}", "[1]", '"3600.5"']
)
def test_a_new_refresh_token_is_kept_whatever_is_said_of_its_life(token, server, life):
    end()
    given = '{"access_token": "new-1", "refresh_token": "new-2", "expires_in": %s, "scope": {}}'
    server.faults += [Fault(200, given % life)]
    assert token.reveal() == "new-1"
    assert Store("mine", ANN).load().refresh_token == "new-2"


@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
@pytest.mark.parametrize("value", ["a\r\nb", "\ud800", "\0", "\u00e9", "x" * 200_000])
def test_a_token_of_other_letters_than_tokens_have_is_not_kept(token, server, name, value):
    end()
    before = Store("mine", ANN).load().refresh_token
    given = {"access_token": "new-1", "refresh_token": "new-2", name: value}
    server.faults += [Fault(200, json.dumps(given))]
    with pytest.raises(PeerError, match="a token that is none"):
        token.reveal()
    assert Store("mine", ANN).load().refresh_token == before


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", ["[" * 200_000, "1" * 10_000, "[]", '"error"'])
def test_json_that_is_no_object_is_an_error_of_ours(token, server, status, body):
    end()
    server.faults += [Fault(status, body)]
    with pytest.raises(MailflowError):
        token.reveal()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_is_secret_follows_no_redirect(logged_in, server, status):
    token = logged_in(client_auth="basic").token(ANN)
    end()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        there = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        server.faults += [Fault(status, "", {"Location": there})]
        with pytest.raises(UnavailableError, match=f"HTTP status {status}"):
            token.reveal()
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_what_is_said_in_clear_on_this_machine_goes_through_no_proxy(token, server, monkeypatch):
    end()
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    assert token.reveal() == server.tokens[1].access_token


def test_an_answer_without_end_is_cut(token, server):
    end()
    given = json.dumps({"access_token": "new-1", "refresh_token": "new-2"})
    server.faults += [Fault(200, given + " " * (1 << 21))]
    with pytest.raises(UnavailableError, match="answers with more than 1048576 octets"):
        token.reveal()


def test_octets_that_trickle_in_are_not_waited_for(logged_in, mine):
    logged_in()
    end()
    enough = threading.Event()

    def trickle():
        client, _ = provider.accept()
        with client, suppress(OSError):
            for _ in range(100):
                client.sendall(b"H")
                if enough.wait(0.03):
                    return

    with socket.create_server(("127.0.0.1", 0)) as provider:
        thread = threading.Thread(target=trickle)
        thread.start()
        where = f"http://127.0.0.1:{provider.getsockname()[1]}/"
        try:
            with pytest.raises(UnavailableError, match="does not answer in time"):
                mine(token_endpoint=where, timeout="200ms").token(ANN).reveal()
        finally:
            enough.set()
            thread.join()


def test_what_is_no_http_is_not_quoted_since_it_may_hold_a_token(logged_in, mine):
    logged_in()
    end()

    def answer():
        client, _ = provider.accept()
        with client:
            client.recv(1 << 16)
            client.sendall(b'{"access_token": "canary"}\r\n\r\n')

    with socket.create_server(("127.0.0.1", 0)) as provider:
        thread = threading.Thread(target=answer)
        thread.start()
        where = f"http://127.0.0.1:{provider.getsockname()[1]}/"
        with pytest.raises(UnavailableError, match=r"it does not answer as HTTP has it$"):
            mine(token_endpoint=where).token(ANN).reveal()
        thread.join()


def test_a_redirect_to_nowhere_is_no_answer(token, server, recwarn):
    end()
    server.faults += [Fault(302, "", {"Location": "http://["})]
    with pytest.raises(UnavailableError) as raised:
        token.reveal()
    assert raised.value.text.isprintable()
    assert not list(recwarn)


def test_what_is_sent_for_a_token_comes_back_in_no_error(mine, server, user, monkeypatch):
    proof = ask.proof()
    monkeypatch.setattr(ask, "proof", lambda: proof)

    def answer(question):
        address = last_address(user.said[0].rpartition("\n")[2])
        secrets.append(parse_qs(urlsplit(address).query)["code"][0])
        said = {"error": "invalid_grant", "error_description": " ".join(secrets)}
        server.faults.append(Fault(400, json.dumps(said)))
        return address

    secrets = [proof[0], SECRET]
    user.ask = answer
    with pytest.raises(LoginError, match="invalid_grant") as raised:
        flows.log_in(mine(flow="paste"), ANN, user)
    assert [each for each in secrets if each in raised.value.text] == []


def test_words_without_end_are_cut(token, server):
    end()
    said = {"error": "x" * 100_000, "error_description": "y" * 100_000}
    server.faults += [Fault(400, json.dumps(said))]
    with pytest.raises(LoginError) as raised:
        token.reveal()
    assert len(raised.value.text) < 1000


@pytest.mark.parametrize("address", ["http://[", "http://[::1%/?code=1&state=s"])
def test_an_address_that_is_none_has_no_code(logged_in, address):
    found = logged_in().provider
    with pytest.raises(LoginError, match="not the address"):
        ask.code_of(found, address, "s")


@pytest.mark.parametrize("interval", ["1e999", "1" + "0" * 400, "1e9", "Infinity"])
def test_a_device_waits_no_longer_than_its_code_is_good(mine, server, user, monkeypatch, interval):
    waits = []
    monkeypatch.setattr(flows.time, "sleep", waits.append)
    there = server.provider()["token_endpoint"]
    code = {"device_code": "d", "user_code": "\x1b[2Ju", "verification_uri": "http://x/\x1b"}
    given = json.dumps({**code, "expires_in": 30})[:-1] + f', "interval": {interval}}}'
    server.faults += [Fault(200, given), Fault(400, json.dumps({"error": "access_denied"}))]
    with pytest.raises(LoginError, match="access_denied"):
        flows.log_in(mine(flow="device", device_endpoint=there), ANN, user)
    assert max(waits) <= 30
    assert all(line.isprintable() for line in user.said)
