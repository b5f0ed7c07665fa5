"""A Maildir as a source: what any program has delivered there, or a reader keeps there.

Rule of the file: files are read where they lie, and changed only by what `on_done` says,
once the journal answers for them: by one rename or unlink each, as every reader does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mailflow.collect import collect
from mailflow.durable import flush_directory
from mailflow.errors import BadMailError, GoneError, MailflowError, UnavailableError, from_os
from mailflow.kinds import Fetched, Item, Missed
from mailflow.lines import crlf_pieces, to_crlf
from mailflow.mail import HEADER_LIMIT, Envelope, Octets, head
from mailflow.options import ListOf, Option, Options, Path, Text
from mailflow.typed import TYPE_CHECKING, ClassVar, Self, TypeVar
from mailflow.verdicts import Fate
from mailflow.watching import wait_for_change
from mailflow_maildir.folder import Folder, folder_directory
from mailflow_maildir.reading import (
    INBOX,
    File,
    flags,
    folders,
    messages,
    open_message,
    pieces,
    size_in,
    with_flag,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailflow.kinds import Runtime
    from mailflow.query import Query

T = TypeVar("T")

NO_ENVELOPE = Envelope()

RENAMED = 8
"""So often a message is looked for again, where readers rename it under our hands."""

LETTERS = {"seen": "S", "flag": "F"}


class OnDone(Option[str]):
    """delete, keep, seen, flag, or "move FOLDER"."""

    expected = '"delete", "keep", "seen", "flag" or "move FOLDER"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        if value in ("delete", "keep", *LETTERS):
            return str(value)
        if not isinstance(value, str) or not value.startswith("move "):
            raise self.reject()
        try:
            directory = folder_directory(value.removeprefix("move ").strip())
        except BadMailError as error:
            raise ValueError(error.text) from None
        if not directory:
            raise ValueError('expected a folder, such as "move Done"')
        return f"move {directory[1:]}"


class MaildirSourceOptions(Options):
    """A Maildir whose messages are fetched."""

    path = Path("The Maildir.")
    folders = ListOf(
        'The folders that are read: "INBOX" is the Maildir itself, "Lists.red" a folder in it;'
        ' "*" stands for any letters.',
        Text("A folder's name, or a pattern.", least=1),
        default=(INBOX,),
    )
    on_done = OnDone(
        "What becomes of a message there once it is safe here and the time in `keep`, which is"
        ' "forever" by default, is over: delete, keep, seen, flag, or "move FOLDER".',
        default="delete",
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        from fnmatch import fnmatchcase

        if not self.folders:
            yield "folders", 'expected at least one folder, such as "INBOX"'
        target = self.on_done.removeprefix("move ")
        if target != self.on_done and any(
            fnmatchcase(target, pattern.removeprefix(".")) for pattern in self.folders
        ):
            yield "on_done", f"{target} is one of the folders that are read: it would come again"

    def look(self) -> Iterator[tuple[str, str]]:
        if lack := _lack(self.path):
            yield "path", f"no Maildir at {self.path}: {lack}"


def _lack(root: str) -> str:
    """Why a directory is no Maildir, or cannot be looked into; "" where it is one."""
    for place in ("", "new", "cur"):
        try:
            there = stat.S_ISDIR(os.stat(os.path.join(root, place)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError as error:
            return os.strerror(error.errno or 0)
        if not there:
            return f"it has no {place}/" if place else "there is no such directory"
    return ""


class MaildirFetcher:
    """Fetches the messages of a Maildir, or of folders in it."""

    options: ClassVar[type[Options]] = MaildirSourceOptions
    schemes: ClassVar[dict[str, dict[str, object]]] = {"maildir": {}}
    url_path = "path"
    knows = ("folder", "answered", "deleted", "draft", "flagged", "recent", "seen")

    def __init__(self, options: MaildirSourceOptions, runtime: Runtime) -> None:
        self.source = options.path
        self.mark = ""
        self._options = options
        self._root = options.path
        self._runtime = runtime
        self._log = runtime.log
        self._files: dict[str, File] = {}
        self._targets: dict[str, Folder] = {}
        self._changed: set[str] = set()
        self._said: set[str] = set()
        self._listed: set[str] | None = None

    def __enter__(self) -> Self:
        """Raises UnavailableError where there is no Maildir: its disk may not be mounted."""
        if lack := _lack(self._root):
            raise UnavailableError(f"no Maildir at {self._root}: {lack}")
        self._said.clear()
        return self

    def __exit__(self, *_: object) -> None:
        """Make what was settled last: the journal is told next that it is. Never raises."""
        while self._targets:
            self._targets.popitem()[1].close()
        try:
            while self._changed:
                flush_directory(self._changed.pop())
        except OSError as failure:
            self._once("what was settled may come back", error=from_os(failure, "flush").text)

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        """Every message of the folders. `where` and `mark` narrow nothing here."""
        self._scan()
        self._listed = set(self._files)
        names = {directory: name for name, directory in self._folders()}
        for key, file in self._files.items():
            try:
                status = os.stat(os.path.join(self._root, file.path), follow_symlinks=False)
            except OSError:  # renamed or gone since; found or missed when it is asked for
                yield Item(key, size_in(file.name), None, flags(file), names.get(file.folder))
                continue
            size = size_in(file.name)
            yield Item(
                key, status.st_size if size is None else size, status.st_mtime, flags(file),
                names.get(file.folder),
            )  # fmt: skip

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """The header sections; of what is gone, nothing."""
        for key in keys:
            with suppress(MailflowError):
                descriptor = self._open(key)
                try:
                    data = os.read(descriptor, HEADER_LIMIT + 1)
                except OSError as error:
                    raise from_os(error, f"read {key}") from None
                finally:
                    os.close(descriptor)
                yield Fetched(key, Octets(head(Octets(to_crlf(data)))), NO_ENVELOPE)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages in this order, with CRLF line ends."""
        for key in keys:
            self._runtime.halt.check()
            try:
                yield self._read(key)
            except MailflowError as error:
                if self._runtime.halt.is_set():  # which says nothing about the message
                    raise
                yield Missed(key, error)

    def settle(self, key: str, fate: Fate) -> None:
        """Do what `on_done` says, at once; done again it changes nothing."""
        act = self._options.on_done
        if fate is not Fate.DONE or act == "keep":
            return
        try:
            self._again(key, self._settled)
        except GoneError:
            self._files.pop(key, None)
        except (OSError, MailflowError) as error:
            text = error.text if isinstance(error, MailflowError) else os.strerror(error.errno or 0)
            self._once(f"{self._root} cannot be changed: on_done is not done", error=text)

    def wait(self, seconds: float) -> bool:
        """True as soon as there is a message that the last listing did not have."""
        listed = self._listed
        if listed is None:
            listed = self._listed = set(self._look([]))
        return wait_for_change(
            self._watched, lambda: not listed.issuperset(self._look([])), seconds,
            self._runtime.halt,
        )  # fmt: skip

    def _watched(self) -> Iterator[str]:
        """Where a message, or a folder that is read too, comes into being."""
        if self._options.folders != (INBOX,):
            yield self._root
        for _, directory in self._folders():
            for place in ("new", "cur"):
                yield os.path.join(self._root, directory, place)

    def _folders(self) -> list[tuple[str, str]]:
        return list(folders(self._root, self._options.folders))

    def _scan(self) -> None:
        """Look at all folders anew. Raises UnavailableError."""
        odd: list[str] = []
        self._files = self._look(odd)
        for path in odd:
            self._once("no regular file", path=path)

    def _look(self, odd: list[str]) -> dict[str, File]:
        """The messages by key; what is no regular file is added to `odd`."""
        found: dict[str, File] = {}
        try:
            for name, directory in self._folders():
                inside = messages(self._root, directory, odd)
                prefix = f"{name}/" if directory else ""
                found.update((f"{prefix}{key}", file) for key, file in inside.items())
        except OSError as error:
            raise from_os(error, f"list {error.filename or self._root}") from None
        return found

    def _again(self, key: str, act: Callable[[str, File], T]) -> T:
        """Do something with a message's file; where it has another name by now, once more.

        Raises GoneError where it is there under no name.
        """
        for _ in range(RENAMED):
            file = self._files.get(key)
            if file is None:
                break
            try:
                return act(key, file)
            except FileNotFoundError:
                self._scan()
        raise GoneError(f"{key} is not in {self._root} any more")

    def _open(self, key: str) -> int:
        """Raises GoneError, BadMailError for what is no regular file, UnavailableError."""
        try:
            return self._again(key, lambda _, file: open_message(self._root, file)[0])
        except ValueError as error:
            raise BadMailError(f"{key} in {self._root} is {error}") from None
        except OSError as error:
            raise from_os(error, f"read {key} in {self._root}") from None

    def _read(self, key: str) -> Fetched:
        descriptor = self._open(key)
        try:
            octets = self._counted(crlf_pieces(pieces(descriptor)))
            content = collect(octets, self._runtime.scratch, "maildir")
        except OSError as error:
            raise from_os(error, f"read {key} in {self._root}") from None
        finally:
            os.close(descriptor)
        return Fetched(key, content, NO_ENVELOPE)

    def _counted(self, octets: Iterator[bytes]) -> Iterator[bytes]:
        for piece in octets:
            self._runtime.halt.check()
            self._runtime.progress(len(piece))
            yield piece

    def _settled(self, key: str, file: File) -> None:
        """One step on the disk. Raises OSError, FileNotFoundError where the name is old."""
        act = self._options.on_done
        path = os.path.join(self._root, file.path)
        if act == "delete":
            os.unlink(path)
            del self._files[key]
        elif act in LETTERS:
            self._flag(key, file, LETTERS[act])
        else:
            self._move(file, f".{act.removeprefix('move ')}")
            del self._files[key]
        self._changed.add(os.path.dirname(path))

    def _flag(self, key: str, file: File, letter: str) -> None:
        """A file with flags lies in cur/: readers look for them there."""
        flagged = file._replace(place="cur", name=with_flag(file.name, letter))
        if flagged == file:
            return
        os.rename(os.path.join(self._root, file.path), os.path.join(self._root, flagged.path))
        self._files[key] = flagged
        self._changed.add(os.path.join(self._root, flagged.folder, "cur"))

    def _move(self, file: File, directory: str) -> None:
        """Into another folder, under the same name, and never over another file."""
        if directory not in self._targets:
            path = f"{self._root}/{directory}"
            self._targets[directory] = Folder(path, create=True, under=self._root)
        target = os.path.join(self._root, directory, file.place, file.name)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(os.path.join(self._root, file.path), target)
        self._changed.add(os.path.dirname(target))

    def _once(self, event: str, **facts: object) -> None:
        """A warning that one session says once."""
        if event not in self._said:
            self._said.add(event)
            self._log.warning(event, **facts)
