"""What is made of the compose form: a message in Sent, and in the mbox of what goes out.

Rule of the file: a form that cannot become a whole message is refused, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING

from mailflow.addresses import addresses

if TYPE_CHECKING:
    from werkzeug.datastructures import FileStorage

    from mailflow_webmail.testbed.app import Bed


def sent(bed: Bed, form: Mapping[str, str], files: Iterable[FileStorage]) -> str:
    """Send it; why it is refused, or ""."""
    to = [
        address for name in ("to", "cc", "bcc") for address in addresses(form.get(name, "")).found
    ]
    if not to:
        return "nobody to send it to"
    try:
        message = _made(bed, form, files)
    except ValueError:
        return "a field has more than one line"
    whole = message.as_bytes()
    if bed.outgoing is not None:
        del message["Bcc"]
        envelope = f"X-Envelope-To: {', '.join(to)}\r\n".encode()
        bed.outgoing.add(envelope + message.as_bytes(), sender=bed.sender)
    bed.folders["Sent"].add(whole, sender=bed.sender)
    return ""


def _made(bed: Bed, form: Mapping[str, str], files: Iterable[FileStorage]) -> EmailMessage:
    """Raises ValueError for a line break in a field."""
    message = EmailMessage(policy=SMTP)
    message["From"] = form.get("from") or bed.sender
    for name in ("to", "cc", "bcc", "reply-to", "subject", "in-reply-to", "references"):
        if form.get(name):
            message[name.title()] = form[name]
    message["Date"] = formatdate()
    message["Message-ID"] = form.get("message-id") or make_msgid(domain="testbed.example.org")
    message.set_content(form.get("text", "").replace("\r\n", "\n"))
    for file in files:
        if file.filename:
            main, _, sub = (file.mimetype or "application/octet-stream").partition("/")
            message.add_attachment(file.read(), main, sub, filename=file.filename)
    return message
