"""What a list changes in the header of a post, and nothing else of it.

Rule of the file: fields are set, added or removed on their raw lines. What DKIM
signed stays as it is unless the list was told to change it (prefix, Reply-To), and
Authentication-Results are the business of those who wrote them.
"""

from __future__ import annotations

import re

from mailflow.mail import decode_words
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Header
    from mailflow.options import Mailbox
    from mailflow_list.settings import ListOptions

PRIVATE = (
    "Bcc", "Resent-Bcc", "Return-Path", "Delivered-To", "X-Delivered-To", "X-Original-To",
    "Envelope-To", "X-Envelope-To", "X-Rcpt-To", "X-Forwarded-To", "X-Envelope-From",
    "Approved", "X-Approved", "Approve", "X-Approve",
    "Return-Receipt-To", "Disposition-Notification-To", "Disposition-Notification-Options",
    "X-Confirm-Reading-To", "X-PMRQC", "Errors-To", "Status", "X-Status", "X-UID", "X-Keywords",
)  # fmt: skip
"""For one reader or one mailbox, or a secret: no business of the members, nor of the
archive, which gets what they get."""

OF_A_LIST = (
    "List-Id", "List-Post", "List-Help", "List-Subscribe", "List-Unsubscribe",
    "List-Unsubscribe-Post", "List-Owner", "List-Archive",
)  # fmt: skip
"""Another list's, where it is a member of this one (RFC 2369, 4)."""


class Dress(NamedTuple):
    """The fields of one list, made once."""

    name: str
    mailbox: str
    prefix: str
    reply_to: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, options: ListOptions, list_id: str) -> Dress:
        own, owner = options.mailbox, options.owner
        contact = owner or own
        ask = f"<mailto:{_quoted(contact.address)}?subject={{}}%20{_quoted(own.address)}>"
        fields = [
            ("List-Id", _named(own, list_id)),
            ("List-Post", f"<mailto:{_quoted(own.address)}>" if options.is_open else "NO"),
            ("List-Help", ask.format("help")),
            ("List-Subscribe", ask.format("subscribe")),
            ("List-Unsubscribe", ask.format("unsubscribe")),
        ]
        if owner:
            fields.append(("List-Owner", f"<mailto:{_quoted(owner.address)}>"))
        if options.archive:
            fields.append(("List-Archive", f"<{options.archive}>"))
        prefix = options.prefix.strip()
        return cls(own.address, str(own), prefix, options.reply_to, tuple(fields))

    def put_on(self, header: Header) -> None:
        """Make the header of a post that of a post to this list."""
        header.remove_mbox_line()
        for name in (*PRIVATE, *OF_A_LIST):
            header.remove(name)
        self._name_subject(header)
        if self.reply_to == "list":
            header.set("Reply-To", self.mailbox)
        elif self.reply_to == "author":
            header.remove("Reply-To")
        header.set("Sender", self.mailbox)
        for name, value in self.fields:
            header.add(name, value)
        header.set("Precedence", "list")
        header.add("X-Loop", self.name)

    def _name_subject(self, header: Header) -> None:
        subject = header.get("Subject") or ""
        shown = decode_words(subject)
        if not shown.strip():
            header.set("Subject", f"{_encoded(self.prefix, ' ')}(No subject)")
        elif self.prefix and self.prefix.lower() not in shown.lower():
            # Of two encoded words the space between them is not shown (RFC 2047, 6.2).
            space = " =?" if subject.startswith("=?") else " "
            header.set("Subject", _encoded(self.prefix, space) + _CONTROLS.sub(" ", subject))


_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def _encoded(prefix: str, space: str) -> str:
    """The prefix and the space behind it, as encoded words where it is not ASCII."""
    if not prefix:
        return ""
    if prefix.isascii():
        return f"{prefix} "
    from email.header import Header as Words

    inside = " " if space != " " else ""
    return Words(prefix + inside, "utf-8", maxlinelen=75).encode(linesep="") + " "


def _named(mailbox: Mailbox, identifier: str) -> str:
    """`Red <red.example.org>`: the list's name as a phrase, encoded where needed."""
    if not mailbox.name:
        return f"<{identifier}>"
    return str(mailbox._replace(address=identifier))


def _quoted(address: str) -> str:
    """An address in a mailto URL (RFC 6068)."""
    octets = address.encode()
    return "".join(chr(o) if chr(o) in _PLAIN else f"%{o:02X}" for o in octets)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$'*+@")
