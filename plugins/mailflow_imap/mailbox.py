"""The mailbox of an account as a database: kinds.Mailbox over IMAP.

Rule of the file: every call names messages by their UIDs under one UIDVALIDITY, and no
connection is held while a caller looks at what it was given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from mailflow.errors import GoneError, RefusedError
from mailflow.kept import kept
from mailflow.kinds import Folder, Found
from mailflow.mailboxes import order as orders
from mailflow.mailboxes.flags import WRITABLE, check
from mailflow.options import Integer
from mailflow.typed import TYPE_CHECKING, Self
from mailflow_imap.answers import Body
from mailflow_imap.finding import Chosen, Finding
from mailflow_imap.keys import Place
from mailflow_imap.login import begin
from mailflow_imap.names import canonical
from mailflow_imap.pool import Pool, told_absent
from mailflow_imap.settings import SCHEMES, ImapOptions

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow.mail import Content
    from mailflow_imap.responses import Fact
    from mailflow_imap.session import Session

CHUNK = 200
"""Messages of a selection that are asked for in one flight."""

CHUNK_OCTETS = 4 << 20
"""Octets of whole messages in one flight; a larger one goes alone."""

FLAGS = {name: f"\\{name.capitalize()}" for name in WRITABLE}

_SECTIONS = {"header": b"HEADER", "body": b""}


class MailboxOptions(ImapOptions):
    """An account on an IMAP server, by hand."""

    pool = Integer(
        "Connections that are kept at most, for threads that ask at once.",
        default=2, least=1, most=64,
    )  # fmt: skip


class ImapMailbox:
    """The folders of an account on an IMAP server. Flags are changed and messages removed by
    their UIDs; nothing is marked as seen by reading it."""

    options = MailboxOptions
    schemes = SCHEMES

    def __init__(self, options: MailboxOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self.source = f"{options.user}@{options.host}"
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        options = self._options
        self._pool = Pool(
            self._connected, options.pool, self._runtime.halt, patience=options.timeout
        )
        return self

    def __exit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def folders(self) -> Sequence[Folder]:
        with self._lent.lent() as session:
            listed = session.folders().wait()
        found = [
            Folder(each.name, each.delimiter, each.special) for each in listed if each.selectable
        ]
        return sorted(found, key=lambda each: each.name != "INBOX")

    def count(self, folder: str, chosen: Chosen) -> int:
        with self._lent.lent(folder) as session:
            return Finding(session).count(chosen)

    def select(
        self,
        folder: str,
        chosen: Chosen,
        *,
        reach: str = "listing",
        order: str = "-uid",
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Found]:
        orders.parse(order)
        return self._selected(folder, chosen, reach, order, slice(start, stop))

    def update(self, folder: str, chosen: Chosen, flags: Mapping[str, bool]) -> int:
        check(flags or ["none"])
        with self._changed(folder) as session:
            uids = Finding(session).uids(chosen)
            asked = [
                session.store(uids, words, how=how)
                for how, value in (("+", True), ("-", False))
                if (words := [FLAGS[name] for name, on in flags.items() if on is value])
            ]
            for answer in asked:
                answer.wait()
            return len(uids)

    def delete(self, folder: str, chosen: Chosen) -> int:
        with self._changed(folder) as session:
            if not session.can_expunge:
                raise RefusedError(
                    f"{session.peer} can remove single messages only together with what others"
                    " have marked as deleted (it has no UIDPLUS), so nothing was removed;"
                    " updating `deleted` marks them"
                )
            uids = Finding(session).uids(chosen)
            marked = session.store(uids, [FLAGS["deleted"]])
            removed = session.expunge(uids)
            marked.wait()
            removed.wait()
            return len(uids)

    def insert(
        self,
        folder: str,
        content: Content,
        flags: Collection[str] = (),
        date: float | None = None,
    ) -> str:
        check(flags)
        words = [FLAGS[name] for name in dict.fromkeys(flags)]
        with self._lent.lent() as session, told_absent(session, folder):
            placed = session.append(folder, content, flags=words, date=date).wait()
        if placed is None:
            return ""
        return Place(canonical(folder), placed.uid_validity, placed.uid).key

    # Sessions

    @property
    def _lent(self) -> Pool:
        if self._pool is None:
            raise ValueError("the mailbox is not entered")
        return self._pool

    def _changed(self, folder: str) -> AbstractContextManager[Session]:
        return self._lent.lent(folder, change=True)

    def _connected(self) -> Session:
        session, _ = begin(self._options, self._runtime, lambda session: None)
        return session

    # Selecting

    def _selected(
        self, folder: str, chosen: Chosen, reach: str, order: str, part: slice
    ) -> Iterator[Found]:
        with self._lent.lent(folder) as session:
            finding = Finding(session)
            validity = finding.validity
            uids = finding.ordered(finding.uids(chosen), order)[part]
        for at in range(0, len(uids), CHUNK):
            yield from self._chunk(folder, validity, uids[at : at + CHUNK], reach)

    def _chunk(
        self, folder: str, validity: int, uids: Sequence[int], reach: str
    ) -> Iterator[Found]:
        """These messages in their order; those that have gone are left out."""
        if reach != "body":
            yield from self._flight(folder, validity, uids, _SECTIONS.get(reach))
            return
        with self._lent.lent(folder, again=True) as session:
            self._check(session, folder, validity)
            sizes = {fact.uid: fact.size or 0 for fact in session.facts(uids)}
        flight: list[int] = []
        octets = 0
        for uid in uids:
            if flight and octets + sizes.get(uid, 0) > CHUNK_OCTETS:
                yield from self._flight(folder, validity, flight, b"")
                flight, octets = [], 0
            flight.append(uid)
            octets += sizes.get(uid, 0)
        yield from self._flight(folder, validity, flight, b"")

    def _flight(
        self, folder: str, validity: int, uids: Sequence[int], section: bytes | None
    ) -> list[Found]:
        """What the listing says of these, and, where there is a section, that of each."""
        with self._lent.lent(folder, again=True) as session:
            self._check(session, folder, validity)
            finding = Finding(session)
            facts = session.facts(uids)
            bodies = None if section is None else session.bodies(uids, section)
            listed: dict[int, Fact] = {fact.uid: fact for fact in facts}
            contents: dict[int, Content] = {}
            for each in bodies or ():
                if isinstance(each, Body):
                    contents[each.uid] = kept(each.content)
                elif isinstance(each.error, GoneError):
                    listed.pop(each.uid, None)
            return [
                Found(finding.item(listed[uid]), contents.get(uid)) for uid in uids if uid in listed
            ]

    def _check(self, session: Session, folder: str, validity: int) -> None:
        """What was found names other messages once a folder was made anew."""
        there = session.selected
        if there is None or there.uid_validity != validity:
            raise GoneError(f"the folder {folder!r} was made anew meanwhile; select once more")


__all__ = ["ImapMailbox"]
