"""`react.notify`: one mail to whoever looks after it, and not a second one at once.

Rule of the file: it tells and decides nothing. Of troubles of one kind it tells the
first, counts those that follow too soon, and never tells of a notice.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.mail import Envelope
from mailflow.options import Address, Duration, ListOf, Options, Via
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.values import counted
from mailflow.verdicts import Hold
from mailflow_react.compose import age, notice, one_line

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble
    from mailflow.mail import Mail

REMEMBER = 30 * 86400.0  # seconds that a count is kept at least
SHOWN = 20  # recipients that are named

HAPPENED = {
    "fetch": "nothing can be fetched by {step}",
    "process": "{step} failed on a mail",
    "verdict": "{step} rejects a mail",
    "unrouted": "no step takes a mail",
    "distribute": "{step} cannot deliver a mail",
    "alarm": "nothing has been fetched by {step} for too long",
}


class NotifyOptions(Options):
    """Whom to tell, and how often."""

    to = ListOf("Who is told: an address, or several.", Address(""))
    from_ = Address.optional("Who the notice is from; by default the first of `to`.")
    every = Duration(
        "After a notice, how long others of the same stage and step are only counted.",
        default=3600.0,
    )
    via = Via.optional("Name of the [[distribute]] step that sends it; by default the first.")

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.to:
            yield "to", 'expected an address, such as "ann@example.org"'


class NotifyReactor:
    """Tells you by mail, and decides nothing."""

    options: ClassVar[type[Options]] = NotifyOptions

    def __init__(self, options: NotifyOptions, runtime: Runtime) -> None:
        self._options = options

    def react(self, trouble: Trouble, context: Context) -> None:
        options = self._options
        if trouble.mail is not None and "notice" in trouble.mail.notes:
            return
        key = f"{trouble.stage} {trouble.step}"
        told, _, counted = (context.memory.get(key) or "").partition(" ")
        more = int(counted or 0)
        keep = max(options.every * 2, REMEMBER)
        if told and 0 <= context.now - float(told) < options.every:
            context.memory.set(key, f"{told} {more + 1}", keep)
            return
        context.memory.set(key, f"{context.now:.3f} 0", keep)
        sender = options.from_ or options.to[0]
        content = notice(
            sender, options.to, f"[mailflow] {context.pipeline}: {_happened(trouble)}",
            _text(trouble, context.pipeline, more),
        )  # fmt: skip
        envelope = Envelope(sender.address, tuple(each.address for each in options.to))
        context.send(context.new(envelope, content, {"notice": context.name}), options.via)


def _happened(trouble: Trouble) -> str:
    happened = HAPPENED.get(trouble.stage, "{step} is in trouble")
    if isinstance(trouble.verdict, Hold):
        happened = "{step} holds a mail, which waits for you"
    return happened.format(step=trouble.step)


def _text(trouble: Trouble, pipeline: str, more: int) -> str:
    lines = [f"In {pipeline}, {_happened(trouble)}:", "", f"    {one_line(trouble.error.text)}", ""]
    if trouble.mail is not None:
        lines += _about(trouble.mail, trouble)
    if trouble.verdict is None:
        lines.append(f"Attempt {trouble.attempt}, after {age(trouble.age)}.")
    if more:
        lines.append(f"{more} more like this came since the last notice, and were only counted.")
    lines += ["", "To see what waits:        mailflow queue list"]
    if trouble.mail is not None:
        lines.append(f"What happened to it:      mailflow trace {trouble.mail.id}")
        if isinstance(trouble.verdict, Hold):
            lines.append(f"To let it go on:          mailflow queue release {trouble.mail.id}")
            lines.append(f"To give it up, for good:  mailflow queue drop {trouble.mail.id}")
    return "\n".join(lines) + "\n"


def _about(mail: Mail, trouble: Trouble) -> Iterator[str]:
    header = mail.header()
    yield f"Mail:     {mail.id}, {counted(mail.content.size, 'octet')}"
    for name in ("From", "Subject", "Date"):
        yield f"{name + ':':9} {one_line(header.decoded(name) or '(none)', 200)}"
    named = [each for each in trouble.recipients if each]
    if named:
        rest = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        yield f"To:       {one_line(', '.join(named[:SHOWN]), 2000)}{rest}"
    yield ""
