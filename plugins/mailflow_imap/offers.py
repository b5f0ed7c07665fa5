"""What an IMAP server offers, as lines for a human who sets up a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailflow.errors import GoneError, RefusedError
from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted
from mailflow.wildcards import none_like
from mailflow_imap.choice import chosen, fruitless, target_of
from mailflow_imap.source import FLAGS

if TYPE_CHECKING:
    from mailflow_imap.names import Folder
    from mailflow_imap.session import Session

SHOWN = 20
"""So many folders have a line of their own."""

NAMED = 100
"""So many have their names shown."""


def facts(session: Session, patterns: Sequence[str], on_done: str) -> Iterator[str]:
    """A line for each; `patterns` and `on_done` are as in the options. Raises GoneError where
    no folder is there that would be read: a visit would, too."""
    yield f"{session.peer} offers: {', '.join(sorted(session.capabilities))}"
    wire = session.wire
    names = f", certificate of {wire.certificate}" if wire.certificate else ""
    yield f"TLS: {wire.protection or 'none'}{names}"
    folders = session.folders().wait()
    uses = [f"\\{each.special.capitalize()} is {each.name}" for each in folders if each.special]
    yield f"folders: {len(folders)}" + "".join(f", {use}" for use in uses)
    yield f"folders are called: {_names(folders)}"
    for pattern in fruitless(patterns, folders):
        yield f"folders: there is none like {pattern}"
    read = chosen(patterns, folders)
    yield from _read(session, read)
    yield "new mail: " + (
        "IDLE, which `serve` hears of at once"
        if session.offers("IDLE")
        else "no IDLE; `serve` asks as often as `every` says"
    )
    yield from _done(session, on_done, patterns, folders)
    if not read:
        raise none_like(session.peer, patterns)


def _names(folders: Sequence[Folder]) -> str:
    """As they are written in `folders`, so that nobody must guess what parts them."""
    names = [each.name for each in folders if each.name.isprintable()]
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _read(session: Session, names: Sequence[str]) -> Iterator[str]:
    """The folders that would be read, as they are now."""
    shown = names[:SHOWN]
    asked = [session.status(name, ("MESSAGES", "UIDVALIDITY")) for name in shown]
    for name, answer in zip(shown, asked, strict=True):
        try:
            told = answer.wait()
        except (RefusedError, GoneError) as error:
            yield f"folder {name}: {error.text}"
            continue
        yield (
            f"folder {name}: {counted(told.get('MESSAGES', 0), 'message')},"
            f" UIDVALIDITY {told.get('UIDVALIDITY', 'none')}"
        )
    if names[SHOWN:]:
        yield f"and {len(names) - SHOWN} folders more"


def _done(
    session: Session, on_done: str, patterns: Sequence[str], folders: Sequence[Folder]
) -> Iterator[str]:
    """What the server can do of `on_done`."""
    target = on_done.removeprefix("move ")
    if on_done == "keep" or on_done in FLAGS:
        return
    if target == on_done:
        yield "on_done: " + (
            "delete, one by one (UIDPLUS)"
            if session.can_expunge
            else "no UIDPLUS; messages are marked as deleted, and stay until somebody expunges"
        )
        return
    try:
        found = target_of(target, patterns, folders)
    except RefusedError as error:
        yield f"on_done: nothing is moved: {error.text}"
        return
    if found is None and target.startswith("\\"):
        yield f"on_done: there is no folder for {target}, so that nothing can be moved there"
        return
    place = found or f"{target}, which will be made"
    yield f"on_done: move to {place} " + (
        "(MOVE)" if session.can_move else "as a copy, the message being deleted then (no MOVE)"
    )
