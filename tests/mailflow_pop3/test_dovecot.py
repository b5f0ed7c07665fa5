"""The control run: Dovecot, as the tests start it, is a POP3 server without faults."""

from __future__ import annotations

import poplib
import ssl

import pytest

from mailflow.testing.dovecot import Dovecot

pytestmark = pytest.mark.interop("dovecot-core", "dovecot-pop3d")


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory):
    with Dovecot(tmp_path_factory.mktemp("dovecot")) as running:
        yield running


def test_delivered_messages_come_in_order_with_crlf_line_ends(dovecot):
    dovecot.add_user("order", "secret")
    dovecot.deliver("order", b"Subject: 1\n\none\n", b"Subject: 2\r\n\r\n.two\r\n")
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    client.user("order")
    client.pass_("secret")
    assert client.retr(1)[1] == [b"Subject: 1", b"", b"one"]
    assert client.retr(2)[1] == [b"Subject: 2", b"", b".two"]
    assert client.list()[1] == [b"1 19", b"2 20"]
    client.quit()


def test_deleted_messages_leave_the_mailbox_at_quit(dovecot):
    dovecot.add_user("delete", "secret")
    dovecot.deliver("delete", b"Subject: 1\n\n", b"Subject: 2\n\n")
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    client.user("delete")
    client.pass_("secret")
    client.dele(1)
    client.quit()
    assert dovecot.messages("delete") == [b"Subject: 2\n\n"]


def test_both_kinds_of_tls_are_trusted_by_the_authority_alone(dovecot):
    context = ssl.create_default_context(cafile=dovecot.ca_file)
    poplib.POP3_SSL("localhost", dovecot.pop3s_port, context=context).quit()
    client = poplib.POP3("localhost", dovecot.pop3_port)
    client.stls(context)
    client.quit()
    with pytest.raises(ssl.SSLCertVerificationError):
        poplib.POP3_SSL("localhost", dovecot.pop3s_port, context=ssl.create_default_context())


def test_a_wrong_password_is_refused(dovecot):
    dovecot.add_user("locked", "secret")
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    client.user("locked")
    with pytest.raises(poplib.error_proto, match="AUTH"):
        client.pass_("wrong")
    client.close()


def test_mail_outlives_a_restart(dovecot):
    dovecot.add_user("restart", "secret")
    dovecot.deliver("restart", b"Subject: 1\n\n")
    dovecot.stop()
    dovecot.start()
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    client.user("restart")
    client.pass_("secret")
    assert client.stat() == (1, 14)
    client.quit()
