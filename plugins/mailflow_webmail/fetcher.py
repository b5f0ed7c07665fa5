"""The webmail fetcher: whole folders listed, their messages loaded several at once.

Rule of the file: a folder is listed to its end before anything of it is loaded, and nothing is
removed while anything is on its way, since places shift when rows go. A message is named by its
folder and its id, and an id is believed only as long as content bears it out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from mailflow.errors import (
    BadMailError,
    GoneError,
    MailflowError,
    PeerError,
    UnavailableError,
)
from mailflow.kept import drop
from mailflow.kinds import Fetched, Item, Missed
from mailflow.mail import Content, Envelope, Octets, head
from mailflow.net import is_loopback
from mailflow.options import Options
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow.verdicts import Fate
from mailflow.wildcards import none_like
from mailflow_webmail.arriving import arriving
from mailflow_webmail.choice import Folder, chosen, is_certain, is_plain
from mailflow_webmail.errors import ThrottledError
from mailflow_webmail.mark import (
    Left,
    Mark,
    anchors,
    digest_of,
    first_page,
    page_of,
    said,
)
from mailflow_webmail.origin import WebmailSourceOptions
from mailflow_webmail.rows import as_they_came, size_of
from mailflow_webmail.settling import BATCH, Settling

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.kinds import Runtime
    from mailflow.query import Query
    from mailflow_webmail.account.session import Row, Session

NO_ENVELOPE = Envelope()


class WebmailFetcher:
    """Fetches the messages of folders that a webmail shows."""

    options: ClassVar[type[Options]] = WebmailSourceOptions
    knows = ("folder",)
    fickle = True

    def __init__(self, options: WebmailSourceOptions, runtime: Runtime) -> None:
        self.source = f"{options.user}@{urlsplit(options.url).hostname}"
        self.mark = ""
        self.complete = True
        self.renewed = False
        self.doubtful: Callable[[str], bool] | None = None
        self.removes = options.on_done in ("delete", "trash")
        self._options = options
        self._runtime = runtime
        self._log = runtime.log
        self._session: Session | None = None
        self._stays = False
        self._settling = Settling(options.on_done, self._once)
        self._rows: dict[str, dict[str, Row]] = {}
        self._before = Mark()
        self._checked: dict[str, float] = {}
        self._digests: dict[str, dict[str, str]] = {}
        self._large: dict[str, set[str]] = {}
        self._excess: set[str] = set()
        self._asked = ""
        self._first: dict[str, str] = {}
        self._late: set[str] = set()
        self._named: dict[str, Folder] = {}
        self._said: set[tuple[str, object]] = set()

    def __enter__(self) -> Self:
        """Nobody is asked yet, and who was logged in still is."""
        from mailflow_webmail.account.session import opened

        options, runtime = self._options, self._runtime
        url = urlsplit(options.url)
        if url.scheme == "http" and options.password and not is_loopback(url.hostname or ""):
            self._log.warning("the password goes in clear", host=url.hostname)
        self._said.clear()
        self._rows, self._digests = {}, {}
        self._settling = Settling(options.on_done, self._once)
        if self._session is None:
            self._session = opened(options, runtime.halt, runtime.scratch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without an error: what was settled is done. Raises where that is not confirmed."""
        done = False
        try:
            if kind is None:
                for folder in self._settling.folders:
                    self._settle(folder)
                self.mark = self._left().write()
                done = True
        finally:
            if not (done and self._may_stay):
                self.close()

    def stay(self) -> None:
        """It will be entered again: who is logged in stays so between, until `close`."""
        self._stays = True

    def close(self) -> None:
        """Log out, if anybody is logged in."""
        session, self._session = self._session, None
        self._named.clear()
        if session is not None:
            try:
                session.close()
            except MailflowError as error:
                self._log.debug("not logged out", error=error.text)

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        """Every message of every folder but those over `max_size`, the oldest first; `where`
        narrows nothing. Of a folder whose first page says that nothing has come, nothing."""
        self._before = Mark.read(mark)
        self._rows, self._checked, self._excess = {}, {}, set()
        self._asked = f"{where.hash} {self._options.max_size}" if where.final else ""
        self._first, self._late = {}, set()
        folders = [folder for folder in self._folders() if not self._has_nothing_new(folder)]
        for folder in folders:
            rows = self._there.listing(folder.id)
            self._first[folder.id] = first_page(rows)
            self._rows[folder.id] = {row["id"]: row for row in as_they_came(rows)}
        doubted = {folder.id for folder in folders if not self._is_as_it_was(folder.id)}
        self.renewed = bool(doubted)
        self.doubtful = (lambda key: _place(key)[0] in doubted) if doubted else None
        most = self._options.max_size
        for folder in folders:
            left = self._before.folders.get(folder.id)
            if left is None or folder.id in doubted:
                left = Left()
            self._settling.seen[folder.id] = {*left.seen}
            self._large[folder.id] = (
                {*left.large} if most is not None and most <= left.most else set()
            )
        yield from self._items(folders)

    def offers(self) -> Iterator[str]:
        """What the webmail shows of itself and of this account, which stays as it is."""
        from mailflow_webmail.offers import facts

        yield from facts(self._there, self._options)

    def lists(self, key: str) -> bool:
        """Whether the last listing would have had it: its folder was read, and it is not over
        max_size."""
        return _place(key)[0] in self._rows and key not in self._excess

    def unfinished(self, keys: Iterable[str]) -> None:
        """These are wanted still: all of their folders is listed the next time."""
        self._late.update(_place(key)[0] for key in keys)

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """The header sections; of what is gone, nothing."""
        for key, got in self._load(keys):
            if not isinstance(got, MailflowError):
                section = head(got)
                drop(got)
                yield Fetched(key, Octets(section), NO_ENVELOPE)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages, several at once; where many were settled meanwhile, nothing is on its way
        while they are removed."""
        for start in range(0, len(keys), BATCH):
            for key, got in self._load(keys[start : start + BATCH]):
                yield self._arrived(key, got)
            if self._settling.count >= BATCH:
                for folder in self._settling.folders:
                    self._settle(folder)

    def settle(self, key: str, fate: Fate) -> None:
        """It is done with many others, or when the session ends."""
        folder, id_ = _place(key)
        if fate is Fate.DONE and folder not in self._rows:
            self._late.add(folder)  # the next listing has it, and is asked to settle it again
        elif fate is Fate.DONE and id_ in self._rows[folder]:
            self._settling.add(folder, id_)

    # The session

    @property
    def _there(self) -> Session:
        if self._session is None:
            raise ValueError("there is no session")
        return self._session

    def _folders(self) -> list[Folder]:
        """The folders that are read, as they are now. Raises GoneError where there is none."""
        patterns = self._options.folders
        if is_certain(patterns):
            return [Folder("INBOX", "INBOX")]
        if self._named:
            return list(self._named.values())
        found = chosen(patterns, self._there.folders())
        if not found:
            raise none_like(self.source, patterns)
        if all(map(is_plain, patterns)):
            self._named = {folder.id: folder for folder in found}
        return found

    @property
    def _may_stay(self) -> bool:
        """Not where a second log-in ends the first: others could not log in meanwhile."""
        return self._stays and self._there.site.shared

    # What is there

    def _has_nothing_new(self, folder: Folder) -> bool:
        """Whether the first of many pages is as it was, and so says that nothing has come."""
        left = self._before.folders.get(folder.id)
        if left is None or not self._asked or not left.may_glance(self._asked, time.time()):
            return False
        rows, counts = self._there.first(folder.id)
        return any(page_of(rows, count) == left.first for count in counts)

    def _is_as_it_was(self, folder: str) -> bool:
        """Whether ids mean what they meant when the folder was listed before. Where its pages
        have changed since, one message is compared, which by then was known."""
        left, now = self._before.folders.get(folder), time.time()
        rows = self._rows[folder]
        self._digests.setdefault(folder, {})
        if left is None or not left.anchors:
            return True
        self._checked[folder] = left.checked
        if not left.is_to_be_checked(said(rows.values()), now):
            self._digests[folder].update(left.anchors)
            return True
        failure: MailflowError | None = None
        for id_ in left.anchors.keys() & rows.keys():
            try:
                content = self._there.raw(rows[id_])
            except GoneError:
                continue
            except ThrottledError:
                raise
            except (UnavailableError, PeerError, BadMailError) as error:
                failure = error  # it may be this one's alone
                continue
            found = digest_of(content)
            drop(content)
            if found != left.anchors[id_]:
                break
            self._digests[folder].update(left.anchors)
            self._checked[folder] = now
            return True
        else:
            if failure is not None:
                raise failure
        if rows:
            self._once(
                "the folder was made anew, or all that was known of it is gone: its messages are"
                " told by their content",
                folder=folder,
            )
        return not rows

    def _items(self, folders: Sequence[Folder]) -> Iterator[Item]:
        most, over = self._options.max_size, 0
        for folder in folders:
            for id_, row in self._rows[folder.id].items():
                key, size = f"{folder.id};{id_}", size_of(row)
                large = most is not None and size is not None and size > most
                if large or id_ in self._large[folder.id]:
                    over += 1
                    self._excess.add(key)
                    continue
                yield Item(key, size, folder=folder.name)
        if over:
            self._log.warning("messages over max_size stay at the webmail", messages=over)

    # What arrives

    def _load(self, keys: Sequence[str]) -> Iterator[tuple[str, Content | MailflowError]]:
        return arriving(self._octets, keys, self._options.parallel, self._others_come)

    def _octets(self, key: str) -> Content:
        """Called in many threads. Raises what the webmail says instead."""
        folder, id_ = _place(key)
        row = self._rows.get(folder, {}).get(id_)
        if row is None:
            raise GoneError(f"{key} was not listed")
        return self._there.raw(row)

    def _others_come(self, key: str, error: MailflowError) -> bool:
        """Whether a message that came before comes again; where there is none, whether the
        webmail is at work and nothing but the octets of this one is wrong."""
        for folder, known in self._digests.items():
            for id_ in known.keys() & self._rows.get(folder, {}).keys():
                try:
                    drop(self._there.raw(self._rows[folder][id_]))
                except MailflowError:
                    return False
                return True
        if isinstance(error, PeerError) or "sent" in error.fields:
            return False
        self._there.listing(_place(key)[0])
        return True

    def _arrived(self, key: str, got: Content | MailflowError) -> Fetched | Missed:
        """What became of one message."""
        folder, id_ = _place(key)
        if isinstance(got, BadMailError) and self._options.max_size is not None:
            self._large[folder].add(id_)
        if isinstance(got, MailflowError):
            return Missed(key, got)
        self._digests[folder][id_] = digest_of(got)
        self._runtime.progress(got.size)
        self._log.info("received", octets=got.size, key=key)
        return Fetched(key, got, NO_ENVELOPE)

    # What is settled

    def _settle(self, folder: str) -> None:
        """Do what is due in a folder, with nothing on its way."""
        rows = self._rows[folder]
        done = self._settling.do(self._there, folder, rows)
        if self.removes:
            for id_ in done:
                del rows[id_]

    def _left(self) -> Mark:
        """How this session has left the folders; of those that it has not read, what was known."""
        now = time.time()
        left = {
            name: each._replace(first="") if name in self._late else each
            for name, each in self._before.folders.items()
        }
        for folder, rows in self._rows.items():
            left[folder] = Left(
                said(rows.values()),
                self._checked.get(folder, now),
                anchors(self._digests[folder], list(rows.values())),
                frozenset(self._settling.seen.get(folder, ())) & rows.keys(),
                frozenset(self._large[folder]) & rows.keys(),
                self._options.max_size or 0,
                "" if folder in self._late else self._first[folder],
                now,
                self._asked,
            )
        return Mark(left)

    def _once(self, event: str, **facts: object) -> None:
        """A warning that one session says once of a folder."""
        told = (event, facts.get("folder"))
        if told not in self._said:
            self._said.add(told)
            self._log.warning(event, **facts)


def _place(key: str) -> tuple[str, str]:
    """(folder, id). What a folder is called may hold a semicolon, an id may not."""
    folder, _, id_ = key.rpartition(";")
    return folder, id_
