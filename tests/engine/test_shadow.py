"""A journal that is only looked at: read as it stands, and never written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path

import pytest

from mailflow.engine.config import FetchStep
from mailflow.engine.journal import Database, queue
from mailflow.engine.preview import due, visit
from mailflow.engine.shadow import Shadow
from mailflow.errors import ConfigError, JournalError
from mailflow.kinds import Item
from mailflow.query import Query

from .parts import BoxFetcher, Mailbox, Post, Works, distribute, fetch, message


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


class TestAShadow:
    def test_of_no_journal_is_empty_and_makes_none(self, tmp_path: Path) -> None:
        shadow = Shadow(str(tmp_path / "no" / "journal.db"))
        assert shadow.read(queue.entries) == []
        shadow.close()
        assert names(tmp_path) == []

    def test_of_a_journal_at_rest_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        Database(str(tmp_path / "journal.db")).close()
        before = names(tmp_path)
        shadow = Shadow(str(tmp_path / "journal.db"))
        assert shadow.read(queue.entries) == []
        assert shadow.owner.id == ""
        shadow.close()
        assert names(tmp_path) == before

    def test_sees_what_a_living_process_has_committed(self, works: Works) -> None:
        journal = works.journal()
        shadow = Shadow(works.path)
        journal.commit(lambda tx: tx.execute(
            "INSERT INTO source (pipeline, step, source) VALUES ('red', 'a', 'b')"
        ))  # fmt: skip
        count = shadow.read(lambda tx: tx.execute("SELECT count(*) FROM source").fetchone())
        assert count == (1,)
        shadow.close()
        journal.close()

    def test_takes_no_commit_nor_a_write_in_a_read(self, tmp_path: Path) -> None:
        Database(str(tmp_path / "journal.db")).close()
        shadow = Shadow(str(tmp_path / "journal.db"))
        with pytest.raises(JournalError, match="is only looked at"):
            shadow.commit(lambda tx: None)
        with pytest.raises(JournalError):
            shadow.read(lambda tx: tx.execute("DELETE FROM mail"))
        shadow.close()

    def test_has_a_passing_directory_for_large_mail(self, tmp_path: Path) -> None:
        shadow = Shadow(str(tmp_path / "journal.db"))
        directory = shadow.owner.directory
        assert os.path.isdir(directory)
        shadow.close()
        assert not os.path.exists(directory)

    def test_of_another_version_or_another_s_file_is_told(self, tmp_path: Path) -> None:
        path = str(tmp_path / "journal.db")
        Database(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 0")
        connection.close()
        with pytest.raises(JournalError, match="older mailflow; the next `run` renews it"):
            Shadow(path)
        Path(path).write_text("not a database at all" * 99)
        with pytest.raises(JournalError, match="is damaged or no journal"):
            Shadow(path)


class TestAPreview:
    def preview(self, works: Works, box: Mailbox, **words: object):  # type: ignore[no-untyped-def]
        return self.look(works, fetch(box, **words))

    def look(self, works: Works, step: FetchStep):  # type: ignore[no-untyped-def]
        from mailflow.engine.flow import Flow
        from mailflow.halt import Halt
        from mailflow.log import get_logger

        pipeline = works.pipeline([step], [distribute(Post())])
        shadow, halt = Shadow(works.path), Halt()
        try:
            flow = Flow(pipeline, shadow, works.registry, halt, get_logger())
            return visit(flow, pipeline.fetch[0]), due(flow)
        finally:
            halt.close()
            shadow.close()

    def box(self, count: int) -> Mailbox:
        return Mailbox(**{f"k{n}": message(f"m{n}") for n in range(count)})

    def test_lists_what_is_new_and_settles_nothing(self, works: Works) -> None:
        box = self.box(2)
        works.run(works.pipeline([fetch(box)], [distribute(Post())]))
        box.add(k2=message("m2"))
        before = box.settled.copy(), box.fetched.copy()
        found, waiting = self.preview(works, box, keep=0.0)
        assert [item.key for item in found.wanted] == ["k2"]
        assert sorted(found.settled) == ["k0", "k1"]
        assert (box.settled, box.fetched) == before
        assert waiting == []

    def test_where_decides_as_far_as_a_listing_and_headers_say(self, works: Works) -> None:
        found, _ = self.preview(works, self.box(3), where='subject is "m1"')
        assert [item.key for item in found.wanted] == ["k1"]
        assert found.reads is False
        found, _ = self.preview(works, self.box(3), where='content contains "x"')
        assert (len(found.wanted), found.reads) == (3, True)

    def test_a_limit_and_start_new_hold_as_in_earnest(self, works: Works) -> None:
        assert len(self.preview(works, self.box(3), limit=2)[0].wanted) == 2
        assert self.preview(works, self.box(3), start="new")[0].wanted == []

    def test_what_would_stop_a_run_is_raised(self, works: Works) -> None:
        with pytest.raises(ConfigError, match='add start = "all"'):
            self.preview(works, self.box(101))

    def test_where_keys_have_changed_nothing_is_noted(self, works: Works) -> None:
        """What was there at the start is told by its date, and would be passed by."""

        class Renewed(BoxFetcher):
            complete = removes = renewed = True
            doubtful = None

            def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
                return [item._replace(date=1.0) for item in super().listing(where, mark)]

            def lists(self, key: str) -> bool:
                return True

            def unfinished(self, keys: Collection[str]) -> None: ...

        box = self.box(2)
        step = fetch(box, start="new")
        works.run(works.pipeline([step], [distribute(Post())]))
        box.messages = {f"n{key}": octets for key, octets in box.messages.items()}
        component = type("Fetcher", (Renewed,), {"box": box})
        assert self.look(works, step._replace(component=component))[0].wanted == []
        assert works.rows("SELECT key FROM seen") == [("k0",), ("k1",)]
