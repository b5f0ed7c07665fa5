"""Removing messages: asked for in batches, believed when a new listing does not have them.

Rule of the file: what the webmail answers to a removal proves nothing; only a listing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mailflow.errors import RefusedError, UnavailableError
from mailflow.values import counted
from mailflow_webmail.account.listing import PAGE, Row
from mailflow_webmail.account.steps import needed
from mailflow_webmail.definition.language import RemovalStep

if TYPE_CHECKING:
    from mailflow_webmail.account.entry import Entry
    from mailflow_webmail.account.steps import Steps

BATCH = 100
"""Messages in one request, where a site takes several."""

Listed = Callable[[str], Mapping[str, Row]]
"""What a folder has now, by ids."""


def remove(steps: Steps, entry: Entry, listed: Listed, rows: Sequence[Row], how: str) -> None:
    """Delete rows of one folder, move them to the trash, or mark them as seen. Raises
    ConfigError where the site cannot, UnavailableError where some are still there."""
    step = steps.site.step(how)
    if not rows:
        return
    folder = rows[0]["folder"]
    if any(row["folder"] != folder for row in rows):
        raise ValueError("the rows are not of one folder")
    wanted = {row["id"]: row for row in rows}
    handles = needed(step) & {*steps.site.list_.rows.names} - {"id"}
    _check_apart(steps, how, wanted.values())
    if handles:
        _check_place(steps, how, handles)
        now = listed(folder)
        wanted = {key: now[key] for key in wanted if key in now}
        _check_apart(steps, how, wanted.values())
    for batch in _batches(steps, how, list(wanted.values())):
        entry.work(lambda facts, batch=batch: steps.ask(how, facts, dict(batch)))  # type: ignore[misc]
    if how == "seen" or not wanted:
        return
    left = wanted.keys() & listed(folder).keys()
    if left:
        raise UnavailableError(
            f"{steps.site.name}: {how}: {len(left)} of {counted(len(wanted), 'message')}"
            f" {'is' if len(left) == 1 else 'are'} still in"
            f" {folder!r}, though nothing was refused"
        )


def refuse_unproven(rows: Sequence[Row], name: str) -> None:
    """Raises RefusedError for rows whose messages may have been cut on their way."""
    if rows:
        raise RefusedError(
            f"{name}: not removed: {counted(len(rows), 'message')} of which the webmail did not say"
            " the length, so that nothing shows that all of it has arrived"
        )


def _check_place(steps: Steps, how: str, handles: set[str]) -> None:
    """Raises RefusedError where a message is named by its place, which may be another's by the
    time that the webmail reads it."""
    site = steps.site
    shifting = handles & needed(site.raw) if site.list_.volatile and how != "seen" else set()
    if shifting:
        raise RefusedError(
            f"{site.name}: {how}: messages are named by {{{min(shifting)}}} there, which shifts as"
            " mail comes and goes: nothing is removed"
        )


def _check_apart(steps: Steps, how: str, rows: Iterable[Row]) -> None:
    """Raises RefusedError where what names one message has in it what stands between two: it
    would name others."""
    step = steps.site.step(how)
    joined = step.joined if isinstance(step, RemovalStep) else None
    names = needed(step) & {*steps.site.list_.rows.names}
    if joined is not None and any(joined in row.get(name, "") for row in rows for name in names):
        raise RefusedError(
            f"{steps.site.name}: {how}: a message has {joined!a} in its name, which stands between"
            " two of them there: nothing is removed"
        )


def _batches(steps: Steps, how: str, rows: Sequence[Row]) -> Iterator[Mapping[str, str]]:
    """The facts of each request."""
    step = steps.site.step(how)
    joined = step.joined if isinstance(step, RemovalStep) else None
    if joined is None:
        yield from rows
        return
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        facts = {name: joined.join(row[name] for row in batch) for name in batch[0]}
        yield {**facts, "folder": batch[0]["folder"], PAGE: batch[0].get(PAGE, "")}
