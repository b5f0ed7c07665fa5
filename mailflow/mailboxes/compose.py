"""A message made of fields, to be put into a folder.

Rule of the file: no field can begin another one; the rest is the standard library's email.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mailflow.mail import Octets
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from email.message import EmailMessage

    from mailflow.mail import Content

_ADDRESSES = {"sender": "From", "to": "To", "cc": "Cc", "bcc": "Bcc"}

_FIELDS = (*_ADDRESSES, "subject", "content", "attachments", "headers")


def compose(fields: Mapping[str, Any], created: datetime | float | None = None) -> Content:
    """A message of these fields. Raises ValueError where one is wrong.

    sender, to, cc, bcc   text such as "Ann <ann@example.org>", or several in a list
    subject               text
    content               text, or a list of {"text", "mime"}: several stand for one another
    attachments           a list of {"payload", "mime", "filename", "encoding", "disposition"},
                          of which `payload`, octets or text, must be there
    headers               other header fields by their names

    Date is `created` or now, and Message-ID is made, where `headers` do not say them.
    """
    from email.message import EmailMessage
    from email.policy import SMTP
    from email.utils import make_msgid

    from mailflow.values import instead

    for name in fields:
        if name not in _FIELDS:
            hint = instead(name, _FIELDS)
            raise ValueError(f"no message is made of {name!r}{hint}")
    message = EmailMessage(policy=SMTP)
    try:
        for name, header in _ADDRESSES.items():
            if fields.get(name):
                value = fields[name]
                value = value if isinstance(value, str) else ", ".join(value)
                message[header] = _checked(header, value)
        message["Subject"] = _checked("Subject", fields.get("subject") or "")
        for header, value in (fields.get("headers") or {}).items():
            message[header] = _checked(header, value)
        if "Date" not in message:
            message["Date"] = _date(created)
        if "Message-ID" not in message:
            message["Message-ID"] = make_msgid(domain="mailflow.invalid")
        _add_texts(message, fields.get("content") or "")
        for attachment in fields.get("attachments") or ():
            _attach(message, attachment)
        _check_decoded(message)
        return Octets(message.as_bytes())
    except (TypeError, LookupError, AttributeError, UnicodeError, OverflowError) as error:
        raise ValueError(f"no message can be made of this: {error}") from None


def _checked(name: str, value: str) -> str:
    """A value that begins no other field. Raises ValueError."""
    if not re.fullmatch(r"[!-9;-~]+", name):
        raise ValueError(f"not a header field name: {name!r}")
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"CR, LF or NUL in the value of {name}")
    return value


def _check_decoded(message: EmailMessage) -> None:
    """Values are written as email decodes them, and encoded words may hold line ends: so is
    each of every part looked at once more. Raises ValueError."""
    for part in message.walk():
        for name, value in part.items():
            _checked(name, value)


def _date(created: datetime | float | None) -> str:
    from datetime import datetime
    from email.utils import format_datetime

    if isinstance(created, datetime):
        return format_datetime(created.astimezone())
    now = datetime.now() if created is None else datetime.fromtimestamp(created)
    return format_datetime(now.astimezone())


def _add_texts(message: EmailMessage, content: str | Iterable[Mapping[str, str]]) -> None:
    texts = [{"text": content}] if isinstance(content, str) else list(content)
    for number, each in enumerate(texts or [{"text": ""}]):
        kind, _, subtype = each.get("mime", "text/plain").partition("/")
        if kind != "text":
            raise ValueError(f"expected a type such as text/html; found {each['mime']!r}")
        put = message.set_content if number == 0 else message.add_alternative
        put(each["text"], subtype=subtype)


def _attach(message: EmailMessage, attachment: Mapping[str, Any]) -> None:
    payload = attachment["payload"]
    charset = attachment.get("encoding") or ("utf-8" if isinstance(payload, str) else "")
    octets = payload.encode(charset) if isinstance(payload, str) else bytes(payload)
    default = "text/plain" if isinstance(payload, str) else "application/octet-stream"
    kind, _, subtype = (attachment.get("mime") or default).partition("/")
    if kind in ("message", "multipart"):  # octets of ours; email would parse and write them anew
        kind, subtype = "application", "octet-stream"
    message.add_attachment(
        octets, maintype=kind, subtype=subtype,
        disposition=_checked("Content-Disposition", attachment.get("disposition") or "attachment"),
        filename=_checked("Content-Disposition", attachment.get("filename") or "") or None,
        params={"charset": charset} if charset and kind == "text" else None,
    )  # fmt: skip
