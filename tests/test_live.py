"""What sessions of live maildrops have in common: locks, sizes, names, connections kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import InUseError, LoginError, UnavailableError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Item
from mailflow.live import Hold, Listing, Spares, passed_on, user_of
from mailflow.testing.engine import LogDouble

KEYS = ["one", "two", "three"]


@pytest.fixture
def log() -> Any:
    return LogDouble()


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.set()
    for thread in threading.enumerate():
        if thread.name == "spare sessions":
            thread.join(10)
    halt.close()


# Names and passwords


@pytest.mark.parametrize(
    ("pattern", "login", "user"),
    [
        ("{login}", "ann@example.org", "ann@example.org"),
        ("{user}", "ann@example.org", "ann"),
        ("{user}", "ann", "ann"),
        ("{user}*master", "ann@x", "ann*master"),
        ("{domain}\\{user}", "ann@corp", "corp\\ann"),
        ("fixed", "ann", "fixed"),
        ("{other}", "ann", "{other}"),
    ],
)
def test_the_user_there_is_made_of_the_login_name(pattern: str, login: str, user: str) -> None:
    assert user_of(pattern, login) == user


@pytest.mark.parametrize(("pattern", "login"), [("{domain}", "ann"), ("{login}", "a\r\nb")])
def test_a_name_that_cannot_be_sent_is_no_user(pattern: str, login: str) -> None:
    with pytest.raises(LoginError):
        user_of(pattern, login)


def test_what_a_client_gave_is_passed_on() -> None:
    assert passed_on(Credentials("ann", password="a b")) == "a b"
    assert passed_on(Credentials("ann", token="t")) == "t"


# One session at a time, and sizes


def test_a_mailbox_has_one_session_at_a_time(tmp_path: Path, log: Any) -> None:
    first, second = (Hold(str(tmp_path), "imap", "h", "ann") for _ in range(2))
    first.take()
    with pytest.raises(InUseError):
        second.take()
    other = Hold(str(tmp_path), "imap", "h", "ben")
    other.take()
    other.release(log)
    first.release(log)
    second.take()
    second.release(log)


def test_a_size_that_was_measured_is_kept_for_as_long_as_its_message(
    tmp_path: Path, log: Any
) -> None:
    hold = Hold(str(tmp_path), "x")
    hold.take()
    assert hold.listing(KEYS, [1, 2, 3]).sizes.tolist() == [1, 2, 3]
    assert not hold.measured("one", 1, 1)
    assert hold.measured("two", 22, 2)
    hold.release(log)
    hold = Hold(str(tmp_path), "x")
    hold.take()
    listing = hold.listing(KEYS, [1, 2, 3])
    assert list(listing) == [Item("one", 1), Item("two", 22), Item("three", 3)]
    assert not hold.measured("two", 22, 22)
    hold.release(log)
    hold = Hold(str(tmp_path), "x")
    hold.take()
    hold.listing(["one", "three"], [1, 3])
    hold.release(log)
    (file,) = (tmp_path / "live").iterdir()
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    "damage", [b"\0" * 40, b"two 7", b"two x\n", b"\n\n", b"two 7 8\n", b"\xff" * 20]
)
def test_a_file_that_was_cut_off_says_nothing(tmp_path: Path, log: Any, damage: bytes) -> None:
    hold = Hold(str(tmp_path), "x")
    hold.take()
    hold.release(log)
    (file,) = (tmp_path / "live").iterdir()
    file.write_bytes(damage)
    hold.take()
    assert hold.listing(KEYS, [1, 2, 3]).sizes.tolist() == [1, 2, 3]
    hold.release(log)


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "live").write_text("")
    with pytest.raises(UnavailableError, match="live"):
        Hold(str(tmp_path), "x").take()


def test_the_file_is_for_nobody_else(tmp_path: Path, log: Any) -> None:
    hold = Hold(str(tmp_path), "x")
    hold.take()
    hold.release(log)
    (file,) = (tmp_path / "live").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_listing_is_a_sequence_of_items() -> None:
    listing = Listing(KEYS, [1, 2, 3])
    assert len(listing) == 3
    assert listing[-1] == Item("three", 3)
    assert listing[1:] == [Item("two", 2), Item("three", 3)]
    assert list(Listing([], [])) == []


# Connections that are kept


def test_a_session_is_kept_for_the_same_login_with_the_same_password(halt: Halt) -> None:
    closed: list[str] = []
    spares = Spares(60.0, closed.append, halt)
    spares.keep("ann", "right", "session")
    assert spares.take("ann", "wrong") is None
    assert spares.take("ben", "right") is None
    assert spares.take("annr", "ight") is None
    assert spares.take("ann", "right") == "session"
    assert spares.take("ann", "right") is None
    assert closed == []


def test_of_two_sessions_of_one_login_the_later_one_is_kept(halt: Halt) -> None:
    closed: list[str] = []
    spares = Spares(60.0, closed.append, halt)
    spares.keep("ann", "", "first")
    spares.keep("ann", "", "second")
    assert closed == ["first"]
    assert spares.take("ann", "") == "second"


def test_the_oldest_are_closed_where_many_logins_are_kept(
    halt: Halt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server with a few thousand users would have a connection of each of them."""
    monkeypatch.setattr("mailflow.live.KEPT", 2)
    closed: list[str] = []
    spares = Spares(60.0, closed.append, halt)
    for name in ("ann", "ben", "ann", "eve"):
        spares.keep(name, "", f"{name} {len(closed)}")
    assert closed == ["ann 0", "ben 0"]
    assert spares.take("ann", "") == "ann 0"
    assert spares.take("eve", "") == "eve 1"


def until(found: list[str], wanted: list[str]) -> bool:
    deadline = time.monotonic() + 10
    while found != wanted and time.monotonic() < deadline:
        time.sleep(0.002)  # nothing tells of what another thread has closed
    return found == wanted


def test_a_session_is_closed_when_its_time_is_over(halt: Halt) -> None:
    closed: list[str] = []
    spares = Spares(0.01, closed.append, halt)
    for name in ("one", "two"):
        spares.keep(name, "", name)
    assert until(closed, ["one", "two"])
    assert spares.take("one", "") is None
    spares.keep("three", "", "three")
    assert until(closed, ["one", "two", "three"])


def test_a_password_that_was_checked_long_ago_keeps_no_session(halt: Halt) -> None:
    """Else one that was changed there would be good for as long as somebody uses it."""
    closed: list[str] = []
    spares = Spares(60.0, closed.append, halt)
    spares.keep("ann", "old", "one", time.monotonic() - 61)
    assert closed == ["one"]
    spares.keep("ann", "old", "two", time.monotonic() - 59)
    assert spares.take("ann", "old") == "two"


def test_a_session_whose_time_is_over_is_not_taken(halt: Halt) -> None:
    closed: list[str] = []
    spares = Spares(60.0, closed.append, halt)
    spares.keep("ben", "", "later")
    spares._kept = {mark: each._replace(end=0.0) for mark, each in spares._kept.items()}
    assert spares.take("ben", "") is None
    assert closed == ["later"]


def test_all_are_closed_at_the_end(halt: Halt) -> None:
    closed: list[str] = []
    spares = Spares(600.0, closed.append, halt)
    spares.keep("ann", "", "one")
    halt.set()
    assert until(closed, ["one"])
    spares.keep("ann", "", "two")
    assert closed == ["one", "two"]


def test_none_is_kept_where_nobody_wants_that(halt: Halt) -> None:
    closed: list[str] = []
    Spares(0.0, closed.append, halt).keep("ann", "", "one")
    assert closed == ["one"]
