"""What `where` refuses stays at the source, and is read again only where that may change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from .parts import Mailbox, Post, Works, distribute, fetch, message


def dated(name: str, days: float) -> bytes:
    """A message of so many days ago."""
    at = datetime.now(UTC) - timedelta(days=days)
    return message(name, Date=format_datetime(at))


def test_what_the_listing_refuses_is_never_read(works: Works) -> None:
    box, post = Mailbox(a=message("a"), b=message("b", "x" * 5000)), Post()
    works.run(works.pipeline([fetch(box, where="size < 1k")], [distribute(post)]))
    assert (box.fetched, box.headed, post.subjects) == (["a"], [], ["a"])


def test_what_is_refused_for_good_is_read_once(works: Works) -> None:
    box, post = Mailbox(a=message("a"), b=message("b")), Post()
    pipeline = works.pipeline([fetch(box, where='content contains "x"')], [distribute(post)])
    works.run(pipeline)
    works.run(pipeline)
    assert sorted(box.fetched) == ["a", "b"]
    assert box.settled == []


def test_what_another_where_refused_is_read_again(works: Works) -> None:
    box, post = Mailbox(a=message("a")), Post()
    works.run(works.pipeline([fetch(box, where='subject is "b"')], [distribute(post)]))
    assert post.subjects == []
    works.run(works.pipeline([fetch(box, where='subject is "a"')], [distribute(post)]))
    assert post.subjects == ["a"]


@pytest.mark.parametrize("where", ["older than 3d", "before 3d", "not since 3d"])
def test_what_is_refused_for_its_age_is_fetched_once_it_is_old_enough(
    works: Works, where: str
) -> None:
    box, post = Mailbox(a=dated("a", 1)), Post()
    pipeline = works.pipeline([fetch(box, where=where)], [distribute(post)])
    works.run(pipeline)
    assert post.subjects == []
    box.messages["a"] = dated("a", 4)
    works.run(pipeline)
    assert post.subjects == ["a"]
