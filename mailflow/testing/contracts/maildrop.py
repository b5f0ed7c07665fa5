"""The suite of a maildrop: whatever mail it serves, a gateway can rely on these.

    class TestPigeonDrop(MaildropContract):
        component = PigeonDrop

        @pytest.fixture
        def source(self, tmp_path):
            return Loft(tmp_path / "loft")      # a Source

Rule of the file: the mail is real, and looked at from behind; a drop is used as a gateway
uses it, which has checked the secret, and sends what it reads as RFC 1939 says.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, cast

import pytest

from mailflow.errors import GoneError, InUseError, LoginError, MailflowError, UnavailableError
from mailflow.kinds import Credentials, Item, Maildrop, OpenDrop, WireDrop, WirePart
from mailflow.mail import read
from mailflow.testing.contracts.component import (
    ComponentContract,
    Stage,
    lasting,
    nothing_left,
    one_line,
)
from mailflow.testing.contracts.fetcher import SOON, Source, message
from mailflow.testing.corpus import AWKWARD, Large

END = b".\r\n"

LOGINS = 8
"""Clients that want into one drop at once."""


class MaildropContract(ComponentContract):
    """Give `component`, and a fixture `source`: a Source without mail, whose `table` says how
    to serve it to the login name `login`."""

    component: ClassVar[type[Maildrop]]
    kind = "maildrop"

    login: ClassVar[str] = "ann"
    whole: ClassVar[bool] = True
    """All that one session deletes is removed, or nothing."""

    measured: ClassVar[bool] = True
    """Sizes are exact at once; else as soon as a message was read, in the next session at the
    latest, since another server says them before."""

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

    @pytest.fixture
    def maildrop(self, stage: Stage) -> Maildrop:
        made: Maildrop = stage.make()
        return made

    def who(self) -> Credentials:
        """As the gateway says it once the stored secret was right."""
        return Credentials(self.login, checked=True)

    @contextmanager
    def entered(self, maildrop: Maildrop) -> Iterator[OpenDrop]:
        """A session that ends without QUIT unless the drop was closed before."""
        drop = maildrop.login(self.who())
        closed = False
        close = drop.close

        def close_once(delete: Sequence[str] = ()) -> None:
            nonlocal closed
            closed = True
            close(delete)

        drop.close = close_once  # type: ignore[method-assign, assignment]
        try:
            yield drop
        finally:
            if not closed:
                drop.close()

    def session(self, maildrop: Maildrop, delete: Sequence[bytes] = ()) -> dict[str, bytes]:
        """The octets by key that one session reads; those in `delete` are deleted."""
        with self.entered(maildrop) as drop:
            got = {item.key: sent(read(drop.read(item.key))) for item in drop.items()}
            drop.close([key for key, octets in got.items() if octets in delete])
        return got

    # What is listed

    def test_an_empty_drop_has_nothing(self, maildrop: Maildrop) -> None:
        with self.entered(maildrop) as drop:
            assert list(drop.items()) == []
            assert len(drop.items()) == 0

    def test_messages_are_numbered_as_they_came(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        got = self.session(maildrop)
        assert list(got.values()) == [sent(source.expected(octets)) for octets in three]

    def test_a_key_is_a_unique_id_of_pop3(self, maildrop: Maildrop, three: list[bytes]) -> None:
        """RFC 1939, 7: 1 to 70 octets of 0x21 to 0x7E, each another."""
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
        assert len(set(keys)) == len(keys) == len(three)
        for key in keys:
            assert re.fullmatch("[!-~]{1,70}", key), key

    def test_a_listing_is_a_sequence_that_stays(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        """Also when mail comes, and when mail goes, behind its back."""
        with self.entered(maildrop) as drop:
            first = list(drop.items())
            source.put(message(3))
            source.lose(three[0])
            items = drop.items()
            assert list(items) == first
            assert [items[number] for number in range(len(items))] == first
            assert list(items[1:]) == first[1:]
            assert all(isinstance(item, Item) for item in first)

    def test_keys_are_the_same_in_every_session(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        """Those of another process among them: nothing is in memory alone."""
        first, second = (self.session(stage.make()) for _ in range(2))
        assert first == second

    def test_a_key_stays_when_other_messages_come_and_go(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        before = self.keys(stage)
        source.put(message(3))
        self.session(stage.make(), delete=[sent(source.expected(three[1]))])
        source.put(message(4))
        after = self.keys(stage)
        for octets in (sent(source.expected(three[n])) for n in (0, 2)):
            assert before[octets] == after[octets]
        assert before[sent(source.expected(three[1]))] not in after.values(), "used again"

    def keys(self, stage: Stage) -> dict[bytes, str]:
        return {octets: key for key, octets in self.session(stage.make()).items()}

    def test_equal_messages_have_keys_of_their_own(
        self, maildrop: Maildrop, source: Source
    ) -> None:
        for _ in range(2):
            source.put(message(1))
        assert list(self.session(maildrop).values()) == [sent(source.expected(message(1)))] * 2

    def test_a_size_is_exact(self, maildrop: Maildrop, source: Source) -> None:
        """The octets that a client gets, without what the wire adds (RFC 1939, 5 and 11)."""
        put_all(source)
        if not self.measured:
            self.session(maildrop)
        with self.entered(maildrop) as drop:
            wrong = [
                (item, len(octets)) for item in drop.items()
                if len(octets := sent(read(drop.read(item.key)))) != item.size
            ]  # fmt: skip
        assert wrong == []

    # What is read

    def test_the_octets_are_served_as_they_are(self, maildrop: Maildrop, source: Source) -> None:
        names = put_all(source)
        got = Counter(self.session(maildrop).values())
        lacking = [name for octets, name in names.items() if octets not in got]
        others = [octets[:80] for octets in got if octets not in names]
        assert (lacking, others) == ([], [])
        assert max(got.values()) == 1

    def test_a_large_message_is_served_whole(self, maildrop: Maildrop, source: Source) -> None:
        octets = b"".join(Large(3 << 20).pieces())
        source.put(octets)
        source.put(message(1))
        wanted = [sent(source.expected(each)) for each in (octets, message(1))]
        assert list(self.session(maildrop).values()) == wanted

    def test_messages_can_be_read_in_any_order_and_again(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
            got = [sent(read(drop.read(keys[number]))) for number in (2, 0, 0, 1, 2)]
        assert got == [sent(source.expected(three[number])) for number in (2, 0, 0, 1, 2)]

    def test_content_can_be_read_again_and_from_any_octet(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        source.put(b"".join(Large(3 << 20).pieces()))
        with self.entered(maildrop) as drop:
            for item in drop.items():
                content = drop.read(item.key)
                octets = read(content)
                assert content.size == len(octets)
                with content.open() as one, content.open() as other:
                    assert one.read(10) == octets[:10]
                    other.seek(5)
                    assert (other.read(), one.read()) == (octets[5:], octets[10:])

    def test_a_message_that_is_lost_harms_no_other(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        """Nor the session: it may still be served, or is GoneError or UnavailableError."""
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
            source.lose(three[1])
            got = [_read_or_lost(drop, keys[number]) for number in (1, 0, 2, 1)]
            drop.close(keys[:2])
        first, lost, last = (sent(source.expected(octets)) for octets in three)
        assert got[1:3] == [first, last]
        assert {got[0], got[3]} <= {lost, None}
        assert there(source) == [last]

    # What is deleted

    def test_without_a_quit_nothing_is_deleted(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        self.session(maildrop)
        assert len(source.messages()) == 3
        assert len(self.session(maildrop)) == 3

    def test_what_is_deleted_is_gone_and_nothing_else(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        self.session(stage.make(), delete=[sent(source.expected(three[n])) for n in (0, 2)])
        assert there(source) == [sent(source.expected(three[1]))]
        assert sorted(self.session(stage.make()).values()) == there(source)

    def test_mail_that_came_meanwhile_is_not_deleted(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
            source.put(message(3))
            drop.close(keys)
        assert there(source) == [sent(source.expected(message(3)))]
        assert sorted(self.session(maildrop).values()) == there(source)

    def test_one_of_two_equal_messages_is_deleted_alone(
        self, maildrop: Maildrop, source: Source
    ) -> None:
        for _ in range(2):
            source.put(message(1))
        with self.entered(maildrop) as drop:
            first, second = (item.key for item in drop.items())
            drop.close([first])
        assert len(source.messages()) == 1
        assert list(self.session(maildrop)) == [second]

    def test_many_are_deleted_at_once(self, maildrop: Maildrop, source: Source) -> None:
        for number in range(100):
            source.put(message(number))
        with self.entered(maildrop) as drop:
            drop.close([item.key for item in drop.items()][:99])
        assert there(source) == [sent(source.expected(message(99)))]

    # Who is let in

    def test_a_second_session_is_refused_at_once_and_harms_nobody(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(stage.make()) as drop:
            for other in (stage.make(), stage.make()):
                with pytest.raises(InUseError) as caught:
                    lasting(lambda other=other: other.login(self.who()))  # type: ignore[misc]
                assert one_line(caught.value.text)
            keys = [item.key for item in drop.items()]
            assert sent(read(drop.read(keys[0]))) == sent(source.expected(three[0]))
            drop.close(keys[:1])
        assert len(self.session(stage.make())) == 2

    def test_a_refusal_does_not_wait(self, maildrop: Maildrop, three: list[bytes]) -> None:
        with self.entered(maildrop), suppress(InUseError):
            assert lasting(lambda: maildrop.login(self.who())) < SOON

    def test_of_many_clients_at_once_one_is_let_in(
        self, maildrop: Maildrop, three: list[bytes]
    ) -> None:
        entered: list[OpenDrop] = []
        others: list[Exception] = []
        begin = threading.Barrier(LOGINS)

        def enter() -> None:
            begin.wait()
            try:
                entered.append(maildrop.login(self.who()))
            except Exception as error:  # noqa: BLE001  # what it is, is looked at below
                others.append(error)

        threads = [threading.Thread(target=enter) for _ in range(LOGINS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for drop in entered:
            drop.close()
        assert len(entered) == 1
        assert {type(error) for error in others} == {InUseError}

    def test_a_drop_that_was_closed_can_be_entered_again(
        self, maildrop: Maildrop, three: list[bytes]
    ) -> None:
        for _ in range(3):
            assert len(self.session(maildrop)) == 3

    def test_a_close_that_raises_unlocks_too(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(maildrop) as drop, suppress(KeyError, MailflowError):
            drop.close(["no-such-key"])
        assert sorted(self.session(maildrop).values()) == there(source)

    def test_who_was_not_checked_is_not_let_in(
        self, maildrop: Maildrop, three: list[bytes]
    ) -> None:
        """A back end that checks passwords itself knows this one not; the others know none."""
        with pytest.raises(LoginError) as caught:
            maildrop.login(Credentials(self.login, password="canary-0dd7-wrong"))
        assert one_line(caught.value.text)
        assert "canary-0dd7" not in f"{caught.value} {caught.value.fields}"

    # What is left open

    def test_a_session_leaves_nothing_open(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        source.put(b"".join(Large(3 << 20).pieces()))
        self.session(maildrop)
        with nothing_left():
            self.session(maildrop, delete=[sent(source.expected(three[0]))])

    def test_a_refused_login_leaves_nothing_open(self, stage: Stage, three: list[bytes]) -> None:
        first, second = stage.make(), stage.make()
        with self.entered(first), nothing_left(), pytest.raises(InUseError):
            second.login(self.who())

    def test_a_stopped_engine_is_kept_waiting_by_no_login(
        self, stage: Stage, source: Source, three: list[bytes]
    ) -> None:
        maildrop: Maildrop = stage.make()
        stage.halt.set()
        with suppress(MailflowError):
            assert lasting(lambda: self.session(maildrop)) < SOON


class WireMaildropContract(MaildropContract):
    """For drops that have messages at hand as they go over the wire."""

    def test_what_is_at_hand_is_the_whole_answer(self, maildrop: Maildrop, source: Source) -> None:
        put_all(source)
        source.put(b"".join(Large(3 << 20).pieces()))
        with self.entered(maildrop) as drop:
            wired = 0
            for item in drop.items():
                octets = wire(drop, item.key)
                if octets is None:
                    continue
                wired += 1
                status, rest = octets.split(b"\r\n", 1)
                assert status.startswith(b"+OK")
                assert len(status) <= 510, "RFC 1939, 3: 512 octets with CRLF"
                assert rest == stuffed(sent(read(drop.read(item.key)))) + END
        assert wired, "no message is"

    def test_what_is_lost_is_not_sent(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
            source.lose(three[1])
            wanted = [stuffed(sent(source.expected(each))) + END for each in three]
            with suppress(GoneError, UnavailableError):
                octets = wire(drop, keys[1])
                assert octets is None or octets.endswith(wanted[1])
            for number in (0, 2):
                octets = wire(drop, keys[number])
                assert octets is None or octets.endswith(wanted[number])

    def test_the_files_stay_open_until_the_drop_is_closed(
        self, maildrop: Maildrop, source: Source, three: list[bytes]
    ) -> None:
        with self.entered(maildrop) as drop:
            keys = [item.key for item in drop.items()]
            parts = [cast("WireDrop", drop).wire(key) for key in keys]
            for octets in three:
                source.lose(octets)
            for octets, part in zip(three, map(_octets, parts), strict=True):
                assert part is None or part.endswith(stuffed(sent(source.expected(octets))) + END)


def _read_or_lost(drop: OpenDrop, key: str) -> bytes | None:
    """As a client gets it; None where it is said, in one line, that it cannot be had."""
    try:
        return sent(read(drop.read(key)))
    except (GoneError, UnavailableError) as error:
        assert one_line(error.text)  # noqa: PT017  # it is the promise of any error
        return None


def wire(drop: OpenDrop, key: str) -> bytes | None:
    """What a gateway would send for a message, from the disk or from memory."""
    part = cast("WireDrop", drop).wire(key)
    return _octets(part)


def _octets(part: WirePart | bytes | None) -> bytes | None:
    return os.pread(part.file, part.octets, part.offset) if isinstance(part, WirePart) else part


def sent(octets: bytes) -> bytes:
    """A message as a client gets it: its last line has an end (RFC 1939, 3)."""
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def stuffed(octets: bytes) -> bytes:
    """With the dots that the wire adds. Not by mailflow.lines, which is put to the test."""
    return b"".join(
        b"." + line if line.startswith(b".") else line for line in re.split(rb"(?<=\r\n)", octets)
    )


def put_all(source: Source) -> dict[bytes, str]:
    """Put all awkward mail there; its names, by what a client gets."""
    samples = [sample for sample in AWKWARD if source.holds(sample.octets)]
    for sample in samples:
        source.put(sample.octets)
    return {sent(source.expected(sample.octets)): str(sample) for sample in samples}


def there(source: Source) -> list[bytes]:
    """What is there, as a client gets it, sorted."""
    return sorted(sent(source.expected(octets)) for octets in source.messages())
