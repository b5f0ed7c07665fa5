"""The small IMAP server, as clients that others wrote see it."""

from __future__ import annotations

import imaplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import imapclient
import pytest

from mailflow.testing.imap import Faults, ImapServer
from mailflow.testing.tls import Authority

MESSAGES = [
    b"Subject: hello %d\r\nFrom: ann@example.org\r\n\r\nbody %d\r\n" % (n, n) for n in range(3)
]


@pytest.fixture
def server() -> Iterator[ImapServer]:
    with ImapServer({"red": "secret"}, {"red": MESSAGES}) as server:
        yield server


@pytest.fixture
def client(server: ImapServer) -> Iterator[imapclient.IMAPClient]:
    with imapclient.IMAPClient(server.host, server.port, ssl=False, timeout=5) as client:
        client.login("red", "secret")
        client.select_folder("INBOX")
        yield client


def test_dal_28_a_mailbox_in_memory_is_searched_and_read(client: imapclient.IMAPClient) -> None:
    found = client.search(["SUBJECT", "hello 1"])
    assert found == [2]
    [items] = client.fetch(found, ["RFC822.SIZE", "FLAGS", "BODY.PEEK[]"]).values()
    assert items[b"BODY[]"] == MESSAGES[1]
    assert items[b"RFC822.SIZE"] == len(MESSAGES[1])
    assert items[b"FLAGS"] == ()


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        (["ALL"], [1, 2, 3]),
        (["NOT", ["SUBJECT", "hello 1"]], [1, 3]),
        (["OR", "BODY", "body 0", "TEXT", "hello 2"], [1, 3]),
        (["UID", "2:*"], [2, 3]),
        (["SMALLER", "10"], []),
        (["FROM", "ANN", "UNSEEN"], [1, 2, 3]),
    ],
)
def test_dal_28_searches_mean_what_the_standard_says(
    client: imapclient.IMAPClient, criteria: list[object], found: list[int]
) -> None:
    assert client.search(criteria) == found


def test_dal_28_flags_are_stored_and_only_flagged_messages_expunged(
    client: imapclient.IMAPClient, server: ImapServer
) -> None:
    client.add_flags([1, 2], ["\\Deleted"], silent=True)
    client.uid_expunge([1])
    assert client.search(["ALL"]) == [2, 3]
    assert client.search(["DELETED"]) == [2]
    assert server.messages("red") == MESSAGES[1:]


def test_dal_28_messages_are_added_copied_and_moved(
    client: imapclient.IMAPClient, server: ImapServer
) -> None:
    client.create_folder("Entw\u00fcrfe")
    client.append("Entw\u00fcrfe", b"Subject: new\r\n\r\n", ["\\Draft"])
    client.copy([1], "Entw\u00fcrfe")
    client.move([2], "Entw\u00fcrfe")
    assert server.messages("red") == [MESSAGES[0], MESSAGES[2]]
    assert server.messages("red", "Entw\u00fcrfe") == [b"Subject: new\r\n\r\n", *MESSAGES[:2]]
    assert client.folder_status("Entw\u00fcrfe", ["MESSAGES"]) == {b"MESSAGES": 3}
    assert [name for _, _, name in client.list_folders()] == ["INBOX", "Entw\u00fcrfe"]


def test_a_client_that_idles_is_told_of_new_mail(
    client: imapclient.IMAPClient, server: ImapServer
) -> None:
    client.idle()
    threading.Timer(0.1, server.deliver, ("red", b"Subject: new\r\n\r\n")).start()
    assert client.idle_check(timeout=5) == [(4, b"EXISTS")]
    client.idle_done()


def test_what_somebody_else_removed_is_told(
    client: imapclient.IMAPClient, server: ImapServer
) -> None:
    server.folder("red").remove(2)
    assert (2, b"EXPUNGE") in client.noop()[1]


def test_a_message_read_without_peek_is_seen(client: imapclient.IMAPClient) -> None:
    client.fetch([1], ["BODY[]"])
    assert client.search(["SEEN"]) == [1]


def test_starttls_protects_and_wrong_secrets_are_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ImapServer({"red": "secret"}, tls=authority.issue()) as server:
        plain = imaplib.IMAP4(server.host, server.port, timeout=5)
        plain.starttls(ssl.create_default_context(cafile=authority.ca_file))
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            plain.login("red", "wrong")
        assert plain.login("red", "secret")[0] == "OK"
        plain.logout()
    assert "secret" not in repr(server.commands)


def test_a_fault_comes_at_the_octet_that_was_named() -> None:
    with ImapServer({"red": "secret"}, faults=Faults(cut_at=5)) as server:
        with pytest.raises(imaplib.IMAP4.error):
            imaplib.IMAP4(server.host, server.port, timeout=5)
        assert server.sent == 5


def test_an_answer_is_replaced_and_another_one_preceded() -> None:
    faults = Faults(answers={"NOOP": b"<tag> BAD no\r\n"}, before={"NOOP": b"* 7 EXISTS\r\n"})
    with ImapServer({"red": "secret"}, faults=faults) as server:
        client = imaplib.IMAP4(server.host, server.port, timeout=5)
        with pytest.raises(imaplib.IMAP4.error, match="BAD"):
            client.noop()
        assert client.untagged_responses["EXISTS"] == [b"7"]
        client.shutdown()
