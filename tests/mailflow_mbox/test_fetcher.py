"""An mbox as a source: what is listed and fetched, and what is deleted there."""

from __future__ import annotations

import errno
import mailbox
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mailflow
from mailflow.errors import ConfigError, GoneError, UnavailableError
from mailflow.kinds import Fetched, Missed
from mailflow.mail import OctetFile, read
from mailflow.query import Query
from mailflow.verdicts import Fate
from mailflow_mbox.fetcher import MboxFetcher, MboxSourceOptions

from .conftest import LINE, Box, make

ONE, TWO, THREE = (b"Subject: %d\n\n%d\n" % (n, n) for n in (1, 2, 3))


def contents(box: Box, **table: object) -> list[bytes]:
    with box.fetcher(**table) as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        return fetched(fetcher, *keys)


def fetched(fetcher: MboxFetcher, *keys: str) -> list[Any]:
    return [
        read(got.content) if isinstance(got, Fetched) else type(got.error)
        for got in fetcher.retrieve(keys)
    ]


def crlf(*messages: bytes) -> list[bytes]:
    return [message.replace(b"\n", b"\r\n") for message in messages]


def test_messages_are_listed_with_all_that_the_file_tells(box: Box) -> None:
    box.write(b"Status: RO\nX-Status: AF\nSubject: 1\n\n>From x\n", TWO)
    one, two = box.items()
    assert one.size == len(b"Status: RO\r\nX-Status: AF\r\nSubject: 1\r\n\r\nFrom x\r\n")
    assert one.flags == {"seen", "answered", "flagged"}
    assert one.date == 1767225600.0
    assert (two.size, two.flags) == (len(TWO) + 3, {"recent"})


@pytest.mark.parametrize(
    "message",
    [
        b">From x\n", b"A: b\r\n\r\n>From x\r\n\r\n>>From y\r\n", b">From : z\n\nx\n>\n>From\n",
        *(b"A: b\n\n" + b"y" * (1990 + more) + b"\r\n>From x\n" for more in range(12)),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_size_is_that_of_what_is_fetched_wherever_the_pieces_end(
    box: Box, monkeypatch: pytest.MonkeyPatch, message: bytes
) -> None:
    box.write(message)
    monkeypatch.setattr("mailflow.mbox.PIECE", 2000)
    with box.fetcher() as fetcher:
        [item] = fetcher.listing(Query.always)
        [octets] = fetched(fetcher, item.key)
    assert item.size == len(octets)


@pytest.mark.parametrize(
    "messages",
    [
        [ONE], [ONE, TWO, THREE], [b""], [b"", b"", ONE], [b"\n", ONE], [b"no header\n"],
        [b"A: b\n\nFrom the start of a paragraph\n\nFrom Monday on\n"],
        [b"A: b\n\n\n\n", TWO], [b"A: \xff\0\r\n\r\n\rx\n", TWO],
    ],
)  # fmt: skip
def test_f11_octets_come_with_crlf_and_are_else_unchanged(box: Box, messages: list[bytes]) -> None:
    box.write(*messages)
    expected = [m.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for m in messages]
    assert contents(box) == expected


def test_an_mbox_with_crlf_lines_is_read_too(box: Box) -> None:
    box.write(ONE, TWO)
    box.path.write_bytes(box.path.read_bytes().replace(b"\n", b"\r\n"))
    assert contents(box) == crlf(ONE, TWO)


def test_content_length_is_not_believed(box: Box) -> None:
    box.write(b"Content-Length: 99999\n\nshort\n", b"Content-Length: 0\n\nlong\n")
    assert len(contents(box)) == 2


def test_a_from_line_has_a_blank_line_before_it_and_a_date_in_it(box: Box) -> None:
    body = (
        b"A: b\n\nx\nFrom y Thu Jan  1 00:00:00 2026\n\nFrom here to there\n\n From z 00:00 2026\n"
    )
    box.write(body, TWO)
    assert contents(box) == crlf(body, TWO)


LINES = st.lists(
    st.sampled_from([b"From a 10:00 2026\n", b">From b\n", b"\n", b"x\n", b"\r\n", b"From "]),
    max_size=12,
).map(
    lambda lines: b"A: b\r\n\r\n" + b"".join(lines).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, min_size=1, max_size=4))
def test_what_we_append_comes_back_octet_for_octet(box: Box, messages: list[bytes]) -> None:
    box.path.unlink(missing_ok=True)
    box.deliver(*[make(number, data) for number, data in enumerate(messages)])
    ended = [data if data.endswith(b"\n") else data + b"\r\n" for data in messages]
    assert contents(box) == ended


@pytest.mark.parametrize("piece", [3000, 5000, 1 << 20])
def test_messages_are_found_wherever_the_pieces_end(
    box: Box, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    messages = [b"Subject: %d\n\n" % n + b"y" * (n * 37 % 1500) + b"\n" for n in range(100)]
    box.write(*messages)
    monkeypatch.setattr("mailflow.mbox.PIECE", piece)
    assert contents(box) == crlf(*messages)


def test_f10_a_large_message_is_streamed_into_a_file(box: Box) -> None:
    data = b"Subject: large\n\n" + b">From here\n0123456789\n" * 150_000
    box.write(ONE, data, TWO)
    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        [got] = fetcher.retrieve([keys[1]])
        assert isinstance(got, Fetched)
        assert isinstance(got.content, OctetFile)
        assert read(got.content) == data.replace(b">From", b"From").replace(b"\n", b"\r\n")


def test_the_from_line_tells_the_sender(box: Box) -> None:
    box.path.write_bytes(
        LINE + ONE + b"\nFrom MAILER-DAEMON Thu Jan  1 00:00:00 2026\n" + TWO
        + b"\nFrom - Thu Jan  1 00:00:00 2026\n" + THREE
    )  # fmt: skip
    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        senders = [got.envelope.sender for got in fetcher.retrieve(keys)]  # type: ignore[union-attr]
    assert senders == ["ann@example.org", "", None]


def test_header_sections_alone(box: Box) -> None:
    box.write(ONE)
    with box.fetcher() as fetcher:
        [item] = fetcher.listing(Query.always)
        [got] = fetcher.heads([item.key, "never"])
    assert read(got.content) == b"Subject: 1\r\n"


def test_the_header_section_of_a_large_message_leaves_no_file(box: Box, tmp_path: Path) -> None:
    box.write(b"Subject: large\n\n" + b"x" * 3_000_000 + b"\n")
    with box.fetcher() as fetcher:
        before = sorted(tmp_path.rglob("*"))
        [item] = fetcher.listing(Query.always)
        [got] = fetcher.heads([item.key])
        assert sorted(tmp_path.rglob("*")) == before
    assert read(got.content) == b"Subject: large\r\n"


def test_a_key_outlives_other_places_and_what_readers_write(box: Box) -> None:
    box.write(ONE, TWO)
    _, key = (item.key for item in box.items())
    box.write(b"Status: RO\nX-UID: 7\nContent-Length: 2\n" + TWO, ONE)
    assert next(item.key for item in box.items()) == key


def test_f06_equal_messages_have_a_key_each(box: Box) -> None:
    box.write(ONE, ONE, TWO, ONE)
    keys = [item.key for item in box.items()]
    assert len(set(keys)) == 4
    assert keys[1] == f"{keys[0]}.2"
    assert contents(box) == crlf(ONE, ONE, TWO, ONE)


def test_a_message_that_moved_in_the_file_is_found(box: Box) -> None:
    box.write(ONE, TWO)
    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        box.write(THREE, b"Status: R\n" + TWO, ONE)
        assert fetched(fetcher, *keys) == crlf(ONE, b"Status: R\n" + TWO)


def test_f09_a_message_that_is_gone_is_missed_and_the_others_come(box: Box) -> None:
    box.write(ONE, TWO, THREE)
    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        box.write(ONE, THREE)
        assert fetched(fetcher, *keys) == [*crlf(ONE), GoneError, *crlf(THREE)]
        box.path.unlink()
        assert fetched(fetcher, keys[0]) == [GoneError]


def test_the_notes_that_a_reader_keeps_in_the_file_are_no_mail(box: Box) -> None:
    internal = (
        b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\n"
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n"
    )
    box.path.write_bytes(internal + LINE + ONE + b"\n")
    assert contents(box) == crlf(ONE)
    box.settle(0)
    assert box.path.read_bytes() == internal


def test_a_missing_file_is_empty_and_a_missing_directory_may_come_back(box: Box) -> None:
    assert box.items() == []
    box.path.write_bytes(b"\n\n")
    assert box.items() == []
    box.path.unlink()
    box.path.parent.rmdir()
    with pytest.raises(UnavailableError, match="no directory"):
        box.items()


def test_what_is_no_mbox_is_told(box: Box) -> None:
    box.path.write_bytes(b"Subject: x\n\nFrom y\n")
    with pytest.raises(ConfigError, match='is no mbox file: it does not begin with "From "'):
        box.items()


def test_g06_a_fifo_is_not_read(box: Box) -> None:
    os.mkfifo(box.path)
    with pytest.raises(UnavailableError, match="is no regular file"):
        box.items()


@pytest.mark.parametrize(
    ("done", "left"),
    [
        ([0], [TWO, THREE]), ([1], [ONE, THREE]), ([2], [ONE, TWO]), ([0, 2], [TWO]),
        ([0, 1], [THREE]), ([0, 1, 2], []), ([], [ONE, TWO, THREE]),
    ],
)  # fmt: skip
def test_done_is_deleted_and_the_others_stay_as_they_are(
    box: Box, done: list[int], left: list[bytes]
) -> None:
    box.write(ONE, TWO, THREE)
    inode = box.path.stat().st_ino
    box.settle(*done)
    assert box.path.read_bytes() == b"".join(LINE + message + b"\n" for message in left)
    assert box.path.stat().st_ino == inode
    assert box.bodies() == left
    assert box.others() == []


def test_done_is_kept_where_the_file_says_so(box: Box) -> None:
    box.write(ONE)
    box.settle(0, on_done="keep")
    assert box.bodies() == [ONE]


@pytest.mark.parametrize("fate", [Fate.LATER, Fate.REFUSED])
def test_what_is_not_done_stays(box: Box, fate: Fate) -> None:
    box.write(ONE)
    with box.fetcher() as fetcher:
        [item] = fetcher.listing(Query.always)
        fetcher.settle(item.key, fate)
    assert box.bodies() == [ONE]


@pytest.mark.parametrize("done", [[0], [0, 1]])
def test_what_another_program_appends_meanwhile_is_not_lost(box: Box, done: list[int]) -> None:
    box.write(ONE, TWO)
    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for number in done:
            fetcher.settle(keys[number], Fate.DONE)
        other = mailbox.mbox(box.path)
        other.lock()
        other.add(THREE)
        other.flush()
        other.close()
    assert box.bodies() == [*(ONE, TWO)[len(done) :], THREE]


def test_what_was_settled_is_deleted_after_an_error_too(box: Box) -> None:
    box.write(ONE, TWO)
    fetcher = box.fetcher().__enter__()
    item, *_ = fetcher.listing(Query.always)
    fetcher.settle(item.key, Fate.DONE)
    fetcher.__exit__(UnavailableError, UnavailableError("a full disk"), None)
    assert box.bodies() == [TWO]


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_d01_a_file_that_cannot_be_changed_is_said_and_read_all_the_same(
    box: Box, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    box.write(ONE, TWO)
    before = box.path.read_bytes()
    real = os.open

    def fail(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith(".mailflow.tmp"):
            raise OSError(error, os.strerror(error))
        return real(path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        box.settle(0)
    assert box.said.said("warning") == ["what is done stays in the mbox for now"]
    assert box.path.read_bytes() == before


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
def test_d08_a_file_that_cannot_be_read_is_missed_for_now(
    box: Box, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    box.write(ONE, TWO)

    def fail(*arguments: Any) -> bytes:
        raise OSError(error, os.strerror(error))

    with box.fetcher() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        monkeypatch.setattr(os, "pread", fail)
        got = list(fetcher.retrieve(keys))
        assert all(isinstance(each, Missed) and each.error.temporary for each in got)
        with pytest.raises(UnavailableError, match=os.strerror(error)):
            list(fetcher.listing(Query.always))
        monkeypatch.undo()


def test_check_looks_whether_there_is_a_directory(box: Box, tmp_path: Path) -> None:
    assert list(MboxSourceOptions.read({"path": str(box.path)}).look()) == []
    missing = MboxSourceOptions.read({"path": str(tmp_path / "none" / "box")})
    assert list(missing.look()) == [("path", f"no directory {tmp_path}/none")]


def pipeline(box: Box, tmp_path: Path, **fetch: object) -> int:
    return mailflow.run(
        {
            "pipeline": {"journal": str(tmp_path / "journal.db")},
            "fetch": [{"use": "mbox", "path": str(box.path), "keep": "0d", **fetch}],
            "distribute": [{"use": "mbox", "path": str(tmp_path / "copy")}],
        }
    )


def test_a_whole_pipeline_moves_an_mbox_once(box: Box, tmp_path: Path) -> None:
    copy = Box(tmp_path / "copy")
    box.write(ONE, b"Status: R\n" + TWO, THREE)
    assert pipeline(box, tmp_path, where="not seen") == 0
    assert box.bodies() == [b"Status: R\n" + TWO]
    assert copy.bodies() == [ONE, THREE]
    for _ in range(2):
        assert pipeline(box, tmp_path) == 0
    assert box.path.read_bytes() == b""
    assert copy.bodies() == [ONE, THREE, b"Status: R\n" + TWO]
    assert not copy.log.exists()
    copy.halt.close()


def test_f28_what_is_kept_is_fetched_once_whatever_readers_write(box: Box, tmp_path: Path) -> None:
    copy = Box(tmp_path / "copy")
    box.write(ONE)
    assert pipeline(box, tmp_path, keep="forever") == 0
    box.write(THREE, b"Status: RO\n" + ONE)
    assert pipeline(box, tmp_path, keep="forever") == 0
    assert copy.bodies() == [ONE, THREE]
    copy.halt.close()
