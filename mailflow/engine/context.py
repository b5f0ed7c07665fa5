"""What a step may lastingly do while it handles one mail: remember, send, tell.

Rule of the file: nothing is written here; a ledger collects the effects, and they
join the commit that the mail's outcome is in.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping

from mailflow.engine.journal import Effects, Notice, Remembered, Told, plans
from mailflow.engine.journal.arrivals import plain
from mailflow.errors import PluginError
from mailflow.mail import Content, Envelope, Mail, Octets, read
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.engine.flow import Flow
    from mailflow.kinds import Memory
    from mailflow.log import Logger

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_last = 0
_turn = threading.Lock()


def new_id() -> str:
    """16 of [0-9a-v]: sorts by time in this process, unique everywhere.

    Ticks of about a microsecond, never the same or less than before (the clock may jump),
    and 25 random bits, for processes that begin in one tick.
    """
    global _last
    with _turn:
        _last = max(time.time_ns() * 1024 // 1_000_000, _last + 1)
        ticks = _last
    number = ticks << 25 | int.from_bytes(os.urandom(4)) >> 7
    return "".join(_DIGITS[(number >> shift) & 31] for shift in range(75, -1, -5))


UNCOMMITTED = 60.0
"""Seconds after which what a reactor wrote is surely in the journal, or never will be."""

Overlay = dict[tuple[str, str], tuple[str, str]]
"""(step, key) -> (mail, value): what mails of one group remember before their commit."""


def is_writable(recipient: object) -> bool:
    """Text without control characters, not empty: what can be a recipient."""
    return isinstance(recipient, str) and bool(recipient) and recipient.isprintable()


class Mark(NamedTuple):
    """How far a ledger was written when a step began."""

    writes: int
    notices: int
    story: int


class Ledger:
    """The effects of one mail's handling. `now` is the same throughout.

    What it writes for a mail is seen by other mails of its group once it is published,
    and by itself never.
    """

    def __init__(
        self,
        flow: Flow,
        mail: str,
        *,
        now: float,
        overlay: Overlay | None = None,
        muted: bool = False,
    ) -> None:
        self.flow = flow
        self.mail = mail
        self.now = now
        self.muted = muted
        self._overlay: Overlay = {} if overlay is None else overlay
        self._reads: list[Remembered] = []
        self._writes: list[Remembered] = []
        self._notices: list[Notice] = []
        self._story: list[Told] = []
        self._events: list[tuple[str, dict[str, object]]] = []

    def effects(self) -> Effects:
        return Effects(self._reads, self._writes, self._notices, self._story)

    @property
    def lasting(self) -> bool:
        """Whether anything was read or left."""
        return bool(self._reads or self._writes or self._notices or self._story)

    def mark(self) -> Mark:
        return Mark(len(self._writes), len(self._notices), len(self._story))

    def undo(self, mark: Mark | None = None) -> None:
        """Take back what was written since `mark`, or all: it will not be committed."""
        kept = mark or Mark(0, 0, 0)
        for each in self._writes[kept.writes :]:
            if each.shared:
                self.flow.shared.pop((each.step, each.key), None)
        del self._writes[kept.writes :]
        del self._notices[kept.notices :]
        del self._story[kept.story :]

    def publish(self, overlay: Overlay) -> None:
        """Show the other mails of a group what this one will have left."""
        for each in self._writes:
            if not each.shared and each.value is not None:
                overlay[each.step, each.key] = (self.mail, each.value)

    def tell(self, step: str, what: str, text: str = "") -> None:
        if self.mail:
            self._story.append(Told(self.mail, self.now, step, what, text))

    def happened(self, event: str, **facts: object) -> None:
        """What listeners are told once it is durable."""
        self._events.append((event, facts))

    def announce(self) -> None:
        """The commit is done: tell the listeners."""
        for event, facts in self._events:
            self.flow.event(event, mail=self.mail, **facts)

    def recall(self, step: str, key: str) -> str | None:
        key = plain(key)
        pending = self._overlay.get((step, key))
        if pending is not None and pending[0] != self.mail:
            value: str | None = pending[1]
        else:
            value = self.flow.journal.read(
                lambda tx: plans.recall(tx, self.flow.pipeline.name, step, key, self.mail, self.now)
            )
        self._reads.append(Remembered(step, key, value))
        return value

    def remember(self, step: str, key: str, value: str, keep: float | None) -> None:
        expires = None if keep is None else self.now + keep
        self._writes.append(Remembered(step, plain(key), plain(value), expires))

    def recall_shared(self, step: str, key: str) -> str | None:
        """As `recall`, but one for all mails; nothing depends on its being true at the
        commit, and what this process wrote just now counts before its commit."""
        key = plain(key)
        fresh = self.flow.shared.get((step, key))
        if fresh is not None and abs(self.now - fresh[0]) < UNCOMMITTED:
            return fresh[1]
        pipeline = self.flow.pipeline.name
        return self.flow.journal.read(
            lambda tx: plans.recall_shared(tx, pipeline, step, key, self.now)
        )

    def remember_shared(self, step: str, key: str, value: str, keep: float | None) -> None:
        key, value = plain(key), plain(value)
        expires = None if keep is None else self.now + keep
        self._writes.append(Remembered(step, key, value, expires, shared=True))
        self.flow.shared[step, key] = (self.now, value)

    def notify(self, step: str, mail: Mail, via: str | None) -> None:
        """Queue a notice; troubles of a notice make no notice."""
        if self.muted:
            return
        target = self.flow.sender(via)
        to = mail.envelope.recipients if target.component.per_recipient else ("",)
        if not to or not all(is_writable(each) for each in mail.envelope.recipients):
            raise PluginError(f"step {step} sends a notice to {mail.envelope.recipients!a}")
        mail = mail._replace(content=Octets(read(mail.content)))
        if mail.id == self.mail or any(mail.id == other.mail.id for other in self._notices):
            mail = mail._replace(id=new_id())  # a mail at hand, sent on as it is
        self._notices.append(Notice(mail, tuple((target.name, each) for each in to), step))
        self.tell(step, "notice", f"{mail.id} to {', '.join(mail.envelope.recipients)}")


class StepContext:
    """kinds.Context for one step and one mail."""

    def __init__(
        self, ledger: Ledger, step: str, *, approved: bool = False, memory: Memory | None = None
    ) -> None:
        self._ledger = ledger
        self.name = step
        self.pipeline = ledger.flow.pipeline.name
        self.approved = approved
        self.now = ledger.now
        self.memory: Memory = memory or StepMemory(ledger, step)

    @property
    def log(self) -> Logger:
        return self._ledger.flow.log.bind(step=self.name, mail=self._ledger.mail)

    def send(self, mail: Mail, via: str | None = None) -> None:
        self._ledger.notify(self.name, mail, via)

    def new(self, envelope: Envelope, content: Content, notes: Mapping[str, str] = {}) -> Mail:
        return Mail(new_id(), envelope, content, dict(notes))


class StepMemory:
    """kinds.Memory for one step and one mail."""

    def __init__(self, ledger: Ledger, step: str) -> None:
        self._ledger = ledger
        self._step = step

    def get(self, key: str) -> str | None:
        return self._ledger.recall(self._step, key)

    def set(self, key: str, value: str, keep: float | None = None) -> None:
        self._ledger.remember(self._step, key, value, keep)


class SharedMemory:
    """kinds.Memory for a reactor: it also reacts to sources, and to one mail many times."""

    def __init__(self, ledger: Ledger, step: str) -> None:
        self._ledger = ledger
        self._step = step

    def get(self, key: str) -> str | None:
        return self._ledger.recall_shared(self._step, key)

    def set(self, key: str, value: str, keep: float | None = None) -> None:
        self._ledger.remember_shared(self._step, key, value, keep)


__all__ = ["Ledger", "Overlay", "SharedMemory", "StepContext", "StepMemory", "new_id"]
