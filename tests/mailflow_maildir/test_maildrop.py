"""A Maildir behind the gateway: who has it, where it lies, and what in it is no message."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
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
    UnavailableError,
)
from mailflow.kinds import Credentials, Runtime
from mailflow.mail import read
from mailflow_maildir import ledger
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions, located

from .conftest import LIST, Drop, rest

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
    with pytest.raises(UnavailableError, match=r"no Maildir at .*: make it, or set create = true"):
        drop.enter(path=str(path))
    assert not path.exists()
    (tmp_path / "half" / "new").mkdir(parents=True)
    with pytest.raises(UnavailableError, match=r"no Maildir at .*/half: it has no cur"):
        drop.enter(path=str(tmp_path / "half"))
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
