"""Tables, and what is selected from them.

Rule of the file: an act is one call of the mailbox, so that what it means is settled at
once; nothing is read before it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from mailflow.errors import GoneError
from mailflow.mailboxes.flags import WRITABLE
from mailflow.mailboxes.rows import NAMES, Row, reach
from mailflow.query import Query, parse
from mailflow.query.tree import FIELDS
from mailflow.typed import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.halt import Halt
    from mailflow.kinds import Folder, Mailbox
    from mailflow.mail import Content
    from mailflow.mailboxes.opening import Account
    from mailflow.query.fields import FieldName

IN_MEMORY = 64 << 20
"""Octets of a message that its `email`, `content` and `attachments` are made of at most."""

Where = Query | str | None


class Database:
    """An account, entered with `with`; made by `mailflow.mailbox`.

    A table stands for a folder. Its name is the folder's in lower case, with "_" for what
    cannot stand in a name: "Lists/Red" is `box.lists_red`, and `box["Lists/Red"]` too.
    `tables` maps names to folders once for all, and nobody is asked. `max_size` is how many
    octets of a message are taken into memory at most. Any thread may use it.
    """

    def __init__(
        self,
        account: Account,
        *,
        tables: Mapping[str, str] | None = None,
        halt: Halt | None = None,
        max_size: float = IN_MEMORY,
    ) -> None:
        self._account = account
        self._halt = halt
        self._names = None if tables is None else dict(tables)
        self.max_size = max_size
        self._mailbox: Mailbox

    @property
    def source(self) -> str:
        """The account, as in a log line."""
        return self._mailbox.source

    def __enter__(self) -> Self:
        from contextlib import ExitStack

        with ExitStack() as stack:
            self._mailbox = stack.enter_context(self._account.made(stack, self._halt))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def folders(self) -> Sequence[Folder]:
        """Every folder that can hold messages, and what it is for."""
        return self._mailbox.folders()

    def define_tables(self, tables: Mapping[str, str] | None = None) -> dict[str, str]:
        """Name the tables: as `tables` says, or one for each folder that is there now.
        Gives the folder of each."""
        self._names = named(self.folders()) if tables is None else dict(tables)
        return self.mailboxes

    @property
    def mailboxes(self) -> dict[str, str]:
        """The folder of each table, by its name."""
        if self._names is None:
            self.define_tables()
        return dict(self._names or {})

    @property
    def tables(self) -> list[str]:
        """The names of the tables."""
        return list(self.mailboxes)

    def folder(self, name: str) -> Table:
        """The table of the folder of that name, which need not be one of `tables`."""
        return Table(self._mailbox, name, self.max_size)

    def __getitem__(self, name: str) -> Table:
        tables = self.mailboxes
        for table, folder in tables.items():
            if name in (table, folder) or name.lower() == table.lower():
                return self.folder(folder)
        raise KeyError(name)

    def __getattr__(self, name: str) -> Table:
        if name == "_mailbox":
            raise ValueError("a mailbox is entered with `with` before it is used")
        if not name.startswith("_"):
            try:
                return self[name]
            except KeyError:
                pass
        raise AttributeError(f"there is no table {name!r}")

    def __iter__(self) -> Iterator[Table]:
        """Every table."""
        return iter([self.folder(folder) for folder in self.mailboxes.values()])


def named(folders: Sequence[Folder]) -> dict[str, str]:
    """A name for each folder, as Python writes names, no two alike."""
    found: dict[str, str] = {}
    for folder in folders:
        name = re.sub(r"\W", "_", folder.name.lower())
        name = f"_{name}" if not name or name[0].isdigit() else name
        count, unique = 1, name
        while unique in found:
            count += 1
            unique = f"{name}_{count}"
        found[unique] = folder.name
    return found


class Table:
    """A folder. `table.seen`, `table.size` ... are the fields of the query language, and
    `table.sender` is who wrote a message, as in a row. `table(query)` is what is selected from
    it, `table()` all of it. `mailbox` is the name of the folder."""

    def __init__(
        self, mailbox: Mailbox, folder: str, most: float, only: Query = Query.always
    ) -> None:
        self.mailbox = folder
        self._mailbox = mailbox
        self._most = most
        self._only = only

    def __call__(self, where: Where = None) -> Selection:
        query = parse(where) if isinstance(where, str) else where
        if query is None:
            query = Query.always
        if not isinstance(query, Query):  # False, for one, must not come to mean everything
            raise TypeError(f"expected a query, such as table.seen == False; found {where!r}")
        if query.reach in ("mail", "trouble"):
            unknown = [name for name in query.fields if FIELDS[name].reach in ("mail", "trouble")]
            hint = "; `from` is who wrote it" if "sender" in unknown else ""
            raise ValueError(f"no mailbox says `{'`, `'.join(sorted(unknown))}`{hint}")
        if self._only != Query.always:
            query = query & self._only if query != Query.always else self._only
        return Selection(self._mailbox, self.mailbox, query, self._most)

    def only(self, where: Query | str) -> Table:
        """The same table, of which never more is seen or touched than this query allows."""
        return Table(self._mailbox, self.mailbox, self._most, self(where).where)

    def rows(self, ids: Collection[str]) -> Selection:
        """The messages of these ids, and no other, whatever has happened meanwhile."""
        return Selection(self._mailbox, self.mailbox, list(ids), self._most)

    def header(self, name: str) -> FieldName:
        """The header fields of that name, as a field of the query language."""
        from mailflow.query import field

        return field.header(name)

    def insert(
        self,
        *,
        email: bytes | Content | None = None,
        flags: Collection[str] = (),
        created: datetime | float | None = None,
        **fields: Any,
    ) -> str:
        """Put a message there and give its id, "" where the server does not say it.

        `email` is the whole message; or it is made of fields: sender, to, cc, bcc, subject,
        content, attachments, headers (see mailflow.mailboxes.compose). A flag is set by its
        name, `seen=True`, or in `flags`. `created` is when it arrived. Raises ValueError for
        what no message can be made of.
        """
        from mailflow.mailboxes.compose import compose
        from mailflow.mailboxes.rows import FLAGS

        wanted = [*flags, *(name for name in FLAGS if fields.pop(name, False))]
        if email is not None and fields:
            raise ValueError(f"`email` is the whole message; found {', '.join(fields)}, too")
        content = compose(fields, created) if email is None else whole(email)
        date = created.timestamp() if isinstance(created, datetime) else created
        return self._mailbox.insert(self.mailbox, content, wanted, date)

    def __getattr__(self, name: str) -> FieldName:
        from mailflow.query import field

        if name.startswith("_"):
            raise AttributeError(name)
        found: FieldName = getattr(field, "from_" if name == "sender" else name)
        return found

    def __repr__(self) -> str:
        return f"<table of {self.mailbox}>"


def whole(email: bytes | Content) -> Content:
    """A message with CRLF at the end of each line."""
    from mailflow.mail import Octets

    if not isinstance(email, bytes):
        return email
    return Octets(re.sub(rb"\r?\n", b"\r\n", email))


class Selection:
    """Messages of a table. `where` is the query, or the ids."""

    def __init__(
        self, mailbox: Mailbox, folder: str, where: Query | list[str], most: float
    ) -> None:
        self.where: Any = where
        self._mailbox = mailbox
        self._folder = folder
        self._most = most

    def count(self) -> int:
        return self._mailbox.count(self._folder, self.where)

    def isempty(self) -> bool:
        return self.count() == 0

    def select(
        self,
        *fields: str,
        order: str = "-uid",
        limit: int | tuple[int, int] | None = None,
        processor: Callable[[Row], Any] | None = None,
    ) -> Iterator[Any]:
        """Its rows, newest first, one by one as they are read; nothing is marked as seen.

        `fields` say what is read at once: of `id`, `uid`, `size`, `seen` and such only a
        listing, of `content`, `attachments` and `email` the whole message; by default the
        header. Any field can still be asked for, and is then read alone. `limit` is how many,
        or (from, before) as a slice; it and `order` (see kinds.Mailbox) are about all that is
        selected. `processor` is called with each row, and what it gives is given instead.
        Rows may be deleted on the way. Raises ValueError, GoneError, UnavailableError.
        """
        got = reach(fields) if fields else "header"
        start, stop = limit if isinstance(limit, tuple) else (0, limit)
        if start < 0 or (stop is not None and stop < start):
            raise ValueError(f"expected a limit such as 10 or (10, 20); found {limit!r}")
        found = self._mailbox.select(
            self._folder, self.where, reach=got, order=order, start=start, stop=stop
        )
        rows = (Row(self._mailbox, self._folder, each, got, self._most) for each in found)
        return rows if processor is None else map(processor, rows)

    def first(self, *fields: str, order: str = "-uid") -> Row | None:
        """The first of its rows, None where there is none."""
        return next(iter(self.select(*fields, order=order, limit=1)), None)

    def one(self, *fields: str) -> Row:
        """The only row. Raises GoneError where there is none, ValueError for several."""
        rows = list(self.select(*fields, limit=2))
        if len(rows) > 1:
            raise ValueError(f"there are several such messages in {self._folder}")
        if not rows:
            raise GoneError(f"there is no such message in {self._folder}")
        found: Row = rows[0]
        return found

    def update(self, **flags: bool) -> int:
        """Set flags (`seen=True`) and remove them (`seen=False`); how many messages it is
        about. `deleted=True` only marks. Raises ValueError for what is no flag."""
        fixed = [name for name in flags if name in NAMES and name not in WRITABLE]
        if fixed:
            raise ValueError(f"{', '.join(fixed)} cannot be changed; flags are: {_WRITABLE}")
        wrong = [name for name, value in flags.items() if not isinstance(value, bool)]
        if wrong:
            raise ValueError(f"a flag is True or False: {', '.join(wrong)}")
        return self._mailbox.update(self._folder, self.where, flags)

    def delete(self) -> int:
        """Remove them for good, and no other message; how many they were."""
        return self._mailbox.delete(self._folder, self.where)

    def __iter__(self) -> Iterator[Row]:
        return self.select()

    def __repr__(self) -> str:
        return f"<{self.where} of {self._folder}>"


_WRITABLE = ", ".join(WRITABLE)
