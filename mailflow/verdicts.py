"""What parts answer each other: verdicts, reactions, reports, fates."""

from __future__ import annotations

from enum import Enum

from mailflow.record import NamedTuple


class Discard(NamedTuple):
    """A processor's verdict: this mail goes nowhere, and nobody is told."""

    reason: str


class Reject(NamedTuple):
    """A processor's verdict: this mail is refused, and its sender may be told."""

    reason: str


class Hold(NamedTuple):
    """A verdict or a reaction: keep the mail until a human decides."""

    reason: str = ""


class Retry(NamedTuple):
    """A reaction: try again `after` seconds."""

    after: float


class Bounce(NamedTuple):
    """A reaction: given up, and the sender was told (or must not be)."""

    reason: str = ""


class Stop(NamedTuple):
    """A reaction: end this run, in order; what is due stays due."""

    reason: str = ""


Reaction = Retry | Hold | Bounce | Discard | Stop


class Outcome(Enum):
    """How handing a mail to one recipient ended."""

    SENT = "sent"
    LATER = "later"
    FAILED = "failed"


SENT, LATER, FAILED = Outcome.SENT, Outcome.LATER, Outcome.FAILED


class Report(NamedTuple):
    """One recipient's outcome. `recipient` is "" where a mail has one delivery.

    `code` is an enhanced status code (RFC 3463) such as "4.2.0", or "".
    `remote` names who said `text` (host), for delivery status notifications.
    """

    recipient: str
    outcome: Outcome
    code: str = ""
    text: str = ""
    remote: str = ""


class Fate(Enum):
    """What the journal answers a fetcher for one key."""

    DONE = "done"
    REFUSED = "refused"
    LATER = "later"
