"""What is known of a message, said lazily: nothing is read or parsed before it is asked.

Rule of the file: `find` gives UNKNOWN for what another look may tell, and an empty
value for what is known to be absent. What a message says is never trusted to be well
formed; nothing here raises for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from mailflow.query.tree import FIELDS
from mailflow.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from email.message import Message

    from mailflow.kinds import Item, Trouble
    from mailflow.mail import Header, Mail


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()

BODY_LIMIT = 8 << 20
LINE_LIMIT = 1 << 17
"""`content` and `attachment` look at this many octets and lines of a message: the parser
asks each line whether it ends any of the parts around it, and short lines are many."""


class Facts(Protocol):
    """What a query asks. `now` is seconds since the epoch."""

    now: float

    def find(self, field: str, argument: str | None) -> object:
        """The value of a field, or UNKNOWN. Its Python type goes by the field's type:

        flag: bool; word: str; number, size, span, moment: a number, or None; text: a tuple
        of str; address: a tuple of raw fields, or of addr-specs for an envelope.
        """
        ...


class ItemFacts:
    """What a listing says; all that is in the message itself is UNKNOWN."""

    def __init__(self, item: Item, *, now: float | None = None) -> None:
        self.now = time.time() if now is None else now
        self._item = item

    def find(self, field: str, argument: str | None) -> object:
        item = self._item
        found: object = None
        if field in ("size", "folder", "uid"):
            found = getattr(item, field)
        elif field in ("created", "age"):
            found = item.date
        elif FIELDS[field].reach == "listing" and item.flags is not None:
            return field in {flag.lstrip("\\").lower() for flag in item.flags}
        if found is None:
            return UNKNOWN
        if field == "age":
            return self.now - found  # type: ignore[operator]  # a date is a number
        return (found,) if field == "folder" else found


class MailFacts:
    """What a mail says, and what its listing said where `item` is given.

    `whole` False: only its header section is at hand. `source` is the name of the
    [[fetch]] that it came by.
    """

    def __init__(
        self,
        mail: Mail,
        item: Item | None = None,
        *,
        now: float | None = None,
        whole: bool = True,
        source: str = "",
    ) -> None:
        self.now = time.time() if now is None else now
        self.source = source
        self._mail = mail
        self._listed = None if item is None else ItemFacts(item, now=self.now)
        self._whole = whole
        self._header: Header | None = None
        self._parts: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def find(self, field: str, argument: str | None) -> object:
        if self._listed is not None and not (field == "size" and self._whole):
            found = self._listed.find(field, argument)
            if found is not UNKNOWN:
                return found
        if field == "header":
            return _named(self, argument or "")
        if field == "note":
            noted = self._mail.notes.get(argument or "")
            return () if noted is None else (noted,)
        return _FINDERS[field](self) if field in _FINDERS else UNKNOWN

    @property
    def mail(self) -> Mail:
        return self._mail

    @property
    def whole(self) -> bool:
        return self._whole

    @property
    def header(self) -> Header:
        if self._header is None:
            self._header = self._mail.header()
        return self._header

    @property
    def parts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The texts, and the names of the attachments."""
        if self._parts is None:
            self._parts = _parts(self._mail)
        return self._parts


class TroubleFacts:
    """What a trouble says, and its mail. Without one, nothing holds of the mail."""

    def __init__(self, trouble: Trouble, *, now: float | None = None, source: str = "") -> None:
        self.now = time.time() if now is None else now
        self._source = trouble.step if trouble.stage in ("fetch", "alarm") else source
        self._trouble = trouble
        self._mail = None if trouble.mail is None else MailFacts(trouble.mail, now=self.now)

    def find(self, field: str, argument: str | None) -> object:
        trouble = self._trouble
        if field in ("stage", "attempt", "age"):
            return getattr(trouble, field)
        if field in ("step", "error"):
            return (str(getattr(trouble, field)),)
        if field == "error.temporary":
            return trouble.error.temporary
        if field == "verdict":
            return None if trouble.verdict is None else type(trouble.verdict).__name__.lower()
        if field == "recipient" and trouble.recipients:
            return trouble.recipients
        if field == "source":
            return (self._source,) if self._source else ()
        if self._mail is None:
            return _ABSENT.get(FIELDS[field].type)
        return self._mail.find(field, argument)


_ABSENT: dict[str, object] = {"flag": False, "text": (), "address": ()}


def _size(facts: MailFacts) -> object:
    return facts.mail.content.size if facts.whole else UNKNOWN


def _created(facts: MailFacts) -> float | None:
    """The last relay's stamp, which the author cannot forge, else the author's."""
    received = [value.rpartition(";")[2] for value in facts.header.get_all("Received")[:1]]
    for value in (*received, *facts.header.get_all("Date")[:1]):
        at = _date(value)
        if at is not None:
            return at
    return None


def _age(facts: MailFacts) -> float | None:
    created = _created(facts)
    return None if created is None else facts.now - created


def _raw(name: str) -> Callable[[MailFacts], tuple[str, ...]]:
    return lambda facts: tuple(facts.header.get_all(name))


def _subject(facts: MailFacts) -> tuple[str, ...]:
    return _named(facts, "Subject")


def _named(facts: MailFacts, name: str) -> tuple[str, ...]:
    from mailflow.mail import decode_words

    return tuple(decode_words(value) for value in facts.header.get_all(name))


def _list(facts: MailFacts) -> tuple[str, ...]:
    """The id is what stands in <> at the end of List-Id (RFC 2919, 2)."""
    noted = facts.mail.notes.get("list")
    ids = [re.search(r"<([^<>]*)>[^<>]*$", value) for value in facts.header.get_all("List-Id")]
    found = [match[1].strip() for match in ids if match]
    return tuple(found if noted is None else [noted, *found])


def _mime(facts: MailFacts) -> tuple[str, ...]:
    values = _named(facts, "Content-Type")
    return tuple(form for value in values for form in (value, value.partition(";")[0].strip()))


def _auto_submitted(facts: MailFacts) -> bool:
    return auto_submitted(facts.mail)


def _content(facts: MailFacts) -> object:
    return facts.parts[0] if facts.whole else UNKNOWN


def _attachment(facts: MailFacts) -> object:
    return facts.parts[1] if facts.whole else UNKNOWN


def _sender(facts: MailFacts) -> tuple[str, ...]:
    sender = facts.mail.envelope.sender
    return () if sender is None else (sender,)


def _recipient(facts: MailFacts) -> tuple[str, ...]:
    return facts.mail.envelope.recipients


def _source(facts: MailFacts) -> tuple[str, ...]:
    return (facts.source,) if facts.source else ()


_FINDERS: dict[str, Callable[[MailFacts], object]] = {
    "size": _size,
    "created": _created,
    "age": _age,
    "from": _raw("From"),
    "to": _raw("To"),
    "cc": _raw("Cc"),
    "bcc": _raw("Bcc"),
    "subject": _subject,
    "list": _list,
    "mime": _mime,
    "auto_submitted": _auto_submitted,
    "content": _content,
    "attachment": _attachment,
    "sender": _sender,
    "recipient": _recipient,
    "source": _source,
}


def auto_submitted(mail: Mail) -> bool:
    """Whether a program sent it, so that it must not be answered (RFC 3834, 2 and 5)."""
    from mailflow.automatic import generated

    return bool(generated(mail))


def addresses(value: str) -> tuple[str, ...]:
    """The addr-specs of an address field (RFC 5322, 3.4), undecoded."""
    from mailflow.addresses import addresses

    return addresses(value).found


def _date(value: str) -> float | None:
    from email.utils import mktime_tz, parsedate_tz

    try:
        parsed = parsedate_tz(value)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _parts(mail: Mail) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(texts, names of attachments); one that has no name counts as ""."""
    from itertools import islice

    from mailflow.mime import parsed

    with mail.content.open() as reader:
        data = reader.read(BODY_LIMIT)
    last = next(islice(re.finditer(rb"\r\n|\r|\n", data), LINE_LIMIT, None), None)
    if last is not None:
        data = data[: last.end()]
    texts: list[str] = []
    names: list[str] = []
    try:
        for part in parsed(data).walk():
            if part.get_content_maintype() in ("multipart", "message"):
                continue
            name = part.get_filename()
            if name is not None or part.get_content_disposition() == "attachment":
                names.append(name or "")
            elif part.get_content_maintype() == "text":
                texts.append(_decoded(part))
    except Exception:  # noqa: BLE001  # hostile MIME makes the parser raise what it likes
        return (data.decode("utf-8", "replace"),), tuple(names)
    return tuple(texts), tuple(names)


def _decoded(part: Message) -> str:
    from mailflow.mime import decoded

    payload = part.get_payload(decode=True)
    octets = payload if isinstance(payload, bytes) else b""
    return decoded(octets, part.get_content_charset("utf-8"))
