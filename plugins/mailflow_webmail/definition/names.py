"""The {names} of a definition: what may stand where, and what is put there.

Rule of the file: every name is checked before anything is asked, so that filling in cannot
fail in the middle of a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mailflow.options import Fault, nearest
from mailflow_webmail.definition.finders import STEPS
from mailflow_webmail.definition.language import SENDING, Site

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")

OF_A_MESSAGE = ("raw", "seen", "delete", "trash")
"""Steps that are about a message of the list."""

OF_A_MAIL = (
    "from", "to", "cc", "bcc", "reply_to", "subject", "text",
    "message_id", "message_id_bare", "in_reply_to", "references",
)  # fmt: skip
"""What such a mail gives to them."""

_OWN_OF_A_MAIL = {"attach": ("number",), "sent": ("folder",)}


def fill(pattern: str, facts: Mapping[str, str]) -> str:
    """The text with its {names} filled in; braces around anything else stay."""
    return _NAME.sub(lambda found: facts[found[1]], pattern)


def address(pattern: str, facts: Mapping[str, str]) -> str:
    """The same for an address: what is filled in behind its beginning is quoted, so that a
    folder "a/b?" is one part of it."""
    from urllib.parse import quote

    def one(found: re.Match[str]) -> str:
        value = facts[found[1]]
        return value if found.start() == 0 else quote(value, safe="")

    return _NAME.sub(one, pattern)


def named(pattern: str) -> tuple[str, ...]:
    return tuple(_NAME.findall(pattern))


def unprovided(site: Site) -> Iterator[Fault]:
    """Names that nothing provides, and steps that name nothing of what they are about."""
    for name in STEPS:
        if site.has(name):
            yield from _of_step(site, name)
    fields = site.folders.rows.names
    for number, total in enumerate(site.list_.total):
        if total.field is not None and total.field not in fields:
            text = f"the folders have no such field{nearest(total.field, fields)}"
            yield Fault(("list", "total", number, "field"), text)


def _of_step(site: Site, name: str) -> Iterator[Fault]:
    step = site.step(name)
    known = _provided(site, name)
    used = [(path, each) for path, text in step.templates() for each in named(text)]
    wrong = [(path, each) for path, each in used if each not in known]
    for path, each in wrong:
        yield Fault((name, *path), _missing(name, each, known))
    if not wrong and site.hook is None:
        yield from _unnamed(site, name, {each for _, each in used})


def _unnamed(site: Site, name: str, used: set[str]) -> Iterator[Fault]:
    """What a step must name, or all its requests are one."""
    paged = site.list_.next_ is not None and site.list_.next_.counts
    if site.lacks_request(name):
        yield Fault((name,), "needs `get`, `post` or `query`: what is asked for")
    elif name in OF_A_MESSAGE and not used & set(site.list_.rows.names):
        yield Fault((name,), "none of its templates names the message; expected {id} in one")
    elif name == "list" and "folder" not in used and not _is_only_one(site):
        yield Fault((name,), "none of its templates names the folder; expected {folder} in one")
    elif name == "list" and paged and "n" not in used:
        yield Fault((name, "next"), "none of the templates names the page; expected {n} in one")


def _is_only_one(site: Site) -> bool:
    """Whether the webmail has one folder, which the definition gives a name."""
    id_ = site.folders.rows.fields.get("id")
    return id_ is not None and id_.otherwise is not None


def _provided(site: Site, name: str) -> set[str]:
    """The facts there are when a step is done."""
    known = _own(site, name)
    if name != "login":
        known |= site.login.capture.keys()
    earlier = SENDING[: SENDING.index(name)] if name in SENDING else ()
    for each in (*_before(site, name), *filter(site.has, earlier)):
        known |= site.step(each).capture.keys()
    return known


def _own(site: Site, name: str) -> set[str]:
    if name == "login":
        return {"user", "password"}
    if name == "list":
        counts = site.list_.next_ is not None and site.list_.next_.counts
        return {"user", "folder", "n"} if counts else {"user", "folder"}
    if name in OF_A_MESSAGE:
        return {"user", "folder", *site.list_.rows.names}
    if name in SENDING:
        return {"user", *OF_A_MAIL, *_OWN_OF_A_MAIL.get(name, ())}
    return {"user"}


def _before(site: Site, name: str) -> list[str]:
    """The steps that are done before one, theirs too."""
    found: list[str] = []
    todo = list(site.step(name).before)
    while todo:
        each = todo.pop()
        if each not in found and site.has(each):
            found.append(each)
            todo += site.step(each).before
    return found


def _missing(step: str, name: str, known: set[str]) -> str:
    if name == "password":
        return "only `login` is told the {password}"
    return f"nothing provides {{{name}}} at `{step}`{nearest(name, sorted(known))}"
