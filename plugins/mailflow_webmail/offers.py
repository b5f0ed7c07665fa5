"""What a webmail offers, as lines for a human who sets up a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted
from mailflow.wildcards import none_like
from mailflow_webmail.choice import chosen
from mailflow_webmail.origin import SAYING
from mailflow_webmail.rows import size_of

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Session
    from mailflow_webmail.origin import WebmailSourceOptions

SHOWN = 20
"""So many folders are named."""


def facts(session: Session, options: WebmailSourceOptions) -> Iterator[str]:
    """A line for each; nothing is changed there. Raises GoneError where no folder is there that
    would be read: a visit would, too."""
    parts = urlsplit(options.url)
    session.log_in()
    yield f"{parts.netloc}: logged in, by the site {options.site} ({session.site.name})"
    folders = session.folders()
    names = [row.get("name") or row["id"] for row in folders]
    more = ", ..." if len(names) > SHOWN else ""
    yield f"folders: {len(names)}: {', '.join(names[:SHOWN])}{more}"
    read = chosen(options.folders, folders)
    for folder in read:
        rows = session.listing(folder.id)
        sized = sum(size_of(row) is not None for row in rows)
        sizes = "sizes are told" if sized and sized == len(rows) else "sizes are not told"
        yield f"folder {folder.name}: {counted(len(rows), 'message')}, {sizes}"
    known = ", ".join((*filter(session.site.has, SAYING), "keep"))
    yield f"on_done: {options.on_done}, when `keep` is over; this site knows {known}"
    if not read:
        raise none_like(parts.netloc, options.folders)
