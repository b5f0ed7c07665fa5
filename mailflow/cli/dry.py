"""What --dry-run prints: what would be fetched, settled and delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailflow.errors import MailflowError
from mailflow.tables import moment, say, show, show_json
from mailflow.values import counted

if TYPE_CHECKING:
    from mailflow.engine.flow import Flow
    from mailflow.engine.pipeline import Pipeline
    from mailflow.engine.preview import Preview
    from mailflow.engine.registry import Registry


@contextmanager
def looked_at(pipeline: Pipeline, registry: Registry) -> Iterator[Flow]:
    """A pipeline on a shadow of its journal."""
    from mailflow.engine.flow import Flow
    from mailflow.engine.shadow import Shadow
    from mailflow.halt import Halt
    from mailflow.log import get_logger

    shadow, halt = Shadow(pipeline.journal), Halt()
    try:
        yield Flow(pipeline, shadow, registry, halt, get_logger())
    finally:
        halt.close()
        shadow.close()


def show_visit(pipeline: Pipeline, registry: Registry, *, as_json: bool) -> int:
    """Each message that a copy would fetch. Gives the exit status."""
    from mailflow.engine.preview import visit

    with looked_at(pipeline, registry) as flow:
        found = visit(flow, pipeline.fetch[0])
    if as_json:
        show_json(_facts(pipeline, "source", found))
        return 0
    if found.wanted:
        show(
            ("SIZE", "DATE", "KEY"),
            (
                (item.size, "" if item.date is None else moment(item.date), item.key)
                for item in found.wanted
            ),
        )
    say(_summary("source", found))
    return 0


def show_run(pipelines: Sequence[Pipeline], registry: Registry, *, as_json: bool) -> int:
    """What a run of these pipelines would begin with. Gives the exit status: that of the
    sources that cannot be looked at, else 0."""
    from mailflow.engine.intake import interested
    from mailflow.engine.preview import due, visit
    from mailflow.engine.supervisor import exit_status

    statuses: list[int] = []
    facts: list[dict[str, object]] = []
    for pipeline in pipelines:
        with looked_at(pipeline, registry) as flow:
            for step in interested(pipeline.fetch):
                try:
                    found = visit(flow, step)
                except MailflowError as error:
                    statuses.append(error.exit_code)
                    say(f"mailflow: {pipeline.name}: {step.name}: {error.text}", err=True)
                    continue
                facts.append(_facts(pipeline, step.name, found))
                if not as_json:
                    say(f"{pipeline.name}: {_summary(step.name, found)}")
            waiting = due(flow)
        if as_json:
            facts += [{"due": entry.mail, **entry._asdict()} for entry in waiting]
            continue
        for entry in waiting:
            to = f" to {', '.join(entry.recipients)}" if entry.recipients else ""
            say(f"{pipeline.name}: {entry.mail} {entry.state} at {entry.step or 'its start'}{to}")
    if as_json:
        show_json(facts)
    return exit_status(statuses)


def _summary(step: str, found: Preview) -> str:
    size = sum(item.size or 0 for item in found.wanted)
    text = f"{step}: {len(found.wanted)} of {counted(found.listed, 'message')} would be fetched"
    if size:
        text += f", {counted(size, 'octet')}"
    if found.reads:
        text += ", and `where` asked of each"
    if found.settled:
        text += f"; {len(found.settled)} that were fetched before would be settled there"
    return text


def _facts(pipeline: Pipeline, step: str, found: Preview) -> dict[str, object]:
    return {
        "pipeline": pipeline.name, "step": step, "source": found.source, "listed": found.listed,
        "fetched": [
            {"key": item.key, "size": item.size, "date": item.date} for item in found.wanted
        ],
        "settled": found.settled,
    }  # fmt: skip
