"""The IMAP fetcher: what came since the last visit, asked for in batches that overlap.

Rule of the file: nothing is marked as seen, and nothing at the server is changed before the
journal answers for it; a message is named by folder, UIDVALIDITY and UID, never by a number
that another client may shift.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

from mailflow.errors import (
    BadMailError,
    GoneError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.kept import drop
from mailflow.kinds import Fetched, Item, Missed
from mailflow.mail import HEADER_LIMIT, Envelope, Octets, head
from mailflow.options import Options
from mailflow.typed import TYPE_CHECKING, ClassVar, Self, TypeVar
from mailflow.verdicts import Fate
from mailflow.wildcards import none_like
from mailflow_imap.answers import Body, Missing
from mailflow_imap.choice import chosen, fruitless, is_plain, special
from mailflow_imap.keys import Place, place_of
from mailflow_imap.loading import load
from mailflow_imap.login import begin
from mailflow_imap.looking import TOGETHER, Look, Plan, Renewed
from mailflow_imap.mark import Left, Mark, asked_for
from mailflow_imap.names import canonical
from mailflow_imap.settings import SCHEMES
from mailflow_imap.settling import Settling
from mailflow_imap.source import FLAGS, ImapSourceOptions

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.kinds import Runtime
    from mailflow.query import Query
    from mailflow_imap.session import Session

T = TypeVar("T")

NO_ENVELOPE = Envelope()

ROUND = 60.0
"""Seconds after which a wait asks for news of the folders that are not open."""

BACKSTOP = 300.0
"""Seconds after which it asks for news of the one that is, though the server told of none; that
it answers shows that it is still there."""

LASTED = 60.0
"""Seconds after which a connection that is lost in a wait says nothing of the server: somebody
on the way has forgotten it, or the server was begun anew. A listing tells what is the matter."""


class ImapFetcher:
    """Fetches the messages of folders on an IMAP server."""

    options: ClassVar[type[Options]] = ImapSourceOptions
    schemes = SCHEMES
    url_folder: ClassVar[str] = "folders"
    knows = ("uid", "folder", "answered", "deleted", "draft", "flagged", "recent", "seen")

    def __init__(self, options: ImapSourceOptions, runtime: Runtime) -> None:
        self.source = f"{options.user}@{options.host}"
        self.mark = ""
        self.complete = True
        self.renewed = False
        self.doubtful: Callable[[str], bool] | None = None
        self.removes = options.on_done == "delete" or bool(options.target)
        self._options = options
        self._runtime = runtime
        self._log = runtime.log
        self._session: Session | None = None
        self._settling = Settling(options.on_done, options.folders, self._once)
        self._sizes: dict[str, int | None] = {}
        self._flagged: set[str] = set()
        self._read: dict[str, int] = {}
        self._whole: set[str] = set()
        self._excess: set[str] = set()
        self._marked = Mark()
        self._final = True
        self._known: dict[str, Left] = {}
        self._watched: list[str] = []
        self._writable = ""
        self._said: set[tuple[str, object]] = set()

    def __enter__(self) -> Self:
        """Nobody is asked yet: what is asked first goes out with the log-in."""
        self._said.clear()
        self._watched = []
        self._settling = Settling(self._options.on_done, self._options.folders, self._once)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without an error: what was settled is done. Raises where that is not confirmed."""
        try:
            if kind is None:
                self._settle_all()
            if kind is None and self._session is not None:
                with suppress(MailflowError):
                    self._session.log_out()
        finally:
            self._leave()

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        """What came since the visit that `mark` is of; everything once a week, and where a
        folder was made anew. Where `where` asks for what may change, a SEARCH narrows it."""
        asked = asked_for(where, self._options.max_size)
        before, now = Mark.read(mark), time.time()
        held = before.holds(asked, now)
        plan = Plan(where, before, held=held, whole=before.asked == asked and not held)
        names = self._names()
        try:
            looks = self._look(plan, names)
        except Renewed as renewed:
            self._say(renewed)
            plan = Plan(where, before, held=False, whole=True)
            looks = self._look(plan, names)
        self.complete = bool(looks) and all(look.whole for look in looks)
        marked = [(before.folders.get(look.folder), look.left) for look in looks]
        self.renewed = any(known and known.validity != left.validity for known, left in marked)
        lefts = {name: left for name in names if (left := plan.left(name))}
        lefts.update((look.folder, look.left) for look in looks)
        since = before.complete_at if plan.held else now
        self._marked = Mark(since, asked, lefts)
        self.mark = self._marked.write()
        self._known, self._final = dict(lefts), where.final
        self._sizes, self._flagged = {}, set()
        back = {look.folder for look in looks if look.back}
        self.doubtful = (lambda key: _folder(key) in back) if back else None
        self._read = {look.folder: look.uid_next for look in looks}
        self._whole = {look.folder for look in looks if look.whole}
        self._excess = set()
        yield from self._items(looks)

    def offers(self) -> Iterator[str]:
        """What the server says of itself and of this mailbox, which stays as it is."""
        from mailflow_imap.offers import facts

        self._open(lambda: None)
        yield from facts(self._connected, self._options.folders, self._options.on_done)

    def lists(self, key: str) -> bool:
        """Whether the last listing would have had it: its folder was read, and it is not over
        max_size."""
        place = place_of(key)
        return place is not None and place.folder in self._whole and key not in self._excess

    def unfinished(self, keys: Iterable[str]) -> None:
        """These were listed and are still wanted: the next listing has them again. What is open
        in a folder that could not be opened stays so."""
        open_: dict[str, list[int]] = {}
        for place in filter(None, map(place_of, keys)):
            open_.setdefault(place.folder, []).append(place.uid)
        lefts = {
            name: left.keeping(open_.get(name, ())) if name in self._read else left
            for name, left in self._marked.folders.items()
        }
        self.mark = self._marked._replace(folders=lefts).write()

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """The header sections, of which `head` gives the same as of the whole messages: an octet
        more than it looks at is asked for. Of what is gone, nothing."""
        for folder, validity, uids in _by_folder(keys):
            with suppress(RefusedError, GoneError):
                if not self._enter(folder, validity):
                    continue
                for body in self._connected.bodies(uids, b"HEADER", first=HEADER_LIMIT + 1):
                    if isinstance(body, Body):
                        section = head(body.content)
                        drop(body.content)
                        key = Place(folder, validity, body.uid).key
                        yield Fetched(key, Octets(section), NO_ENVELOPE)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages, folder by folder in this order; the server is always asked for more
        than has arrived."""
        lost = [key for key in keys if place_of(key) is None]
        yield from (Missed(key, GoneError(f"{key} was not listed")) for key in lost)
        for folder, validity, uids in _by_folder(keys):
            keyed = {uid: Place(folder, validity, uid).key for uid in uids}
            try:
                if not self._enter(folder, validity):
                    raise UnavailableError(f"the folder {folder} was made anew meanwhile")
            except (RefusedError, GoneError) as error:
                yield from [Missed(key, error) for key in keyed.values()]
                continue
            sizes = {uid: self._sizes.get(key) for uid, key in keyed.items()}
            batch, most = self._options.batch, self._options.max_size
            for got in load(self._connected, uids, sizes, batch, most):
                if got is None:
                    if (folder, validity) in self._settling.folders:
                        self._settle(folder, validity)
                        if not self._enter(folder, validity):
                            raise UnavailableError(f"the folder {folder} was made anew meanwhile")
                    continue
                yield self._arrived(keyed[got.uid], got)

    def settle(self, key: str, fate: Fate) -> None:
        """It is done with the next batch, or when the session ends."""
        place = place_of(key)
        if fate is Fate.DONE and place is not None and key not in self._flagged:
            self._settling.add(place)

    def wait(self, seconds: float) -> bool:
        """True as soon as a folder has what the last listing did not have. Without `idle`, or
        where the server has no IDLE, nobody is asked meanwhile, and no connection is kept."""
        began = time.monotonic()
        until = began + seconds
        try:
            if not self._options.idle or not self._idles():
                self._leave()
                self._runtime.halt.wait(seconds)
                return False
            while not self._has_news():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                told = self._connected.idle(min(left, ROUND if self._watched[1:] else BACKSTOP))
                if told and not self._final:
                    break
            return True
        except UnavailableError as error:
            if self._runtime.halt.is_set():
                return False
            if time.monotonic() - began < LASTED:
                raise
            self._log.info("connection lost while waiting", error=error.text)
            self._leave()
            return True

    # The session

    @property
    def _connected(self) -> Session:
        if self._session is None:
            raise ValueError("there is no session")
        return self._session

    def _open(self, follow: Callable[[], T]) -> T:
        """What `follow` asks for; together with the log-in where nobody is logged in."""
        if self._session is not None:
            return follow()

        def behind(session: Session) -> T:
            self._session = session
            return follow()

        try:
            self._session, found = begin(self._options, self._runtime, behind)
        except BaseException:
            self._session = None
            raise
        on_done, can_expunge = self._options.on_done, self._session.can_expunge
        moves = bool(self._options.target) and self._session.can_move
        self.removes = moves or (can_expunge and on_done not in ("keep", *FLAGS))
        return found

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _enter(self, folder: str, validity: int, *, write: bool = False) -> bool:
        """Open the folder that keys are of; False where it is another one by that name.
        Raises RefusedError or GoneError where it cannot be opened."""
        self._open(lambda: None)
        session = self._connected
        selected = session.selected
        if selected is None or selected.folder != folder or (write and self._writable != folder):
            selected = session.select(folder, read_only=not write).wait()
            self._writable = folder if write else ""
        return selected.continues(validity, self._read.get(folder, 0))

    def _names(self) -> list[str]:
        """The folders that are read, as they are now."""
        patterns = self._options.folders
        if is_plain(patterns):
            return list(dict.fromkeys(map(canonical, patterns)))
        self._open(lambda: None)
        folders = self._connected.folders().wait()
        names = chosen(patterns, folders)
        odd = [name for name in names if not name.isprintable()]
        if odd:
            self._once("folders without a name that can be shown are not read", folders=len(odd))
        if not names:
            raise none_like(self._connected.peer, patterns)
        for pattern in filter(special, fruitless(patterns, folders)):  # "*" may well mean none
            self._once(f"{self._connected.peer} has no folder for {pattern}")
        return [name for name in names if name not in odd]

    # What is there

    def _look(self, plan: Plan, names: Sequence[str]) -> list[Look]:
        """What each folder has that is to be listed; one that cannot be opened is told."""
        every = len(names)
        if plan.searches:
            self._open(lambda: None)
        elif len(names) > 1 and not plan.whole:
            names = [name for name, told in self._standing(names) if plan.has_news(name, told)]
        together = 1 if plan.searches else TOGETHER
        looks: list[Look] = []
        failure: MailflowError | None = None
        self._writable = ""
        for start in range(0, len(names), together):
            group = names[start : start + together]
            begun = self._open(lambda group=group: [  # type: ignore[misc]
                plan.begin(self._connected, name) for name in group
            ])  # fmt: skip
            for name, look in zip(group, begun, strict=True):
                try:
                    looks.append(look())
                except (RefusedError, GoneError) as error:
                    failure = error
                    self._once("a folder is left out", folder=name, error=error.text)
        if failure is not None and not looks and len(names) == every:
            raise failure
        return looks

    def _standing(self, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, int]]]:
        """What STATUS says of each folder; nothing of one that it cannot be asked about."""
        items = ("UIDVALIDITY", "UIDNEXT")
        asked = self._open(lambda: [self._connected.status(name, items) for name in names])
        for name, answer in zip(names, asked, strict=True):
            told: Mapping[str, int] = {}
            with suppress(RefusedError, GoneError):
                told = answer.wait()
            yield name, told

    def _items(self, looks: Sequence[Look]) -> Iterator[Item]:
        most, left = self._options.max_size, 0
        flag = FLAGS.get(self._options.on_done)
        for look in looks:
            prefix = f"{look.folder};{look.left.validity};"
            for uid in sorted(look.facts):
                fact = look.facts.pop(uid)  # there may be very many
                key = f"{prefix}{uid}"
                if most is not None and fact.size is not None and fact.size > most:
                    left += 1
                    self._excess.add(key)
                    continue
                self._sizes[key] = fact.size
                if flag and fact.flags and flag in fact.flags:
                    self._flagged.add(key)
                yield Item(key, fact.size, fact.date, fact.flags, look.folder, uid)
        if left:
            self._log.warning("messages over max_size stay on the server", messages=left)

    # What arrives

    def _arrived(self, key: str, got: Body | Missing) -> Fetched | Missed:
        """What became of one message."""
        if isinstance(got, Missing):
            return Missed(key, got.error)
        said, most = self._sizes.get(key), self._options.max_size
        if said is not None and said != got.octets:
            self._once("octet count is wrong", key=key, said=said, had=got.octets)
        if most is not None and got.octets > most:
            drop(got.content)
            return Missed(key, BadMailError(f"{key} at {self._connected.peer} is over max_size"))
        self._log.info("received", octets=got.octets, key=key)
        return Fetched(key, got.content, NO_ENVELOPE)

    # What is settled

    def _settle(self, folder: str, validity: int) -> None:
        """Do what is due in a folder; it is opened for writing only then. Raises UnavailableError
        where the server cannot do it now."""
        try:
            if self._enter(folder, validity, write=True):
                self._settling.send(self._connected)
        except (RefusedError, GoneError) as error:
            self._once("on_done is not done", folder=folder, error=error.text)
        self._settling.forget(folder, validity)

    def _settle_all(self) -> None:
        """Do what is still due, in every folder. Raises where that cannot be confirmed."""
        for folder, validity in self._settling.folders:
            self._settle(folder, validity)
        self._settling.confirm()

    # What is new

    def _idles(self) -> bool:
        self._open(lambda: None)
        return self._connected.offers("IDLE")

    def _has_news(self) -> bool:
        """Whether any folder has a message that the last listing did not have; the first one is
        open then, for IDLE to tell of."""
        self._watched = self._watched or self._names()
        first = self._watched[0]
        news = False
        for name, told in self._standing(self._watched[1:]):
            if "UIDNEXT" in told:
                news |= self._is_new(name, Left(told.get("UIDVALIDITY", 0), told["UIDNEXT"]))
        session = self._connected
        selected = session.selected
        if selected is None or selected.folder != first:
            selected = session.select(first, read_only=True).wait()
            here = Left(selected.uid_validity, max(selected.uid_next, 1), selected.modseq)
            known = self._known.setdefault(first, here)
            if known.validity != here.validity:
                self._known[first], news = here, True
            news |= not self._final and here.modseq > known.modseq
        known = self._known[first]
        found = session.facts(f"{known.next}:*", size=False, date=False)
        last = max([fact.uid for fact in found], default=0)
        if last >= known.next:
            self._known[first] = known._replace(next=last + 1)
        return news or last >= known.next

    def _is_new(self, folder: str, here: Left) -> bool:
        """Whether it is not as it was listed or looked at last; what never was is no news."""
        known = self._known.get(folder, here)
        self._known[folder] = here
        return known.validity != here.validity or here.next > known.next

    def _say(self, renewed: Renewed) -> None:
        """One line for a folder that is listed whole before its time."""
        same = renewed.before == renewed.now
        self._log.warning(
            "the folder is as it was before, or its index was made anew: all of it is looked at"
            if same else "the folder was made anew: its messages are told by their content",
            folder=renewed.folder, uidvalidity=renewed.now, before=renewed.before,
        )  # fmt: skip

    def _once(self, event: str, **facts: object) -> None:
        """A warning that one session says once of a folder."""
        said = (event, facts.get("folder"))
        if said not in self._said:
            self._said.add(said)
            self._log.warning(event, **facts)


def _by_folder(keys: Sequence[str]) -> Iterator[tuple[str, int, list[int]]]:
    """(folder, UIDVALIDITY, UIDs) of the keys that follow each other in one folder."""
    places = filter(None, map(place_of, keys))
    for (folder, validity), run in groupby(places, lambda place: (place.folder, place.validity)):
        yield folder, validity, [place.uid for place in run]


def _folder(key: str) -> str | None:
    place = place_of(key)
    return None if place is None else place.folder
