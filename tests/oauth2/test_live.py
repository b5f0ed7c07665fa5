"""An old POP3 program before a server that wants tokens: the gateway has one, or hands on the
program's own."""

from __future__ import annotations

import poplib
from base64 import b64encode

import pytest

from mailflow.accounts import Account, Accounts, Pace
from mailflow.engine.registry import Registry
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.oauth2 import access
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import Gateway, plain

from .conftest import ANN, expire

pytestmark = pytest.mark.interop("dovecot-pop3d", "dovecot-imapd")

PORTS = {"imap": "imaps_port", "pop3": "pop3s_port"}
AT_ONCE = Pace(first=0.0, most=0.0, address=10_000, account=10_000)
MAIL = b"Subject: hello\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def dovecot(dovecot):
    dovecot.deliver(ANN, MAIL)
    return dovecot


@pytest.fixture
def serve(dovecot, tmp_path):
    """A client of a gateway whose maildrop has these options."""
    halt, log = Halt(), LogDouble()
    gateways = []

    def begin(use, *, passthrough=False, **options):
        component = Registry().component("maildrop", use)
        table = {
            "host": "localhost", "port": getattr(dovecot, PORTS[use]), "tls": "implicit",
            "ca_file": dovecot.ca_file, **options,
        }  # fmt: skip
        maildrop = component(
            component.options.read(table), Runtime("live", "test", halt, log, str(tmp_path))
        )
        how = {"login": "passthrough"} if passthrough else {"secret": plain()}
        gateways.append(Gateway({}))
        accounts = Accounts([Account(ANN, maildrop, **how)], pace=AT_ONCE)
        gateways[-1].service_host.accounts = accounts
        gateways[-1].__enter__()
        return poplib.POP3(gateways[-1].host, gateways[-1].port, timeout=20)

    yield begin
    for each in gateways:
        each.__exit__(None, None, None)
    halt.set()


@pytest.mark.parametrize("ended", [False, True], ids=["good", "ended"])
@pytest.mark.parametrize("use", PORTS)
def test_p3s_08_a_program_with_a_password_reads_a_mailbox_that_wants_tokens(
    serve, oauth2, authority, use, ended
):
    if ended:
        expire(authority)
    client = serve(use, user=ANN, oauth2=oauth2)
    client.user(ANN)
    client.pass_("secret")
    assert client.retr(1)[1] == MAIL.splitlines()
    client.quit()
    assert len(authority.asked("refresh_token")) == ended


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("use", PORTS)
def test_p3s_08_a_token_of_the_program_goes_through(serve, oauth2, use, mechanism):
    token = access(oauth2, ".").token(ANN).reveal()
    client = serve(use, passthrough=True)
    said = (
        f"n,a={ANN},\1auth=Bearer {token}\1\1"
        if mechanism == "OAUTHBEARER"
        else (f"user={ANN}\1auth=Bearer {token}\1\1")
    )
    assert client._shortcmd(f"AUTH {mechanism} {b64encode(said.encode()).decode()}")[:3] == b"+OK"
    assert client.retr(1)[1] == MAIL.splitlines()
    client.quit()


@pytest.mark.parametrize("use", PORTS)
def test_p3s_08_a_token_that_is_no_good_there_is_refused(serve, oauth2, use):
    client = serve(use, passthrough=True)
    said = b64encode(f"user={ANN}\1auth=Bearer wrong\1\1".encode()).decode()
    client._putcmd(f"AUTH XOAUTH2 {said}")
    answer = client.file.readline()
    if answer.startswith(b"+ "):
        client._putcmd("")
        answer = client.file.readline()
    assert answer.startswith(b"-ERR [AUTH]")
    client.close()
