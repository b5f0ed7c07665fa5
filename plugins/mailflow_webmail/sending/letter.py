"""A mail as it is written by hand: whom it is from and to, subject, text and files.

Rule of the file: what of a mail the form of a webmail cannot say is an error before anything
is sent, unless the user has named it as what may be lost; see the tables in docs/webmail.rst.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailflow.addresses import addresses, same
from mailflow.errors import BadMailError
from mailflow.mail import decode_words, is_cut, read
from mailflow.values import Mailbox
from mailflow.wildcards import fits
from mailflow_webmail.sending.parts import Body, File, body

if TYPE_CHECKING:
    from mailflow.mail import Header, Mail

KINDS = ("html", "inline", "name", "sender", "addressees", "line-ends")
"""What may be lost, and is no header field."""

FIELDS = {
    "from": "from", "to": "to", "cc": "cc", "subject": "subject", "reply-to": "reply_to",
    "message-id": "message_id", "in-reply-to": "in_reply_to", "references": "references",
}  # fmt: skip
"""Header fields that a form may have a place for, and the names of a site's patterns."""

MADE = (
    "date", "message-id", "mime-version", "content-*", "user-agent", "x-mailer",
    "dkim-signature", "domainkey-signature", "arc-*",
    "received", "x-received", "return-path", "delivered-to", "x-delivered-to", "x-original-to",
    "envelope-to", "x-envelope-*", "authentication-results", "received-spf", "x-spam-*", "bcc",
    "status", "x-status", "x-uid", "x-keywords",
)  # fmt: skip
"""Fields that are made anew for each mail that is sent, or tell of the way it came."""

LONG = 100_000
"""Characters of a field that nobody has written."""

_ONCE = ("From", "Subject", "Reply-To", "Message-ID", "In-Reply-To", "References", "Sender")
_HOST_NAME = re.compile(r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Letter(NamedTuple):
    """What is filled in. `blind` are the recipients whom no field names."""

    sender: Mailbox
    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    blind: tuple[str, ...]
    reply_to: tuple[Mailbox, ...]
    subject: str
    message_id: str
    in_reply_to: str
    references: str
    text: str
    files: tuple[File, ...]
    loses: frozenset[str]

    def facts(self) -> dict[str, str]:
        """By the names of a site's patterns, but for `from`, which the form decides."""
        return {
            "to": _written(self.to), "cc": _written(self.cc), "bcc": ", ".join(self.blind),
            "reply_to": _written(self.reply_to), "subject": self.subject, "text": self.text,
            "message_id": self.message_id, "message_id_bare": self.message_id.strip("<>"),
            "in_reply_to": self.in_reply_to, "references": self.references,
        }  # fmt: skip

    @property
    def typed_sender(self) -> str:
        return _typed(self.sender)

    @property
    def recipients(self) -> frozenset[str]:
        """Everybody who gets it, in the form of `same`."""
        named = [each.address for each in (*self.to, *self.cc)]
        return frozenset(map(same, (*named, *self.blind)))


def letter(
    mail: Mail,
    recipients: Sequence[str],
    *,
    carried: Collection[str],
    loses: Collection[str] = (),
    drops: Collection[str] = (),
) -> Letter:
    """The mail to these recipients as a letter. `carried`: the names that the site fills in
    somewhere. Raises BadMailError, which names all that would be lost."""
    header = mail.header()
    if is_cut(mail.content):
        raise BadMailError("its header is too long")
    for name in _ONCE:
        if len(header.get_all(name)) > 1:
            raise BadMailError(f"it has more than one {name}")
    senders = _mailboxes(header, "From")
    if len(senders) != 1:
        raise BadMailError("it is not from one address, and a form sends from one")
    made = body(read(mail.content))
    lost = [*_lost_fields(header, senders[0], carried, drops), *_lost_parts(made, loses)]
    to, cc, strangers = _addressees(header, recipients)
    if strangers and "addressees" not in loses:
        lost.append(
            f"that it is not for {_some(strangers)}, whom To or Cc names"
            ' (loses = ["addressees"] leaves them out)'
        )
    sender = mail.envelope.sender
    if sender is not None and same(sender) != same(senders[0].address) and "sender" not in loses:
        lost.append(f'its envelope sender {sender or "<>"} (loses = ["sender"])')
    named = {same(each.address) for each in (*to, *cc)}
    blind = tuple(each for each in recipients if same(each) not in named)
    if blind and "bcc" not in carried:
        lost.append("recipients whom neither To nor Cc names")
    if lost:
        raise BadMailError(f"the form of a webmail cannot say {'; '.join(lost)}")
    return Letter(
        senders[0], to, cc, blind, _mailboxes(header, "Reply-To"),
        _words(header, "Subject"), _one_line(header, "Message-ID"),
        _one_line(header, "In-Reply-To"), _one_line(header, "References"), made.text, made.files,
        frozenset(loses),
    )  # fmt: skip


def addressed(header: Header) -> tuple[str, frozenset[str]]:
    """The Message-ID of a mail, and everybody whom To, Cc and Bcc name; ("", ...) where that
    cannot be read."""
    try:
        found = [each.address for name in ("To", "Cc", "Bcc") for each in _mailboxes(header, name)]
        return _one_line(header, "Message-ID"), frozenset(map(same, found))
    except BadMailError:
        return "", frozenset()


def _lost_fields(
    header: Header, sender: Mailbox, carried: Collection[str], drops: Collection[str]
) -> Iterator[str]:
    """The fields that no place is for."""
    allowed = [*MADE, *(each.lower() for each in drops)]
    if same(sender.address) in [same(each.address) for each in _mailboxes(header, "Sender")]:
        allowed.append("sender")
    for name in dict.fromkeys(header.names()):
        if FIELDS.get(name.lower()) in carried:
            continue
        if not any(fits(each, name.lower()) for each in allowed):
            yield f'its field {name} (drops = ["{name}"])'


def _lost_parts(made: Body, loses: Collection[str]) -> Iterator[str]:
    for kind, words in made.lost:
        if kind not in loses:
            yield f'{words} (loses = ["{kind}"])'


def _addressees(
    header: Header, recipients: Sequence[str]
) -> tuple[tuple[Mailbox, ...], tuple[Mailbox, ...], list[str]]:
    """Those of To, those of Cc, and whom these name besides, who is to get nothing."""
    wanted = set(map(same, recipients))
    seen: set[str] = set()
    strangers: list[str] = []
    found: list[tuple[Mailbox, ...]] = []
    for name in ("To", "Cc"):
        kept = []
        for each in _mailboxes(header, name):
            key = same(each.address)
            if key not in wanted:
                strangers.append(each.address)
            elif key not in seen:
                seen.add(key)
                kept.append(each)
        found.append(tuple(kept))
    return found[0], found[1], strangers


def _mailboxes(header: Header, name: str) -> tuple[Mailbox, ...]:
    """Whom a field names. Raises BadMailError where that can be read in two ways."""
    from email.utils import getaddresses

    made: list[Mailbox] = []
    for value in header.get_all(name):
        if len(value) > LONG:
            raise BadMailError(f"its {name} is too long")
        plain = addresses(value)
        pairs = [(named, address) for named, address in getaddresses([value]) if address]
        if not plain.found and re.fullmatch(r"[^,<>@]*:\s*;\s*", value):
            continue  # an empty group, such as undisclosed-recipients:;
        alike = list(dict.fromkeys(address for _, address in pairs)) == list(plain.found)
        if not (alike and plain.clean and value.isprintable()):
            raise BadMailError(f"its {name} cannot be read for sure")
        for named, address in pairs:
            if not address.isascii() or '"' in address or not _fits(name, address):
                raise BadMailError(f"its {name} names {address[:80]!a}, which no form takes")
            made.append(Mailbox(_decoded(name, named), address))
    return tuple(made)


def _fits(name: str, address: str) -> bool:
    """Whether it is sure to be taken: Roundcube leaves out a Reply-To without a host name, and
    says nothing; of recipients it complains."""
    return name != "Reply-To" or _HOST_NAME.fullmatch(address.rpartition("@")[2]) is not None


def _written(mailboxes: Sequence[Mailbox]) -> str:
    """As it is typed into a form: names in words, quoted where they must be."""
    return ", ".join(map(_typed, mailboxes))


def _typed(mailbox: Mailbox) -> str:
    name, address = mailbox
    if not name:
        return address
    if re.fullmatch(r"[\w !#$%&'*+/=?^`{|}~-]+", name):
        return f"{name} <{address}>"
    quoted = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{quoted}" <{address}>'


def _words(header: Header, name: str) -> str:
    value = header.get(name)
    return "" if value is None else _decoded(name, value)


def _decoded(name: str, value: str) -> str:
    found = " ".join(decode_words(value).split())
    if "\ufffd" in found or _CONTROLS.search(found):
        raise BadMailError(f"its {name} is not text")
    return found


def _one_line(header: Header, name: str) -> str:
    value = " ".join((header.get(name) or "").split())
    if not value.isascii() or not value.isprintable():
        raise BadMailError(f"its {name} is not ASCII")
    return value


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
