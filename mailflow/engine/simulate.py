"""One mail through a pipeline, and nothing comes of it: what each step says, who gets it.

Rule of the file: the real steps see it, on a shadow of the journal; what they want to
remember or send is told, and forgotten. Reactors that start programs are left out.
"""

from __future__ import annotations

import time

from mailflow.engine.context import new_id
from mailflow.engine.examine import Subject, examine
from mailflow.errors import BadMailError, ConfigError, MailflowError
from mailflow.mail import Mail, Octets, head
from mailflow.query import MailFacts, Query
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted, instead
from mailflow.verdicts import Discard, Hold, Reject

if TYPE_CHECKING:
    from mailflow.engine.config import FetchStep, Pipeline, ProcessStep
    from mailflow.engine.flow import Flow


class Passage(NamedTuple):
    """What one step said of one copy: `verdict` is passes, changes, discard, reject, hold,
    trouble, or not asked (its `when` does not hold). `why` is its reason, or what changed."""

    step: str
    use: str
    verdict: str
    why: str


class Way(NamedTuple):
    """Where a copy ends: at a distributor, or held or waiting at a step."""

    step: str
    use: str
    state: str
    recipients: tuple[str, ...]
    why: str


class Simulated(NamedTuple):
    """The story of a mail that was not. `wanted` is what `where` says of it; `left_out`
    are reactors that were not asked, `notices` the recipients of what steps would send."""

    mail: Mail
    source: str
    wanted: bool
    passages: list[Passage]
    ways: list[Way]
    notices: list[Way]
    left_out: list[str]
    refused: str


def choose(pipeline: Pipeline, name: str | None) -> FetchStep:
    """The [[fetch]] that the mail is to come by: that name, else the one for stdin, else
    the first. Raises ConfigError."""
    steps = {step.name: step for step in pipeline.fetch}
    if not steps:
        raise ConfigError(f"{pipeline.path}: no mail comes this way; there is no [[fetch]]")
    if name is None:
        pushed = [step for step in pipeline.fetch if getattr(step.component, "pushed", False)]
        return (pushed or list(pipeline.fetch))[0]
    if name not in steps:
        text = f"no [[fetch]] is called {name!r}{instead(name, steps)}"
        raise ConfigError(f"{pipeline.path}: {text}")
    return steps[name]


def simulate(flow: Flow, step: FetchStep, mail: Mail) -> Simulated:
    """Take a mail through the pipeline as if it had come by that step."""
    left_out = [each.name for each, _ in flow.reactors if _starts_programs(each)]
    flow.reactors = [pair for pair in flow.reactors if not _starts_programs(pair[0])]
    mail = mail.replace(id=new_id())
    wanted = step.where == Query.always or step.where.matches(MailFacts(mail, source=step.name))
    watched = _Watched()
    now = time.time()
    subject = Subject(mail, now, source=step.name)
    result = examine(flow, subject, now, watch=watched)
    ways: list[Way] = []
    uses = {each.name: each.use for each in flow.pipeline.distribute}
    for copy in result.copies:
        if copy.state != "planned":
            state = "held" if copy.state == "held" else "tried again later"
            to = copy.mail.envelope.recipients
            ways.append(Way(copy.step, "", state, to, copy.reason))
        ways += _ways(copy.deliveries, uses)
    notices = [
        way
        for notice in result.ledger.effects().notices
        for way in _ways(notice.deliveries, uses, f"a notice of {notice.step}")
    ]
    refused = result.refused.reason if result.refused is not None else ""
    return Simulated(mail, step.name, wanted, watched.passages, ways, notices, left_out, refused)


def _ways(
    deliveries: tuple[tuple[str, str], ...], uses: dict[str, str], why: str = ""
) -> list[Way]:
    """One for each distributor, with all of its recipients."""
    by_step: dict[str, list[str]] = {}
    for name, recipient in deliveries:
        by_step.setdefault(name, []).extend([recipient] if recipient else [])
    return [
        Way(name, uses.get(name, ""), "delivered", tuple(to), why) for name, to in by_step.items()
    ]


def _starts_programs(step: object) -> bool:
    return bool(getattr(getattr(step, "component", None), "programs", False))


class _Watched:
    """Notes what each step says (examine.Watch)."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []

    def __call__(self, step: ProcessStep, mail: Mail, outcome: object) -> None:
        verdict, why = _said(mail, outcome)
        if _starts_programs(step) and outcome is not None:
            why = "; ".join(part for part in (why, "its program ran") if part)
        self.passages.append(Passage(step.name, step.use, verdict, why))


def _said(mail: Mail, outcome: object) -> tuple[str, str]:
    if outcome is None:
        return "not asked", "its `when` does not hold"
    if isinstance(outcome, MailflowError):
        return "trouble", outcome.text
    if isinstance(outcome, Discard | Reject | Hold):
        return type(outcome).__name__.lower(), outcome.reason
    if isinstance(outcome, Mail):
        changed = changes(mail, outcome)
        return ("changes", "; ".join(changed)) if changed else ("passes", "")
    return "trouble", f"{type(outcome).__name__} is no verdict"


def changes(before: Mail, after: Mail) -> list[str]:
    """What is different, in words."""
    found = []
    if before.envelope.sender != after.envelope.sender:
        found.append(f"from <{after.envelope.sender or ''}>")
    if before.envelope.recipients != after.envelope.recipients:
        found.append(f"to {counted(len(after.envelope.recipients), 'recipient')}")
    found += [
        f"note {name} = {value!r}"
        for name, value in after.notes.items()
        if before.notes.get(name) != value
    ]
    if after.content is before.content:
        return found
    fields, others = before.header(), after.header()
    names = {each.lower(): each for each in (*fields.names(), *others.names())}
    for name in names.values():
        old, new = fields.get_all(name), others.get_all(name)
        if old != new:
            found.append(f"{name} {'added' if not old else 'changed' if new else 'removed'}")
    bodies = [each.content.size - len(head(each.content)) for each in (before, after)]
    if bodies[0] != bodies[1]:
        found.append(f"body of {bodies[1]} octets instead of {bodies[0]}")
    return found


def read_mail(flow: Flow, step: FetchStep) -> Mail:
    """The message on stdin: as the step itself takes it where it is handed mail, else as
    a mailbox gives one. Raises UnavailableError, BadMailError."""
    if getattr(step.component, "pushed", False):
        with flow.make(step) as fetcher:
            for got in fetcher.retrieve([item.key for item in fetcher.listing(step.where)]):
                return Mail("", got.envelope, got.content)
    import sys

    from mailflow.lines import to_crlf
    from mailflow.mail import Envelope

    octets = to_crlf(sys.stdin.buffer.read())
    if octets.startswith(b"From "):  # a message saved from an mbox
        octets = octets.partition(b"\r\n")[2]
    if not octets:
        raise BadMailError("stdin is empty: expected one message")
    return Mail("", Envelope(), Octets(octets))
