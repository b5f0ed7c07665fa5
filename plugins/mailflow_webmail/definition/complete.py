"""Whether a definition says all of how mail is sent.

Rule of the file: what every mail has needs a field, or it would be lost in silence; what only
some have is refused mail by mail, by name, see `letter.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailflow.options import Fault
from mailflow_webmail.definition.language import SENDING
from mailflow_webmail.definition.names import named

if TYPE_CHECKING:
    from mailflow_webmail.definition.language import Site

NEEDED = ("from", "to", "subject", "text")


def incomplete(site: Site) -> Iterator[Fault]:
    """What a site that sends lacks; nothing of one that does not."""
    if not any(map(site.has, SENDING)):
        return
    for name in ("compose", "send"):
        if not site.has(name):
            yield Fault((name,), "is missing: a webmail that sends has `compose` and `send`")
    for name in ("write", "send"):
        if site.has(name) and site.step(name).form is None:
            yield Fault((name, "form"), "is missing: which form is filled in")
    name = "write" if site.has("write") else "send"
    if not site.has(name):
        return
    filled = {each for text in site.step(name).fill.values() for each in named(text)}
    for each in NEEDED:
        if each not in filled:
            text = f"nothing is filled in with {{{each}}}, which would be lost of every mail"
            yield Fault((name, "fill"), text)
