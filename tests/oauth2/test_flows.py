"""How a user says yes: each way against a real authorization server."""

from __future__ import annotations

import json
from contextlib import ExitStack
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from mailflow import ConfigError, LoginError, UnavailableError
from mailflow.oauth2 import access, flows
from mailflow.oauth2.flows import log_in
from mailflow.oauth2.store import Store
from mailflow.testing.oauth2 import CLIENT, SECRET, Fault, OAuth2Server
from mailflow.testing.tls import Authority

from .conftest import ANN, last_address


def destination(user):
    """The parameters that the browser was sent with."""
    url = next(line for line in user.said if "://" in line).rpartition("\n")[2]
    return {key: value[0] for key, value in parse_qs(urlsplit(url).query).items()}


def test_a_browser_comes_back_to_this_machine_and_a_token_is_kept(mine, server, user):
    work = mine()
    log_in(work, ANN, user)
    user.thread.join()
    assert "can be closed" in user.pages[0]
    given = server.tokens[0]
    assert work.token(ANN).reveal() == given.access_token
    assert Store("mine", ANN).load().refresh_token == given.refresh_token


def test_the_browser_is_sent_with_a_proof_a_state_and_the_user(mine, user):
    log_in(mine(parameters={"prompt": "consent", "uri": "x"}), ANN, user)
    sent = destination(user)
    assert sent["code_challenge_method"] == "S256"
    assert len(sent["code_challenge"]) == 43
    assert len(sent["state"]) == 48
    assert sent["login_hint"] == ANN
    assert (sent["prompt"], sent["uri"]) == ("consent", "x")
    assert sent["scope"] == "mail offline_access"
    assert urlsplit(sent["redirect_uri"]).hostname == "127.0.0.1"


def test_the_code_is_exchanged_with_the_verifier_of_this_attempt(mine, server, user):
    log_in(mine(), ANN, user)
    [form] = server.asked("authorization_code")
    assert len(form["code_verifier"]) == 64
    assert form["redirect_uri"] == destination(user)["redirect_uri"]
    assert form["client_secret"] == SECRET


def test_the_secret_may_go_as_http_basic(mine, server, user):
    log_in(mine(client_auth="basic"), ANN, user)
    [form] = server.asked("authorization_code")
    assert "client_secret" not in form


def test_a_public_client_has_no_secret(places, user):
    with OAuth2Server(secret="") as server:
        (places / "public.toml").write_text("")
        work = access({"provider": "public", **server.provider()}, ".")
        log_in(work, ANN, user)
        assert work.token(ANN).reveal() == server.tokens[0].access_token


def test_a_user_who_says_no_gets_a_clear_line_and_no_token(mine, server, user):
    server.user = ""
    with pytest.raises(LoginError, match=r"gives no access: access_denied"):
        log_in(mine(), ANN, user)
    assert Store("mine", ANN).load() is None


def test_what_comes_with_another_state_is_not_the_answer(mine, user, monkeypatch):
    refused = []

    def strangers_first(url):
        redirect = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        for path in ("?code=stolen&state=forged", "favicon.ico", "?code=stolen"):
            with pytest.raises(HTTPError) as error:
                urlopen(redirect + path)
            refused.append(error.value.code)
        type(user).browse(user, url)

    monkeypatch.setattr(user, "browse", strangers_first, raising=False)
    log_in(mine(), ANN, user)
    assert refused == [404, 404, 404]


def test_a_connection_that_says_nothing_keeps_no_browser_waiting(mine, user, monkeypatch):
    import socket

    held = []

    def preconnect(url):
        redirect = urlsplit(parse_qs(urlsplit(url).query)["redirect_uri"][0])
        held.append(socket.create_connection((redirect.hostname, redirect.port)))
        type(user).browse(user, url)

    monkeypatch.setattr(user, "browse", preconnect, raising=False)
    log_in(mine(), ANN, user)
    held[0].close()


def test_a_browser_that_is_gone_at_once_has_been_heard(mine, server, user, monkeypatch, capfd):
    import socket
    import struct

    def ask_and_reset(url):
        back = urlsplit(last_address(url))
        for said in (f"GET {back.path}?{back.query} HTTP/1.1\r\n\r\n", "GET /"):
            with socket.create_connection((back.hostname, back.port)) as browser:
                linger = struct.pack("ii", 1, 0)
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                browser.sendall(said.encode())

    monkeypatch.setattr(flows, "PATIENCE", 20)
    monkeypatch.setattr(user, "browse", ask_and_reset, raising=False)
    work = mine()
    log_in(work, ANN, user)
    assert work.token(ANN).reveal() == server.tokens[0].access_token
    assert capfd.readouterr().err == ""


def test_an_answer_of_another_issuer_is_refused(mine, user):
    with pytest.raises(LoginError, match=r"is not https://other\.example\.org's"):
        log_in(mine(issuer="https://other.example.org"), ANN, user)


def test_a_browser_that_never_comes_back_is_not_waited_for_for_ever(mine, user, monkeypatch):
    monkeypatch.setattr(flows, "PATIENCE", 0.05)
    monkeypatch.setattr(user, "browse", lambda url: None, raising=False)
    with pytest.raises(LoginError, match="did not come back in time"):
        log_in(mine(), ANN, user)


def test_the_address_at_the_end_may_be_pasted(mine, server, user):
    work = mine(flow="paste")
    log_in(work, ANN, user)
    assert work.token(ANN).reveal() == server.tokens[0].access_token


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda url: url.replace("state=", "state=x"), "belongs to another attempt"),
        (lambda url: url.partition("?")[0], "belongs to another attempt"),
        (lambda url: url.replace("code=", "cod="), "no code in this address"),
        (lambda url: "", "is not the address"),
    ],
)
def test_an_address_that_is_not_the_answer_is_told(mine, server, user, change, complaint):
    user.ask = lambda question: change(last_address(user.said[-2].rpartition("\n")[2]))
    with pytest.raises(LoginError, match=complaint):
        log_in(mine(flow="paste"), ANN, user)
    assert server.tokens == []


def entered_after(number, server, monkeypatch) -> list[float]:
    """The waits between two questions, of which no time is taken; in that one the code is
    entered."""
    waits = []

    def pause(seconds):
        waits.append(seconds)
        if len(waits) == number:
            server.enter(next(iter(server.codes.values())).user_code)

    monkeypatch.setattr(flows.time, "sleep", pause)
    return waits


def test_a_code_is_entered_on_another_device(mine, server, user, monkeypatch):
    waits = entered_after(2, server, monkeypatch)
    work = mine(flow="device")
    log_in(work, ANN, user)
    code = next(iter(server.codes.values()))
    where = f"{server.url}/enter"
    assert user.said == [f"On any device, go to {where} and enter the code {code.user_code}"]
    assert work.token(ANN).reveal() == server.tokens[0].access_token
    assert waits == [1.0, 1.0]


def test_a_device_is_asked_for_less_often_where_the_provider_wants_it(
    mine, server, user, monkeypatch
):
    waits = entered_after(3, server, monkeypatch)
    server.faults += [
        Fault(400, json.dumps({"error": "slow_down"})), Fault(503, ""),
    ]  # fmt: skip
    log_in(mine(flow="device"), ANN, user)
    assert waits == [1.0, 6.0, 12.0]


def test_a_user_who_says_no_on_another_device_is_heard(mine, server, user, monkeypatch):
    monkeypatch.setattr(
        flows.time, "sleep",
        lambda seconds: server.enter(next(iter(server.codes.values())).user_code, granted=False),
    )  # fmt: skip
    with pytest.raises(LoginError, match="access_denied"):
        log_in(mine(flow="device"), ANN, user)


def test_a_program_that_acts_on_its_own_needs_no_login(mine, server):
    token = mine(flow="client").token(ANN)
    assert token.reveal() == server.tokens[0].access_token
    assert token.reveal() == server.tokens[0].access_token
    assert len(server.asked("client_credentials")) == 1


def test_nobody_is_asked_for_what_could_not_be_kept(mine, user, tmp_path, monkeypatch):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "mailflow").write_text("in the way")
    with pytest.raises(UnavailableError, match="tokens file"):
        log_in(mine(), ANN, user)
    assert user.said == []


def test_a_provider_without_such_a_flow_says_so():
    with pytest.raises(ValueError, match='flow = "device" needs `device_endpoint`'):
        access({"provider": "google", "client_id": CLIENT, "flow": "device"}, ".")


def test_a_token_that_is_not_bearer_is_refused(mine, server, user):
    body = json.dumps({"access_token": "x", "token_type": "mac"})
    server.faults.append(Fault(200, body))
    with pytest.raises(LoginError, match="not Bearer"):
        log_in(mine(), ANN, user)


def test_a_missing_extra_is_named_with_the_command(mine, user, monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mailflow\[oauth2\]'"):
        log_in(mine(), ANN, user)


def test_no_line_for_the_user_holds_what_is_secret(mine, server, user):
    log_in(mine(), ANN, user)
    [form] = server.asked("authorization_code")
    secrets = [form["code_verifier"], form["code"], SECRET]
    secrets += [server.tokens[0].access_token, server.tokens[0].refresh_token]
    text = "\n".join([*user.said, *user.pages])
    assert [each for each in secrets if each in text] == []


class TestTls:
    """A provider is asked by TLS, and its certificate is looked at before anything is said."""

    @pytest.fixture
    def work(self, places, tmp_path):
        """Makes an Access to a provider that speaks TLS, and gives the provider too."""
        (places / "secure.toml").write_text("")
        authority = Authority(tmp_path)
        with ExitStack() as running:

            def make(*names, **more):
                certificate = authority.issue(names)
                server = running.enter_context(OAuth2Server(certificate=certificate))
                table = {"provider": "secure", "flow": "client", **server.provider(), **more}
                return access(table, "."), server

            make.ca_file = authority.ca_file
            yield make

    def test_one_whose_authority_is_trusted_is_asked(self, work):
        found, server = work("localhost", ca_file=work.ca_file)
        assert found.token(ANN).reveal() == server.tokens[0].access_token

    @pytest.mark.parametrize("case", ["a stranger's", "another host's"])
    def test_one_with_a_wrong_certificate_is_told_nothing(self, work, case):
        if case == "a stranger's":
            found, server = work("localhost")
        else:
            found, server = work("other.example.org", ca_file=work.ca_file)
        for _ in range(2):
            with pytest.raises(LoginError, match=r"the certificate of localhost:.* is refused"):
                found.token(ANN).reveal()
        assert server.requests == []
        assert Store("secure", ANN).load() is None  # it is no refusal of the login
