"""Deliver into a Maildir, in groups: write to tmp/, flush, link into new/, flush new/.

Rule of the file: a mail is reported SENT only when its octets and its name are
durable; one that cannot be written is reported LATER, and the others go on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from mailflow.errors import BadMailError, MailflowError, from_os
from mailflow.lines import to_lf
from mailflow.mail import chunks, read
from mailflow.options import Flag, Options, Path, Pattern, Template
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import FAILED, LATER, SENT, Report
from mailflow_maildir.folder import MARK, Folder, file_name, folder_directory, sweep

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Content, Mail

GROUP = 128
"""So many files are open and share one flush of their directory."""

GROUP_OCTETS = 32 << 20

WHOLE = 1 << 20
"""Content up to this size is converted in one piece."""

FLUSHERS = 8
"""So many files are flushed at once: the disk puts their flushes into one."""

FOLDERS = 16
"""So many folders stay open between groups."""

_CROWDED = (errno.EMFILE, errno.ENFILE)
_CODES = {errno.ENOSPC: "4.3.1", errno.EDQUOT: "4.2.2"}  # RFC 3463, 3.3 and 3.4


class MaildirOptions(Options):
    path = Path("The Maildir.")
    folder = Template(
        'A Maildir++ folder in it, such as "Lists.red"; by default the inbox. A name outside'
        " ASCII is written as the mail reader expects it on disk.",
        default=Pattern(""),
    )
    create = Flag("Make the Maildir and the folder where they are missing.", default=True)

    def look(self) -> Iterator[tuple[str, str]]:
        if not (self.create or os.path.isdir(os.path.join(self.path, "new"))):
            yield "path", f"no Maildir at {self.path}: make it, or set create = true"


class _Delivery:
    """One mail on its way into a folder, and what came of it."""

    __slots__ = ("descriptor", "error", "folder", "mail", "name", "path", "ticket", "written")

    def __init__(self, mail: Mail, ticket: Ticket) -> None:
        self.mail = mail
        self.ticket = ticket
        self.path = ""
        self.folder: Folder
        self.name = ""
        self.descriptor = -1
        self.written = False
        self.error: Exception | None = None

    def attempt(self, act: Callable[[_Delivery], None]) -> None:
        """Do the next step; where it fails, nothing of this mail stays in tmp/."""
        try:
            act(self)
        except (OSError, MailflowError, MemoryError) as error:
            self.error = error
            if self.written:
                self.folder.discard(self.name)
                self.written = False

    @property
    def crowded(self) -> bool:
        """Whether it failed because too many files are open."""
        return isinstance(self.error, OSError) and self.error.errno in _CROWDED

    def close(self) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class MaildirDistributor:
    """Delivers into a Maildir, or a folder in it, each message once.

    A ticket handed in twice leaves one copy. The file in tmp/ stays until the ticket is
    final (`finish`), since its link count shows that a reader has taken the mail away.
    """

    options: ClassVar[type[Options]] = MaildirOptions
    schemes: ClassVar[Mapping[str, Mapping[str, object]]] = {"maildir": {}}
    url_path = "path"
    repeatable = True
    per_recipient = False
    sends = False

    def __init__(self, options: MaildirOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._folders: dict[str, Folder] = {}
        self._used: set[str] = set()
        self._unfinished: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._sweep()
        self._close_folders()

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """The group of one."""
        for _, report in self.distribute_many([(mail, ticket)]):
            yield report

    def distribute_many(
        self, jobs: Iterable[tuple[Mail, Ticket]]
    ) -> Iterator[tuple[Ticket, Report]]:
        """Deliver all, in groups that share their flushes; a report for each."""
        group: list[_Delivery] = []
        octets = 0
        for mail, ticket in jobs:
            group.append(_Delivery(mail, ticket))
            octets += mail.content.size
            if len(group) >= GROUP or octets >= GROUP_OCTETS:
                yield from self._deliver(group)
                group, octets = [], 0
        yield from self._deliver(group)

    def finish(self, keys: Iterable[str]) -> None:
        """The journal has these as final: remove what tmp/ keeps of them, in no hurry."""
        for key in keys:
            path = self._unfinished.pop(key, None)
            if path is not None:
                _unlink(path)
                continue
            with suppress(OSError):
                directory = os.path.join(self._options.path, "tmp")
                for name in os.listdir(directory):
                    if name.startswith(key + MARK):
                        _unlink(os.path.join(directory, name))

    def _deliver(self, group: list[_Delivery]) -> Iterator[tuple[Ticket, Report]]:
        """Deliver all; those for which too many files were open, in smaller groups."""
        if not group:
            return
        self._run(group)
        crowded = [each for each in group if each.crowded]
        if len(group) == 1 and not self._folders.keys() - {group[0].path}:
            crowded = []  # there is nothing left to close
        failed = {each.path for each in group if each.error is not None}
        if crowded or len(self._folders) > FOLDERS:
            failed = set(self._folders)
        for path in failed & self._folders.keys():
            # Its disk may be gone and come back: it is opened anew next time.
            self._folders.pop(path).close()
        for each in group:
            if each not in crowded:
                yield each.ticket, self._report(each)
        if crowded:
            again = [_Delivery(each.mail, each.ticket) for each in crowded]
            half = len(again) // 2
            for smaller in (again[:half], again[half:]):
                yield from self._deliver(smaller)

    def _run(self, group: list[_Delivery]) -> None:
        """Write, flush, publish, flush the directory."""
        try:
            for each in group:
                each.attempt(self._place)
            delivered = self._recognise(group)
            for each in group:
                if each.error is None and each not in delivered:
                    each.attempt(self._write)
            _flush_files(group)
            for each in group:
                if each.written:
                    each.attempt(self._publish)
            self._flush_folders(group)
        finally:
            for each in group:
                each.close()

    def _place(self, each: _Delivery) -> None:
        """Find the folder of a mail, opened and if need be made."""
        name = folder_directory(self._options.folder.render(each.mail))
        root = each.path = self._options.path
        if name:
            each.path = f"{root}/{name}"
        folder = self._folders.get(each.path)
        if folder is None:
            folder = Folder(each.path, create=self._options.create, under=root if name else "")
            self._folders[each.path] = folder
            self._used.add(each.path)
        each.folder = folder

    def _recognise(self, group: list[_Delivery]) -> set[_Delivery]:
        """Those which an earlier attempt delivered before it was cut."""
        resumed = [each for each in group if each.ticket.resumed and each.error is None]
        for each in resumed:
            each.attempt(_name)
        found: set[_Delivery] = set()
        for folder in {each.folder for each in resumed}:
            here = [each for each in resumed if each.folder is folder and each.error is None]
            try:
                names = folder.delivered([each.name for each in here])
            except OSError as error:
                for each in here:
                    each.error = error
            else:
                found.update(each for each in here if each.name in names)
        return found

    def _write(self, each: _Delivery) -> None:
        """Write tmp/NAME, whole; not flushed yet."""
        content = each.mail.content
        if content.size <= WHOLE:
            pieces: Iterable[bytes] = [to_lf(read(content))]
            each.name = file_name(each.ticket.key, pieces)
        else:
            _name(each)
            pieces = self._pieces(content)
        try:
            each.descriptor = each.folder.create(each.name)
        except FileExistsError:
            # An attempt that nobody told us of was cut.
            if each.folder.delivered([each.name]):
                return
            each.folder.discard(each.name)
            each.descriptor = each.folder.create(each.name)
        each.written = True
        for piece in pieces:
            _write_whole(each.descriptor, piece)

    def _pieces(self, content: Content) -> Iterator[bytes]:
        for piece in _stored(content):
            self._runtime.halt.check()
            yield piece

    def _publish(self, each: _Delivery) -> None:
        try:
            each.folder.publish(each.name)
        except FileExistsError:
            each.folder.publish_beside(each.name)

    def _flush_folders(self, group: list[_Delivery]) -> None:
        """One flush of new/ for all that was published there.

        Where it fails, new/ may have the mail and may lose it: the file in tmp/ stays,
        so that the next attempt knows it.
        """
        for folder in {each.folder for each in group if each.written}:
            try:
                folder.flush()
            except OSError as error:
                for each in group:
                    if each.written and each.folder is folder:
                        each.error = error

    def _report(self, each: _Delivery) -> Report:
        error = each.error
        if error is None:
            self._unfinished[each.ticket.key] = os.path.join(each.path, "tmp", each.name)
            return Report("", SENT)
        if isinstance(error, BadMailError):
            return Report("", FAILED, "5.6.0", error.text)
        if isinstance(error, OSError):
            code = _CODES.get(error.errno or 0, "4.3.0")
            return Report("", LATER, code, from_os(error, f"deliver into {each.path}").text)
        return Report("", LATER, "4.3.0", str(error) or "out of memory")

    def _close_folders(self) -> None:
        while self._folders:
            self._folders.popitem()[1].close()

    def _sweep(self) -> None:
        for path in self._used:
            try:
                sweep(path)
            except OSError as error:
                self._runtime.log.debug("not tidied up", path=path, error=str(error))


def _name(each: _Delivery) -> None:
    each.name = file_name(each.ticket.key, _stored(each.mail.content))


def _stored(content: Content) -> Iterator[bytes]:
    """The octets as files here have them, LF for CRLF; a CR may end a piece."""
    carried = b""
    for piece in chunks(content):
        piece = carried + piece
        carried = b"\r" if piece.endswith(b"\r") else b""
        yield to_lf(piece[: len(piece) - len(carried)])
    if carried:
        yield carried


def _write_whole(descriptor: int, data: bytes) -> None:
    """write(2) until all is written: it may take less than it is given."""
    written = os.write(descriptor, data)
    if written < len(data):
        with memoryview(data) as view:
            while written < len(data):
                written += os.write(descriptor, view[written:])


def _flush_files(group: list[_Delivery]) -> None:
    """Flush and close all that is open, many at once where they are many.

    Linux begins to write back what it is told will not be needed, without waiting; the
    flushes then find the data written, and ext4 and xfs one log commit for all of them.
    """
    todo = [each for each in group if each.descriptor >= 0]
    threads = min(FLUSHERS, len(todo) // 4)
    if threads < 2:
        for each in todo:
            each.attempt(_flush)
        return
    from threading import Thread

    for each in todo:
        with suppress(OSError, AttributeError):  # only a hint, and one that macOS lacks
            os.posix_fadvise(each.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    failures: list[BaseException] = []

    def work(share: list[_Delivery]) -> None:
        try:
            for each in share:
                each.attempt(_flush)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)  # no mail of this group is published

    started = [Thread(target=work, args=(todo[number::threads],)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]


def _flush(each: _Delivery) -> None:
    """fsync and close; a mail whose flush failed once is not written (the page may be lost)."""
    if each.error is None:
        os.fsync(each.descriptor)
    each.close()


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
