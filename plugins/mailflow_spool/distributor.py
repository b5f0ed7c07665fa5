"""Deliver into the spool, in groups: one file of bodies, flushed, then one commit.

Rule of the file: a mail is reported SENT only when its octets and its row are durable; a
ticket that was handed in before leaves one copy, also where a client has deleted it since.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator

from mailflow.errors import BadMailError, MailflowError, from_os
from mailflow.options import FOREVER, Duration, Options, Path, Size, Template
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import FAILED, LATER, SENT, Report
from mailflow_spool import expire, tidy, uidl
from mailflow_spool.files import Writing
from mailflow_spool.store import New, Policy, Store, default_path, fault_of, is_name
from mailflow_spool.wire import small

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail

GROUP = 128
GROUP_OCTETS = 32 << 20
"""So many mails, of so many octets, share one file and one commit."""

LARGE = 2 << 20
"""A message from this size on has a file of its own, which goes when it is deleted."""

ROWS = 64 << 10
"""Mails that come to no more octets than this are rows of the index: a commit, and no file."""

_FULL: dict[object, str] = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}  # RFC 3463, 3.3 and 3.4


class SpoolOptions(Options):
    """Which drop, and where the spool is."""

    examples = {"drop": "ann"}

    drop = Template("The drop it goes into: the login name of whoever reads it there.")
    path = Path.optional("The spool's directory; by default `spool` beside the journals.")
    expire = Duration(
        "How old mail of the drop becomes: what is older is removed, read or not.", default=FOREVER
    )
    expire_over = Size.optional(
        "How many octets the drop keeps: beyond them its oldest mail is removed, read or not."
    )
    uidl = uidl.UidlFormat(
        "How UIDLs are made, as in Dovecot: %u is the message's number in its drop, %v when the"
        " drop was made, %m the MD5 of the message. What a message has it keeps.",
        default=uidl.DEFAULT,
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        name = self.drop.fixed
        if name is not None and not is_name(name):
            yield "drop", f"no drop can be called {name[:80]!r}"

    def look(self) -> Iterator[tuple[str, str]]:
        if self.path is not None and (fault := fault_of(self.path)):
            yield "path", fault


class SpoolDistributor:
    """Puts each mail into a drop of the spool, once, for POP3 clients to fetch."""

    options: ClassVar[type[Options]] = SpoolOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"spool": {}}
    url_path = "path"
    repeatable = True
    per_recipient = False
    sends = False

    def __init__(self, options: SpoolOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._store: Store | None = None
        self._final: list[str] = []
        self._used: set[str] = set()
        age = options.expire
        self._policy = Policy(None if age == FOREVER else age, options.expire_over)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget what is final, expire what is too old, and tidy up; what fails there waits
        for the next session."""
        store = self._store
        try:
            if error is None and store is not None:
                if self._final:
                    store.finish(self._final)
                if self._used:
                    expire.expire_all(store, sorted(self._used))
                tidy.tidy(store)
        except MailflowError as failure:
            self._runtime.log.debug("not tidied up", error=failure.text)
        finally:
            self._close()

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """The group of one."""
        for _, report in self.distribute_many([(mail, ticket)]):
            yield report

    def distribute_many(
        self, jobs: Iterable[tuple[Mail, Ticket]]
    ) -> Iterator[tuple[Ticket, Report]]:
        """Deliver all, in groups that share a file and a commit; a report for each."""
        group: list[tuple[Mail, Ticket]] = []
        octets = 0
        for mail, ticket in jobs:
            large = mail.content.size >= LARGE
            if group and large:
                yield from self._deliver(group)
                group, octets = [], 0
            group.append((mail, ticket))
            octets += mail.content.size
            if large or len(group) >= GROUP or octets >= GROUP_OCTETS:
                yield from self._deliver(group)
                group, octets = [], 0
        if group:
            yield from self._deliver(group)

    def finish(self, keys: Iterable[str]) -> None:
        """The journal has these as final: they are forgotten with the next commit."""
        self._final += keys

    def upkeep(self) -> None:
        """Expire what is too old or too much, and tidy up, also where no mail comes."""
        if not os.path.isdir(self._options.path or default_path()):
            return
        store = self._open()
        name = self._options.drop.text
        if "{" not in name:  # what the file says now holds, before anything goes
            store.keep(name, self._policy)
        expire.expire_all(store, [drop.name for drop in store.drops()])
        tidy.tidy(store)

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(self._options.path or default_path())
        return self._store

    def _deliver(self, group: list[tuple[Mail, Ticket]]) -> Iterator[tuple[Ticket, Report]]:
        reports: dict[str, Report] = {}
        try:
            self._put(self._open(), group, reports)
        except (OSError, MailflowError, MemoryError) as error:
            self._close()  # its disk may be gone and come back: it is opened anew
            for _, ticket in group:
                reports.setdefault(ticket.key, self._later(error))
        for _, ticket in group:
            yield ticket, reports.get(ticket.key, Report("", SENT))

    def _put(
        self, store: Store, group: list[tuple[Mail, Ticket]], reports: dict[str, Report]
    ) -> None:
        """Write, flush and name a group. `reports` gets those that failed alone."""
        known = store.known(ticket.key for _, ticket in group if ticket.resumed)
        fresh = [(mail, ticket) for mail, ticket in group if ticket.key not in known]
        if not fresh:
            return
        small = sum(mail.content.size for mail, _ in fresh) <= ROWS
        file = None if small else Writing(store.bodies)
        news: list[New] = []
        try:
            for mail, ticket in fresh:
                try:
                    news.append(self._written(file, mail, ticket))
                except BadMailError as error:
                    reports[ticket.key] = Report("", FAILED, "5.6.0", error.text)
                except (OSError, MailflowError, MemoryError) as error:
                    reports[ticket.key] = self._later(error)
        except BaseException:
            if file is not None:
                file.close(keep=False)
            raise
        if news:
            store.take(file, news, self._final, self._policy)
            self._final = []
            self._used.update(new.drop for new in news)
        elif file is not None:
            file.close(keep=False)

    def _written(self, file: Writing | None, mail: Mail, ticket: Ticket) -> New:
        options = self._options
        drop = options.drop.render(mail)
        if not is_name(drop):
            raise BadMailError(f"no drop can be called {drop[:80]!a}")
        self._runtime.halt.check()
        octets = b""
        if file is None:
            place, octets = small(mail.content)
        else:
            place = file.add(mail.content, self._runtime.halt.check)
        digest = ""
        if uidl.needs_digest(options.uidl):
            digest = uidl.digest_of(mail.content)
        return New(
            drop, place, time.time(), ticket.key, mail.envelope.sender, options.uidl, digest,
            octets=octets,
        )  # fmt: skip

    def _later(self, error: Exception) -> Report:
        where = self._options.path or "the spool"
        number: object = None
        if isinstance(error, OSError):
            number, text = error.errno, from_os(error, f"deliver into {where}").text
        else:
            text = str(error) or "out of memory"
        if isinstance(error, MailflowError):
            number = errno.ENOSPC if error.fields.get("full") else error.fields.get("errno")
        return Report("", LATER, _FULL.get(number, "4.3.0"), text)
