"""What lies in a Maildir as a session will see it: UIDLs and sizes, known or found out now.

Rule of the file: a UIDL is written down before it is told wherever it could come out
differently another time; what cannot be read now is left out, and is there another time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count

from mailflow.column import Column
from mailflow.durable import flush_directory
from mailflow.errors import from_os
from mailflow.typed import TYPE_CHECKING
from mailflow_maildir.ledger import sizes_told
from mailflow_maildir.opened import Snapshot
from mailflow_maildir.reading import File, Glance, glance, open_message, size_facts, size_in
from mailflow_maildir.stored import size_of
from mailflow_maildir.uidl import Listed, UidlFormat, by_name, digest, dovecot_list, valid

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow_maildir.ledger import Known, Ledger

BATCH = 1000
"""So many new messages are written down together: a login that is cut goes on behind them."""

NEVER = 1 << 33
"""Higher than any UID."""


class Taking:
    """Takes the snapshot of one Maildir, whose list is held. Errors: OSError."""

    def __init__(self, root: str, ledger: Ledger, uidl: UidlFormat, runtime: Runtime) -> None:
        self._root = root
        self._ledger = ledger
        self._format = uidl
        self._runtime = runtime
        self.complete = True
        """Whether all that lies there is served."""
        self.removed = True
        """Whether nothing is left of what earlier sessions have deleted."""

    def snapshot(self) -> Snapshot:
        """Raises UnavailableError, OSError."""
        seen = glance(self._root)
        for path in seen.odd:
            self._runtime.log.warning("no message, not served", path=f"{self._root}/{path}")
        known = self._ledger.known(seen)
        self._finish(known.doomed)
        if seen.found:
            self._take(seen, known)
        names, keys = Column(known.names), Column(known.keys)
        return Snapshot(keys, known.sizes, names, known.tags, seen.twins)

    def _finish(self, doomed: list[str]) -> None:
        """Remove what an earlier session has deleted and did not come to remove."""
        places = set()
        try:
            for path in doomed:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._root, path))
                places.add(path[:3])
            for place in places:
                flush_directory(os.path.join(self._root, place))
        except OSError as error:
            self.complete = self.removed = False
            self._runtime.log.warning(
                "deleted messages cannot be removed; they are not served",
                path=self._root, error=from_os(error, "remove them").text,
            )  # fmt: skip

    def _take(self, seen: Glance, known: Known) -> None:
        """Find out about what is new, and add it to what is known."""
        listed = dovecot_list(self._root, seen.found)
        names = sorted(seen.found, key=lambda name: _order(name, listed or {}))
        used = set(known.keys)
        for start in range(0, len(names), BATCH):
            self._runtime.halt.check()
            first = len(known.keys)
            for name in names[start : start + BATCH]:
                tag = seen.found[name]
                size = self._size(name, seen.path(name, tag))
                if size is not None:
                    uidls = _by_inode(name) if name in seen.twins else self._choices(name, listed)
                    known.keys.append(_first(uidls, used))
                    known.sizes.append(size)
                    known.names.append(name)
                    known.tags.append(tag)
            new = known.keys[first:], known.sizes[first:], known.names[first:]
            self._write(*new, needed=listed is not None)

    def _size(self, name: str, path: str) -> int | None:
        """None for what cannot be read now."""
        try:
            file, status = open_message(self._root, File("", "", path))
        except FileNotFoundError:  # a reader has just renamed it
            self.complete = False
            return None
        except (OSError, ValueError) as error:
            self._left_out(path, error)
            return None
        try:
            return size_of(file, status.st_size, *size_facts(name))
        except OSError as error:
            self._left_out(path, error)
            return None
        finally:
            os.close(file)

    def _left_out(self, path: str, error: OSError | ValueError) -> None:
        self.complete = False
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        self._runtime.log.warning(
            "a message cannot be read, and is not served", path=f"{self._root}/{path}", error=reason
        )

    def _choices(self, name: str, listed: Mapping[str, Listed] | None) -> Iterator[str]:
        """What its UIDL may be, the best first."""
        there = (listed or {}).get(name)
        if there is not None and there.uidl:
            yield there.uidl
        if there is not None or self._format.by_name:
            yield self._format.render(name, there)
        yield by_name(name)
        yield from _by_inode(name)

    def _write(self, keys: Sequence[str], sizes: Sequence[int], names: Sequence[str], *,
               needed: bool) -> None:  # fmt: skip
        """Where Dovecot is at work too, it may list tomorrow what it has not listed today: what
        was told is told again only if it is written down. Raises OSError then."""
        try:
            self._ledger.add(keys, sizes, names, durable=needed)
        except OSError as error:
            if needed:
                raise
            self._runtime.log.warning(
                "sizes cannot be remembered", path=self._root, error=os.strerror(error.errno or 0)
            )


def counted(root: str) -> tuple[int, int]:
    """Messages and octets of a Maildir, without a lock. Raises OSError."""
    seen = glance(root)
    told = sizes_told(root)
    octets = 0
    for name, tag in seen.found.items():
        size = told.get(name) or size_in(name)
        if size is None:
            with suppress(FileNotFoundError):
                size = os.lstat(os.path.join(root, seen.path(name, tag))).st_size
        octets += size or 0
    return len(seen.found), octets


def _by_inode(name: str) -> Iterator[str]:
    """For messages that share the name of a file: the inode is in `name`."""
    for number in count():
        yield digest(f"{name}{number or ''}")


def _first(uidls: Iterator[str], used: set[str]) -> str:
    """The first that POP3 takes and no other message has."""
    found = next(each for each in uidls if valid(each, used))
    used.add(found)
    return found


def _order(name: str, listed: Mapping[str, Listed]) -> tuple[int, str]:
    """What Dovecot knows comes first, as it has it; then by name, which begins with the time."""
    there = listed.get(name)
    return (there.uid, "") if there is not None else (NEVER, name)
