"""What is inside a message: its texts and its attachments, decoded (RFC 2045, RFC 2183).

Rule of the file: it only reads; hostile MIME gives less, and never an error.
"""

from __future__ import annotations

from mailflow.mail import decode_words
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from email.message import Message

PARTS_LIMIT = 10_000
"""More parts than this are not looked at."""

Part = dict[str, Any]


def split(octets: bytes) -> tuple[list[Part], list[Part]]:
    """(texts, attachments) of a message.

    A text is {"mime", "text"}, an attachment {"mime", "filename", "encoding",
    "disposition", "payload"}: `filename` is decoded and may be "", `encoding` is the charset
    of one that is text, else "", `payload` its octets. A message within a message is an
    attachment.
    """
    from mailflow.mime import parsed

    try:
        return _split(parsed(octets))
    except Exception:  # noqa: BLE001  # hostile MIME makes the parser raise what it likes
        body = octets.partition(b"\r\n\r\n")[2]
        return [{"mime": "text/plain", "text": body.decode("utf-8", "replace")}], []


def _split(message: Message) -> tuple[list[Part], list[Part]]:
    texts: list[Part] = []
    attachments: list[Part] = []
    waiting = [message]
    for _ in range(PARTS_LIMIT):
        if not waiting:
            break
        part = waiting.pop()
        mime = part.get_content_type()
        inner: Any = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting += reversed(inner)
        elif mime.startswith("text/") and not _is_attached(part):
            texts.append({"mime": mime, "text": text(_octets(part), _charset(part))})
        else:
            attachments.append({
                "mime": mime, "filename": _filename(part),
                "encoding": _charset(part) if mime.startswith("text/") else "",
                "disposition": part.get_content_disposition() or "", "payload": _octets(part),
            })  # fmt: skip
    return texts, attachments


def _is_attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment" or part.get_filename() is not None


def _filename(part: Message) -> str:
    """As it is meant: also where words are encoded that RFC 2231 would have encoded."""
    return decode_words(part.get_filename() or "")


def _charset(part: Message) -> str:
    return str(part.get_content_charset() or "")


def _octets(part: Message) -> bytes:
    inner: Any = part.get_payload()
    if isinstance(inner, list):  # message/rfc822: one message, as it lies there
        return b"".join(each.as_bytes() for each in inner)
    decoded = part.get_payload(decode=True)
    return decoded if isinstance(decoded, bytes) else b""


def text(octets: bytes, charset: str) -> str:
    """As the charset says; what that is not gives U+FFFD, one that nobody knows Latin-1."""
    from mailflow.mime import decoded

    return decoded(octets, charset)
