"""An account at a webmail by hand: kinds.Mailbox over its pages.

Rule of the file: what is meant is settled by one whole listing of the folder; what a page cannot
do is refused before anything is changed there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from mailflow.errors import GoneError, MailflowError, RefusedError
from mailflow.kept import kept
from mailflow.kinds import Folder, Found
from mailflow.mail import Content, Octets, head
from mailflow.mailboxes import order as orders
from mailflow.mailboxes.flags import check
from mailflow.options import Flag
from mailflow.typed import TYPE_CHECKING, ClassVar, Self, TypeVar
from mailflow_webmail.account.session import opened
from mailflow_webmail.arriving import OWN, SOME, what_came
from mailflow_webmail.choice import Folder as Named
from mailflow_webmail.choice import is_certain, matching
from mailflow_webmail.finding import Chosen, Finding, Listed, sized
from mailflow_webmail.settings import WebmailOptions

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow_webmail.account.session import Row, Session

T = TypeVar("T")


class WebmailMailboxOptions(WebmailOptions):
    """An account at a webmail, by hand."""

    trash = Flag(
        "Whether deleted messages are moved to the webmail's trash instead of being removed for"
        " good.",
        default=False,
    )


class WebmailMailbox:
    """The folders of an account at a webmail: looked into, marked as read, deleted from."""

    options: ClassVar[type[WebmailMailboxOptions]] = WebmailMailboxOptions

    def __init__(self, options: WebmailMailboxOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self.source = f"{options.user} at {options.url}"
        self._lock = threading.Lock()
        self._open: Session | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._named: list[Named] | None = None

    def __enter__(self) -> Self:
        self._open = opened(self._options, self._runtime.halt, self._runtime.scratch)
        self._pool = ThreadPoolExecutor(self._options.parallel, thread_name_prefix="webmail")
        return self

    def __exit__(self, *_: object) -> None:
        session, self._open = self._open, None
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        if session is not None:
            with suppress(MailflowError):  # everything was done; nothing hangs on a good-bye
                session.close()

    def folders(self) -> Sequence[Folder]:
        found = [Folder("INBOX" if _is_inbox(each) else each.name) for each in self._folders()]
        return sorted(found, key=lambda each: each.name != "INBOX")

    def count(self, folder: str, chosen: Chosen) -> int:
        return len(self._finding(folder).chosen(chosen))

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
        keys = orders.parse(order)
        return self._selected(folder, chosen, reach, keys, slice(start, stop))

    def update(self, folder: str, chosen: Chosen, flags: Mapping[str, bool]) -> int:
        check(flags or ["none"])
        if dict(flags) != {"seen": True}:
            raise RefusedError(
                "at a webmail messages can be marked as read, and no flag else be set or removed;"
                " nothing was changed"
            )
        return self._change(folder, chosen, "seen")

    def delete(self, folder: str, chosen: Chosen) -> int:
        return self._change(folder, chosen, "trash" if self._options.trash else "delete")

    def insert(
        self,
        folder: str,
        content: Content,
        flags: Collection[str] = (),
        date: float | None = None,
    ) -> str:
        check(flags)
        self._id(folder)
        raise RefusedError("a webmail takes no message into a folder; nothing was changed")

    # What is there

    def _do(self, act: Callable[[Session], T]) -> T:
        """`act`, which no other thread's comes into: pages of a list belong together."""
        with self._lock:
            return act(self._session)

    @property
    def _session(self) -> Session:
        if self._open is None:
            raise ValueError("the mailbox is not entered")
        return self._open

    def _folders(self) -> list[Named]:
        rows = self._do(lambda session: session.folders())
        self._named = [Named(row["id"], row.get("name") or row["id"]) for row in rows]
        return self._named

    def _id(self, folder: str) -> str:
        """What the webmail calls it. Raises GoneError."""
        if is_certain([folder]):
            return folder
        known = self._named if self._named is not None else self._folders()
        for each in matching(folder, known) if "*" not in folder else ():
            return each.id
        raise GoneError(f"there is no folder {folder!r}")

    def _finding(self, folder: str) -> Finding:
        """What lies in a folder now."""
        id_ = self._id(folder)
        rows = self._do(lambda session: session.listing(id_))
        return Finding(folder, rows, self._session.site.name, self._loaded, self._runtime.log)

    # Selecting

    def _selected(
        self, folder: str, chosen: Chosen, reach: str, keys: Sequence[orders.Key], part: slice
    ) -> Iterator[Found]:
        finding = self._finding(folder)
        listed = finding.ordered(finding.chosen(chosen), keys)[part]
        if reach == "listing":
            yield from (Found(each.item) for each in listed)
            return
        known = finding.known if reach == "header" else {}
        coming = self._loaded([each for each in listed if each.item.key not in known])
        for each in listed:
            if (found := known.get(each.item.key)) is not None:
                yield Found(*found)
                continue
            content = next(coming)[1]
            if isinstance(content, GoneError):
                continue
            if isinstance(content, MailflowError):
                if reach == "body":
                    raise content
                finding.unread(each, content)
                yield Found(each.item, Octets(b""))
            else:
                octets = content if reach == "body" else Octets(head(content))
                yield Found(sized(each.item, content), octets)

    def _loaded(self, listed: Sequence[Listed]) -> Iterator[tuple[Listed, Content | MailflowError]]:
        """Each of them in this order, several on their way at once, or why it cannot be had.
        Raises what is the webmail's: where several in a row cannot, the last. As `arriving`, but
        that nothing may come out of its turn here."""
        waiting: deque[tuple[Listed, Future[Content]]] = deque()
        todo = iter(listed)
        failures = 0
        try:
            while True:
                while len(waiting) < self._options.parallel:
                    if (each := next(todo, None)) is None:
                        break
                    waiting.append((each, self._begin(each.row)))
                if not waiting:
                    return
                each, future = waiting.popleft()
                found = what_came(future)
                if not isinstance(found, MailflowError):
                    failures = 0
                elif not isinstance(found, OWN):
                    failures += 1
                    if failures == SOME:
                        raise found
                yield each, found
        finally:
            for _, future in waiting:
                future.cancel()

    def _begin(self, row: Row) -> Future[Content]:
        if self._pool is None:
            raise ValueError("the mailbox is not entered")
        return self._pool.submit(lambda: kept(self._session.raw(row)))

    # Changing

    def _change(self, folder: str, chosen: Chosen, how: str) -> int:
        """Do it with what is meant, and see that it is done; how many they were."""
        found = self._finding(folder).chosen(chosen)
        if found:
            self._do(lambda session: session.remove([each.row for each in found], how))
        return len(found)


def _is_inbox(folder: Named) -> bool:
    return folder.id.upper() == "INBOX"


__all__ = ["WebmailMailbox"]
