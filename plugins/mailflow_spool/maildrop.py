"""A drop of the spool, served: a snapshot that is small, and octets as they go over the wire.

Rule of the file: a login is one lock and one statement; where a message lies is asked when
it is wanted, since files are made smaller behind open sessions.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from weakref import WeakValueDictionary, finalize

from mailflow.errors import GoneError, LoginError, MailflowError, UnavailableError
from mailflow.kinds import Item, WirePart
from mailflow.mail import Octets
from mailflow.options import FOREVER, Options, Path, Text
from mailflow.typed import TYPE_CHECKING, ClassVar, overload
from mailflow_spool import tidy
from mailflow_spool.store import Drop, Store, default_path, fault_of, is_name
from mailflow_spool.wire import IN_INDEX, Place, Stored, from_wire

if TYPE_CHECKING:
    from array import array

    from mailflow.kinds import Credentials, Runtime
    from mailflow.mail import Content
    from mailflow_spool.index import Transaction

AHEAD = 64
"""So many messages are looked up at once: who asks for one asks for the next."""

SMALL = 2000
"""A drop with so many messages is listed in a few milliseconds."""

NAMES = 1 << 16
"""So many names of small drops are remembered."""

FILES = 24
"""So many files a session keeps open; messages in others are read, not sent."""

KEPT_SECONDS = 60.0
"""For so long it is remembered what all drops keep."""

_FLAGS = (frozenset[str](), frozenset({"utf8"}))

_PART = 512
"""Rows of a listing that are taken from SQLite at a time."""


class MaildropOptions(Options):
    """Which drop, and where the spool is."""

    drop = Text.optional("The drop; by default the one of the login name.", least=1)
    path = Path.optional("The spool's directory; by default `spool` beside the journals.")

    def look(self) -> Iterator[tuple[str, str]]:
        if self.path is not None and (fault := fault_of(self.path)):
            yield "path", fault


class SpoolMaildrop:
    """The mail that pipelines have put into a drop of the spool."""

    options: ClassVar[type[Options]] = MaildropOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"spool": {}}
    url_path = "path"

    def __init__(self, options: MaildropOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._store: Store | None = None
        self._small: set[str] = set()
        self._kept = (0.0, FOREVER)

    def prompt(self, login: str) -> bool:
        """Whether that drop was small when it was opened last: the listing of a large one
        takes long enough for others to notice."""
        return login in self._small

    def login(self, who: Credentials) -> OpenSpool:
        """Lock the drop, made where it is missing, and take the snapshot."""
        if not who.checked:
            raise LoginError('a spool checks no password: its maildrop needs login = "secret"')
        store = self._open()
        name = self._options.drop or who.login
        if not is_name(name):
            raise LoginError(f"no drop can be called {name[:80]!a}")
        drop = OpenSpool(store, name)
        if len(drop.items()) > SMALL:
            self._small.discard(who.login)
        else:
            if len(self._small) >= NAMES:
                self._small.clear()
            self._small.add(who.login)
        return drop

    def retention(self) -> float:
        """For how many seconds mail is sure to stay in whichever drop of the spool: as the
        policies said a while ago."""
        path = self._options.path or default_path()
        now = time.monotonic()
        if now > self._kept[0] and os.path.isdir(path):
            self._kept = now + KEPT_SECONDS, least_retention(self._open())
        return self._kept[1]

    def standing(self) -> Iterable[tuple[str, int, int]]:
        """(login name, messages, octets) of each drop that is served here, "" where it is the
        one that the maildrop stands under."""
        path = self._options.path or default_path()
        if not os.path.isdir(path):
            return []
        drops = self._open().drops()
        if self._options.drop is not None:
            return [("", d.messages, d.octets) for d in drops if d.name == self._options.drop]
        own = self._runtime.name
        return [
            ("" if drop.name == own else drop.name, drop.messages, drop.octets)
            for drop in _fitting(drops, own)
        ]

    def _open(self) -> Store:
        store = self._store
        if store is None:
            store = self._store = _store(self._options.path or default_path())
        return store


_STORES: WeakValueDictionary[str, Store] = WeakValueDictionary()


def _store(path: str) -> Store:
    """The spool at `path`: one for all maildrops of a process, closed with the last of them."""
    store = _STORES.get(path)
    if store is None:
        store = Store(path)
        finalize(store, store.index.close)
        store = _STORES.setdefault(path, store)
    return store


def least_retention(store: Store, drop: int | None = None) -> float:
    """For how many seconds mail is sure to stay in a drop, or in whichever: 0 where no time is
    sure, since the drop keeps so many octets or cannot be asked."""

    def ask(tx: Transaction) -> tuple[float | None, int | None]:
        found: tuple[float | None, int | None] = tx.execute(
            "SELECT min(expire), min(most) FROM drops WHERE ?1 IS NULL OR id = ?1", (drop,)
        ).fetchone()
        return found

    try:
        age, most = store.index.read(ask)
    except MailflowError:
        return 0.0
    if most is not None:
        return 0.0
    return FOREVER if age is None else age


def _fitting(drops: Sequence[Drop], name: str) -> Iterator[Drop]:
    """Those of which `name` is the name, or a glob that it fits."""
    from fnmatch import fnmatchcase

    return (drop for drop in drops if fnmatchcase(drop.name, name))


class Listing(Sequence[Item]):
    """The messages of a snapshot: some 40 octets each, and made into items as asked for.

    `sizes` are their octets, in order, and `utf8` has 1 where the header section has UTF-8,
    for whoever wants no items.
    """

    def __init__(
        self,
        numbers: array[int],
        sizes: array[int],
        utf8: bytes,
        text: str,
        starts: array[int],
    ) -> None:
        """`utf8` has an octet, 0 or 1, for each message; `text` has the UIDLs, each ended by a
        line feed, `starts` where each begins, and where one more would."""
        self.numbers = numbers
        self.sizes = sizes
        self.utf8 = utf8
        self._text = text
        self._starts = starts
        self._last = -1

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self.sizes)
        if not 0 <= index < len(self.sizes):
            raise IndexError(index)
        return self._item(index)

    def __iter__(self) -> Iterator[Item]:
        return map(self._item, range(len(self.sizes)))

    def _item(self, index: int) -> Item:
        flags = _FLAGS[self.utf8[index]]
        values = (self.uidl(index), self.sizes[index], None, flags, None, None)
        return tuple.__new__(Item, values)

    def uidl(self, index: int) -> str:
        return self._text[self._starts[index] : self._starts[index + 1] - 1]

    def find(self, uidl: str) -> int:
        """Where the message of that UIDL stands; whoever asks for one, asks for the next.
        Raises KeyError."""
        after = self._last + 1
        if after < len(self.sizes) and self.uidl(after) == uidl:
            self._last = after
            return after
        at = 0
        if not self._text.startswith(f"{uidl}\n"):
            at = self._text.find(f"\n{uidl}\n") + 1
            if not at:
                raise KeyError(uidl)
        self._last = bisect_left(self._starts, at)
        return self._last


class OpenSpool:
    """A session's hold on a drop. Made by SpoolMaildrop.login."""

    prompt = True

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._places: dict[int, Place] = {}
        self._files: dict[int, tuple[int, int]] = {}
        self._lock = -1
        while True:
            drop = store.drop(name)
            assert drop is not None  # noqa: S101
            lock = store.lock(drop, name)
            try:
                listing = _snapshot(store, drop)
            except BaseException:
                os.close(lock)
                raise
            if listing is not None:
                break
            os.close(lock)  # it was removed, and may be there again under another number
            store.forget(name)
        self._drop = drop
        self._lock = lock
        self._listing = listing

    def items(self) -> Listing:
        return self._listing

    @property
    def retention(self) -> float:
        """For how many seconds mail is sure to stay."""
        return least_retention(self._store, self._drop)

    def read(self, key: str) -> Content:
        index = self._listing.find(key)
        place = self._place(index)
        if place.file == IN_INDEX:
            octets = self._row(place)
            if octets is not None:
                return Octets(from_wire(octets))
            place = self._moved(index, place)
        self._places[index] = place

        def opened() -> tuple[int, Place]:
            place = self._place(index)
            there = self._files.get(place.file)
            if there is not None:
                self._check(place, there[1])
                return os.dup(there[0]), place
            place, descriptor, _ = self._open(index, place)
            return descriptor, place

        descriptor, place = opened()
        os.close(descriptor)
        return Stored(place.size, opened)

    def wire(self, key: str) -> WirePart | bytes | None:
        index = self._listing.find(key)
        place = self._place(index)
        if place.file == IN_INDEX:
            row = self._row(place)
            if row is not None:
                return row
            place = self._moved(index, place)
        there = self._files.get(place.file)
        if there is None:
            if len(self._files) >= FILES:
                self._places[index] = place  # it is read next
                return None
            place, descriptor, octets = self._open(index, place)
            there = self._files.setdefault(place.file, (descriptor, octets))
            if there[0] != descriptor:
                os.close(descriptor)  # it had moved into one that is open
        self._check(place, there[1])
        return tuple.__new__(WirePart, (there[0], place.start, place.octets))

    def close(self, delete: Collection[str] = ()) -> None:
        try:
            for descriptor, _ in self._files.values():
                os.close(descriptor)
            self._files.clear()
            if delete:
                wanted = set(delete)
                numbers = self._listing.numbers
                chosen = [
                    number
                    for number, item in zip(numbers, self._listing, strict=True)
                    if item.key in wanted
                ]
                self._store.remove(self._drop, chosen)
        finally:
            lock, self._lock = self._lock, -1
            os.close(lock)
        if delete:
            with suppress(MailflowError, OSError):  # room is made later
                tidy.tidy(self._store, most=1)

    def _place(self, index: int) -> Place:
        """Where a message lies, and with it the next ones."""
        found = self._places.pop(index, None)
        if found is not None:
            return found
        numbers = self._listing.numbers
        last = min(index + AHEAD, len(numbers)) - 1
        rows = self._store.index.read(
            lambda tx: tx.execute(
                "SELECT number, file, start, octets, size, crc FROM messages"
                " WHERE drop_id = ? AND number BETWEEN ? AND ?",
                (self._drop, numbers[index], numbers[last]),
            ).fetchall()
        )
        there = {row[0]: Place(*row[1:]) for row in rows}
        self._places = {
            each: there[numbers[each]] for each in range(index, last + 1) if numbers[each] in there
        }
        found = self._places.pop(index, None)
        if found is None:
            raise GoneError("the message was removed from the spool meanwhile")
        return found

    def _row(self, place: Place) -> bytes | None:
        """The octets of a small message, None where it has gone into a file since."""

        def ask(tx: Transaction) -> bytes | None:
            row = tx.execute("SELECT octets FROM bodies WHERE id = ?", (place.start,)).fetchone()
            return row[0] if row else None

        return self._store.index.read(ask)

    def _moved(self, index: int, place: Place) -> Place:
        """The file of a message is gone: it lies in another one by now, or is lost."""
        self._places.clear()
        moved = self._place(index)
        if moved.file == place.file:
            raise GoneError(f"{self._store.bodies.file(place.file)} is gone, and the mail in it")
        return moved

    def _open(self, index: int, place: Place) -> tuple[Place, int, int]:
        """(place, descriptor, octets) of a message, wherever it lies by now."""
        while True:
            try:
                descriptor, octets = self._store.bodies.open(place.file)
            except GoneError:
                place = self._moved(index, place)
                continue
            try:
                self._check(place, octets)
            except BaseException:
                os.close(descriptor)
                raise
            return place, descriptor, octets

    def _check(self, place: Place, octets: int) -> None:
        if place.start + place.octets > octets:
            path = self._store.bodies.file(place.file)
            raise UnavailableError(f"{path} is too short: it was damaged")


def _snapshot(store: Store, drop: int) -> Listing | None:
    """What a drop has now; None where there is no such drop."""
    from array import array

    def ask(tx: Transaction) -> Listing | None:
        cursor = tx.execute(
            "SELECT m.number, m.size, m.uidl, m.utf8 FROM drops d"
            " LEFT JOIN messages m ON m.drop_id = d.id WHERE d.id = ? ORDER BY m.number",
            (drop,),
        )
        rows = cursor.fetchmany(_PART)
        if not rows:
            return None
        if rows[0][0] is None:
            rows = []
        numbers, sizes, utf8 = array("Q"), array("Q"), bytearray()
        texts, starts = [], array("L", [0])
        while rows:
            columns = list(zip(*rows, strict=True))
            numbers.extend(columns[0])
            sizes.extend(columns[1])
            utf8 += bytes(columns[3])
            texts.append("\n".join(columns[2]) + "\n")
            ends = accumulate((len(uidl) + 1 for uidl in columns[2]), initial=starts.pop())
            starts.extend(ends)
            rows = cursor.fetchmany(_PART)
        return Listing(numbers, sizes, bytes(utf8), "".join(texts), starts)

    return store.index.read(ask)
