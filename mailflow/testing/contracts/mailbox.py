"""The suite of a mailbox: whatever keeps the mail, `mailflow mail` can rely on these.

    class TestPigeonMailbox(MailboxContract):
        component = PigeonMailbox

        @pytest.fixture
        def source(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Source, which is the INBOX of the mailbox

Rule of the file: the mail is real, and looked at from behind; what a query means is what
it means here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

import pytest

from mailflow.errors import GoneError, MailflowError
from mailflow.kinds import Found, Mailbox
from mailflow.mail import Envelope, Mail, Octets, head, read
from mailflow.query import MailFacts, Query, parse
from mailflow.testing.contracts.component import (
    ComponentContract,
    Stage,
    lasting,
    nothing_left,
    one_line,
)
from mailflow.testing.contracts.fetcher import SOON, Source
from mailflow.testing.corpus import AWKWARD

ALL = Query.always

SUBJECTS = ("Re: pears", "apples", "[fruit] Fwd: pears", "Cherries", "")

QUERIES = (
    "not seen", "seen", "flagged or answered", "deleted", "size > 300", "size <= 300",
    'subject contains "pear"', 'subject is "apples"', 'not subject contains "pear"',
    'from is "b1@example.org"', 'to in ("ann@example.org", "x@example.org")',
    'content contains "grüsse"', 'header "X-Number" exists', "since 2d", "before 2020-01-01",
    'subject contains "pear" and (size > 300 or not seen)', "not (seen or flagged)",
    'mime is "text/plain"', 'has attachment', 'subject starts with "Re"',
)  # fmt: skip


def post(number: int, size: int = 0) -> bytes:
    """Messages that differ in all that a query may ask."""
    subject = SUBJECTS[number % len(SUBJECTS)]
    return (
        f"From: Ben <b{number}@example.org>\r\nTo: Ann <ann@example.org>\r\n"
        f"Subject: {subject}\r\nX-Number: {number}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        f"Viele Grüße, {number}\r\n{'-' * size}\r\n"
    ).encode()


class MailboxContract(ComponentContract):
    """Give `component`, and a fixture `source`: a Source without mail, whose `table` says how
    to open the mailbox whose INBOX it is. Another folder is called `other`."""

    component: ClassVar[type[Mailbox]]
    kind = "mailbox"

    other: ClassVar[str] = "Trash"

    @pytest.fixture
    def table(self, source: Source) -> Mapping[str, object]:
        return source.table

    @pytest.fixture
    def box(self, stage: Stage, source: Source) -> Iterator[Mailbox]:
        with stage.make() as box:
            yield box

    @pytest.fixture
    def five(self, source: Source) -> list[bytes]:
        """Five messages in the order in which they were put, the third the largest."""
        sizes = (100, 400, 500, 300, 200)
        messages = [post(number, size) for number, size in enumerate(sizes)]
        for octets in messages:
            source.put(octets)
        return messages

    def uids(self, box: Mailbox, where: str = "all", **words: object) -> list[int]:
        found = box.select("INBOX", parse(where), **words)  # type: ignore[arg-type]
        return [each.item.uid or 0 for each in found]

    def whole(self, box: Mailbox, order: str = "uid") -> list[Found]:
        return list(box.select("INBOX", ALL, reach="body", order=order))

    # Folders

    def test_the_inbox_is_the_first_folder_and_each_is_named_once(self, box: Mailbox) -> None:
        names = [folder.name for folder in box.folders()]
        assert names[0] == "INBOX"
        assert len(set(names)) == len(names)
        assert self.other in names

    @pytest.mark.parametrize("act", ["count", "select", "update", "delete", "insert"])
    def test_a_folder_that_is_not_there_is_told(self, box: Mailbox, act: str) -> None:
        acts: dict[str, Callable[[], object]] = {
            "count": lambda: box.count("No such", ALL),
            "select": lambda: list(box.select("No such", ALL)),
            "update": lambda: box.update("No such", ALL, {"seen": True}),
            "delete": lambda: box.delete("No such", ALL),
            "insert": lambda: box.insert("No such", Octets(post(1))),
        }
        with pytest.raises(GoneError) as caught:
            acts[act]()
        assert one_line(caught.value.text)
        assert "No such" in caught.value.text

    # What is selected

    def test_an_empty_folder_has_nothing(self, box: Mailbox) -> None:
        assert box.count("INBOX", ALL) == 0
        assert list(box.select("INBOX", ALL)) == []
        assert box.update("INBOX", ALL, {"seen": True}) == 0
        assert box.delete("INBOX", ALL) == 0

    def test_the_newest_comes_first(self, box: Mailbox, five: list[bytes]) -> None:
        uids = self.uids(box)
        assert uids == sorted(uids, reverse=True)
        assert len(set(uids)) == 5

    def test_a_listing_says_all_that_a_listing_says(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        found = list(box.select("INBOX", ALL, order="uid"))
        assert [each.item.size for each in found] == [len(source.expected(each)) for each in five]
        for each in found:
            assert each.content is None
            assert each.item.folder == "INBOX"
            assert each.item.date is not None
            assert each.item.flags is not None
        assert len({each.item.key for each in found}) == 5

    def test_headers_come_where_they_are_asked_for(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        found = box.select("INBOX", ALL, reach="header", order="uid")
        heads = [head(each.content) for each in found if each.content]
        assert heads == [head(Octets(source.expected(each))) for each in five]

    def test_the_octets_are_as_they_are(self, box: Mailbox, source: Source) -> None:
        wanted = []
        for sample in AWKWARD:
            if source.holds(sample.octets):
                source.put(sample.octets)
                wanted.append(source.expected(sample.octets))
        got = [read(each.content) for each in self.whole(box) if each.content is not None]
        assert got == wanted

    def test_looking_changes_nothing(self, box: Mailbox, five: list[bytes]) -> None:
        before = [each.item.flags for each in self.whole(box)]
        assert box.count("INBOX", parse("seen")) == 0
        assert [each.item.flags for each in self.whole(box)] == before

    def test_a_slice_is_one_of_all_in_their_order(self, box: Mailbox, five: list[bytes]) -> None:
        every = self.uids(box, order="-size")
        parts = [self.uids(box, order="-size", start=at, stop=at + 2) for at in (0, 2, 4, 6)]
        assert parts == [every[0:2], every[2:4], every[4:], []]

    @pytest.mark.parametrize(
        ("order", "wanted"),
        [
            ("uid", [0, 1, 2, 3, 4]), ("size", [0, 4, 3, 1, 2]), ("-size", [2, 1, 3, 4, 0]),
            ("subject", [4, 1, 3, 0, 2]), ("-subject", [0, 2, 3, 1, 4]),
            ("subject,-size", [4, 1, 3, 2, 0]), ("from", [0, 1, 2, 3, 4]),
            ("-from", [4, 3, 2, 1, 0]), ("to,-size", [2, 1, 3, 4, 0]), ("cc", [0, 1, 2, 3, 4]),
        ],
    )  # fmt: skip
    def test_an_order_is_about_all_and_by_what_a_reader_sees(
        self, box: Mailbox, five: list[bytes], order: str, wanted: list[int]
    ) -> None:
        uids = sorted(self.uids(box))
        assert [uids.index(uid) for uid in self.uids(box, order=order)] == wanted

    def test_an_order_that_is_none_is_refused(self, box: Mailbox) -> None:
        with pytest.raises(ValueError, match="colour"):
            box.select("INBOX", ALL, order="colour")

    @pytest.mark.parametrize("text", QUERIES)
    def test_a_query_means_what_it_means_here(
        self, box: Mailbox, five: list[bytes], text: str
    ) -> None:
        uids = sorted(self.uids(box))
        box.update("INBOX", parse(f"uid in ({uids[0]}, {uids[2]})"), {"seen": True})
        box.update("INBOX", parse(f"uid is {uids[2]}"), {"flagged": True})
        query = parse(text)
        wanted = [
            each.item.uid
            for each in self.whole(box)
            if each.content is not None
            and query.matches(MailFacts(Mail("", Envelope(), each.content), each.item))
        ]
        assert self.uids(box, text, order="uid") == wanted
        assert box.count("INBOX", query) == len(wanted)

    def test_what_comes_later_is_not_in_a_selection(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        rows = box.select("INBOX", ALL)
        first = next(rows)
        source.put(post(9))
        assert len([first, *rows]) == 5
        assert box.count("INBOX", ALL) == 6

    def test_what_goes_meanwhile_is_left_out_and_harms_no_other(
        self, stage: Stage, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        keys = [each.item.key for each in box.select("INBOX", ALL, order="uid")]
        source.lose(five[1])
        with stage.make() as fresh:
            found = [read(each.content) for each in fresh.select(
                "INBOX", keys, reach="body", order="uid") if each.content]  # fmt: skip
        assert found == [source.expected(five[number]) for number in (0, 2, 3, 4)]

    def test_rows_can_be_deleted_while_they_are_read(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        """DAL-26"""
        seen = 0
        for found in box.select("INBOX", ALL, reach="body"):
            assert box.delete("INBOX", [found.item.key]) == 1
            seen += 1
        assert seen == 5
        assert list(source.messages()) == []

    # Keys

    def test_keys_mean_the_messages_that_they_were_given_for(
        self, stage: Stage, box: Mailbox, five: list[bytes]
    ) -> None:
        keys = [each.item.key for each in box.select("INBOX", ALL, order="uid")]
        with stage.make() as other:
            again = list(other.select("INBOX", [keys[3], keys[1]], order="uid"))
        assert [each.item.key for each in again] == [keys[1], keys[3]]
        assert box.count("INBOX", keys[:2]) == 2

    def test_keys_of_another_folder_mean_nothing_in_this_one(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        keys = [each.item.key for each in box.select("INBOX", ALL)]
        for folder, chosen in ((self.other, keys), ("INBOX", ["no-key", "INBOX;1;1", ""])):
            assert box.count(folder, chosen) == 0
            assert box.delete(folder, chosen) == 0
        assert len(source.messages()) == 5

    # What is changed

    def test_flags_are_set_and_removed_of_what_is_meant_alone(
        self, box: Mailbox, five: list[bytes]
    ) -> None:
        first, second, *_ = sorted(self.uids(box))
        where = parse(f"uid in ({first}, {second})")
        assert box.update("INBOX", where, {"seen": True, "answered": True}) == 2
        assert self.uids(box, "seen and answered", order="uid") == [first, second]
        assert box.update("INBOX", parse(f"uid is {first}"), {"seen": False}) == 1
        assert self.uids(box, "seen") == [second]
        assert self.uids(box, "answered", order="uid") == [first, second]

    @pytest.mark.parametrize("flag", ["recent", "size", "wonderful", ""])
    def test_what_is_no_flag_is_refused(self, box: Mailbox, five: list[bytes], flag: str) -> None:
        with pytest.raises(ValueError, match="flag"):
            box.update("INBOX", ALL, {flag: True})

    def test_what_is_marked_as_deleted_is_still_there(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        assert box.update("INBOX", parse("size > 0"), {"deleted": True}) == 5
        assert len(source.messages()) == 5

    def test_only_what_is_meant_is_removed_whatever_is_marked(
        self, box: Mailbox, source: Source, five: list[bytes]
    ) -> None:
        """DAL-31"""
        first, second, *_ = sorted(self.uids(box))
        box.update("INBOX", parse(f"uid is {first}"), {"deleted": True})
        assert box.delete("INBOX", parse(f"uid is {second}")) == 1
        there = sorted(source.expected(each) for each in source.messages())
        assert there == sorted(source.expected(five[n]) for n in (0, 2, 3, 4))

    def test_what_is_inserted_is_there_octet_for_octet(self, box: Mailbox, source: Source) -> None:
        key = box.insert("INBOX", Octets(post(7)), ["seen", "flagged"], 1262304000.0)
        assert [source.expected(each) for each in source.messages()] == [post(7)]
        (found,) = self.whole(box)
        assert found.content is not None
        assert read(found.content) == post(7)
        assert found.item.date == 1262304000.0
        assert self.uids(box, "seen and flagged and not draft") == [found.item.uid]
        assert key in ("", found.item.key)

    def test_what_is_no_flag_cannot_be_inserted_with(self, box: Mailbox, source: Source) -> None:
        with pytest.raises(ValueError, match="recent"):
            box.insert("INBOX", Octets(post(1)), ["recent"])
        assert list(source.messages()) == []

    # Many, and what is left open

    def test_any_number_of_threads_may_ask_at_once(self, box: Mailbox, five: list[bytes]) -> None:
        counted: list[int] = []
        failures: list[Exception] = []

        def ask() -> None:
            try:
                counted.extend(len(self.whole(box)) for _ in range(3))
            except Exception as error:  # noqa: BLE001  # it is looked at below
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert counted == [5] * 24

    def test_a_mailbox_that_was_left_leaves_nothing_open(
        self, stage: Stage, five: list[bytes]
    ) -> None:
        with nothing_left(), stage.make() as box:
            assert len(self.whole(box)) == 5
            rows = box.select("INBOX", ALL, reach="body")
            next(rows)  # and nobody reads on

    def test_a_stopped_program_is_not_kept_waiting(
        self, stage: Stage, five: Sequence[bytes]
    ) -> None:
        stage.halt.set()
        with suppress(MailflowError):
            assert lasting(lambda: self._visit(stage)) < SOON

    def _visit(self, stage: Stage) -> None:
        with stage.make() as box:
            self.whole(box)
