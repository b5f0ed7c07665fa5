"""Signs that mislead: a clock that was ahead, and locks that nobody can look at."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mailflow.engine import context
from mailflow.engine.journal import Database, owners
from mailflow.errors import UnavailableError
from mailflow.kinds import Context
from mailflow.mail import Mail
from mailflow.verdicts import LATER, Report

from .parts import Mailbox, Post, Works, distribute, fetch, message, process

YEARS = 10 * 365 * 86400.0


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The clock is ten years ahead, until the patch is undone."""
    right, right_ns = time.time, time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(context, "_last", 0)
        patch.setattr(time, "time", lambda: right() + YEARS)
        patch.setattr(time, "time_ns", lambda: right_ns() + int(YEARS) * 10**9)
        yield patch


class TestF29AClockThatWasAhead:
    def test_a_delivery_is_not_put_off_for_years(
        self, works: Works, ahead: pytest.MonkeyPatch
    ) -> None:
        post = Post()
        post.act = lambda mail, ticket: [Report(to, LATER, "4.2.0") for to in ticket.recipients]
        pipeline = works.pipeline([fetch(Mailbox(k0=message("m0")))], [distribute(post)])
        works.run(pipeline)
        ahead.undo()
        post.act = post.take
        assert works.run(pipeline) == 0
        assert post.subjects == ["m0"]

    def test_a_copy_that_waits_at_a_step_is_not_either(
        self, works: Works, ahead: pytest.MonkeyPatch
    ) -> None:
        post, tries = Post(), []

        def fails_once(mail: Mail, context: Context) -> Iterator[Mail]:
            tries.append(mail.id)
            if len(tries) == 1:
                raise UnavailableError("not now")
            yield mail

        pipeline = works.pipeline(
            [fetch(Mailbox(k0=message("m0")))], [distribute(post)], [process(fails_once)]
        )
        works.run(pipeline)
        ahead.undo()
        works.run(pipeline)
        assert post.subjects == ["m0"]

    def test_a_source_does_not_rest_for_years(
        self, works: Works, ahead: pytest.MonkeyPatch
    ) -> None:
        box, post = Mailbox(), Post()

        def down() -> None:
            raise UnavailableError("down")

        box.on_listing = down
        pipeline = works.pipeline([fetch(box)], [distribute(post)])
        works.run(pipeline)
        ahead.undo()
        box.on_listing = lambda: None
        box.add(k0=message("m0"))
        assert works.run(pipeline) == 0
        assert post.subjects == ["m0"]

    def test_keep_and_the_time_for_trying_again_count_from_when_it_was_mended(
        self, works: Works, ahead: pytest.MonkeyPatch
    ) -> None:
        post = Post()
        post.act = lambda mail, ticket: [Report(to, LATER, "4.2.0") for to in ticket.recipients]
        pipeline = works.pipeline([fetch(Mailbox(k0=message()), keep=86400.0)], [distribute(post)])
        works.run(pipeline)
        ahead.undo()
        works.run(pipeline)
        (arrived,) = works.rows("SELECT arrived FROM mail")[0]
        (seen,) = works.rows("SELECT at FROM seen")[0]
        assert arrived == pytest.approx(time.time(), abs=60)
        assert seen == pytest.approx(time.time(), abs=60)

    def test_a_retry_that_is_far_off_stays_so_where_the_clock_was_right(self, works: Works) -> None:
        post = Post()
        post.act = lambda mail, ticket: [Report(to, LATER, "4.2.0") for to in ticket.recipients]
        pipeline = works.pipeline([fetch(Mailbox(k0=message()))], [distribute(post)])
        works.run(pipeline)
        works.change("UPDATE delivery SET due = due + 864000")
        works.run(pipeline)
        assert len(post.tickets) == 1


class TestALockThatNobodyCanLookAt:
    @pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
    def test_its_owner_is_taken_to_be_alive(
        self, works: Works, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        """Taken to be dead, it would have its mail sent a second time beside it."""
        journal = works.journal()
        opened = os.open

        def fail(path: Any, *words: Any, **named: Any) -> int:
            if str(path).endswith(f"{journal.owner.id}/{owners.LOCK}"):
                raise OSError(code, os.strerror(code))
            return opened(path, *words, **named)

        monkeypatch.setattr(os, "open", fail)
        assert owners.is_alive(journal.owners, journal.owner.id)
        journal.close()

    def test_locks_that_do_not_work_mean_nobody_died(
        self, works: Works, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal: Database = works.journal()

        def fail(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", fail)
        assert owners.is_alive(journal.owners, journal.owner.id)
        journal.close()

    def test_a_mailbox_that_cannot_be_locked_is_a_failure_and_not_another_run(
        self, works: Works, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """On a home without a lock server no mail would be fetched, ever, and no word said."""
        lock = fcntl.flock

        def fail(descriptor: int, operation: int) -> None:
            if "/locks/" in os.readlink(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", fail)
        pipeline = works.pipeline([fetch(Mailbox(k0=message()))], [distribute(Post())])
        assert works.run(pipeline) == UnavailableError.exit_code
        assert "No locks available" in capsys.readouterr().err
