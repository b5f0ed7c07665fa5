"""A token in the place of a password: IMAP, POP3 and SMTP against real servers that ask the
provider whether it is good."""

from __future__ import annotations

import os

import pytest

import mailflow
from mailflow.oauth2 import access
from mailflow.oauth2.flows import log_in
from mailflow.testing.postfix import Postfix

from .conftest import ANN, expire

pytestmark = pytest.mark.interop("dovecot-pop3d", "dovecot-imapd", "postfix")

MECHANISMS = ("oauthbearer", "xoauth2")
PORTS = {"imap": "imaps_port", "pop3": "pop3s_port"}


@pytest.fixture(scope="module")
def postfix(authority, tmp_path_factory):
    with Postfix(
        tmp_path_factory.mktemp("postfix"), [ANN], users={ANN: "not this one"},
        introspection=authority.introspection,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
def fetch(dovecot, tmp_path, oauth2):
    """Runs a pipeline from one of its ports into a Maildir; gives what it has there."""

    def run(use: str, mechanism: str, *, now: bool = False) -> list[bytes]:
        status = mailflow.run({
            "pipeline": {"journal": str(tmp_path / "journal.db")},
            "fetch": [{
                "use": use, "host": "localhost", "port": getattr(dovecot, PORTS[use]),
                "tls": "implicit", "ca_file": dovecot.ca_file, "user": ANN,
                "oauth2": oauth2, "auth": [mechanism], "start": "all",
            }],
            "distribute": [{"use": "maildir", "path": str(tmp_path / "Maildir")}],
        }, now=now)  # fmt: skip
        return (
            []
            if status
            else [each.read_bytes() for each in (tmp_path / "Maildir" / "new").iterdir()]
        )

    return run


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("use", PORTS)
def test_mail_is_fetched_with_a_token(dovecot, fetch, authority, use, mechanism):
    subject = f"Subject: {use} {mechanism}"
    dovecot.deliver(ANN, f"{subject}\r\n\r\nhello\r\n".encode())
    assert any(subject.encode() in mail for mail in fetch(use, mechanism))
    assert authority.asked("refresh_token") == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("use", PORTS)
def test_a_token_that_the_server_refuses_is_renewed_and_the_mail_is_fetched(
    dovecot, fetch, authority, use, mechanism
):
    expire(authority)
    subject = f"Subject: late {use} {mechanism}"
    dovecot.deliver(ANN, f"{subject}\r\n\r\nhello\r\n".encode())
    assert any(subject.encode() in mail for mail in fetch(use, mechanism))
    assert len(authority.asked("refresh_token")) == 1


@pytest.mark.parametrize("use", PORTS)
def test_a_consent_that_was_taken_back_is_told_with_what_to_do(fetch, authority, use, capsys):
    authority.withdraw()
    expire(authority)
    for _ in range(2):
        fetch(use, "xoauth2", now=True)
        assert f"run: mailflow auth login home/{ANN}" in capsys.readouterr().err
    assert len(authority.asked("refresh_token")) == 1


def test_a_new_login_ends_the_rest_of_the_source(dovecot, fetch, authority, oauth2, user):
    dovecot.deliver(ANN, b"Subject: after all\r\n\r\nhello\r\n")
    authority.withdraw()
    expire(authority)
    assert fetch("imap", "xoauth2") == []
    assert fetch("imap", "xoauth2") == []  # it rests
    log_in(access(oauth2, "."), ANN, user)
    assert any(b"Subject: after all" in mail for mail in fetch("imap", "xoauth2"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Postfix")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("ended", [False, True])
def test_mail_is_submitted_with_a_token(postfix, authority, oauth2, tmp_path, mechanism, ended):
    if ended:
        expire(authority)
    source = tmp_path / "in"
    for folder in ("tmp", "new", "cur"):
        (source / folder).mkdir(parents=True)
    (source / "new" / "1").write_bytes(b"To: ann@example.org\nSubject: sent\n\nhello\n")
    before = len(postfix.messages(ANN))
    mailflow.run({
        "pipeline": {"journal": str(tmp_path / "journal.db")},
        "fetch": [{"use": "maildir", "path": str(source)}],
        "process": [{"use": "filter.recipients", "set": [ANN]}],
        "distribute": [{
            "use": "smtp", "host": "localhost", "port": postfix.submission_port,
            "tls": "starttls", "ca_file": postfix.ca_file, "user": ANN, "sender": ANN,
            "oauth2": oauth2, "auth": [mechanism.upper()],
        }],
    })  # fmt: skip
    assert b"Subject: sent" in postfix.messages(ANN, before + 1)[-1]
    assert len(authority.asked("refresh_token")) == ended
