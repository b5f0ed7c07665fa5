"""Which messages of a listing are meant, and in which order.

Rule of the file: what the list says is used only where it is exact; what it leaves open is
read in the messages, and in no more of them than must be. What nothing tells is refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from mailflow.digests import blake2b
from mailflow.errors import GoneError, MailflowError, RefusedError
from mailflow.kinds import Item
from mailflow.mail import Content, Envelope, Header, Mail, Octets, head
from mailflow.mailboxes import order as orders
from mailflow.query import ItemFacts, MailFacts, Query
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow_webmail.rows import NUMBER, as_they_came, size_of

if TYPE_CHECKING:
    from mailflow.log import Logger
    from mailflow_webmail.account.session import Row

Chosen = Query | Collection[str]

SAID = ("", "0", "false")
"""What a row says where a message is not read yet."""

_LARGEST = (1 << 32) - 1

_FLAGS = {"answered", "deleted", "draft", "flagged", "recent", "seen"}


class Listed(NamedTuple):
    """A row of the list, and what it says; `number` counts from the oldest of the folder."""

    number: int
    row: Row
    item: Item


class Known(NamedTuple):
    """What a message says that was read: more of its item, and its header section."""

    item: Item
    head: Content


Load = Callable[[Sequence[Listed]], "Iterator[tuple[Listed, Content | MailflowError]]"]


class Finding:
    """One listing of a folder; `known` is what was read of messages, by their keys, for a query
    or an order."""

    def __init__(
        self, folder: str, rows: Sequence[Row], site: str, load: Load, log: Logger
    ) -> None:
        self._site = site
        self._log = log
        self._load = load
        self._now = time.time()
        self.known: dict[str, Known] = {}
        there = as_they_came(rows)
        uids = [uid_of(row["id"]) for row in there]
        times = Counter(uids)
        self._listed = [
            Listed(number, row, item_of(folder, row, uid if times[uid] == 1 else None))
            for number, (row, uid) in enumerate(zip(there, uids, strict=True))
        ]

    def chosen(self, chosen: Chosen) -> list[Listed]:
        """Those that are meant, the oldest first. Raises RefusedError where neither the list
        nor the messages say what the query asks."""
        if not isinstance(chosen, Query):
            keys = {*chosen}
            return [each for each in self._listed if each.item.key in keys]
        self._check(chosen)
        sure, doubtful = [], []
        for each in self._listed:
            decided = chosen.decide(ItemFacts(each.item, now=self._now))
            if decided:
                sure.append(each)
            elif decided is None:
                doubtful.append(each)
        return sorted([*sure, *self._fitting(chosen, doubtful)])

    def ordered(self, listed: Sequence[Listed], keys: Sequence[orders.Key]) -> list[Listed]:
        """By these keys; that of `uid` is the order in which they came."""
        missing = [each for each in listed if self._lacks(each, keys)]
        for each, content in self._load(missing):
            if isinstance(content, MailflowError):
                self.unread(each, content)
            else:
                self._know(each, content)
        values = []
        for each in listed:
            known = self.known.get(each.item.key)
            item = each.item if known is None else known.item
            header = None if known is None else Header(head(known.head))
            values.append((each.number, [_value(key, each.number, item, header) for key in keys]))
        by_number = {each.number: each for each in listed}
        return [by_number[number] for number in orders.ordered(values, keys)]

    def _lacks(self, listed: Listed, keys: Sequence[orders.Key]) -> bool:
        """Whether the message must be read for what it is ordered by."""
        if listed.item.key in self.known:
            return False
        said = {"uid": True, "size": listed.item.size, "created": listed.item.date}
        return any(said.get(key.name) is None for key in keys)

    def unread(self, listed: Listed, error: MailflowError) -> None:
        """Say that a message that is there cannot be read."""
        if not isinstance(error, GoneError):
            self._log.warning("cannot be read", uid=listed.item.uid, error=error.text)

    def _know(self, listed: Listed, content: Content) -> None:
        self.known[listed.item.key] = Known(sized(listed.item, content), Octets(head(content)))

    def _check(self, where: Query) -> None:
        asked = where.fields & _FLAGS
        if any(each.item.flags is not None for each in self._listed):
            asked -= {"seen"}
        if asked and self._listed:
            raise RefusedError(
                f"the list of {self._site} does not say which messages are {sorted(asked)[0]}"
            )

    def _fitting(self, where: Query, doubtful: Sequence[Listed]) -> Iterator[Listed]:
        """Those whose messages fit; what cannot be read is not known to."""
        for each, content in self._load(doubtful):
            if isinstance(content, MailflowError):
                self.unread(each, content)
                continue
            self._know(each, content)
            if where.matches(MailFacts(Mail("", Envelope(), content), each.item, now=self._now)):
                yield each


def uid_of(id_: str) -> int:
    """A number by which a message can be named on a command line: its id, where that is one,
    as the UIDs of an IMAP server behind the page are; else one that is made of it."""
    if NUMBER.fullmatch(id_) and int(id_) <= _LARGEST:
        return int(id_)
    digest = blake2b(id_.encode("utf-8", "surrogateescape"), digest_size=4).digest()
    return int.from_bytes(digest, "big") or 1


def item_of(folder: str, row: Row, uid: int | None) -> Item:
    """What a row says for sure: a size that is written out, and whether it was read."""
    seen = row.get("seen")
    flags = None if seen is None else frozenset({"\\Seen"} if seen not in SAID else ())
    return Item(f"{folder};{row['id']}", size_of(row), None, flags, folder, uid)


def sized(item: Item, content: Content) -> Item:
    """With what the list has not said, and the message does: its octets, and its date."""
    date = item.date
    if date is None:
        found = MailFacts(Mail("", Envelope(), content), whole=False).find("created", None)
        date = found if isinstance(found, float) else None
    return item._replace(size=content.size, date=date)


def _value(key: orders.Key, number: int, item: Item, header: Header | None) -> object:
    return number if key.name == "uid" else orders.value(key, item, header)
