"""An engine of paper: drives a processor or a reactor as the real one would, in memory.

    desk = Desk()
    verdicts = desk.process(Post(options, desk.runtime), mail(b"..."))
    assert desk.log.said("warning") == [...]

Rule of the file: it keeps what the real engine promises. Each mail has an id of its
own, no mail meets what it has itself remembered, and effects show after the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from mailflow.halt import Halt
from mailflow.kinds import Processor, Reactor, Runtime, Trouble
from mailflow.mail import Content, Envelope, Mail, Octets
from mailflow.verdicts import Discard, Hold, Reaction, Reject


class Line(NamedTuple):
    """One line of the log."""

    level: str
    event: str
    facts: Mapping[str, object]


class LogDouble:
    """Keeps the lines that a component logs."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def said(self, level: str) -> list[str]:
        """The events of one level, in order."""
        return [line.event for line in self.lines if line.level == level]

    def bind(self, **facts: object) -> LogDouble:  # facts of the engine
        return self

    def debug(self, event: str, /, **facts: object) -> None:
        self.lines.append(Line("debug", event, facts))

    def info(self, event: str, /, **facts: object) -> None:
        self.lines.append(Line("info", event, facts))

    def warning(self, event: str, /, **facts: object) -> None:
        self.lines.append(Line("warning", event, facts))

    def error(self, event: str, /, **facts: object) -> None:
        self.lines.append(Line("error", event, facts))


class Remembered(NamedTuple):
    mail: str
    value: str
    expires: float | None


class MemoryDouble:
    """A step's memory, as one mail sees it; "" is a reactor, which sees all."""

    def __init__(self, desk: Desk, mail: str) -> None:
        self._desk = desk
        self._mail = mail

    def get(self, key: str) -> str | None:
        for row in reversed(self._desk.rows.get(key, [])):
            fresh = row.expires is None or row.expires > self._desk.now
            if fresh and (not self._mail or row.mail != self._mail):
                return row.value
        return None

    def set(self, key: str, value: str, keep: float | None = None) -> None:
        expires = None if keep is None else self._desk.now + keep
        self._desk.rows.setdefault(key, []).append(Remembered(self._mail, value, expires))


class ContextDouble:
    """kinds.Context for one mail."""

    def __init__(self, desk: Desk, mail: str, *, approved: bool = False) -> None:
        self._desk = desk
        self.name = desk.runtime.name
        self.pipeline = desk.runtime.pipeline
        self.memory = MemoryDouble(desk, mail)
        self.log: Any = desk.log
        self.approved = approved
        self.now = desk.now

    def send(self, mail: Mail, via: str | None = None) -> None:
        self._desk.sent.append((mail, via))

    def new(self, envelope: Envelope, content: Content, notes: Mapping[str, str] = {}) -> Mail:
        return Mail(f"notice{len(self._desk.sent)}", envelope, content, notes)


class Desk:
    """One step's place in a pipeline: its memory, its log, its clock, what it sends."""

    def __init__(self, step: str = "step", pipeline: str = "pipeline", base: str = ".") -> None:
        self.now = 1_000_000_000.0
        self.log = LogDouble()
        self.rows: dict[str, list[Remembered]] = {}
        self.sent: list[tuple[Mail, str | None]] = []
        log: Any = self.log
        self.runtime = Runtime(step, pipeline, _halt(), log, base, base)

    def process(
        self, processor: Processor, mail: Mail, *, approved: bool = False
    ) -> Sequence[Mail | Discard | Reject | Hold]:
        """What a processor makes of a mail."""
        return list(processor.process(mail, ContextDouble(self, mail.id, approved=approved)))

    def react(self, reactor: Reactor, trouble: Trouble) -> Reaction | None:
        """What a reactor makes of a trouble."""
        return reactor.react(trouble, ContextDouble(self, ""))


@cache
def _halt() -> Halt:
    return Halt()


_made = [0]


def mail(
    text: str | bytes,
    *,
    sender: str | None = None,
    to: Sequence[str] = (),
    notes: Mapping[str, str] = {},
) -> Mail:
    """A mail with an id of its own; in `text`, which may have bare LF, lines end in CRLF."""
    from mailflow.lines import to_crlf

    _made[0] += 1
    octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    envelope = Envelope(sender, tuple(to))
    return Mail(f"mail{_made[0]:04}", envelope, Octets(to_crlf(octets)), dict(notes))


__all__ = ["ContextDouble", "Desk", "Line", "LogDouble", "MemoryDouble", "mail"]
