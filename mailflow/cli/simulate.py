"""mailflow simulate FILE < message: what would become of a mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mailflow.tables import json_option, say, show, show_json
from mailflow.values import counted

if TYPE_CHECKING:
    from mailflow.engine.simulate import Simulated


@click.command(name="simulate")
@click.argument("file", metavar="FILE")
@click.option("--sender", metavar="ADDRESS", help='The envelope sender; "" is the null sender.')
@click.option(
    "--recipient", "recipients", multiple=True, metavar="ADDRESS",
    help="An envelope recipient; may be repeated.",
)  # fmt: skip
@click.option("--source", metavar="NAME", help="As if it came by this [[fetch]].")
@json_option
def command(
    file: str, sender: str | None, recipients: tuple[str, ...], source: str | None, as_json: bool
) -> None:
    """Say what would become of the message on stdin: each step's verdict, and who gets it.

    Nothing is sent, written or remembered. The steps are the real ones: what they have
    remembered counts, and a filter that is a program is run. Reactors are asked too, but
    not those that are programs.
    """
    from mailflow.cli.dry import looked_at
    from mailflow.engine.config import load
    from mailflow.engine.registry import Registry
    from mailflow.engine.simulate import choose, read_mail, simulate
    from mailflow.mail import Envelope

    registry = Registry()
    (pipeline,) = load([file], registry)
    step = choose(pipeline, source)
    with looked_at(pipeline, registry) as flow:
        mail = read_mail(flow, step)
        envelope = Envelope(
            mail.envelope.sender if sender is None else sender,
            recipients or mail.envelope.recipients,
        )
        result = simulate(flow, step, mail.replace(envelope=envelope))
    if as_json:
        show_json(_facts(result))
    else:
        _tell(result)


def _tell(result: Simulated) -> None:
    mail = result.mail
    sender = "an unknown sender" if mail.envelope.sender is None else f"<{mail.envelope.sender}>"
    to = ", ".join(mail.envelope.recipients) or "nobody named"
    say(f"{counted(mail.content.size, 'octet')} from {sender} to {to}, as if by {result.source}")
    if not result.wanted:
        say("`where` does not hold: it would stay at the source; if it did not:")
    rows: list[tuple[object, ...]] = [
        (each.step, each.verdict, "", each.why) for each in result.passages
    ]
    rows += [
        (way.step, way.state, way.recipients, way.why) for way in (*result.ways, *result.notices)
    ]
    if rows:
        show(("STEP", "WHAT", "TO", "WHY"), rows)
    if not result.ways:
        say("it ends here" + (f"; refused: {result.refused}" if result.refused else ""))
    for name in result.left_out:
        say(f"{name} starts a program, and was not asked")


def _facts(result: Simulated) -> dict[str, object]:
    mail = result.mail
    return {
        "source": result.source, "wanted": result.wanted, "size": mail.content.size,
        "sender": mail.envelope.sender, "recipients": mail.envelope.recipients,
        "steps": [each._asdict() for each in result.passages],
        "ways": [each._asdict() for each in result.ways],
        "notices": [each._asdict() for each in result.notices],
        "refused": result.refused, "not_asked": result.left_out,
    }  # fmt: skip
