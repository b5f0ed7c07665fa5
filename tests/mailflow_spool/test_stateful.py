"""Whatever is done in whatever order, the spool holds what a model of it holds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mailflow.mail import read
from mailflow_spool import tidy
from mailflow_spool.expire import expire
from mailflow_spool.maildrop import OpenSpool
from mailflow_spool.shelf import Message, messages
from mailflow_spool.store import Policy

from .conftest import Spool, text

DROPS = ("ann", "bob")
SIZES = st.sampled_from((0, 10, 20_000, 70_000))


class Machine(RuleBasedStateMachine):
    """Two drops, of which one may be open; a message is known by what is in it."""

    @initialize()
    def begin(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="spool-"))
        self.spool = Spool(self.directory / "spool")
        self.model: dict[str, dict[bytes, str]] = {name: {} for name in DROPS}
        self.ever: dict[str, set[str]] = {name: set() for name in DROPS}
        self.count = 0
        self.open: tuple[str, OpenSpool, dict[bytes, str]] | None = None
        self.unfinished: dict[str, tuple[str, bytes]] = {}

    @rule(name=st.sampled_from(DROPS), sizes=st.lists(SIZES, min_size=1, max_size=4))
    def deliver(self, name: str, sizes: list[int]) -> None:
        contents = []
        for size in sizes:
            self.count += 1
            contents.append(text(self.count, size))
        keys = [f"k-{self.count}-{number}" for number in range(len(sizes))]
        self.spool.deliver(*contents, keys=keys, drop=name, finish=False)
        self.unfinished.update(zip(keys, ((name, each) for each in contents), strict=True))
        self._learn(name, contents)

    def _learn(self, name: str, contents: list[bytes]) -> None:
        there = {read(each.content): each.uidl for each in self._shelf(name)}
        for octets in contents:
            assert octets in there
            assert there[octets] not in self.ever[name], "a UIDL is used again"
            self.ever[name].add(there[octets])
            self.model[name][octets] = there[octets]

    def _shelf(self, name: str) -> list[Message]:
        store = self.spool.store
        drop = store.drop(name)
        assert drop is not None
        return list(messages(store, drop))

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data(), resumed=st.booleans())
    def deliver_again(self, data: st.DataObject, resumed: bool) -> None:
        """As after a crash that the journal missed; a client may have deleted it since."""
        key = data.draw(st.sampled_from(sorted(self.unfinished)))
        name, octets = self.unfinished[key]
        self.spool.deliver(octets, keys=[key], drop=name, resumed=resumed, finish=False)

    @precondition(lambda self: self.unfinished)
    @rule()
    def finish(self) -> None:
        with self.spool.distributor() as distributor:
            distributor._open()
            distributor.finish(list(self.unfinished))
        self.unfinished.clear()

    @precondition(lambda self: self.open is None)
    @rule(name=st.sampled_from(DROPS))
    def login(self, name: str) -> None:
        drop = self.spool.login(name)
        assert [item.key for item in drop.items()] == list(self.model[name].values())
        self.open = (name, drop, dict(self.model[name]))

    @precondition(lambda self: self.open is not None)
    @rule()
    def retrieve(self) -> None:
        assert self.open is not None
        _, drop, snapshot = self.open
        assert [read(drop.read(item.key)) for item in drop.items()] == list(snapshot)

    @precondition(lambda self: self.open is not None)
    @rule(data=st.data())
    def quit(self, data: st.DataObject) -> None:
        assert self.open is not None
        name, drop, snapshot = self.open
        gone = data.draw(st.sets(st.sampled_from(sorted(snapshot)))) if snapshot else set()
        drop.close([snapshot[octets] for octets in gone])
        for octets in gone:
            del self.model[name][octets]
        self.open = None

    @rule(name=st.sampled_from(DROPS), most=st.integers(0, 200_000))
    def expire(self, name: str, most: int) -> None:
        found = expire(self.spool.store, name, Policy(None, most))
        if self.open is not None and self.open[0] == name:
            assert not found
            return
        for each in found or ():
            octets = next(o for o, uidl in self.model[name].items() if uidl == each.uidl)
            del self.model[name][octets]
        assert sum(map(len, self.model[name])) <= most

    @rule(rows=st.sampled_from((1, 256)))
    def tidy(self, rows: int) -> None:
        usual, tidy.ROWS = tidy.ROWS, rows
        try:
            tidy.tidy(self.spool.store)
        finally:
            tidy.ROWS = usual
        tidy.sweep(self.spool.store)

    @invariant()
    def it_is_whole(self) -> None:
        if not hasattr(self, "spool"):
            return
        assert self.spool.damage() == []
        for name in DROPS:
            found = {read(each.content): each.uidl for each in self._shelf(name)}
            assert found == self.model[name]

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            if self.open is not None:
                self.open[1].close()
            self.spool.close()
            shutil.rmtree(self.directory)


TestSpool = Machine.TestCase
TestSpool.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
