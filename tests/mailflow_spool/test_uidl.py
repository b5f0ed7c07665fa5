"""A message keeps the name that clients know it by, and no other ever has it."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailflow_spool import tidy
from mailflow_spool.uidl import written

from .conftest import LARGE, Spool, text


def test_069_070_uidls_are_unique_and_of_the_octets_that_the_standard_allows(spool: Spool) -> None:
    spool.fill(*[text(1)] * 50, LARGE)
    keys = spool.uidls()
    assert len(set(keys)) == 51
    assert all(re.fullmatch(r"[!-~]{1,70}", key) for key in keys)


def test_071_a_uidl_is_the_same_in_every_session_whatever_is_moved(spool: Spool) -> None:
    spool.fill(LARGE, LARGE, LARGE, LARGE, LARGE, text(1))
    keys = spool.uidls()
    spool.delete(*keys[:3])
    tidy.tidy(spool.store)
    assert spool.uidls() == keys[3:]
    spool.path.rename(spool.path.with_name("moved"))
    moved = Spool(spool.path.with_name("moved"))
    assert moved.uidls() == keys[3:]
    moved.close()


@pytest.mark.parametrize("form", ["%08Xu%08Xv", "%v.%u", "%m"])
def test_071_a_uidl_is_never_used_again(spool: Spool, form: str) -> None:
    seen: set[str] = set()
    for _ in range(4):
        spool.fill(text(1), text(1), uidl=form)
        keys = spool.uidls()
        assert len(set(keys)) == 2
        assert seen.isdisjoint(keys)
        seen.update(keys)
        spool.delete()


def test_a_drop_that_was_removed_and_made_anew_uses_none_of_its_uidls(spool: Spool) -> None:
    seen: set[str] = set()
    for _ in range(3):
        spool.fill(text(1))
        keys = spool.uidls()
        assert seen.isdisjoint(keys)
        seen.update(keys)
        store = spool.store
        number = store.drop("ann")
        assert number is not None
        store.remove_drop(number, "ann")


def test_the_format_can_be_chosen(spool: Spool) -> None:
    spool.fill(text(1), uidl="%v.%u")
    spool.fill(text(2), uidl="m%m")
    spool.fill(text(3))
    first, second, third = spool.uidls()
    (drop,) = spool.store.drops()
    assert first == f"{drop.validity}.1"
    assert second == "m" + hashlib.md5(text(2)).hexdigest()
    assert third == f"{3:08x}{drop.validity:08x}"


def test_072_a_uidl_tells_no_path(spool: Spool) -> None:
    spool.fill(text(1), LARGE)
    assert not any("/" in key or "spool" in key for key in spool.uidls())


@given(number=st.integers(1, 1 << 40), validity=st.integers(1, 1 << 33))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_the_default_format_is_written_like_every_other(number: int, validity: int) -> None:
    assert written("%08Xu%08Xv", number, validity) == f"{number:08x}{validity:08x}"
    assert written("%%%u-%08Xv", number, validity) == f"%{number}-{validity:08x}"
