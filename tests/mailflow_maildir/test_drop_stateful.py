"""Whatever deliverers, readers, Dovecot and sessions do to a Maildir, in whatever order: a message
keeps the UIDL that was told of it, and goes only where a session or a reader deleted it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mailflow.errors import GoneError
from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.mail import read
from mailflow.testing.engine import LogDouble
from mailflow_maildir import ledger
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions
from mailflow_maildir.opened import OpenMaildir
from mailflow_maildir.reading import unique

LONG_AGO = 10**6
CHOICE = st.integers(0, 1 << 16)


class Busy(RuleBasedStateMachine):
    """Messages are told apart by their octets."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.maildir = self.home / "Maildir"
        for place in ("new", "cur", "tmp"):
            (self.maildir / place).mkdir(parents=True)
        self.halt = Halt()
        log: Any = LogDouble()
        self.log = log
        self.runtime = Runtime("drop", "test", self.halt, log, "/nonexistent")
        self.maildrop = self.made()
        self.session: OpenMaildir | None = None
        self.shown: dict[bytes, str] = {}
        self.alive: set[bytes] = set()
        self.told: dict[bytes, str] = {}
        self.uid = 0
        self.validity = 1
        self.listed: list[str] = []
        self.count = 0
        self.clock = 0
        self._slack = ledger.SLACK
        ledger.SLACK = 3

    @initialize(sizes=st.booleans(), twins=st.booleans())
    def begin(self, sizes: bool, twins: bool) -> None:
        for number in range(4):
            self.deliver(sizes, bool(number % 2))
        if twins:
            octets = b"Subject: twin\n\nx\n"
            first = self.files()[0]
            (self.maildir / "new" / unique(first.name)).write_bytes(octets)
            self.alive.add(octets)

    def made(self) -> MaildirDrop:
        options = MaildirDropOptions.read({"path": str(self.maildir)})
        return MaildirDrop(options, self.runtime)

    def files(self) -> list[Path]:
        return sorted(path for place in ("new", "cur") for path in (self.maildir / place).iterdir())

    @rule(sizes=st.booleans(), seen=st.booleans())
    def deliver(self, sizes: bool, seen: bool) -> None:
        self.count += 1
        octets = b"Subject: %d\n\n%d\n" % (self.count, self.count)
        name = f"{1700000000 + self.count % 3}.M{self.count:06d}.host"
        name += f",S={len(octets)},W={len(octets) + 3}" if sizes else ""
        path = self.maildir / (f"cur/{name}:2,S" if seen else f"new/{name}")
        path.write_bytes(octets)
        self.alive.add(octets)

    @precondition(lambda self: self.files())
    @rule(number=CHOICE, flags=st.sampled_from(["", "S", "FS"]))
    def a_reader_moves_one(self, number: int, flags: str) -> None:
        files = self.files()
        path = files[number % len(files)]
        target = self.maildir / "cur" / f"{unique(path.name)}:2,{flags}"
        if not target.exists():
            path.rename(target)

    @precondition(lambda self: self.files())
    @rule(number=CHOICE)
    def a_reader_deletes_one(self, number: int) -> None:
        files = self.files()
        path = files[number % len(files)]
        self.alive.discard(path.read_bytes())
        path.unlink()

    @rule(anew=st.booleans())
    def dovecot_looks(self, anew: bool) -> None:
        """It gives UIDs to what is there, and sometimes all of them anew."""
        names = [unique(path.name) for path in self.files()]
        if anew:
            self.validity += 1
            self.listed, self.uid = [], 0
        for name in names:
            if not any(line.endswith(f" :{name}\n") for line in self.listed):
                self.uid += 1
                self.listed.append(f"{self.uid} :{name}\n")
        text = f"3 V{self.validity} N{self.uid + 1}\n" + "".join(self.listed)
        (self.maildir / "dovecot-uidlist").write_text(text)

    @precondition(lambda self: self.session is None)
    @rule(anew=st.booleans(), settled=st.booleans())
    def enter(self, anew: bool, settled: bool) -> None:
        """Of this process or of another; perhaps long after the last change."""
        if settled:
            for directory in (self.maildir / "new", self.maildir / "cur"):
                if directory.stat().st_mtime > LONG_AGO:  # it has changed since
                    self.clock += 1
                    os.utime(directory, (self.clock, self.clock))
        if anew:
            self.maildrop = self.made()
        self.session = self.maildrop.login(Credentials("ann", checked=True))
        items = self.session.items()
        assert len({item.key for item in items}) == len(items)
        self.shown = {}
        for item in items:
            octets = read(self.session.read(item.key))
            assert len(octets) == item.size
            self.shown[octets.replace(b"\r\n", b"\n")] = item.key
        assert self.shown.keys() == self.alive
        for octets, key in self.shown.items():
            assert self.told.setdefault(octets, key) == key, "another UIDL"
        assert len(set(self.told.values())) == len(self.told), "a UIDL was used again"

    @precondition(lambda self: self.session is not None)
    @rule()
    def read_all(self) -> None:
        assert self.session is not None
        for octets, key in self.shown.items():
            try:
                got = read(self.session.read(key)).replace(b"\r\n", b"\n")
            except GoneError:
                assert octets not in self.alive
            else:
                assert got == octets

    @precondition(lambda self: self.session is not None)
    @rule(chosen=st.sets(CHOICE, max_size=4))
    def quit(self, chosen: set[int]) -> None:
        assert self.session is not None
        messages = sorted(self.shown)
        delete = {messages[number % len(messages)] for number in chosen} if messages else set()
        self.session.close([self.shown[octets] for octets in delete])
        self.session = None
        self.alive -= delete

    @precondition(lambda self: self.session is not None and len(self.shown) > 1)
    @rule(first=CHOICE, second=CHOICE)
    def die_in_the_middle_of_quit(self, first: int, second: int) -> None:
        """It is written down what goes, and one is gone: the next session finishes it."""
        assert self.session is not None
        keys = [item.key for item in self.session.items()]
        numbers = {first % len(keys), second % len(keys)}
        victims = {}
        for number in numbers:
            try:
                victims[number] = self.session._inode(number)
            except GoneError:
                continue
        if len(victims) == 2:
            self.session._condemn(victims)
            self.session._unlink(min(victims))
            gone = {keys[number] for number in victims}
            self.alive -= {octets for octets, key in self.shown.items() if key in gone}
        self.session.close()
        self.session = None

    @invariant()
    def nothing_goes_by_itself(self) -> None:
        there = {path.read_bytes() for path in self.files()}
        assert self.alive <= there

    def teardown(self) -> None:
        ledger.SLACK = self._slack
        if self.session is not None:
            self.session.close()
        self.halt.close()
        shutil.rmtree(self.home)


TestBusy = Busy.TestCase
TestBusy.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
