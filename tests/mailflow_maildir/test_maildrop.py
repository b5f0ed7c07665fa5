"""A Maildir behind the gateway: UIDLs and sizes that stay, deletions all or none."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.errors import (
    ConfigError,
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    UnavailableError,
)
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.mail import chunks, read
from mailflow.testing.engine import LogDouble
from mailflow_maildir import ledger, maildrop, opened, stored
from mailflow_maildir.column import Column
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions, located
from mailflow_maildir.opened import OpenMaildir

LIST = "mailflow-uidlist"
ROOT = os.geteuid() == 0


class Drop:
    """A Maildir under test, with a maildrop of each "process" that opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.halt = Halt()
        self.log = LogDouble()
        for place in ("new", "cur", "tmp"):
            (path / place).mkdir(parents=True)

    def add(self, name: str, data: bytes = b"Subject: x\n\nhello\n") -> Path:
        """`name` is new/1 or cur/1:2,S."""
        file = self.path / name
        file.write_bytes(data)
        return file

    def maildrop(self, **table: object) -> MaildirDrop:
        options = MaildirDropOptions.read({"path": str(self.path), **table})
        log: Any = self.log
        return MaildirDrop(options, Runtime("drop", "test", self.halt, log, "/nonexistent"))

    def enter(self, **table: object) -> OpenMaildir:
        return self.maildrop(**table).login(Credentials("ann", checked=True))

    def listed(self, **table: object) -> dict[str, int]:
        """Size by UIDL, as one session sees them."""
        drop = self.enter(**table)
        found = {item.key: item.size or 0 for item in drop.items()}
        drop.close()
        return found

    def delete(self, *keys: str) -> None:
        drop = self.enter()
        drop.close(keys)

    def files(self) -> list[str]:
        return sorted(
            f"{place}/{file.name}"
            for place in ("new", "cur")
            for file in (self.path / place).iterdir()
        )

    @property
    def told(self) -> str:
        return (self.path / LIST).read_text()


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    drop = Drop(tmp_path / "Maildir")
    yield drop
    drop.halt.close()


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have a call of os fail, where its first argument is one of `paths` or a descriptor."""

    def fail(call: str, code: int, *paths: str) -> None:
        real = getattr(os, call)

        def failing(what: Any, *more: Any, **named: Any) -> Any:
            if not paths or (isinstance(what, str) and what.endswith(paths)):
                raise OSError(code, os.strerror(code), what)
            return real(what, *more, **named)

        monkeypatch.setattr(os, call, failing)

    return fail


def rest(drop: Drop) -> None:
    """Nobody has changed the Maildir for long."""
    for place in ("new", "cur"):
        os.utime(drop.path / place, (1, 1))


# UIDLs


def test_071_a_uidl_outlives_renames_flags_and_a_new_process(drop: Drop) -> None:
    file = drop.add("new/1700000000.M1P2.host,S=18")
    before = drop.listed()
    file = file.rename(drop.path / "cur" / f"{file.name}:2,")
    assert drop.listed() == before
    file.rename(file.with_name(file.name + "FS"))
    assert drop.listed() == before == {"1700000000.M1P2.host": 21}


def test_071_a_uidl_outlives_the_loss_of_the_list(drop: Drop) -> None:
    drop.add("cur/1700000000.M1P2.host:2,S")
    drop.add("new/" + "long" * 30)
    before = drop.listed()
    (drop.path / LIST).unlink()
    assert drop.listed() == before


def test_069_a_name_that_is_no_unique_id_gives_a_digest(drop: Drop) -> None:
    for name in ("ü", "with space", "x" * 71):
        drop.add(f"new/{name}")
    for key in drop.listed():
        assert len(key) == 32
        assert key.isalnum()


def test_070_names_that_differ_in_flags_or_sizes_alone_have_uidls_of_their_own(drop: Drop) -> None:
    for name in ("new/1,S=17", "new/1,S=18", "cur/1,S=17:2,S", "new/1"):
        drop.add(name, name.encode())
    before = drop.listed()
    assert len(before) == 4
    assert drop.listed() == before


def test_071_twins_keep_their_uidls_when_one_of_them_moves(drop: Drop) -> None:
    drop.add("new/1", b"one")
    drop.add("cur/1:2,S", b"two")

    def by_content() -> dict[bytes, str]:
        session = drop.enter()
        found = {read(session.read(item.key)): item.key for item in session.items()}
        session.close()
        return found

    before = by_content()
    (drop.path / "cur" / "1:2,S").rename(drop.path / "cur" / "1:2,FS")
    assert by_content() == before


def test_071_of_two_files_with_one_name_none_ever_gets_the_uidl_of_the_other(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has the one would never fetch the other."""
    monkeypatch.setattr(ledger, "SLACK", 0)
    drop.add("new/1", b"one")
    (first,) = drop.listed()
    second_file = drop.add("cur/1:2,S", b"two")
    one, two = drop.listed()
    assert first not in (one, two)
    session = drop.enter()
    content = {item.key: read(session.read(item.key)) for item in session.items()}
    assert content in ({one: b"one\r\n", two: b"two\r\n"}, {one: b"two\r\n", two: b"one\r\n"})
    mine = next(key for key, octets in content.items() if octets == b"two\r\n")
    (drop.path / "new" / "1").unlink()
    assert read(session.read(mine)) == b"two\r\n"
    session.close()
    for _ in range(3):  # the list is written anew meanwhile
        rest(drop)
        assert list(drop.listed()) == [mine]
    drop.delete(mine)
    assert not second_file.exists()
    assert drop.add("new/1").exists()
    assert first not in drop.listed()


def test_070_a_uidl_that_another_message_has_from_dovecot_is_not_given_twice(drop: Drop) -> None:
    for name in ("new/a", "new/b"):
        drop.add(name)
    (drop.path / "dovecot-uidlist").write_text("3 V1 N9\n7 Px :a\n8 Px :b\n")
    assert list(drop.listed()) == ["x", "0000000800000001"]


def test_what_dovecot_lists_later_keeps_the_uidl_that_was_told(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N1\n")
    assert list(drop.listed()) == ["1"]
    drop.add("new/2")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N3\n1 :1\n2 :2\n")
    assert list(drop.listed()) == ["1", "00000002000000ff"]


def test_a_new_uidvalidity_of_dovecot_changes_nothing_that_was_told(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N2\n1 :1\n")
    before = drop.listed()
    (drop.path / "dovecot-uidlist").write_text("3 V256 N2\n1 :1\n")
    assert drop.listed() == before == {"00000001000000ff": 21}


@pytest.mark.parametrize(
    "text", ["", "3 V1 N2\n1 :1", "3 V1 N2\nx :1\n", "3 V1 N2\n\0\0\0", "9 V1\n", "3\n1 1\n"]
)
def test_a_list_of_dovecot_that_is_cut_or_strange_tells_nothing_wrong(
    drop: Drop, text: str
) -> None:
    """A clear error, or the UIDL of the name; never half a UIDL."""
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text(text)
    try:
        keys = list(drop.listed())
    except UnavailableError as error:
        keys = []
        assert "dovecot-uidlist" in error.text  # noqa: PT017
    assert keys in ([], ["1"])


@pytest.mark.parametrize(
    ("uidl", "key"),
    [
        ("%08Xu%08Xv", "00000001000000ff"), ("%u", "1"), ("%v-%u", "255-1"), ("%v.%u", "255.1"),
        ("%f", "1,S=17"), ("UID%u-%v", "UID1-255"), ("%%%u", "%1"), ("%03u", "001"),
        ("%1v.%u", "2.1"), ("%Mf", "c9a6bd8c0ba5e7c2b33fb2cb0be2ef16"),
    ],
)  # fmt: skip
def test_the_format_is_that_of_dovecot(drop: Drop, uidl: str, key: str) -> None:
    import hashlib

    key = hashlib.md5(b"1,S=17", usedforsecurity=False).hexdigest() if uidl == "%Mf" else key
    drop.add("new/1,S=17")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N2 Gaffe\n1 W20 :1,S=17:2,S\n")
    assert list(drop.listed(uidl=uidl)) == [key]


@pytest.mark.parametrize("uidl", ["", "x", "%v", "%", "%u%", "%x", "%8XMu", "%Xf", "%g", 5])
def test_a_format_that_gives_no_unique_ids_is_a_fault(uidl: object) -> None:
    with pytest.raises(ConfigError, match="uidl: expected"):
        MaildirDropOptions.read({"path": "/x", "uidl": uidl})


def test_a_list_of_somebody_else_is_not_touched(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / LIST).write_text("something else\n")
    with pytest.raises(UnavailableError, match="no list that this mailflow can read"):
        drop.enter()
    assert drop.told == "something else\n"


# Sizes


@pytest.mark.parametrize(
    ("name", "data", "size"),
    [
        ("1,S=6,W=9", b"a\n\nbc\n", 9), ("1,S=5,W=9", b"a\n\nbc\n", 9), ("1,S=5", b"a\n\nb\n", 8),
        ("1,W=8", b"a\n\nb\n", 8), ("1,S=5,W=8", b"a\n\nb\n", 8), ("1,S=9,W=9", b"a\n\nb\n", 8),
        ("1,S=5,W=4", b"a\n\nb\n", 8), ("1,S=5,W=99", b"a\n\nb\n", 8), ("1", b"", 0),
        ("1,S=4,W=6", b"a\n\nb", 8), ("1", b"a\r\n\r\nb\r\n", 8), ("1,S=1,W=1", b"x", 3),
    ],
)  # fmt: skip
def test_064_a_size_counts_the_octets_of_retr(
    drop: Drop, name: str, data: bytes, size: int
) -> None:
    """Also for names that lie about the file: those of W alone can be believed."""
    drop.add(f"new/{name}", data)
    assert list(drop.listed().values()) == [size]


def test_064_a_name_that_lies_is_found_out_when_it_is_read(drop: Drop) -> None:
    drop.add("new/1,S=5,W=7", b"a\n\nb\n")
    session = drop.enter()
    (item,) = session.items()
    assert (item.size, read(session.read(item.key))) == (7, b"a\r\n\r\nb\r\n")
    session.close()
    assert drop.log.said("warning") == ["a message has another size than its name says"]
    assert drop.listed() == {"1": 8}


def test_a_size_is_measured_once(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.add("new/1")
    before = drop.listed()
    monkeypatch.setattr("mailflow_maildir.taking.open_message", None)
    assert drop.listed() == before


def test_025_a_large_message_takes_no_memory(drop: Drop) -> None:
    line = b"x" * 99 + b"\n"
    drop.add("new/1", line * 200_000)
    session = drop.enter()
    (item,) = session.items()
    content = session.read(item.key)
    pieces = list(chunks(content))
    session.close()
    assert sum(map(len, pieces)) == content.size == item.size == 200_000 * 101
    assert max(map(len, pieces)) <= 1 << 18
    assert pieces[-1].endswith(b"x\r\n")


# What is no message, and what cannot be read


def test_g06_what_is_no_regular_file_is_not_followed_and_told(drop: Drop, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (drop.path / "new" / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(drop.path / "new" / "fifo")
    (drop.path / "cur" / "directory").mkdir()
    drop.add("new/line\nend")
    drop.add("new/.hidden")
    drop.add("new/good")
    assert list(drop.listed()) == ["good"]
    assert drop.log.said("warning") == ["no message, not served"] * 4


def test_g06_a_file_that_becomes_a_link_is_not_followed(drop: Drop, tmp_path: Path) -> None:
    file = drop.add("new/1")
    session = drop.enter()
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(UnavailableError, match="is a symbolic link"):
        session.read("1")
    session.close(["1"])
    assert os.path.exists("/etc/passwd")


@pytest.mark.parametrize("place", ["new", "cur"])
def test_g06_a_directory_that_is_a_link_is_not_followed(
    drop: Drop, tmp_path: Path, place: str
) -> None:
    (drop.path / place).rename(tmp_path / "other")
    (drop.path / place).symlink_to(tmp_path / "other")
    with pytest.raises(UnavailableError, match=f"{place} is no directory"):
        drop.enter()


def test_061_a_message_that_cannot_be_read_blocks_no_other(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.add("new/bad")
    drop.add("new/good")
    with monkeypatch.context() as patch:
        real = os.open

        def refused(path: Any, *more: Any, **named: Any) -> int:
            if str(path).endswith("/bad"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return real(path, *more, **named)

        patch.setattr(os, "open", refused)
        assert list(drop.listed()) == ["good"]
    assert drop.log.said("warning") == ["a message cannot be read, and is not served"]
    assert list(drop.listed()) == ["good", "bad"]


def test_060_a_message_that_is_removed_meanwhile_is_gone_and_quit_succeeds(drop: Drop) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    (drop.path / "new" / "a").unlink()
    with pytest.raises(GoneError, match=r"a in .* is not there any more"):
        session.read("a")
    assert read(session.read("b"))
    session.close(["a", "b"])
    assert drop.files() == ["new/c"]


def test_a_message_that_a_reader_renames_is_read_and_deleted_all_the_same(drop: Drop) -> None:
    for name in "abc":
        drop.add(f"new/{name}", name.encode())
    session = drop.enter()
    for name in "abc":
        (drop.path / "new" / name).rename(drop.path / "cur" / f"{name}:2,S")
    assert read(session.read("b")) == b"b\r\n"
    (drop.path / "cur" / "a:2,S").rename(drop.path / "cur" / "a:2,FS")
    session.close(["a", "b"])
    assert drop.files() == ["cur/c:2,S"]


# The lock


def test_057_the_lock_is_the_kernels_and_never_stale(drop: Drop) -> None:
    drop.add("new/1")
    child = os.fork()
    if not child:
        drop.enter()
        os._exit(9)
    os.waitpid(child, 0)
    drop.listed()


def test_056_the_lock_holds_when_the_list_is_replaced_meanwhile(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits with the old file in his hands has not the drop."""
    monkeypatch.setattr(ledger, "SLACK", 0)
    for number in range(5):
        drop.add(f"new/{number}")
    drop.listed()
    for number in range(1, 5):
        (drop.path / "new" / str(number)).unlink()
    old = (drop.path / LIST).stat().st_ino
    rest(drop)
    session = drop.enter()
    assert (drop.path / LIST).stat().st_ino != old
    with pytest.raises(InUseError):
        drop.enter()
    session.close()
    assert list(drop.listed()) == ["0"]
    assert len(drop.told.splitlines()) == 2


# Deletion


def test_086_what_is_deleted_is_written_down_flushed_removed_and_flushed(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("new/a", "cur/b:2,S", "new/c"):
        drop.add(name)
    session = drop.enter()
    steps: list[str] = []
    for call in ("fsync", "unlink"):
        real = getattr(os, call)

        def told(what: Any, *, call: str = call, real: Any = real) -> None:
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
            steps.append(f"{call} {os.path.relpath(path, drop.path)}")
            real(what)

        monkeypatch.setattr(os, call, told)
    session.close(["a", "b"])
    assert steps[:4] == [f"fsync {LIST}", "fsync .", "unlink new/a", "unlink cur/b:2,S"]
    assert sorted(steps[4:]) == ["fsync cur", "fsync new"]


def test_085_what_was_begun_is_finished_at_the_next_login(drop: Drop) -> None:
    """By inode: a file that came from a backup under the same name is another message."""
    for name in ("new/a", "cur/b:2,S", "new/c"):
        drop.add(name)
    session = drop.enter()
    session._condemn({number: session._inode(number) for number in range(3)})
    session.close()
    (drop.path / "new" / "c").unlink()
    (drop.path / "new" / "other").write_text("")
    drop.add("new/c").rename(drop.path / "cur" / "c:2,")
    (drop.path / "new" / "other").unlink()
    assert list(drop.listed()) == ["c"]
    assert drop.files() == ["cur/c:2,"]


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_deletion_that_was_not_written_whole_is_none(drop: Drop, cut: int) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    session._condemn({number: session._inode(number) for number in range(3)})
    session.close()
    file = drop.path / LIST
    file.write_bytes(file.read_bytes()[:-cut])
    assert list(drop.listed()) == list("abc")
    drop.add("new/d")
    assert list(drop.listed()) == list("abcd")
    assert list(drop.listed()) == list("abcd")


def test_085_where_nothing_can_be_removed_nothing_is_and_the_next_login_shows_all(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    with monkeypatch.context():
        fails("unlink", errno.EROFS)
        with pytest.raises(UnavailableError, match=r"cannot delete messages of .*: Read-only"):
            session.close(["a", "b"])
        monkeypatch.undo()
    assert list(drop.listed()) == list("abc")
    assert len(drop.files()) == 3


def test_085_where_one_cannot_be_removed_the_rest_is_and_it_is_not_served_again(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing as a client sees it: the next session finishes what it can."""
    for name in "abc":
        drop.add(f"new/{name}")
    session = drop.enter()
    fails("unlink", errno.EIO, "new/b")
    with pytest.raises(UnavailableError, match="Input/output error"):
        session.close(["a", "b"])
    assert drop.files() == ["new/b", "new/c"]
    assert list(drop.listed()) == ["c"]
    assert drop.log.said("warning") == ["deleted messages cannot be removed; they are not served"]
    monkeypatch.undo()
    assert list(drop.listed()) == ["c"]
    assert drop.files() == ["new/c"]


def test_d01_a_full_disk_keeps_nobody_from_making_room(
    drop: Drop, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        drop.add(f"new/{name}")
    drop.listed()
    session = drop.enter()

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ledger, "write_whole", full)
    session.close(["a", "b"])
    assert drop.files() == ["new/c"]
    assert drop.log.said("warning") == ["a full disk: messages are deleted one by one"]


def test_d01_on_a_full_disk_mail_is_served_but_no_uidl_told_that_may_change(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ledger, "write_whole", full)
    drop.add("new/1")
    assert list(drop.listed()) == ["1"]
    (drop.path / "dovecot-uidlist").write_text("3 V1 N1\n")
    with pytest.raises(UnavailableError, match="No space left"):
        drop.enter()


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_a_maildir_that_is_read_only_is_served(drop: Drop) -> None:
    drop.add("new/1")
    drop.path.chmod(0o500)
    try:
        session = drop.enter()
        with pytest.raises(InUseError):
            drop.enter()
        with pytest.raises(UnavailableError, match="read-only"):
            session.close(["1"])
    finally:
        drop.path.chmod(0o700)


def test_a_maildir_whose_list_cannot_be_made_is_served_and_nothing_is_deleted(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refused)
    drop.add("new/1")
    session = drop.enter()
    with pytest.raises(InUseError):
        drop.enter()
    with pytest.raises(UnavailableError, match="read-only: nothing was deleted"):
        session.close(["1"])
    assert drop.files() == ["new/1"]


# Who, and where


@pytest.mark.parametrize(
    ("pattern", "login", "path"),
    [
        ("/m/{login}", "ann", "/m/ann"), ("/m/{domain}/{user}/M", "a@b.org", "/m/b.org/a/M"),
        ("/m/{user}", "a@b@c", "/m/a@b"), ("/m/{login}", "{user}", "/m/{user}"),
        ("/m/{login}", "%s$(x)`", "/m/%s$(x)`"), ("/m", "../../etc", "/m"),
        ("/m/{user}", "ann", "/m/ann"),
    ],
)  # fmt: skip
def test_a_login_name_stands_in_the_path(pattern: str, login: str, path: str) -> None:
    assert located(pattern, login) == path


@pytest.mark.parametrize(
    "login",
    ["../../x", "/", ".", "..", "", "a/b", "/etc", "\0", "a\0b", "a\nb", "\x1b[2J", "x" * 4096,
     ".hidden", "..@b", "\u202eann", "\ud800"],
)  # fmt: skip
def test_g05_118_a_login_name_that_can_be_no_file_name_names_nothing(
    tmp_path: Path, drop: Drop, login: str
) -> None:
    maildrop = drop.maildrop(path=f"{tmp_path}/{{user}}", create=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LoginError) as caught:
        maildrop.login(Credentials(login, checked=True))
    assert caught.value.text == "this login name can name no Maildir"
    assert sorted(tmp_path.rglob("*")) == before


@given(st.text(max_size=40))
def test_g05_no_login_name_leaves_its_directory(login: str) -> None:
    try:
        path = located("/mail/{login}/Maildir", login)
    except LoginError:
        return
    assert os.path.normpath(path) == path
    assert os.path.dirname(os.path.dirname(path)) == "/mail"


@pytest.mark.parametrize("path", ["/m/{log}", "/m/{}", "", "/m/{login:x}"])
def test_a_path_with_a_strange_placeholder_is_a_fault(path: str) -> None:
    with pytest.raises(ConfigError, match="path: expected"):
        MaildirDropOptions.read({"path": path})


def test_a_maildir_that_is_missing_is_an_error_and_made_where_the_file_says_so(
    tmp_path: Path, drop: Drop
) -> None:
    path = tmp_path / "later"
    with pytest.raises(UnavailableError, match="no Maildir at "):
        drop.enter(path=str(path))
    assert not path.exists()
    assert drop.listed(path=str(path), create=True) == {}
    assert sorted(each.name for each in path.iterdir()) == ["cur", LIST, "new", "tmp"]
    assert list(MaildirDropOptions.read({"path": str(tmp_path / "no")}).look())
    assert not list(MaildirDropOptions.read({"path": str(path)}).look())
    assert not list(MaildirDropOptions.read({"path": f"{tmp_path}/{{login}}"}).look())


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [("*", "Maildir", True), ("*@example.org", "Maildir", True), ("ann", "Maildir", False),
     ("*", "{login}", False)],
)  # fmt: skip
def test_p3s_27_one_maildir_for_all_names_is_warned_of(
    drop: Drop, tmp_path: Path, name: str, path: str, said: bool
) -> None:
    options = MaildirDropOptions.read({"path": f"{tmp_path}/{path}"})
    log: Any = drop.log
    MaildirDrop(options, Runtime(name, "test", drop.halt, log, "/nonexistent"))
    warned = drop.log.said("warning")
    assert warned == (["every login name has the same Maildir: set {login} in its path"] * said)


# From one session to the next


def test_120_an_unchanged_maildir_is_not_looked_at_again(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.add("new/1")
    rest(drop)
    maildrop = drop.maildrop()

    def keys() -> list[str]:
        session = maildrop.login(Credentials("ann", checked=True))
        found = [item.key for item in session.items()]
        session.close()
        return found

    keys()
    with monkeypatch.context() as patch:
        patch.setattr("mailflow_maildir.taking.glance", None)
        assert keys() == ["1"]
    drop.add("new/2")
    assert keys() == ["1", "2"]
    (drop.path / "new" / "1").rename(drop.path / "cur" / "1:2,S")
    (drop.path / "new" / "2").unlink()
    assert keys() == ["1"]


def test_a_change_in_the_same_tick_of_the_clock_is_seen(drop: Drop) -> None:
    """The times of a directory tell two changes apart only once some time is between them."""
    maildrop = drop.maildrop()
    for number in range(20):
        drop.add(f"new/{number:02}")
        for place in ("new", "cur"):
            now = time.time_ns()
            os.utime(drop.path / place, ns=(now, now - now % 4_000_000))
        session = maildrop.login(Credentials("ann", checked=True))
        assert len(session.items()) == number + 1
        session.close()


def test_a_message_that_could_not_be_read_is_served_once_it_can(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its directory does not change for that."""
    drop.add("new/1")
    rest(drop)
    maildrop = drop.maildrop()

    def keys() -> list[str]:
        session = maildrop.login(Credentials("ann", checked=True))
        found = [item.key for item in session.items()]
        session.close()
        return found

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr("mailflow_maildir.taking.open_message", refused)
        assert keys() == []
    assert keys() == ["1"]


def test_058_what_a_reader_renames_during_the_login_is_not_missed(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """readdir(3) may leave out a file that gets another name meanwhile."""
    for name in ("cur/1:2,", "cur/2:2,"):
        drop.add(name)
    before = drop.listed()
    rest(drop)
    real = os.scandir
    renamed: list[str] = []

    class Blind:
        """Does not show the one that is renamed while it looks."""

        def __init__(self, path: str) -> None:
            self._entries = real(path)
            self._hide = path.endswith("/cur") and not renamed

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            if self._hide:
                renamed.append("1")
                (drop.path / "cur" / "1:2,").rename(drop.path / "cur" / "1:2,S")
            return (each for each in self._entries if not self._hide or each.name[0] != "1")

        def __exit__(self, *_: object) -> None:
            self._entries.close()

    monkeypatch.setattr(os, "scandir", Blind)
    assert drop.listed() == before
    assert renamed


def test_what_lies_there_is_told_without_a_login(tmp_path: Path, drop: Drop) -> None:
    drop.add("new/1,S=5,W=8", b"a\n\nb\n")
    drop.add("new/2", b"a\n\nb\n")
    assert list(drop.maildrop().standing()) == [("", 2, 13)]
    session = drop.enter()
    assert list(drop.maildrop().standing()) == [("", 2, 16)]
    session.close()
    for name, path in (("*", "{login}"), ("drop", "missing")):
        options = MaildirDropOptions.read({"path": f"{tmp_path}/{path}"})
        log: Any = drop.log
        maildrop = MaildirDrop(options, Runtime(name, "test", drop.halt, log, "/nonexistent"))
        assert list(maildrop.standing()) == []


def test_what_is_kept_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailflow_maildir.maildrop.KEPT", 10)
    base = Drop(tmp_path / "0")
    maildrop = base.maildrop(path=f"{tmp_path}/{{login}}")
    for number in range(8):
        each = base if not number else Drop(tmp_path / str(number))
        for name in range(3):
            each.add(f"new/{name}")
        rest(each)
        for _ in range(2):
            maildrop.login(Credentials(str(number), checked=True)).close()
    assert len(maildrop._kept) == 2
    assert maildrop._count == 8


def test_058_messages_are_in_the_order_in_which_they_came_to_be_known(drop: Drop) -> None:
    for name in ("new/2", "cur/1:2,S", "new/3"):
        drop.add(name)
    assert list(drop.listed()) == ["1", "2", "3"]
    drop.add("new/0")
    assert list(drop.listed()) == ["1", "2", "3", "0"]


def test_a_stopped_engine_ends_a_long_login(drop: Drop) -> None:
    drop.add("new/1")
    drop.halt.set()
    with pytest.raises(UnavailableError, match="stopped"):
        drop.enter()
    drop.halt = Halt()
    drop.listed()


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=5)))
def test_a_column_is_the_texts_that_it_was_made_of(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    column = Column(texts)
    assert list(column) == texts
    assert [column[number] for number in range(len(column))] == texts
    assert column[1:3] == texts[1:3]
    assert column[::-1] == texts[::-1]
    for near in range(len(texts)):
        for text in texts:
            assert texts[column.number(text, near)] == text
    with pytest.raises(KeyError):
        column.number("\x00 no such text")
    with pytest.raises(IndexError):
        column[len(texts)]


@given(st.binary(max_size=300))
def test_whatever_is_in_the_list_no_message_is_lost(octets: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        drop = Drop(Path(directory) / "Maildir")
        for name in "ab":
            drop.add(f"new/{name}")
        before = set(drop.listed())
        with (drop.path / LIST).open("ab") as file:
            file.write(octets)
        try:
            assert {read_all(drop, key) for key in drop.listed()} == {
                b"Subject: x\r\n\r\nhello\r\n"
            }
            assert before <= set(drop.listed())
        except MailflowError as error:
            pytest.fail(error.text)
        finally:
            drop.halt.close()


def read_all(drop: Drop, key: str) -> bytes:
    session = drop.enter()
    try:
        return read(session.read(key))
    finally:
        session.close()


def test_what_is_not_in_memory_is_not_read_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what is large, what lies about its size, nor what is on another machine."""
    for name, data in (
        ("1", b"x\n.\n"),
        ("2", b"x" * stored.AT_HAND + b"\n"),
        ("3,W=9", b"12345\n"),
    ):
        drop.add(f"new/{name}", data)
    monkeypatch.setattr(ledger, "is_near", lambda file: True)
    monkeypatch.setattr(opened, "held", lambda file, size: os.pread(file, size, 0))
    session = drop.enter()
    assert session.prompt
    assert [session.wire(key) for key in "123"] == [b"+OK\r\nx\r\n..\r\n.\r\n", None, None]
    monkeypatch.setattr(opened, "held", lambda file, size: None)
    assert session.wire("1") is None
    session.close()
    monkeypatch.setattr(ledger, "is_near", lambda file: False)
    session = drop.enter()
    assert not session.prompt
    assert session.wire("1") is None
    session.close()


def test_the_system_is_asked_what_it_has_in_memory(drop: Drop) -> None:
    file = drop.add("new/1", b"hello\n")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert stored.held(descriptor, 6) in (b"hello\n", None)
        assert stored.held(descriptor, 7) is None
        if stored.is_near(descriptor):
            assert os.pread(descriptor, 6, 0) == stored.held(descriptor, 6)
    finally:
        os.close(descriptor)


def test_a_drop_that_was_small_and_near_is_opened_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maildrop, "SMALL", 1)
    monkeypatch.setattr(ledger, "is_near", lambda file: True)
    served, ann = drop.maildrop(), Credentials("ann", checked=True)
    drop.add("new/1")
    assert not served.prompt("ann")  # it is not known yet
    served.login(ann).close()
    assert served.prompt("ann")
    drop.add("new/2")
    served.login(ann).close()
    assert not served.prompt("ann")


def test_a_drop_of_another_machine_is_never_opened_in_the_event_loop(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "is_near", lambda file: False)
    served = drop.maildrop()
    served.login(Credentials("ann", checked=True)).close()
    assert not served.prompt("ann")
