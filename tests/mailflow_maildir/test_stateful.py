"""A Maildir under deliveries, crashes and readers, in any order, against a model of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)

from mailflow.kinds import Ticket
from mailflow.mail import Mail
from mailflow.verdicts import SENT

from .conftest import Maildir, make_mail


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of the program may catch it."""


class DyingSystem:
    """The os module, until so many calls were made; the kernel closes what is left open."""

    path = os.path

    def __init__(self, calls: int) -> None:
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name == "close" or not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise KilledError
            return real(*args, **kwargs)

        return call


class Deliveries(RuleBasedStateMachine):
    """`there` is what readers must find; `open` are tickets not final in the journal."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="maildir"))
        self.maildir = Maildir(self.directory / "Maildir")
        self.number = 0
        self.there: list[bytes] = []
        self.open: list[Mail] = []
        self.unfinished: set[str] = set()  # killed between the report and the end of `finish`

    def teardown(self) -> None:
        self.maildir.halt.close()
        shutil.rmtree(self.directory)

    def make(self, count: int) -> list[Mail]:
        mails = []
        for _ in range(count):
            self.number += 1
            mails.append(make_mail(self.number, b"%d\r\n" % self.number, folder="ab"[count % 2]))
        return mails

    @rule(count=st.integers(1, 6), calls=st.integers(0, 70))
    def deliver_and_die(self, count: int, calls: int) -> None:
        self.attempt(self.make(count), calls, resumed=False)

    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        self.attempt(self.make(count), 10_000, resumed=False)

    @rule(calls=st.integers(0, 100))
    def resume_and_die(self, calls: int) -> None:
        again, self.open = self.open, []
        self.attempt(again, calls, resumed=True)

    @rule()
    def resume(self) -> None:
        again, self.open = self.open, []
        self.attempt(again, 10_000, resumed=True)
        assert not self.open

    def attempt(self, mails: list[Mail], calls: int, resumed: bool) -> None:
        """The engine: what was reported SENT is final, then finished; the rest stays open."""
        sent: list[str] = []
        jobs = [(mail, Ticket(mail.id, (), resumed=resumed)) for mail in mails]
        with suppress(KilledError), pytest.MonkeyPatch.context() as patch:
            system = DyingSystem(calls)
            patch.setattr("mailflow_maildir.folder.os", system)
            patch.setattr("mailflow_maildir.distributor.os", system)
            distributor = self.maildir.distributor("{note:folder}").__enter__()
            for ticket, report in distributor.distribute_many(jobs):
                assert report.outcome is SENT
                sent.append(ticket.key)
                self.unfinished.add(ticket.key)
            distributor.finish(sent)
            self.unfinished -= set(sent)
            distributor.__exit__(None, None, None)
        self.open += [mail for mail in mails if mail.id not in sent]
        self.there += [b"%d\n" % int(mail.id.split(".")[1]) for mail in mails if mail.id in sent]

    @rule(flags=st.sampled_from(["", ":2,", ":2,S"]), which=st.integers(0, 5))
    def reader_takes_from_new(self, flags: str, which: int) -> None:
        for file in sorted(self.maildir.path.glob(".*/new/*"))[which : which + 2]:
            file.rename(file.parent.parent / "cur" / (file.name + flags))

    @rule(which=st.integers(0, 5))
    def reader_moves_to_another_folder(self, which: int) -> None:
        archive = self.maildir.path / ".Archive" / "cur"
        archive.mkdir(parents=True, exist_ok=True)
        places = [*self.maildir.path.glob(".[ab]/cur/*"), *self.maildir.path.glob(".[ab]/new/*")]
        for file in sorted(places)[which : which + 3]:
            file.rename(archive / f"{self.number}.{file.stat().st_ino}:2,S")

    @rule(which=st.integers(0, 5))
    def reader_deletes(self, which: int) -> None:
        """What was delivered for good; to delete within a delivery brings a mail again."""
        pending = {b"%d\n" % int(mail.id.split(".")[1]) for mail in self.open}
        for file in sorted(self.maildir.path.glob(".[ab]/*/*"))[which : which + 1]:
            octets = file.read_bytes()
            if octets and file.parent.name != "tmp" and octets not in pending:
                file.unlink()
                self.there.remove(octets)

    @invariant()
    def nothing_is_lost_doubled_or_cut_short(self) -> None:
        found = [
            file.read_bytes()
            for place in ("new", "cur")
            for file in self.maildir.path.glob(f".*/{place}/*")
        ]
        pending = {b"%d\n" % int(mail.id.split(".")[1]) for mail in self.open}
        assert len(found) == len(set(found))
        assert sorted(set(found) - pending) == sorted(self.there)

    @invariant()
    def nothing_of_a_final_ticket_stays_in_tmp(self) -> None:
        left = {file.name.split(".mailflow")[0] for file in self.maildir.path.glob(".*/tmp/*")}
        assert left <= {mail.id for mail in self.open} | self.unfinished


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
