"""Messages on their way: each answered once, and what one lacks keeps none of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.errors import BadMailError, GoneError, MailflowError, UnavailableError
from mailflow.mail import Content, OctetFile, Octets, read
from mailflow_webmail.arriving import SOME, arriving
from mailflow_webmail.errors import ExpiredError, LayoutError, ThrottledError

KEYS = [f"k{number:02}" for number in range(20)]


def loader(faults: dict[str, MailflowError], asked: list[str]) -> Callable[[str], Content]:
    def load(key: str) -> Content:
        asked.append(key)
        if key in faults:
            raise faults[key]
        return Octets(key.encode())

    return load


def come(
    faults: dict[str, MailflowError], *, others: bool = False, parallel: int = 1
) -> tuple[dict[str, bytes | MailflowError], list[str]]:
    """What came for each key, and in which order they were asked for."""
    asked: list[str] = []
    load = loader(faults, asked)
    got: dict[str, bytes | MailflowError] = {}
    for key, found in arriving(load, KEYS, parallel, lambda key, error: others):
        assert key not in got
        got[key] = found if isinstance(found, MailflowError) else read(found)
    return got, asked


def down(*keys: str) -> dict[str, MailflowError]:
    return {key: UnavailableError(f"{key} cannot be had") for key in keys}


@pytest.mark.parametrize("parallel", [1, 4])
def test_each_key_is_answered_once_and_in_order(parallel: int) -> None:
    got, asked = come({}, parallel=parallel)
    assert list(got.items()) == [(key, key.encode()) for key in KEYS]
    assert sorted(asked) == KEYS


def test_what_one_message_lacks_keeps_none_of_the_others() -> None:
    faults = down("k03") | {"k07": GoneError("gone"), "k11": BadMailError("too large")}
    got, _ = come(faults)
    assert {key: found for key, found in got.items() if not isinstance(found, bytes)} == faults
    assert len(got) == len(KEYS)


@pytest.mark.parametrize("parallel", [1, 4])
def test_bad_messages_in_a_row_do_not_hide_those_behind_them(parallel: int) -> None:
    bad = SOME + 2 * parallel - 1
    got, _ = come(down(*KEYS[:bad]), parallel=parallel)
    assert len([found for found in got.values() if isinstance(found, bytes)]) == 20 - bad


def test_a_webmail_that_fails_is_not_asked_for_all_that_it_has() -> None:
    asked: list[str] = []
    with pytest.raises(UnavailableError, match="k00 cannot be had"):
        list(arriving(loader(down(*KEYS), asked), KEYS, 1, lambda key, error: True))
    assert len(asked) <= SOME + 4


def test_where_connections_are_lost_it_is_asked_for_still_less() -> None:
    asked: list[str] = []
    lost = {key: UnavailableError("the connection is lost", sent=True) for key in KEYS}
    with pytest.raises(UnavailableError):
        list(arriving(loader(lost, asked), KEYS, 1, lambda key, error: True))
    assert len(asked) <= SOME + 2


@pytest.mark.parametrize("others", [True, False])
def test_where_none_came_it_counts_whether_others_would(others: bool) -> None:
    faults = {"k00": LayoutError("another page"), "k01": LayoutError("another page")}
    asked: list[str] = []
    coming = arriving(loader(faults, asked), KEYS[:2], 1, lambda key, error: others)
    if others:
        assert [key for key, _ in coming] == ["k00", "k01"]
    else:
        with pytest.raises(LayoutError):
            list(coming)


@pytest.mark.parametrize(
    "error",
    [ThrottledError("later", delay=60), ExpiredError("again"), UnavailableError("full", errno=28)],
)
def test_what_all_of_them_would_meet_ends_it_at_once(error: MailflowError) -> None:
    with pytest.raises(type(error)):
        come({"k02": error})


def test_files_that_nobody_took_are_removed(tmp_path: Path) -> None:
    def load(key: str) -> Content:
        path = tmp_path / key
        path.write_bytes(b"x")
        return OctetFile(str(path))

    coming = arriving(load, KEYS, 4, lambda key, error: False)
    taken, _ = next(coming)
    coming.close()
    assert [path.name for path in tmp_path.iterdir()] == [taken]
