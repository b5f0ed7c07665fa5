"""Why a mail is not for a list's members: it has been here, or a program sent it.

Rule of the file: each guard gives a verdict with its reason, or None. What a guard
drops is never answered (RFC 3834), and no approval lets it through.
"""

from __future__ import annotations

import re

from mailflow.addresses import addresses, same
from mailflow.automatic import answer, generated, looks_like_answer
from mailflow.mail import decode_words, is_cut
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Discard, Hold, Reject

if TYPE_CHECKING:
    from mailflow.mail import Header, Mail
    from mailflow_list.settings import ListOptions

    Verdict = Discard | Reject | Hold


def loop(header: Header, address: str, list_id: str, max_hops: int) -> Discard | None:
    """It has been through this list, or goes round somewhere."""
    for named in header.get_all("X-Loop"):
        if same(named.strip()) == same(address):
            return Discard(f"a loop: X-Loop says that it has been through {address}")
    for written in header.get_all("List-Id"):
        if identifier(written) == list_id.lower():
            return Discard(f"a loop: List-Id says that it has been through {address}")
    for written in header.get_all("List-Post"):
        if f"<mailto:{address}>".lower() in written.lower():
            return Discard(f"a loop: List-Post says that it has been through {address}")
    hops = len(header.get_all("Received"))
    if hops > max_hops:
        return Discard(f"a loop: {hops} Received fields, more than {max_hops}")
    return None


def identifier(list_id: str) -> str:
    """The identifier in a List-Id field (RFC 2919), in lower case."""
    found = re.search(r"<([^<>]*)>\s*(?:\([^()]*\)\s*)?\Z", list_id)
    return (found[1] if found else list_id).strip().lower()


def program(mail: Mail, automatic: str) -> Verdict | None:
    """A program sent it: an answer never goes on, anything else as `automatic` says."""
    reason = answer(mail)
    if reason:
        return Discard(f"an automatic answer: {reason}")
    reason = generated(mail)
    if reason and automatic != "accept":
        verdict = Discard if automatic == "discard" else Hold
        return verdict(f"sent by a program: {reason}")
    reason = looks_like_answer(mail)
    return Hold(f"perhaps an automatic answer: {reason}") if reason else None


def shape(mail: Mail, options: ListOptions) -> Verdict | None:
    """It is too large, or its header is not what it seems to be."""
    if is_cut(mail.content):
        return Hold("its header section is too long to be looked through")
    header = mail.header()
    for name in ("Subject", "From"):
        if hides_controls(header.get(name) or ""):
            return Hold(f"its {name} field holds control characters")
    size, most = mail.content.size, options.max_size
    if most is not None and size > most:
        verdict = Reject if options.oversize == "reject" else Hold
        return verdict(f"it has {size} octets, more than the {most} this list takes")
    return None


def hides_controls(value: str) -> bool:
    """Whether a value, plain or decoded once, holds what no line of text does."""
    return _CONTROLS.search(value) is not None or _CONTROLS.search(decode_words(value)) is not None


_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def request(header: Header, address: str) -> Hold | None:
    """It is a wish to be taken off, sent to everybody by mistake."""
    subject = (header.decoded("Subject") or "").strip().lower()
    words = _REQUEST.fullmatch(subject)
    if words is None or (words[2] and same(words[2]) != same(address)):
        return None
    return Hold(f'it asks to "{words[1]}": see to it by hand')


_REQUEST = re.compile(
    r"(?:re: *)?(subscribe|unsubscribe|help|signoff|remove)(?: +([^\s@]+@[^\s@]+?))?[.!]?"
)


def confirmed(header: Header, authserv: str) -> bool:
    """Whether the receiving server `authserv` says dmarc=pass (RFC 8601, RFC 7489).

    Only its first field counts: the server writes it on top, and one further down
    may be anybody's. This reads less than the grammar allows, and what it cannot
    read confirms nothing.
    """
    for value in header.get_all("Authentication-Results"):
        server, *results = _without_comments(value).split(";")
        if server.lower().split()[:1] == [authserv.lower()]:
            dmarc = [each.split()[0].lower() for each in results if _DMARC.match(each)]
            return dmarc == ["dmarc=pass"]
    return False


_DMARC = re.compile(r"\s*dmarc\b", re.IGNORECASE)
_MARK = re.compile(r'[^()"\\]+|\\.|.', re.DOTALL)


def _without_comments(value: str) -> str:
    """`value` without comments and quoted strings; "" if that is not simple.

    Mark by mark: a search for whole comments takes hours where a million are not closed.
    """
    kept: list[str] = []
    depth, quoted = 0, False
    for mark in _MARK.findall(value):
        if mark == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif not depth:
            kept.append(mark)
            continue
        kept.append(" ")
        if depth < 0:
            return ""
    text = "".join(kept)
    return "" if depth or quoted or "\\" in text else text


def addressed_to(mail: Mail) -> tuple[str, ...]:
    """Every address the mail says it is for, the transport's word first, as written."""
    found = list(mail.envelope.recipients)
    header = mail.header()
    for name in _TO:
        for value in header.get_all(name):
            found += addresses(value).found
    return tuple(dict.fromkeys(found))


_TO = (
    "X-Original-To", "Delivered-To", "X-Delivered-To", "Envelope-To", "X-Envelope-To", "X-Rcpt-To",
    "To", "Cc", "Bcc", "Apparently-To", "Resent-To", "Resent-Cc", "Resent-Bcc",
)  # fmt: skip


def received_for(mail: Mail) -> tuple[str, ...]:
    """Whom the servers on its way took it for (RFC 5321, 4.4): all that is left of a blind
    copy where the last one wrote nothing else. The nearest server's word is first."""
    return tuple(
        found[1] for each in mail.header().get_all("Received") if (found := _FOR.search(each))
    )


_FOR = re.compile(r"\sfor\s+<?([^\s<>;()@]+@[^\s<>;()@]+)")
