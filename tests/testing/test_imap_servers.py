"""The real IMAP servers of the test kit: filled, asked and renumbered in the same words."""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.maildirs import folder_name

ONE = b"Subject: one\r\n\r\nx\r\n"
TWO = b"Subject: two\r\n\r\ny\r\n"
DRAFTS = "Entwürfe & mehr"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(Dovecot, marks=pytest.mark.interop("dovecot-imapd")),
        pytest.param(Cyrus, marks=pytest.mark.interop("cyrus-imapd")),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot | Cyrus]:
    directory = tmp_path_factory.mktemp("server")
    made = Dovecot(directory, imap=True) if request.param is Dovecot else Cyrus(directory)
    with made as running:
        running.add_user("ann", "secret")
        running.deliver("ann", ONE, TWO, folder=DRAFTS)
        yield running


@contextmanager
def session(server: Dovecot | Cyrus) -> Iterator[imaplib.IMAP4]:
    context = ssl.create_default_context(cafile=server.ca_file)
    with imaplib.IMAP4_SSL("localhost", server.imaps_port, ssl_context=context) as opened:
        opened.login("ann", "secret")
        yield opened


def uidvalidity(server: Dovecot | Cyrus, folder: str) -> bytes:
    with session(server) as opened:
        name = f'"{folder_name(server.folder(folder))}"'
        _, (answer, *_) = opened.status(name, "(UIDVALIDITY)")
        return bytes(answer or b"").partition(b"UIDVALIDITY ")[2]


def test_a_folder_of_any_name_has_what_was_delivered_to_it(server: Dovecot | Cyrus) -> None:
    assert server.messages("ann", DRAFTS) == [ONE, TWO]
    assert server.messages("ann", "Nothing here") == []


def test_renumbered_a_folder_has_the_same_mail_and_another_uidvalidity(
    server: Dovecot | Cyrus,
) -> None:
    before = uidvalidity(server, DRAFTS)
    server.renumber("ann", DRAFTS)
    assert uidvalidity(server, DRAFTS) != before
    assert server.messages("ann", DRAFTS) == [ONE, TWO]


@pytest.mark.parametrize("name", ["Archive", "Drafts", "Junk", "Sent", "Trash"])
def test_everybody_has_the_folders_of_special_use(server: Dovecot | Cyrus, name: str) -> None:
    with session(server) as opened:
        _, lines = opened.list()
    (line,) = (bytes(line) for line in lines if server.folder(name).encode() in bytes(line or b""))
    assert b"\\" + name.lower().encode() in line.lower()


def test_a_wrong_password_is_refused(server: Dovecot | Cyrus) -> None:
    with (
        imaplib.IMAP4(server.host, server.imap_port) as opened,
        pytest.raises(imaplib.IMAP4.error, match=r"(?i)authentication failed|login failed"),
    ):
        opened.login("ann", "guess")


@pytest.mark.interop("dovecot-imapd")
def test_dovecot_keeps_a_capability_to_itself(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("dovecot")
    with Dovecot(directory, imap=True, without=["UIDPLUS", "MOVE"]) as dovecot:
        dovecot.add_user("ann", "secret")
        with session(dovecot) as opened:
            offered = opened.capability()[1][0].split()
    assert b"CONDSTORE" in offered
    assert not {b"UIDPLUS", b"MOVE"} & set(offered)


def test_nobody_asks_dovecot_to_hide_what_it_does_not_offer() -> None:
    with pytest.raises(ValueError, match="offers no OBJECTID"):
        Dovecot("unused", imap=True, without=["OBJECTID"])
