"""mailflow status [FILE...]: how the sources fare, what waits, and what runs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import click

from mailflow.tables import json_option, moment, say, show, show_json, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailflow.engine.journal.standing import SourceStanding, StepStanding

FAILING = 3
"""A source that failed so many times in a row waits for a human, not for the weather."""

WAITS = 1
"""The exit status where something waits for a human."""


class Standing(NamedTuple):
    """One journal. `octets` are those of its file and of the mail it keeps."""

    journal: str
    octets: int
    sources: list[SourceStanding]
    steps: list[StepStanding]

    @property
    def needs_a_human(self) -> bool:
        return any(step.held for step in self.steps) or any(
            source.failures >= FAILING for source in self.sources
        )


@click.command(name="status")
@click.argument("files", nargs=-1, metavar="[FILE...]")
@json_option
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Say how each source fares, what waits at each step, and what runs.

    FILEs are pipelines; without any, all that ran here, and the installations of `mailflow
    serve` that run now. No server is connected to. Ends with 0 where nothing waits for a
    human, with 1 where mail is held, a source has failed three times in a row or more, or
    there is an alarm about one.
    """
    from mailflow.cli import running
    from mailflow.cli.installations import ask_all
    from mailflow.cli.journals import paths
    from mailflow.errors import JournalError

    found: list[Standing] = []
    faults: list[JournalError] = []
    for path in paths(files):
        if os.path.exists(path):
            try:
                found.append(_look(path))
            except JournalError as error:
                faults.append(error)
    installations = [] if files else ask_all({"do": "status"}).given
    if as_json:
        journals = [_facts(each) for each in found]
        show_json({"journals": journals, "installations": installations})
    else:
        _show(found, whole=not faults)
        for each in installations:
            running.show_installation(each)
    if faults:
        raise JournalError("\n".join(error.text for error in faults))
    waits = any(each.needs_a_human for each in found) or any(map(running.alarms, installations))
    return WAITS if waits else 0


def _look(path: str) -> Standing:
    from mailflow.engine.journal import standing
    from mailflow.engine.shadow import Shadow

    shadow = Shadow(path)
    try:
        return Standing(
            path,
            standing.file_octets(path) + shadow.read(standing.octets_in_files),
            shadow.read(standing.sources),
            shadow.read(standing.steps),
        )
    finally:
        shadow.close()


def _facts(found: Standing) -> dict[str, object]:
    return {
        "journal": found.journal, "octets": found.octets,
        "sources": [each._asdict() for each in found.sources],
        "steps": [each._asdict() for each in found.steps],
        "needs_a_human": found.needs_a_human,
    }  # fmt: skip


def _show(found: Sequence[Standing], whole: bool) -> None:
    """`whole`: every journal could be read, so that what is not there is not."""
    from mailflow.progress import human

    now = time.time()
    sources = [source for each in found for source in each.sources]
    steps = [step for each in found for step in each.steps]
    if sources:
        show(
            ("PIPELINE", "SOURCE", "KNOWN", "WORKED", "FAILURES", "NEXT", "ERROR"),
            (
                (
                    each.pipeline, each.source, each.known,
                    "" if each.worked_at is None else moment(each.worked_at),
                    each.failures or "", _next(each.next_try, now) if each.failures else "",
                    each.error,
                )
                for each in sources
            ),
        )  # fmt: skip
    if steps:
        show(
            ("PIPELINE", "STEP", "DUE", "NEXT", "HELD", "IN DOUBT", "OLDEST"),
            (
                (
                    each.pipeline, each.step or "(not begun)", each.due or "",
                    "" if each.next_try is None else _next(each.next_try, now),
                    each.held or "", each.doubt or "", span(now - each.oldest),
                )
                for each in steps
            ),
        )  # fmt: skip
    elif whole:
        say("nothing waits")
    for each in found:
        say(f"{each.journal}: {human(each.octets)}")


def _next(at: float, now: float) -> str:
    return "next run" if at <= now else f"in {span(at - now)}"
