"""Messages of our own: a notice in plain text, and a delivery status notification.

Rule of the file: what others wrote goes into bodies only, in one line each, and never
into a field of the message's own header. email.* is imported when something is sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailflow.log import clean
from mailflow.mail import Octets, head
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import counted

if TYPE_CHECKING:
    from mailflow.mail import Content, Mail
    from mailflow.options import Mailbox

HEADERS_LIMIT = 1 << 16  # octets of the original header that are given back
LINE_LIMIT = 500  # characters of what a server or a mail says


class Failure(NamedTuple):
    """One recipient, and why not: enhanced status code, what was said, and by which host."""

    recipient: str
    status: str
    text: str
    remote: str = ""


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """What somebody else said, as one short line of printable text."""
    return clean(" ".join(text.split()))[:limit]


def age(seconds: float) -> str:
    """A time in words, such as "5 days"."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return counted(round(seconds), "second")


def notice(sender: Mailbox, to: Sequence[Mailbox], subject: str, text: str) -> Content:
    """A message in plain text that says by its header that a program wrote it."""
    from email.message import EmailMessage

    message = EmailMessage(policy=_policy(*(each.address for each in to)))
    _address(message, sender, ", ".join(str(each) for each in to), one_line(subject, 150))
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return Octets(message.as_bytes())


def report(
    sender: Mailbox, to: str, subject: str, text: str, failures: Sequence[Failure], mail: Mail,
    arrived: float,
) -> Content:  # fmt: skip
    """A delivery status notification (RFC 3464): in words, in fields, and the header.

    `arrived` is when the mail did, in seconds since the epoch.
    """
    from email.message import MIMEPart
    from email.mime.multipart import MIMEMultipart
    from email.mime.nonmultipart import MIMENonMultipart
    from email.utils import formatdate

    policy = _policy(to)
    message = MIMEMultipart("report", report_type="delivery-status", policy=policy)
    _address(message, sender, f"<{to}>", subject)
    message["Auto-Submitted"] = "auto-replied"
    _refer(message, mail)
    words = MIMEPart(policy=policy)
    words.set_content(text)
    fields = MIMENonMultipart("message", "delivery-status", policy=policy)
    blocks = [_block(policy, ("Reporting-MTA", f"dns; {sender.domain}"),
                     ("Arrival-Date", formatdate(arrived)))]  # fmt: skip
    for each in failures:
        told = [
            ("Final-Recipient", f"rfc822; {each.recipient}"),
            ("Action", "failed"),
            ("Status", each.status),
        ]
        if each.remote:
            told.append(("Remote-MTA", f"dns; {one_line(each.remote)}"))
            told.append(("Diagnostic-Code", f"smtp; {one_line(each.text)}"))
        blocks.append(_block(policy, *told))
    fields.set_payload(blocks)
    original = MIMEPart(policy=policy)
    original.set_content(_original_header(mail), subtype="rfc822-headers")
    for part in (words, fields, original):
        message.attach(part)
    return Octets(message.as_bytes())


def _policy(*addresses: str) -> Any:
    from email.policy import SMTP

    return SMTP.clone(cte_type="7bit", utf8=not all(each.isascii() for each in addresses))


def _address(message: Any, sender: Mailbox, to: str, subject: str) -> None:
    from email.utils import formatdate, make_msgid

    message["From"] = str(sender)
    _put(message, "To", to)
    _put(message, "Subject", subject)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.domain)


def _refer(message: Any, mail: Mail) -> None:
    """Name the mail that this is about, so that mail programs show it there."""
    about = (mail.header().get("Message-ID") or "").strip()
    if _MESSAGE_ID.fullmatch(about):
        _put(message, "In-Reply-To", about)
        _put(message, "References", about)


_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,200}>")


def _block(policy: Any, *fields: tuple[str, str]) -> Any:
    from email.message import Message

    block = Message(policy=policy)
    for name, value in fields:
        _put(block, name, value)
    return block


def _put(message: Any, name: str, value: str) -> None:
    """Add a field with what others may have written: no encoded word, since email would write
    it decoded, with the line ends in it."""
    message[name] = value.replace("=?", "= ?")


def _original_header(mail: Mail) -> str:
    """The header section as text; its end is left out where it is very long."""
    section = head(mail.content)
    if len(section) > HEADERS_LIMIT:
        section = section[: section.rfind(b"\n", 0, HEADERS_LIMIT) + 1]
    text = section.decode("utf-8", "replace").replace("\r\n", "\n")
    return text.replace("\r", " ").replace("\0", " ")
