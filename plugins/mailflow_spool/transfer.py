"""A drop out of the spool and into it: as a Maildir, an mbox, or from another server.

Rule of the file: what is exported appears whole or not at all; what is imported twice is
there once, with the UIDL that clients know it by.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from mailflow.collect import write_whole
from mailflow.digests import blake2b
from mailflow.durable import flush_directory
from mailflow.errors import ConfigError, from_os
from mailflow.lines import lf_pieces
from mailflow.mail import chunks
from mailflow.mbox import from_line, quote
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow.values import counted
from mailflow_spool import uidl
from mailflow_spool.files import Writing
from mailflow_spool.store import New, Store

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow.kinds import Fetched
    from mailflow.mail import Content
    from mailflow_spool.shelf import Message

GROUP = 128
GROUP_OCTETS = 32 << 20

_PLAIN = re.compile(r"[^A-Za-z0-9._%-]")
_UIDLIST = "dovecot-uidlist"


class Imported(NamedTuple):
    """What became of a message: its UIDL here, `kept` where the old server had it; `known`
    where it was here already; `why` it could not be had."""

    key: str
    uidl: str = ""
    kept: bool = False
    known: bool = False
    why: str = ""


def export_maildir(messages: Iterable[Message], validity: int, path: str) -> int:
    """Make a Maildir of messages at `path`, where nothing is yet; gives how many.

    Dovecot, and an import of ours, find their UIDLs in it. Raises UnavailableError.
    """

    def fill(directory: str) -> int:
        for name in ("tmp", "cur", "new"):
            os.mkdir(os.path.join(directory, name), 0o700)
        listed = []
        for each in messages:
            name = f"{int(each.arrived)}.{_PLAIN.sub('_', each.uidl)}.{each.number},W={each.size}"
            _write(os.path.join(directory, "new", name), lf_pieces(chunks(each.content)))
            listed.append(f"{each.number} P{each.uidl} :{name}\n")
        next_ = int(listed[-1].partition(" ")[0]) + 1 if listed else 1
        head = f"3 V{validity} N{next_} G{os.urandom(16).hex()}\n"
        _write(os.path.join(directory, _UIDLIST), [(head + "".join(listed)).encode()])
        for name in ("new", ""):
            flush_directory(os.path.join(directory, name))
        return len(listed)

    return _appear(path, lambda part: os.mkdir(part, 0o700), fill)


def export_mbox(messages: Iterable[Message], path: str) -> int:
    """Make an mbox (mboxrd) of messages at `path`, where nothing is yet; gives how many.
    Raises UnavailableError."""
    count = 0

    def pieces() -> Iterator[bytes]:
        nonlocal count
        for each in messages:
            count += 1
            yield from_line(each.sender, each.arrived)
            yield from quote(lf_pieces(chunks(each.content)))
            yield b"\n"

    _appear(path, lambda part: _write(part, pieces()), lambda part: None)
    return count


def _appear(path: str, make: Callable[[str], None], fill: Callable[[str], int | None]) -> int:
    """Make something beside `path` and give it that name, whole."""
    path = os.path.abspath(path)
    if os.path.lexists(path):
        raise ConfigError(f"there is something at {path}; export to a place that is free")
    part = f"{path}.part-{os.urandom(4).hex()}"
    try:
        make(part)
        count = fill(part)
        if os.path.lexists(path):
            raise ConfigError(f"there is something at {path} by now; nothing was exported")
        os.rename(part, path)
        flush_directory(os.path.dirname(path))
    except BaseException as error:
        if os.path.isdir(part):
            shutil.rmtree(part, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(part)
        if isinstance(error, OSError):
            raise from_os(error, f"write {path}") from None
        raise
    return count or 0


def _write(path: str, pieces: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        for piece in pieces:
            write_whole(descriptor, piece)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def import_from(
    store: Store,
    drop: str,
    source: str,
    uidls: str | None = None,
    *,
    halt: Halt | None = None,
    dry: bool = False,
) -> Iterator[Imported]:
    """Take all messages of a Maildir, an mbox or a server (a URL) into a drop.

    UIDLs are those that the file `uidls` gives, that a server of POP3 has, or that Dovecot
    has written into the Maildir; else new ones. `dry`: only say which there are. Raises
    ConfigError, UnavailableError, LoginError.
    """
    from mailflow.opening import open as open_box

    url = _url(source)
    remote = url == source
    given = _uidl_file(uidls) if uidls else {}
    if not (given or remote):
        given = _dovecot(source)
    with open_box(url, halt=halt) as box:
        keys = [item.key for item in box.listing()]
        names = _names(keys, given, remote=url.startswith(("pop3:", "pop3s:")))
        if uidls:
            _compare(uidls, given, names)
        if dry:
            yield from (Imported(key, names.get(key, ""), key in names) for key in keys)
            return
        incoming = _Incoming(store, drop, box.source, names)
        try:
            for got in box.retrieve(keys):
                yield from incoming.take(got)
            yield from incoming.write()
        finally:
            incoming.close()


class _Incoming:
    """Messages on their way into a drop, some at a time."""

    def __init__(self, store: Store, drop: str, source: str, names: Mapping[str, str]) -> None:
        self._store = store
        self._drop = drop
        self._source = source
        self._names = names
        self._file: Writing | None = None
        self._news: list[tuple[str, New]] = []

    def take(self, got: object) -> Iterator[Imported]:
        from mailflow.kinds import Missed

        if isinstance(got, Missed):
            yield Imported(got.key, why=got.error.text)
            return
        fetched: Fetched = got  # type: ignore[assignment]
        ticket = f"import.{self._mark(fetched.key, fetched.content)}"
        if self._store.known([ticket]):
            yield Imported(fetched.key, known=True)
            return
        try:
            if self._file is None:
                self._file = Writing(self._store.bodies)
            place = self._file.add(fetched.content, lambda: None)
        except OSError as error:
            raise from_os(error, f"write {self._store.bodies.path}") from None
        new = New(
            self._drop, place, time.time(), ticket, fetched.envelope.sender,
            uidl=self._names.get(fetched.key, ""),
        )  # fmt: skip
        self._news.append((fetched.key, new))
        if len(self._news) >= GROUP or self._file.octets >= GROUP_OCTETS:
            yield from self.write()

    def write(self) -> Iterator[Imported]:
        """Name what was written."""
        news, self._news = self._news, []
        file, self._file = self._file, None
        if file is None:
            return
        given = self._store.take(file, [new for _, new in news])
        for (key, new), name in zip(news, given, strict=True):
            yield Imported(key, name, kept=bool(name) and name == new.uidl, known=not name)

    def close(self) -> None:
        if self._file is not None:
            self._file.close(keep=False)

    def _mark(self, key: str, content: Content) -> str:
        """What tells that this message of this source was imported into this drop."""
        words = "\0".join((self._drop, self._source, key))
        state = blake2b(words.encode("utf-8", "surrogateescape"), digest_size=16)
        for piece in chunks(content):
            state.update(piece)
        return state.hexdigest()


def _url(source: str) -> str:
    """A URL as it is; of a path, the one that names it."""
    from urllib.parse import quote as quoted

    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", source) and not os.path.exists(source):
        return source
    path = os.path.abspath(os.path.expanduser(source))
    if os.path.isdir(os.path.join(path, "cur")):
        return f"maildir:{quoted(path)}"
    if os.path.isfile(path):
        return f"mbox:{quoted(path)}"
    lack = "is no Maildir, no mbox file and no URL"
    raise ConfigError(f"{source} {lack if os.path.lexists(path) else 'is not there'}")


def _dovecot(source: str) -> dict[str, str]:
    """UIDL by file name, of what Dovecot keeps in a Maildir; nothing where it keeps nothing."""
    path = os.path.join(os.path.expanduser(source), _UIDLIST)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise from_os(error, f"read {path}") from None
    head = re.match(r"3 V(\d+) ", lines[0] + " ") if lines else None
    if head is None:
        return {}
    found = {}
    for line in lines[1:]:
        left, colon, name = line.partition(" :")
        uid, _, rest = left.partition(" ")
        if not colon or not uid.isdigit():
            continue
        told = [word[1:] for word in rest.split() if word.startswith("P")]
        found[name] = told[0] if told else uidl.written(uidl.DEFAULT, int(uid), int(head[1]))
    return {name.partition(":")[0]: each for name, each in found.items() if uidl.is_uidl(each)}


def _uidl_file(path: str) -> dict[str, str]:
    """UIDL by message: its number as the server's answer to UIDL has it, or its file's name."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise from_os(error, f"read {path}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words == ["."] or words[0].startswith(("+OK", "#")):
            continue
        if len(words) != 2 or not uidl.is_uidl(words[1]) or words[0] in found:
            raise ConfigError(
                f"{path}, line {number}: expected a message's number or file, and its UIDL, once:"
                f' "1 0000000167431A2B"; found {line[:60]!a}'
            )
        found[words[0]] = words[1]
    doubled = len(found) - len(set(found.values()))
    if doubled:
        raise ConfigError(f"{path} gives {counted(doubled, 'UIDL')} to several messages")
    return found


def _names(keys: list[str], given: Mapping[str, str], *, remote: bool) -> dict[str, str]:
    """UIDL by key: as given for its number, or for its file; a server's own is its key."""
    names = {}
    for number, key in enumerate(keys, 1):
        file = os.path.basename(key).partition(":")[0]
        found = given.get(str(number)) or given.get(key) or given.get(file)
        if found is None and remote and not given and uidl.is_uidl(key):
            found = key
        if found is not None:
            names[key] = found
    return names


def _compare(path: str, given: Mapping[str, str], names: Mapping[str, str]) -> None:
    missing = len(given) - len(names)
    if missing:
        raise ConfigError(
            f"{path} has UIDLs of {counted(len(given), 'message')}, and {missing} of them"
            f" {'is' if missing == 1 else 'are'} not there:"
            " is it the list of this mailbox? nothing was imported"
        )
