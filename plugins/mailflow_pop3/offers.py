"""What a POP3 server offers, as lines for a human who sets up a pipeline."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted
from mailflow_pop3.guess import may_delete
from mailflow_pop3.wire import Reply, numbered

if TYPE_CHECKING:
    from mailflow_pop3.session import Session


def facts(session: Session, way: str, uidl: Reply, listing: Reply) -> Iterator[str]:
    """A line for each; `uidl` and `listing` are the answers after a log-in by `way`."""
    offered = [" ".join((name, *words)) for name, words in session.capabilities.items()]
    yield f"{session.peer} offers: {', '.join(offered) or 'nothing that it tells (no CAPA)'}"
    wire = session.wire
    names = f", certificate of {wire.certificate}" if wire.certificate else ""
    yield f"TLS: {wire.protection or 'none'}{names}"
    yield f"logged in by: {way}; " + (
        "commands are sent ahead"
        if session.streaming
        else "each command waits for its answer, since it does not say PIPELINING"
    )
    if listing.ok:
        sizes = [rest.split(b" ")[0] for number, rest in numbered(listing.body or b"") if number]
        octets = sum(int(size) for size in sizes if size.isdigit() and len(size) < 16)
        yield f"mailbox: {counted(len(sizes), 'message')}, {counted(octets, 'octet')}"
    else:
        yield f"mailbox: not listed ({listing.text})"
    yield "keys: " + (
        "UIDL"
        if uidl.ok
        else "no UIDL; messages are known by their headers, which are read at every visit"
    )
    if may_delete(session.capabilities):
        yield 'EXPIRE 0: it may delete what was read; on_done = "keep" keeps nothing there'
