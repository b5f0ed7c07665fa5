"""A provider that means harm, or breaks: an error of ours, and what it replaced is kept."""

from __future__ import annotations

import json
import time

import pytest

from mailflow import LoginError, MailflowError, PeerError, UnavailableError
from mailflow.oauth2 import ask, flows
from mailflow.oauth2.store import Store
from mailflow.testing.oauth2 import Fault

from .conftest import ANN


def end() -> None:
    """Her access token has ended."""
    store = Store("mine", ANN)
    with store.locked():
        store.save(store.load()._replace(expires=time.time() - 1))


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


def test_a_redirect_to_nowhere_is_no_answer(token, server, recwarn):
    end()
    server.faults += [Fault(302, "", {"Location": "http://["})]
    with pytest.raises(UnavailableError) as raised:
        token.reveal()
    assert raised.value.text.isprintable()
    assert not list(recwarn)


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
