"""Removing messages: asked for in batches, believed when a new listing does not have them.

Rule of the file: what the webmail answers to a removal proves nothing; only a listing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mailflow.errors import RefusedError, UnavailableError
from mailflow_webmail.language import RemovalStep
from mailflow_webmail.listing import Row
from mailflow_webmail.steps import needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailflow_webmail.entry import Entry
    from mailflow_webmail.steps import Steps

BATCH = 100
"""Messages in one request, where a site takes several."""


def remove(
    steps: Steps,
    entry: Entry,
    listed: Callable[[str], Mapping[str, Row]],
    rows: Sequence[Row],
    how: str,
) -> None:
    """Delete rows of one folder, move them to the trash, or mark them as seen. `listed` gives
    what a folder has now. Raises ConfigError where the site cannot, UnavailableError where
    some are still there."""
    name = steps.site.name
    step = steps.site.step(how)
    folders = {row["folder"] for row in rows}
    if len(folders) > 1:
        raise ValueError("rows of one folder are removed at a time")
    for folder in folders:
        wanted = {row["id"]: row for row in rows}
        if needed(step) & (rows[0].keys() - {"id", "folder"}):
            now = listed(folder)
            wanted = {key: now[key] for key in wanted if key in now}
        for batch in _batches(steps, how, list(wanted.values())):
            entry.work(lambda facts, batch=batch: steps.ask(how, facts, batch))  # type: ignore[misc]
        if how == "seen" or not wanted:
            return
        left = wanted.keys() & listed(folder).keys()
        if left:
            raise UnavailableError(
                f"{name}: {how}: {len(left)} of {len(wanted)} messages are still in {folder!a},"
                " though nothing was refused"
            )


def refuse_unproven(rows: Sequence[Row], name: str) -> None:
    """Raises RefusedError for rows whose messages may have been cut on their way."""
    if rows:
        raise RefusedError(
            f"{name}: {len(rows)} messages were not removed: the webmail did not say how long"
            " they are, so nothing shows that they have arrived whole"
        )


def _batches(steps: Steps, how: str, rows: Sequence[Row]) -> Iterator[Mapping[str, str]]:
    """The facts of each request."""
    step = steps.site.step(how)
    between = step.joined if isinstance(step, RemovalStep) else None
    if between is None:
        yield from rows
        return
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        yield {name: between.join(row.get(name, "") for row in batch) for name in batch[0]} | {
            "folder": batch[0]["folder"]
        }
