"""Append to an mbox, in groups: a log beside it, then the mbox, each flushed.

Rule of the file: a mail is reported SENT only when the mbox holds it durably, and a ticket
handed in again is known by the log until it is final.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain

from mailflow.disks import look_for_disk, used
from mailflow.durable import make_directory
from mailflow.errors import MailflowError, UnavailableError, from_os
from mailflow.lines import lf_pieces
from mailflow.mail import chunks
from mailflow.mbox import from_line, quote
from mailflow.options import Duration, Flag, Options, Path
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import LATER, SENT, Report
from mailflow_mbox.redo import APPEND, log_path, opened, padding

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail
    from mailflow_mbox.redo import Log

GROUP = 128
GROUP_OCTETS = 32 << 20
"""So many mails, of so many octets, share one lock and one flush."""

_CODES = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}  # RFC 3463, 3.3 and 3.4

Jobs = list[tuple["Mail", "Ticket"]]


class MboxOptions(Options):
    """The file, and how long its lock is waited for."""

    examples = {"path": "~/archive.mbox"}

    path = Path("The mbox file. In its directory a log is kept while something is delivered.")
    create = Flag("Make the file and its directory where they are missing.", default=True)
    timeout = Duration("How long to wait for another program's lock.", default=60.0)

    def look(self) -> Iterator[tuple[str, str]]:
        if not (self.create or os.path.exists(self.path)):
            yield "path", f"no mbox at {self.path}: make it, or set create = true"
        above = os.path.dirname(os.path.abspath(self.path))
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        if not os.path.isdir(above):
            yield "path", f"{above} is no directory"


class MboxDistributor:
    """Appends each mail to an mbox file (mboxrd), once."""

    options: ClassVar[type[Options]] = MboxOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"mbox": {}}
    url_path = "path"
    repeatable = True
    per_recipient = False
    sends = False

    def __init__(self, options: MboxOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._path = os.path.realpath(options.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: no file stays open between groups."""

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """The group of one."""
        for _, report in self.distribute_many([(mail, ticket)]):
            yield report

    def distribute_many(
        self, jobs: Iterable[tuple[Mail, Ticket]]
    ) -> Iterator[tuple[Ticket, Report]]:
        """Append all, in groups that share their lock and their flushes."""
        group: Jobs = []
        size = 0
        for mail, ticket in jobs:
            group.append((mail, ticket))
            size += mail.content.size
            if len(group) >= GROUP or size >= GROUP_OCTETS:
                yield from self._deliver(group)
                group, size = [], 0
        if group:
            yield from self._deliver(group)

    def finish(self, keys: Iterable[str]) -> None:
        """The journal has these as final: the log need not know them any more."""
        if os.path.exists(log_path(self._path)):
            with self._open() as (_, log):
                log.forget(keys)

    def _open(self) -> AbstractContextManager[tuple[int, Log]]:
        options = self._options
        return opened(
            self._path, write=True, create=options.create, timeout=options.timeout,
            halt=self._runtime.halt,
        )  # fmt: skip

    def _deliver(self, group: Jobs) -> Iterator[tuple[Ticket, Report]]:
        """Append a group; what fails as a whole is LATER for each that has no report."""
        failed: dict[str, Report] = {}
        try:
            look_for_disk(self._path)
            if self._options.create:
                make_directory(os.path.dirname(self._path))
            with self._open() as (mbox, log):
                used(self._path)
                self._append(mbox, log, group, failed)
        except FileNotFoundError:
            hint = "it cannot be made" if self._options.create else "make it, or set create = true"
            missing = UnavailableError(f"no mbox at {self._path}: {hint}")
            failed.update({ticket.key: self._later(missing) for _, ticket in group})
        except (OSError, MailflowError) as error:
            for _, ticket in group:
                failed.setdefault(ticket.key, self._later(error))
        for _, ticket in group:
            yield ticket, failed.get(ticket.key, Report("", SENT))

    def _append(self, mbox: int, log: Log, group: Jobs, failed: dict[str, Report]) -> None:
        known = set(log.keys)
        fresh = [(mail, ticket) for mail, ticket in group if ticket.key not in known]
        if not fresh:
            return
        draft = log.begin()
        try:
            gap = padding(mbox)
            keys = []
            for mail, ticket in fresh:
                try:
                    draft.add(chain([gap], self._pieces(mail)))
                except (OSError, MemoryError) as error:
                    failed[ticket.key] = self._later(error)
                else:
                    keys.append(ticket.key)
                    gap = b""
            if keys:
                log.make(draft, APPEND, os.fstat(mbox).st_size, keys)
        finally:
            draft.close()

    def _pieces(self, mail: Mail) -> Iterator[bytes]:
        """The mail as it stands in the file: From_ line, quoted lines, a blank line."""
        yield from_line(mail.envelope.sender, time.time())
        last = b"\n"
        for piece in quote(lf_pieces(chunks(mail.content))):
            self._runtime.halt.check()
            if piece:
                last = piece[-1:]
                yield piece
        yield b"\n" if last == b"\n" else b"\n\n"

    def _later(self, error: Exception) -> Report:
        if isinstance(error, OSError):
            code = _CODES.get(error.errno or 0, "4.3.0")
            return Report("", LATER, code, from_os(error, f"deliver into {self._path}").text)
        return Report("", LATER, "4.3.0", str(error) or "out of memory")
