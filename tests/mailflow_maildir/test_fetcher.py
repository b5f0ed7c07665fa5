"""A Maildir as a source: what is listed and fetched, and what is done there afterwards."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mailflow
from mailflow.errors import BadMailError, ConfigError, GoneError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Fetched, Item, Missed, Runtime
from mailflow.mail import OctetFile, read
from mailflow.query import Query
from mailflow.testing.engine import LogDouble
from mailflow.verdicts import Fate
from mailflow_maildir.fetcher import MaildirFetcher, MaildirSourceOptions
from mailflow_maildir.reading import size_in, unique, with_flag

TEXT = b"Subject: one\n\nHello\n"


class Source:
    """A Maildir under test, fetched as the engine does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.halt = Halt()
        self.log = LogDouble()
        self.scratch = path.parent / "scratch"
        self.scratch.mkdir()
        for folder in ("", ".Done", ".Lists.red", ".Lists.blue"):
            for place in ("new", "cur", "tmp"):
                (path / folder / place).mkdir(parents=True)

    def add(self, name: str, data: bytes = TEXT, folder: str = "") -> Path:
        """`name` is new/1 or cur/1:2,S."""
        file = self.path / folder / name
        file.write_bytes(data)
        return file

    def files(self, folder: str = "") -> list[str]:
        return sorted(
            f"{place}/{file.name}"
            for place in ("new", "cur")
            for file in (self.path / folder / place).iterdir()
        )

    def open(self, **table: object) -> MaildirFetcher:
        options = MaildirSourceOptions.read({"path": str(self.path), **table})
        log: Any = self.log
        runtime = Runtime("maildir", "test", self.halt, log, str(self.scratch))
        return MaildirFetcher(options, runtime)

    def items(self, **table: object) -> list[Item]:
        with self.open(**table) as fetcher:
            return list(fetcher.listing(Query.always))

    def keys(self, **table: object) -> list[str]:
        return [item.key for item in self.items(**table)]

    def settle(self, *keys: str, fate: Fate = Fate.DONE, **table: object) -> None:
        with self.open(**table) as fetcher:
            listed = [item.key for item in fetcher.listing(Query.always)]
            for key in keys or listed:
                fetcher.settle(key, fate)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    source = Source(tmp_path / "Maildir")
    yield source
    source.halt.close()


def fetched(fetcher: MaildirFetcher, *keys: str) -> list[bytes | type[Exception]]:
    got: list[bytes | type[Exception]] = []
    for each in fetcher.retrieve(keys):
        got.append(read(each.content) if isinstance(each, Fetched) else type(each.error))
    return got


def test_new_and_cur_are_listed_with_all_that_a_name_tells(source: Source) -> None:
    file = source.add("new/3.host,S=20,W=23")
    os.utime(file, (5, 5))
    source.add("cur/1.host:2,FRS")
    source.add("cur/2.host")
    new, one, two = sorted(source.items(), key=lambda item: item.key, reverse=True)
    assert new == Item("3.host,S=20,W=23", 23, 5.0, frozenset({"recent"}), "INBOX")
    assert two.key == "1.host"
    assert two.flags == {"flagged", "answered", "seen"}
    assert (one.key, one.size, one.flags) == ("2.host", len(TEXT), frozenset())


def test_a_key_outlives_flags_and_the_way_from_new_to_cur(source: Source) -> None:
    file = source.add("new/1.host,S=20")
    for name in ("cur/1.host,S=20", "cur/1.host,S=20:2,", "cur/1.host,S=20:2,FS",
                 "cur/1.host,S=20;2,S", "cur/1.host,S=20!2,T"):  # fmt: skip
        assert source.keys() == ["1.host,S=20"]
        file = file.rename(source.path / name)


def test_octets_come_with_crlf_and_are_else_unchanged(source: Source) -> None:
    data = b"Subject: \xe4\0\n\nbare \r CR\r\r\n.\n\nno end"
    source.add("new/1", data)
    source.add("new/2", b"A: b\r\n\r\ncrlf\r\n")
    source.add("new/3", b"")
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        assert fetched(fetcher, "1", "2", "3") == [
            re.sub(rb"(?<!\r)\n", b"\r\n", data), b"A: b\r\n\r\ncrlf\r\n", b"",
        ]  # fmt: skip


def test_f10_a_large_message_is_streamed_into_a_file(source: Source) -> None:
    data = b"Subject: large\n\n" + b"0123456789abcde\n" * 200_000
    source.add("new/1", data)
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        [got] = fetcher.retrieve(["1"])
        assert isinstance(got, Fetched)
        assert isinstance(got.content, OctetFile)
        assert os.path.dirname(got.content.path) == str(source.scratch)
        assert read(got.content) == data.replace(b"\n", b"\r\n")


def test_header_sections_alone(source: Source) -> None:
    source.add("new/1", b"A: b\nC: d\n\nbody\n")
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        heads = list(fetcher.heads(["1", "gone"]))
    assert [(got.key, read(got.content)) for got in heads] == [("1", b"A: b\r\nC: d\r\n")]


def test_folders_are_read_by_name_and_by_pattern(source: Source) -> None:
    source.add("new/1")
    source.add("new/1", folder=".Lists.red")
    source.add("cur/2", folder=".Lists.blue")
    (source.path / ".NoFolder").mkdir()
    assert source.keys() == ["1"]
    assert source.keys(folders="Lists.red") == ["Lists.red/1"]
    assert source.keys(folders=["INBOX", ".Lists.*"]) == ["1", "Lists.blue/2", "Lists.red/1"]
    [item] = source.items(folders="Lists.red")
    assert item.folder == "Lists.red"


def test_a_file_renamed_after_the_listing_is_found(source: Source) -> None:
    files = [source.add(f"new/{number}", b"%d\n" % number) for number in range(3)]
    with source.open() as fetcher:
        keys = [item.key for item in fetcher.listing(Query.always)]
        for file in files:
            file.rename(source.path / "cur" / f"{file.name}:2,S")
        assert fetched(fetcher, *keys) == [b"0\r\n", b"1\r\n", b"2\r\n"]


def test_f09_a_message_gone_after_the_listing_is_missed_and_the_others_come(
    source: Source,
) -> None:
    for number in range(3):
        source.add(f"new/{number}", b"%d\n" % number)
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        (source.path / "new" / "1").unlink()
        assert fetched(fetcher, "0", "1", "2", "never") == [
            b"0\r\n",
            GoneError,
            b"2\r\n",
            GoneError,
        ]
        assert list(fetcher.heads(["1"])) == []


def test_g06_what_is_no_regular_file_is_not_opened(source: Source, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("canary")
    (source.path / "new" / "1").symlink_to(secret)
    os.mkfifo(source.path / "new" / "2")
    (source.path / "cur" / "3").mkdir()
    (source.path / "cur" / ".hidden").write_text("x")
    source.add("cur/4")
    assert source.keys() == ["4"]
    assert source.log.said("warning") == ["no regular file"]


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_g06_what_becomes_a_link_or_a_fifo_after_the_listing_is_not_followed(
    source: Source, tmp_path: Path, kind: str
) -> None:
    file = source.add("new/1")
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        file.unlink()
        if kind == "fifo":
            os.mkfifo(file)
        else:
            file.symlink_to("/etc/passwd")
        assert fetched(fetcher, "1") == [BadMailError]


def test_g06_a_folder_that_is_a_link_is_not_followed(source: Source, tmp_path: Path) -> None:
    (tmp_path / "else" / "cur").mkdir(parents=True)
    (source.path / ".Linked").symlink_to(tmp_path / "else")
    assert source.keys(folders="*") == []


def test_f06_two_files_with_one_key_are_both_fetched(source: Source) -> None:
    source.add("new/1", b"first\n")
    source.add("cur/1:2,S", b"second\n")
    keys = source.keys()
    assert len(set(keys)) == 2
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        assert fetched(fetcher, *keys) == [b"first\r\n", b"second\r\n"]


def test_a_file_met_twice_while_it_moves_is_one_message(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.add("new/1")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("/cur"):
            (source.path / "new" / "1").rename(source.path / "cur" / "1:2,S")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert source.keys() == ["1"]


@pytest.mark.parametrize("missing", ["", "new", "cur"])
def test_d07_a_maildir_that_is_not_there_may_come_back(source: Source, missing: str) -> None:
    target = source.path / missing
    target.rename(source.path.parent / "away")
    lack = f"it has no {missing}/" if missing else "there is no such directory"
    with pytest.raises(UnavailableError, match=f"no Maildir at .*: {lack}$"):
        source.keys()


def test_a_maildir_that_may_not_be_looked_into_says_so(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.stat

    def stat(path: str, **words: bool) -> os.stat_result:
        if str(path).endswith("/new"):
            raise PermissionError(errno.EACCES, "no")
        return found(path, **words)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(UnavailableError, match=r"no Maildir at .*: Permission denied$"):
        source.keys()


def test_done_is_deleted(source: Source) -> None:
    source.add("new/1")
    source.add("cur/2:2,S")
    source.add("new/3")
    source.settle("1", "2")
    assert source.files() == ["new/3"]


@pytest.mark.parametrize("fate", [Fate.LATER, Fate.REFUSED])
def test_what_is_not_done_stays(source: Source, fate: Fate) -> None:
    source.add("new/1")
    source.settle("1", fate=fate)
    assert source.files() == ["new/1"]


@pytest.mark.parametrize(
    ("on_done", "name", "after"),
    [
        ("keep", "new/1", ["new/1"]),
        ("seen", "new/1", ["cur/1:2,S"]),
        ("seen", "cur/1:2,FR", ["cur/1:2,FRS"]),
        ("seen", "cur/1;2,F", ["cur/1;2,FS"]),
        ("seen", "cur/1:2,S", ["cur/1:2,S"]),
        ("flag", "cur/1:2,S", ["cur/1:2,FS"]),
    ],
)
def test_done_is_marked(source: Source, on_done: str, name: str, after: list[str]) -> None:
    source.add(name)
    for _ in range(2):
        source.settle("1", on_done=on_done)
        assert source.files() == after
    assert source.log.said("warning") == []


def test_done_is_moved_as_it_is(source: Source) -> None:
    source.add("new/1")
    source.add("cur/2:2,FS")
    for _ in range(2):
        source.settle("1", "2", on_done="move .Old.2026")
        assert source.files() == []
        assert source.files(".Old.2026") == ["cur/2:2,FS", "new/1"]
    assert (source.path / ".Old.2026" / "maildirfolder").exists()


def test_d06_a_move_never_goes_over_another_file(source: Source) -> None:
    source.add("new/1", b"mine\n")
    source.add("new/1", b"other\n", folder=".Done")
    source.settle("1", on_done="move Done")
    assert source.files() == ["new/1"]
    assert (source.path / ".Done" / "new" / "1").read_bytes() == b"other\n"
    [line] = source.log.lines
    assert line.facts["error"] == "File exists"


def test_settling_finds_a_file_under_its_new_name(source: Source) -> None:
    file = source.add("new/1")
    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        file.rename(source.path / "cur" / "1:2,S")
        fetcher.settle("1", Fate.DONE)
        fetcher.settle("1", Fate.DONE)
        fetcher.settle("never heard of", Fate.DONE)
    assert source.files() == []


def test_d05_what_was_settled_is_flushed_before_the_session_ends(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )
    for number in range(9):
        source.add(f"new/{number}")
    source.settle()
    assert flushed == [str(source.path / "new")]


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_d01_a_maildir_that_cannot_be_changed_is_said_once_and_read_all_the_same(
    source: Source, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    for number in range(3):
        source.add(f"new/{number}")

    def unlink(path: str) -> None:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr(os, "unlink", unlink)
    source.settle()
    [line] = source.log.lines
    assert line.level == "warning"
    assert line.facts["error"] == os.strerror(error)
    assert len(source.files()) == 3


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_d01_d08_a_file_that_cannot_be_read_is_missed_for_now(
    source: Source, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    for number in range(3):
        source.add(f"new/{number}", b"%d\n" % number)
    real = os.open

    def fail(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if str(path).endswith("new/1"):
            raise OSError(error, os.strerror(error), path)
        return real(path, flags, *more, **named)

    with source.open() as fetcher:
        list(fetcher.listing(Query.always))
        monkeypatch.setattr(os, "open", fail)
        got = list(fetcher.retrieve(["0", "1", "2"]))
    [missed] = [each for each in got if isinstance(each, Missed)]
    assert missed.error.temporary
    assert missed.error.text == f"cannot read 1 in {source.path}: {os.strerror(error)}"


def test_d08_a_listing_that_fails_ends_the_session(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with source.open() as fetcher:
        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(UnavailableError, match="Input/output error"):
            list(fetcher.listing(Query.always))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"on_done": "burn"}, 'expected "delete", "keep", "seen"'),
        ({"on_done": "move a/b"}, "not a Maildir folder"),
        ({"on_done": "move ."}, 'expected a folder, such as "move Done"'),
        ({"on_done": "move Done", "folders": ["*"]}, "Done is one of the folders that are read"),
        ({"folders": []}, "expected at least one folder"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MaildirSourceOptions.read({"path": "x", **table})


def test_check_looks_whether_there_is_a_maildir(source: Source, tmp_path: Path) -> None:
    assert list(MaildirSourceOptions.read({"path": str(source.path)}).look()) == []
    missing = MaildirSourceOptions.read({"path": str(tmp_path / "none")})
    assert list(missing.look()) == [
        ("path", f"no Maildir at {tmp_path}/none: there is no such directory")
    ]


def test_names() -> None:
    assert unique("1.a:2,S") == unique("1.a;2,") == unique("1.a") == "1.a"
    assert with_flag("1.a", "S") == "1.a:2,S"
    assert with_flag("1.a:2,", "F") == "1.a:2,F"
    assert size_in("1.a,S=7,W=9:2,S") == 9
    assert size_in("1.a,S=7") == 7
    assert size_in("1.a,S=x,W=:2,S=4") is None


def pipeline(source: Source, tmp_path: Path, **fetch: object) -> int:
    step = {"use": "maildir", "path": str(source.path), "keep": "0d", **fetch}
    return mailflow.run(
        {
            "pipeline": {"journal": str(tmp_path / "journal.db")},
            "fetch": [step],
            "distribute": [{"use": "maildir", "path": str(tmp_path / "copy")}],
        }
    )


def test_a_whole_pipeline_moves_a_maildir_once(source: Source, tmp_path: Path) -> None:
    for number in range(5):
        source.add(f"cur/{number}:2,S", b"Message-ID: <%d@x>\n\n%d\n" % (number, number))
    source.add("new/9", b"Message-ID: <9@x>\n\n9\n")
    assert pipeline(source, tmp_path, where="not seen") == 0
    assert len(source.files()) == 5
    assert pipeline(source, tmp_path) == 0
    assert pipeline(source, tmp_path) == 0
    assert source.files() == []
    assert len(list((tmp_path / "copy" / "new").iterdir())) == 6


def test_f28_what_is_kept_is_fetched_once_however_it_is_renamed(
    source: Source, tmp_path: Path
) -> None:
    file = source.add("new/1", b"Message-ID: <1@x>\n\n1\n")
    for name in ("cur/1:2,", "cur/1:2,S", "cur/1:2,FS"):
        assert pipeline(source, tmp_path, keep="forever") == 0
        file = file.rename(source.path / name)
    assert len(list((tmp_path / "copy" / "new").iterdir())) == 1


def test_a_stop_is_the_fault_of_no_message(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.add("new/1")

    def stopped(descriptor: int) -> Iterator[bytes]:
        yield TEXT
        source.halt.set()
        yield TEXT

    monkeypatch.setattr("mailflow_maildir.fetcher.pieces", stopped)
    with source.open() as fetcher:
        [item] = fetcher.listing(Query.always)
        with pytest.raises(UnavailableError, match="stopped on request"):
            list(fetcher.retrieve([item.key]))
