"""The suite of a fetcher: whatever the source, the engine can rely on these.

    class TestPigeonFetcher(FetcherContract):
        component = PigeonFetcher

        @pytest.fixture
        def source(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Source

Rule of the file: the source is real, and looked at from behind; the fetcher is used as
the engine uses it, in one thread, a session at a time.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from mailflow.errors import MailflowError
from mailflow.kinds import Fetched, Fetcher, Item, Missed
from mailflow.mail import Content, Envelope, Mail, Octets, head, read
from mailflow.query import ItemFacts, Query
from mailflow.testing.contracts.component import (
    ComponentContract,
    Stage,
    lasting,
    nothing_left,
    one_line,
)
from mailflow.testing.corpus import AWKWARD, Large, stored
from mailflow.testing.proxy import Fault, Proxy
from mailflow.verdicts import Fate

SOON = 10.0
"""Seconds in which a session ends that was told to, or whose time-out is a second."""

CUTS = 12
ENVELOPE = Envelope()


class Source(ABC):
    """Where mail is fetched from, as a test sees it. `table` says how to fetch there,
    with what is settled deleted."""

    table: Mapping[str, object]

    @abstractmethod
    def put(self, octets: bytes) -> None:
        """One more message; the next session sees it."""

    @abstractmethod
    def messages(self) -> Sequence[bytes]:
        """What is there now."""

    @abstractmethod
    def lose(self, octets: bytes) -> None:
        """Take a message away behind the fetcher's back."""

    def expected(self, octets: bytes) -> bytes:
        """As a message that was put arrives. Override it where the wire adds something."""
        return stored(octets)

    def holds(self, octets: bytes) -> bool:
        """Whether such a message can be there at all."""
        return bool(octets)


class RemoteSource(Source):
    """A source on a server, reached through `proxy`; `timeout` in `table` is a second."""

    proxy: Proxy


class FetcherContract(ComponentContract):
    """Give `component`, and a fixture `source`: a Source without mail."""

    component: ClassVar[type[Fetcher]]
    kind = "fetcher"

    @pytest.fixture
    def table(self, source: Source) -> Mapping[str, object]:
        return source.table

    @pytest.fixture
    def three(self, source: Source) -> list[bytes]:
        """Three messages that are there, in the order in which they were put."""
        messages = [message(number) for number in range(3)]
        for octets in messages:
            source.put(octets)
        return messages

    # What a listing says

    def test_an_empty_source_lists_nothing(self, stage: Stage) -> None:
        assert session(stage) == {}

    def test_a_listing_names_every_message_once(self, stage: Stage, three: list[bytes]) -> None:
        items = listing(stage)
        assert len(items) == len({item.key for item in items}) == len(three)
        for item in items:
            assert isinstance(item, Item)
            assert item.key
            assert item.key.isprintable(), "a key is written down, and shown"
            assert item.size is None or item.size >= 0

    def test_a_listing_can_be_asked_for_again(self, stage: Stage, three: list[bytes]) -> None:
        with stage.make() as fetcher:
            first, second = (list(fetcher.listing(Query.always)) for _ in range(2))
        assert first == second

    def test_keys_are_the_same_in_every_session(self, stage: Stage, three: list[bytes]) -> None:
        first, second = (keys_by_message(session(stage)) for _ in range(2))
        assert first == second

    def test_a_key_stays_when_other_messages_come_and_go(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        before = keys_by_message(session(stage))
        source.put(message(3))
        source.lose(three[0])
        after = keys_by_message(session(stage))
        kept = [source.expected(octets) for octets in three[1:]]
        assert [before[octets] for octets in kept] == [after[octets] for octets in kept]
        assert before[source.expected(three[0])] not in after.values(), "a key is used again"

    def test_equal_messages_have_keys_of_their_own(self, stage: Stage, source: Source) -> None:
        for _ in range(2):
            source.put(message(1))
        got = session(stage)
        assert list(got.values()) == [source.expected(message(1))] * 2

    def test_a_where_may_narrow_and_hides_nothing_that_it_wants(
        self, stage: Stage, three: list[bytes], source: Source
    ) -> None:
        source.put(message(9, b"x" * 5000))
        everything = listing(stage)
        for text in ("size < 1k", 'subject is "number 1"', "since 1d", "not seen"):
            where = Query(text)
            wanted = {i.key for i in everything if where.decide(ItemFacts(i)) is not False}
            if where.reach == "header":
                with stage.make() as fetcher:
                    heads = {got.key: got for got in fetcher.heads([i.key for i in everything])}
                wanted = {k for k, got in heads.items() if subject(got.content) == "number 1"}
            assert wanted <= {item.key for item in listing(stage, where)}, text

    def test_the_name_of_the_source_stays_and_tells_no_secret(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        first, second = stage.make(), stage.make()
        assert first.source == second.source
        assert one_line(first.source)
        assert not any(secret in first.source for secret in self.secrets)

    def test_the_mark_is_text_and_the_next_listing_takes_it(
        self, stage: Stage, three: list[bytes], source: Source
    ) -> None:
        with stage.make() as fetcher:
            list(fetcher.listing(Query.always))
        assert isinstance(fetcher.mark, str)
        source.put(message(4))
        with stage.make() as again:
            items = list(again.listing(Query.always, fetcher.mark))
            got = list(again.retrieve([item.key for item in items]))
        assert source.expected(message(4)) in [read(each.content) for each in got]

    def test_a_listing_that_leaves_out_what_is_there_is_not_complete(
        self, stage: Stage, three: list[bytes], source: Source
    ) -> None:
        mark = visit(stage)
        source.put(message(4))
        with stage.make() as fetcher:
            listed = list(fetcher.listing(Query.always, mark))
            complete = getattr(fetcher, "complete", True)
        assert len(listed) == 4 or not complete

    def test_the_next_listing_has_again_what_was_unfinished(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        first, _, last = (item.key for item in listing(stage))
        mark = visit(stage, unfinished=(first, last))
        assert {first, last} <= {item.key for item in listing(stage, mark=mark)}

    def test_with_another_where_what_was_refused_is_listed_again(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        mark = visit(stage, Query("size > 1GB"))
        assert len(listing(stage, mark=mark)) == len(three)

    # What is retrieved

    def test_every_key_that_is_asked_for_is_answered_once(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        keys = [item.key for item in listing(stage)]
        with stage.make() as fetcher:
            list(fetcher.listing(Query.always))
            got = list(fetcher.retrieve(keys[1:]))
        assert sorted(each.key for each in got) == sorted(keys[1:])
        assert all(isinstance(each, Fetched) for each in got)

    def test_for_no_keys_nothing_comes(self, stage: Stage, three: list[bytes]) -> None:
        with stage.make() as fetcher:
            list(fetcher.listing(Query.always))
            assert list(fetcher.retrieve([])) == []
            assert list(fetcher.heads([])) == []

    def test_the_octets_arrive_as_they_are(self, stage: Stage, source: Source) -> None:
        samples = [sample for sample in AWKWARD if source.holds(sample.octets)]
        for sample in samples:
            source.put(sample.octets)
        wanted = {source.expected(sample.octets): str(sample) for sample in samples}
        got = Counter(session(stage).values())
        lacking = [name for octets, name in wanted.items() if octets not in got]
        others = [octets[:80] for octets in got if octets not in wanted]
        assert (lacking, others) == ([], [])
        assert max(got.values()) == 1

    def test_line_ends_are_crlf_and_sizes_are_right(self, stage: Stage, source: Source) -> None:
        for sample in AWKWARD:
            if source.holds(sample.octets):
                source.put(sample.octets)
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for got in fetcher.retrieve(keys):
                octets = read(got.content)
                assert stored(octets) == octets, f"a bare LF in {got.key}"
                assert len(octets) == got.content.size

    def test_a_large_message_arrives_whole(self, stage: Stage, source: Source) -> None:
        octets = b"".join(Large(3 << 20).pieces())
        source.put(octets)
        source.put(message(1))
        got = session(stage)
        assert set(got.values()) == {source.expected(octets), source.expected(message(1))}

    def test_content_can_be_read_again_and_from_any_octet(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for got in list(fetcher.retrieve(keys)):
                octets = read(got.content)
                with got.content.open() as one, got.content.open() as other:
                    assert one.read(10) == octets[:10]
                    other.seek(5)
                    assert (other.read(), one.read()) == (octets[5:], octets[10:])

    def test_an_envelope_is_what_the_source_knows(self, stage: Stage, three: list[bytes]) -> None:
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for got in fetcher.retrieve(keys):
                sender, recipients = got.envelope
                assert sender is None or isinstance(sender, str)
                assert len(set(recipients)) == len(recipients)

    def test_heads_are_the_header_sections(self, stage: Stage, source: Source) -> None:
        for sample in AWKWARD:
            if source.holds(sample.octets) and sample.name in HEADS:
                source.put(sample.octets)
        source.put(TOO_LONG)
        whole = session(stage)
        with stage.make() as fetcher:
            list(fetcher.listing(Query.always))
            heads = {got.key: got.content for got in fetcher.heads(list(whole))}
        assert heads.keys() == whole.keys()
        for key, content in heads.items():
            octets = whole[key]
            assert head(content) == head(Octets(octets)), "not the fields of the message"
            assert not read(content).partition(b"\r\n\r\n")[2], "more than the header"

    def test_a_message_that_is_lost_is_missed_or_ends_the_session(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        """Whatever comes, no other message comes in its place, and nothing is left open."""
        by_message = keys_by_message(session(stage))
        got: dict[str, bytes] = {}
        missed: list[str] = []
        with suppress(MailflowError), stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            source.lose(three[1])
            for each in fetcher.retrieve(keys):
                if isinstance(each, Missed):
                    assert isinstance(each.error, MailflowError)
                    assert one_line(each.error.text)
                    missed.append(each.key)
                else:
                    got[each.key] = read(each.content)
            assert sorted([*got, *missed]) == sorted(keys), "a key without an answer"
        assert {by_message[octets] for octets in got.values()} == set(got)
        later = session(stage)
        assert Counter(later.values()) == Counter(source.expected(three[n]) for n in (0, 2))

    # What is settled

    def test_what_is_settled_is_gone_and_nothing_else(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        session(stage, settle=[source.expected(three[1])])
        assert there(source) == Counter(source.expected(three[n]) for n in (0, 2))
        assert Counter(session(stage).values()) == there(source)

    def test_to_settle_twice_is_to_settle_once(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            list(fetcher.retrieve(keys))
            for _ in range(2):
                fetcher.settle(keys[0], Fate.DONE)
        assert len(source.messages()) == 2

    def test_what_an_earlier_session_fetched_is_settled_in_a_later_one(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        """As after a crash: the journal has it, and it is not asked for again."""
        key = keys_by_message(session(stage))[source.expected(three[0])]
        with stage.make() as fetcher:
            list(fetcher.listing(Query.always))
            fetcher.settle(key, Fate.DONE)
            list(fetcher.retrieve([]))
        assert there(source) == Counter(source.expected(three[n]) for n in (1, 2))

    def test_messages_are_settled_between_the_arrivals(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            got = []
            for each in fetcher.retrieve(keys):
                got.append(read(each.content))
                fetcher.settle(each.key, Fate.DONE)
        assert Counter(got) == Counter(source.expected(octets) for octets in three)
        assert source.messages() == []

    @pytest.mark.parametrize("fate", [Fate.LATER, Fate.REFUSED])
    def test_what_is_not_done_stays(
        self, stage: Stage, source: Source, three: list[bytes], fate: Fate
    ) -> None:
        with stage.make() as fetcher:
            for item in fetcher.listing(Query.always):
                fetcher.settle(item.key, fate)
        assert len(source.messages()) == len(three)

    def test_a_session_that_fails_takes_nothing_that_was_not_settled(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with suppress(ZeroDivisionError), stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for each in fetcher.retrieve(keys):
                fetcher.settle(each.key, Fate.DONE)
                raise ZeroDivisionError
        assert len(source.messages()) >= 2

    # What is left open

    def test_a_session_leaves_nothing_open(self, stage: Stage, three: list[bytes]) -> None:
        session(stage)
        with nothing_left():
            session(stage)

    def test_a_session_that_fails_leaves_nothing_open(
        self, stage: Stage, three: list[bytes]
    ) -> None:
        session(stage)
        with nothing_left():
            _leave_in_the_middle(stage)

    def test_a_stopped_engine_ends_the_session(self, stage: Stage, three: list[bytes]) -> None:
        """In order or with an error of ours, and soon."""
        stage.halt.set()
        with suppress(MailflowError):
            assert lasting(lambda: session(stage)) < SOON


class RemoteFetcherContract(FetcherContract):
    """For a RemoteSource: what the link and the server may do, too."""

    @pytest.mark.parametrize("kind", ["cut", "reset"])
    def test_a_lost_link_gives_whole_messages_or_none(
        self, stage: Stage, source: RemoteSource, three: list[bytes], kind: Any
    ) -> None:
        before = source.proxy.to_client
        wanted = Counter(session(stage).values())
        total = source.proxy.to_client - before
        for number in range(CUTS):
            source.proxy.faults = [Fault(kind, after=number * total // CUTS)]
            got: dict[str, bytes] = {}
            error = failure(stage, got)
            assert error is None or error.temporary, error
            assert not Counter(got.values()) - wanted
        source.proxy.faults = []
        assert Counter(session(stage).values()) == wanted

    def test_a_server_that_falls_silent_ends_the_session(
        self, stage: Stage, source: RemoteSource, three: list[bytes]
    ) -> None:
        before = source.proxy.to_client
        session(stage)
        total = source.proxy.to_client - before
        for number in range(3):
            source.proxy.faults = [Fault("stall", after=number * total // 3)]
            started = time.monotonic()
            error = failure(stage, {})
            assert time.monotonic() - started < SOON
            assert error is not None
            assert error.temporary

    def test_a_stopped_engine_waits_for_no_server(
        self, stage: Stage, source: RemoteSource, three: list[bytes]
    ) -> None:
        source.proxy.faults = [Fault("stall", after=10)]
        with stage.halting(0.1):
            assert lasting(lambda: failure(stage, {})) < SOON

    def test_an_error_is_one_line_without_secrets(
        self, stage: Stage, source: RemoteSource, three: list[bytes]
    ) -> None:
        source.proxy.faults = [Fault("cut")]
        error = failure(stage, {})
        assert error is not None
        assert one_line(error.text)
        assert not any(secret in f"{error} {error.fields}" for secret in self.secrets)

    def test_a_session_that_broke_leaves_nothing_open(
        self, stage: Stage, source: RemoteSource, three: list[bytes]
    ) -> None:
        session(stage)
        source.proxy.faults = [Fault("cut", after=100)]
        with nothing_left():
            failure(stage, {})


HEADS = ("plain", "no-body", "8-bit-header", "folded-1000-times", "fields-twice", "dots", "nul")

TOO_LONG = b"Message-ID: <long@example.org>\r\n" + b"X-Long: %b\r\n" % (b"y" * 900) * 1300
TOO_LONG += b"X-Last: 1\r\n\r\nhello\r\n"
"""A header section that is longer than anybody looks at, and by which it is told all the same."""


def message(number: int, body: bytes = b"hello\r\n") -> bytes:
    """A message of its own."""
    head = f"Subject: number {number}\r\nMessage-ID: <{number}@example.org>\r\n\r\n"
    return head.encode() + body


def listing(stage: Stage, where: Query = Query.always, mark: str = "") -> list[Item]:
    """What one session lists."""
    with stage.make() as fetcher:
        return list(fetcher.listing(where, mark))


def visit(stage: Stage, where: Query = Query.always, unfinished: Sequence[str] = ()) -> str:
    """The mark of a session that looked, and left all where it is."""
    with stage.make() as fetcher:
        list(fetcher.listing(where))
        if hasattr(fetcher, "unfinished"):
            fetcher.unfinished(unfinished)
    mark: str = fetcher.mark
    return mark


def session(stage: Stage, settle: Sequence[bytes] = ()) -> dict[str, bytes]:
    """The octets by key that one session retrieves; those in `settle` are settled."""
    got: dict[str, bytes] = {}
    with stage.make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for each in fetcher.retrieve(keys):
            assert isinstance(each, Fetched), each
            got[each.key] = read(each.content)
        for key, octets in got.items():
            if octets in settle:
                fetcher.settle(key, Fate.DONE)
    return got


def failure(stage: Stage, got: dict[str, bytes]) -> MailflowError | None:
    """The error that ends a session, if one does; `got` has what it gave before."""
    try:
        with stage.make() as fetcher:
            keys = [item.key for item in fetcher.listing(Query.always)]
            for each in fetcher.retrieve(keys):
                if isinstance(each, Fetched):
                    got[each.key] = read(each.content)
    except MailflowError as error:
        return error
    return None


def keys_by_message(got: Mapping[str, bytes]) -> dict[bytes, str]:
    return {octets: key for key, octets in got.items()}


def there(source: Source) -> Counter[bytes]:
    """What is at the source, as it would arrive."""
    return Counter(source.expected(octets) for octets in source.messages())


def subject(content: Content) -> str | None:
    return Mail("", ENVELOPE, content).header().get("Subject")


def _leave_in_the_middle(stage: Stage) -> None:
    with suppress(ZeroDivisionError), stage.make() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for _ in fetcher.retrieve(keys):
            raise ZeroDivisionError
