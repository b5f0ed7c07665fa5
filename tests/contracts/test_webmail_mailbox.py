"""The mailbox by hand on a webmail keeps the contract of its kind as far as a page can, with a
real Roundcube; what it cannot is refused, and nothing is changed then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import RefusedError, UnavailableError
from mailflow.kinds import Mailbox
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.query import MailFacts, parse
from mailflow.testing.contracts import MailboxContract
from mailflow.testing.contracts.mailbox import ALL, QUERIES, post
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.roundcube import Roundcube
from mailflow_webmail.mailbox import WebmailMailbox

from .webmail_sources import SECRET, Page

pytestmark = pytest.mark.interop("dovecot-imapd", "roundcube-core")

UNSAID = ("flagged", "answered", "deleted")
"""What a page's list of messages does not say."""


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as running:
        yield running


@pytest.fixture(scope="module")
def webmail(dovecot: Dovecot) -> Iterator[Roundcube]:
    settings = {"create_default_folders": "true"}
    with Roundcube(dovecot, settings=settings) as running:
        yield running


class TestMailbox(MailboxContract):
    component = WebmailMailbox
    secrets = (SECRET,)

    @pytest.fixture
    def source(self, dovecot: Dovecot, webmail: Roundcube, tmp_path: Path) -> Page:
        return Page(dovecot, webmail, tmp_path)

    # What a page's list says is less than a listing of IMAP

    def test_a_listing_says_all_that_a_listing_says(
        self, box: Mailbox, source: Any, five: list[bytes]
    ) -> None:
        found = list(box.select("INBOX", ALL, order="uid"))
        assert [each.item.uid for each in found] == [1, 2, 3, 4, 5]
        assert {each.item.folder for each in found} == {"INBOX"}
        assert len({each.item.key for each in found}) == 5
        assert all(each.content is None for each in found)

    def test_a_query_means_what_it_means_here(  # type: ignore[override]
        self, box: Mailbox, five: list[bytes]
    ) -> None:
        """All of them, of one listing each: a log-in by a page takes longer than a query."""
        box.update("INBOX", parse("uid in (1, 3)"), {"seen": True})
        whole = self.whole(box)
        for text in QUERIES:
            if any(flag in text for flag in UNSAID):
                continue
            query = parse(text)
            wanted = [
                each.item.uid
                for each in whole
                if each.content is not None
                and query.matches(MailFacts(Mail("", Envelope(), each.content), each.item))
            ]
            assert self.uids(box, text, order="uid") == wanted, text
        assert box.count("INBOX", parse('subject contains "pear"')) == 2

    def test_an_order_is_about_all_and_by_what_a_reader_sees(  # type: ignore[override]
        self, box: Mailbox, five: list[bytes]
    ) -> None:
        for order, wanted in (
            ("uid", [0, 1, 2, 3, 4]), ("-size", [2, 1, 3, 4, 0]), ("subject", [4, 1, 3, 0, 2]),
            ("subject,-size", [4, 1, 3, 2, 0]), ("-from", [4, 3, 2, 1, 0]),
        ):  # fmt: skip
            assert [uid - 1 for uid in self.uids(box, order=order)] == wanted, order

    def test_what_cannot_be_read_keeps_none_of_the_others(
        self, box: Mailbox, stage: Any, source: Any, five: list[bytes]
    ) -> None:
        source.put(b"no field at all\r\n")
        heads = [each.content for each in box.select("INBOX", ALL, reach="header", order="uid")]
        assert [head is not None and bool(read(head)) for head in heads] == [True] * 5 + [False]
        assert self.uids(box, 'not subject contains "pear"', order="uid") == [2, 4, 5]
        with pytest.raises(UnavailableError, match="is no message"):
            list(box.select("INBOX", parse("uid is 6"), reach="body"))
        assert "cannot be read" in stage.said

    # What a page cannot do is refused

    def test_flags_are_set_and_removed_of_what_is_meant_alone(
        self, box: Mailbox, five: list[bytes]
    ) -> None:
        """\\Seen is set, and nothing else."""
        assert box.update("INBOX", parse("uid in (2, 4)"), {"seen": True}) == 2
        assert self.uids(box, "seen", order="uid") == [2, 4]
        for flags in ({"seen": False}, {"flagged": True}, {"seen": True, "answered": True}):
            with pytest.raises(RefusedError, match="marked as read"):
                box.update("INBOX", ALL, flags)
        assert self.uids(box, "seen", order="uid") == [2, 4]

    @pytest.mark.parametrize("flag", UNSAID)
    def test_what_is_marked_as_deleted_is_still_there(
        self, box: Mailbox, source: Any, five: list[bytes], flag: str
    ) -> None:
        """Nor can it be asked for: a query that nobody can answer chooses nothing."""
        with pytest.raises(RefusedError, match=f"does not say which messages are {flag}"):
            box.delete("INBOX", parse(f"not {flag}"))
        assert len(source.messages()) == 5

    def test_only_what_is_meant_is_removed_whatever_is_marked(
        self, box: Mailbox, source: Any, five: list[bytes]
    ) -> None:
        assert box.delete("INBOX", parse('subject is "apples"')) == 1
        there = sorted(source.expected(each) for each in source.messages())
        assert there == sorted(source.expected(five[n]) for n in (0, 2, 3, 4))

    def test_what_is_inserted_is_there_octet_for_octet(self, box: Mailbox, source: Any) -> None:
        with pytest.raises(RefusedError, match="takes no message into a folder"):
            box.insert("INBOX", Octets(post(7)))
        assert list(source.messages()) == []

    def test_what_is_deleted_may_go_to_the_trash(
        self, stage: Any, source: Any, five: list[bytes], dovecot: Dovecot
    ) -> None:
        stage.table = {**stage.table, "trash": True}
        with stage.make() as box:
            assert box.delete("INBOX", parse("uid is 2")) == 1
            (found,) = box.select("Trash", ALL, reach="body")
        assert read(found.content) == source.expected(five[1])
        assert len(source.messages()) == 4
