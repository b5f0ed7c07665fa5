"""One session with one source: what is wanted is fetched, what is ours is settled.

Rule of the file: the fetcher is used by this thread alone; a key is settled only
after the journal has answered for it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Condition

from mailflow.engine import reaction
from mailflow.engine.context import Ledger, new_id
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.journal import Arrival, Known, Lane, SourceState, arrivals, bodies, plans
from mailflow.engine.journal.arrivals import plain
from mailflow.engine.lease import Lease
from mailflow.engine.renamed import Renamed, digest_of, whole_digest
from mailflow.engine.source import place_of
from mailflow.engine.work import Arrived
from mailflow.errors import (
    ConfigError,
    InUseError,
    MailflowError,
    PeerError,
    PluginError,
    UnavailableError,
)
from mailflow.kinds import Fetched, Item, Missed, Trouble
from mailflow.mail import Mail
from mailflow.query import Query
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Fate, Retry, Stop

if TYPE_CHECKING:
    from mailflow.engine.config import FetchStep
    from mailflow.engine.flow import Flow
    from mailflow.engine.journal.database import Transaction
    from mailflow.kinds import Fetcher
    from mailflow.log import Logger

START_LIMIT = 100
"""A first visit that would send more than this asks for `start`."""

HEADS_FROM = 20
"""From so many new keys on, renamed messages are looked for by their headers alone."""


SKEW = 300.0
"""Seconds by which what was written down may be ahead of the clock, and both be right."""

_GONE = "gone from the source before its delivery was confirmed"
_REFUSED = "not wanted any more, by another `where`, before its delivery was confirmed"


class InterruptedSessionError(Exception):
    """Nobody waits for this session any more; it is no failure."""


class Tally(NamedTuple):
    """What a session did."""

    fetched: int = 0
    octets: int = 0


class Intake:
    """One session of a [[fetch]] step. `put` hands arrivals on, and may block.

    `lane` and `tally` say whose it is and what it did; `in_use`, that another run was at work
    there. `quiet`: a failure is one of many, and told below the level of errors.
    """

    def __init__(self, flow: Flow, step: FetchStep, put: Callable[[Arrived], None]) -> None:
        self.flow = flow
        self.step = step
        self.put = put
        self.tally = Tally()
        self.settled: list[str] = []
        self._answers: deque[tuple[str, Fate]] = deque()
        self._change = Condition()
        self._outstanding = 0
        self._failure: MailflowError | None = None
        self.lane = Lane(flow.pipeline.name, step.name, "")
        self.in_use = False
        self.quiet = False

    def answer(self, key: str, fate: Fate, error: MailflowError | None = None) -> None:
        """The word of the journal about a key (any thread)."""
        with self._change:
            self._outstanding -= 1
            self._answers.append((key, fate))
            self._failure = self._failure or error
            self._change.notify()

    def run(
        self,
        *,
        force: bool = False,
        fetcher: Fetcher | None = None,
        ahead: Callable[[Fetcher], None] | None = None,
    ) -> None:
        """One whole session, its failure told to the reactors and the journal. `fetcher` is
        one that was used before; `ahead` is called with it once it is entered, before it is
        asked for anything, and may raise InterruptedSessionError."""
        lane, state = Lane(self.flow.pipeline.name, self.step.name, ""), SourceState()
        try:
            self.flow.halt.check()
            fetcher = fetcher or self.flow.make(self.step)
            self.lane = lane = lane._replace(source=fetcher.source)
            state = self.flow.journal.read(lambda tx: arrivals.source_state(tx, lane))
            if not force and state.failures and time.time() < self.rests_until(state):
                self._rest(lane, state)
                return
            self._whole(fetcher, lane, state, ahead)
        except InterruptedSessionError:
            return
        except PLUGIN_FAULTS as error:  # one source never stops the others
            if isinstance(error, InUseError) and error.fields.get("ours"):
                self._log(lane).info("another run is at work on this mailbox")
                self.in_use = True
                return
            self._failed(lane, as_error(error, f"step {self.step.name}"), state)
        else:
            self.flow.event("source.closed", step=self.step.name, source=lane.source)
            self._log(lane).debug(
                "session ended", fetched=self.tally.fetched, octets=self.tally.octets
            )

    def _log(self, lane: Lane) -> Logger:
        return self.flow.log.bind(step=self.step.name, source=lane.source)

    def _whole(
        self,
        fetcher: Fetcher,
        lane: Lane,
        state: SourceState,
        ahead: Callable[[Fetcher], None] | None,
    ) -> None:
        """The session from its lease on; who only waits for mail holds none."""
        lease = Lease(self.step.use, lane.source, self.flow.journal.path, self.flow.halt)
        try:
            if ahead is None:
                lease.take()
            self._session(fetcher, lane, state, lambda: self._begin(fetcher, lease, ahead))
        finally:
            lease.release()

    def _begin(
        self, fetcher: Fetcher, lease: Lease, ahead: Callable[[Fetcher], None] | None
    ) -> None:
        if ahead is not None:
            ahead(fetcher)
            lease.take()
        self.flow.event("source.opened", step=self.step.name, source=fetcher.source)

    def _session(
        self, fetcher: Fetcher, lane: Lane, state: SourceState, begin: Callable[[], None]
    ) -> None:
        with fetcher:
            begin()
            where = self.step.where
            if state.worked_at is None and self.step.start == "new":
                where = Query.always  # what it refuses now is not to come later either
            items = [self._checked(item) for item in fetcher.listing(where, state.mark)]
            visit = Visit(self, fetcher, lane, state, items)
            visit.settle_due()
            for got in fetcher.retrieve(visit.wanted()):
                visit.take(got)
                self._settle(fetcher)
                self._check()
            self._wait_for_answers(fetcher)
            visit.close()
            if unfinished := getattr(fetcher, "unfinished", None):
                unfinished(visit.unfinished())
            self._check()
        now = time.time()
        # what a limit leaves may be known under another key, which only such a listing tells
        mark = state.mark if visit.undecided and visit.renamed else plain(fetcher.mark or "")

        def work(tx: Transaction) -> None:
            arrivals.settle(tx, lane, self.settled)
            arrivals.source_worked(tx, lane, mark, now)

        self.flow.journal.commit(work)

    def _checked(self, item: Item) -> Item:
        """A key that could not be written down would be fetched for good."""
        if not isinstance(item.key, str) or not item.key or plain(item.key) != item.key:
            raise PluginError(f"{self.step.use} lists a message under the key {item.key!a}")
        return item

    def sent(self, octets: int) -> None:
        """One arrival is on its way to the journal."""
        self.flow.meter.messages += 1
        self.tally = Tally(self.tally.fetched + 1, self.tally.octets + octets)
        with self._change:
            self._outstanding += 1

    def _settle(self, fetcher: Fetcher) -> None:
        while self._answers:
            key, fate = self._answers.popleft()
            if fate is Fate.DONE and self.step.keep == 0:
                fetcher.settle(key, fate)
                self.settled.append(key)

    def _wait_for_answers(self, fetcher: Fetcher) -> None:
        while True:
            self._settle(fetcher)
            with self._change:
                if self._answers:
                    continue
                if not self._outstanding:
                    return
                self._change.wait()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.flow.halt.check()

    def rests_until(self, state: SourceState) -> float:
        """The next try; at once where the file was mended since the failure, or a clock that
        was ahead has written when that was."""
        try:
            changed = os.stat(self.flow.pipeline.path).st_mtime
        except OSError:
            changed = 0.0
        failed = state.failed_at or 0.0
        return 0.0 if changed > failed or failed > time.time() + SKEW else state.next_try

    def _rest(self, lane: Lane, state: SourceState) -> None:
        until = time.strftime("%H:%M:%S", time.localtime(state.next_try))
        text = f"{lane.source} rests until {until} after {state.failures} failures: {state.error}"
        self.flow.log.info("source rests", step=self.step.name, text=text)
        self.flow.failed(UnavailableError(text))

    def _failed(self, lane: Lane, error: MailflowError, state: SourceState) -> None:
        if self.flow.halt.is_set() and not self._failure:
            return
        now = time.time()
        ledger = Ledger(self.flow, "", now=now)
        trouble = Trouble(
            stage="fetch", step=self.step.name, error=error, attempt=state.failures + 1,
            age=max(0.0, now - state.worked_at) if state.worked_at else 0.0,
        )  # fmt: skip
        say = self._log(lane).info if self.quiet else self._log(lane).error
        say("fetch failed", error=error.text)
        self.flow.failed(error)
        answer = reaction.decide(self.flow, trouble, ledger)
        after = answer.after if isinstance(answer, Retry) else reaction.backoff(state.failures + 1)
        after = max(after, reaction.asked(error))
        if isinstance(error, ConfigError):
            after = 0.0
        if isinstance(answer, Stop):
            self.flow.halt.set()

        def work(tx: Transaction) -> None:
            arrivals.source_failed(tx, lane, error.text, now + after, now)
            plans.settle_effects(tx, lane.pipeline, "", ledger.effects(), now)

        try:
            self.flow.journal.commit(work)
        except MailflowError as again:
            self._log(lane).error("the failure was not noted", error=again.text)
            self.flow.failed(again)
        self.flow.event("source.failed", step=self.step.name, source=lane.source, error=error.text)


class Visit:
    """One listing, and which of its keys are wanted."""

    def __init__(
        self, intake: Intake, fetcher: Fetcher, lane: Lane, state: SourceState,
        items: Sequence[Item],
    ) -> None:  # fmt: skip
        self.intake = intake
        self.flow = intake.flow
        self.step = intake.step
        self.fetcher = fetcher
        self.lane = lane
        self.first = state.worked_at is None
        self.items = items
        journal = self.flow.journal
        listed = {item.key: None for item in items}
        self.complete = getattr(fetcher, "complete", True)
        self.stays = not getattr(fetcher, "removes", True)
        self.by_all = self.stays or hasattr(fetcher, "lists")
        self.renewed = self.complete and getattr(fetcher, "renewed", False)
        self.known: dict[str, Known] = journal.read(
            lambda tx: (
                arrivals.known(tx, lane, listed, whole=self.renewed)
                if self.complete
                else arrivals.known_of(tx, lane, list(listed))
            )
        )
        self.intents: dict[str, tuple[str, int]] = journal.read(
            lambda tx: arrivals.intents(tx, lane)
        )
        gone = {
            key: known for key, known in self.known.items()
            if key not in listed and self._would_list(key)
        }  # fmt: skip
        self.missing = [key for key, known in gone.items() if known.missing is None]
        self.back = [
            key for key in self.known if key in listed and self.known[key].missing is not None
        ]
        self.renamed = Renamed()
        for key, known in gone.items():
            if self._may_be_renamed(known):
                self.renamed.add(known.digest, key)
        started = [known.at for known in gone.values() if known.why == "start"]
        self.start = max(started, default=0.0) if self.renewed else 0.0
        self.sizes = {item.key: item for item in items}
        self._asked: set[str] = set()
        self._left: set[str] = set()
        self._refused: set[str] = set()
        self.undecided = False
        self._passed: list[str] = []
        self._rebound: list[tuple[str, str]] = []
        self._doubted: dict[str, Known] = {}
        self._doubt()

    def _may_be_renamed(self, known: Known) -> bool:
        """Whether a message that has gone may be here under another key. What was due may have
        been removed by a session that was cut: an equal message is another one then."""
        if self.stays or self.renewed:
            return known.state in ("done", "settled")
        due = hasattr(self.fetcher, "lists") and known.at + self.step.keep <= time.time()
        return known.state == "done" and not due

    def _would_list(self, key: str) -> bool:
        """Whether a message that is not listed is not there."""
        lists = getattr(self.fetcher, "lists", None)
        return self.complete and (lists is None or lists(key))

    def _doubt(self) -> None:
        """Forget of keys that are used again what is known of another message: of those that
        the source says, and of those whose message it has removed for sure."""
        doubtful = getattr(self.fetcher, "doubtful", None)
        removed = not self.stays and hasattr(self.fetcher, "lists")
        self._doubted = {
            key: known for key, known in self.known.items()
            if key in self.sizes
            and ((doubtful is not None and doubtful(key))
                 or (removed and known.state == "settled" and known.digest is not None))
        }  # fmt: skip
        if not self._doubted:
            return
        same = [
            key for key, known in self._doubted.items()
            if known.why == "start" and (self.sizes[key].date or known.at) < known.at
        ]  # fmt: skip
        for got in self.fetcher.heads([key for key in self._doubted if key not in same]):
            digest = digest_of(got)
            if digest is not None and digest == self._doubted[got.key].digest:
                same.append(got.key)
        for key in same:
            del self._doubted[key]
        for key in self._doubted:
            del self.known[key]
            self.intents.pop(key, None)

    def settle_due(self) -> None:
        """Settle again what was ours before, where `keep` is over."""
        before = time.time() - self.step.keep
        for item in self.items:
            known = self.known.get(item.key)
            if known and known.state != "passed" and known.at <= before:
                self._settle(item.key)
        if not self.complete or hasattr(self.fetcher, "lists"):
            lane = self.lane
            for key in self.flow.journal.read(lambda tx: arrivals.unsettled(tx, lane, before)):
                if key not in self.sizes and not self._would_list(key):
                    self._settle(key)

    def wanted(self) -> list[str]:
        """The keys to retrieve, in the order of the listing."""
        fresh = [item for item in self.items if self._is_fresh(item)]
        if self.start:
            fresh = self._since_start(fresh)
        fresh = list(self._decided(fresh))
        if self.first and not self.known and not self.intents:
            fresh = self._first_visit(fresh)
        limit = self.step.limit
        keys = [item.key for item in fresh]
        if limit is not None:
            self._left.update(keys[limit:])
            self.undecided = self.renewed and len(keys) > limit
            keys = keys[:limit]
        self._asked = set(keys)
        return keys

    def unfinished(self) -> set[str]:
        """The listed keys that are still wanted when the session ends."""
        return self._left | self._asked

    def take(self, got: Fetched | Missed) -> None:
        """One message has arrived, or cannot be had."""
        if isinstance(got, Missed):
            self._missed(got.key, got.error)
            return
        if got.key not in self._asked:
            self._missed(got.key, PeerError("it was not asked for, or came twice"))
            return
        self._asked.discard(got.key)
        if not self._take(got):
            bodies.discard(self.flow.journal, got.content)

    def _take(self, got: Fetched) -> bool:
        """Hand a mail on; False where its octets are not wanted."""
        digest = digest_of(got) or (whole_digest(got) if self.by_all else None)
        doubted = self._doubted.get(got.key)
        if doubted is not None and digest is not None and doubted.digest == digest:
            self.known[got.key] = doubted
            if doubted.state != "passed" and doubted.at + self.step.keep <= time.time():
                self._settle(got.key)
            return False
        if self._is_renamed(got.key, digest):
            return False
        intent = self.intents.get(got.key)
        mail = Mail(intent[0] if intent else new_id(), got.envelope, got.content)
        passes = self._passes(mail, self.sizes.get(got.key))
        if not passes:
            if passes is False:
                self._passed.append(got.key)
            return False
        arrival = Arrival(
            mail, self.lane, got.key, digest, time.time(),
            resumed=intent is not None, crashes=intent[1] if intent else 0,
        )  # fmt: skip
        self.intake.sent(got.content.size)
        self.intake.put(Arrived(arrival, self.intake))
        return True

    def close(self) -> None:
        """What this visit has learnt besides mail."""
        now = time.time()
        listed = {item.key for item in self.items}
        absent = [(mail, key) for key, (mail, _) in self.intents.items() if key not in listed]
        gone = [mail for mail, key in absent if self._would_list(key)]
        refused = {*self._refused, *self._passed}
        unwanted = [mail for key, (mail, _) in self.intents.items() if key in refused]
        why = self._where_hash()
        rebound = {old for old, _ in self._rebound}
        missing = [key for key in self.missing if key not in rebound]
        doubtful = getattr(self.fetcher, "doubtful", None)
        if not (self._passed or self._rebound or gone or unwanted or self.known or doubtful):
            return

        def work(tx: Transaction) -> None:
            arrivals.pass_by(tx, self.lane, self._passed, why, now)
            arrivals.rebind(tx, self.lane, self._rebound)
            arrivals.abandon_intents(tx, gone, _GONE, now)
            arrivals.abandon_intents(tx, unwanted, _REFUSED, now)
            arrivals.note_missing(tx, self.lane, missing, self.back, now)
            if doubtful is not None:
                arrivals.forget(tx, self.lane, lambda key: key not in listed and doubtful(key))

        self.flow.journal.commit(work)

    def _is_fresh(self, item: Item) -> bool:
        known = self.known.get(item.key)
        if known is None:
            return True
        if known.state != "passed" or known.why == "start":
            return False
        where = self.step.where  # a refusal that time or a flag may undo is looked at again
        return known.why != where.hash or not where.final

    def _where_hash(self) -> str:
        return self.step.where.hash

    def _decided(self, items: list[Item]) -> Iterator[Item]:
        """Those that `where` may let pass, as far as the listing or the headers say."""
        where = self.step.where
        if where == Query.always:
            yield from self._not_renamed(items)
            return
        from mailflow.query import ItemFacts

        open_: list[Item] = []
        decided: dict[str, bool] = {}
        for item in items:
            verdict = where.decide(ItemFacts(item))
            if verdict is None:
                open_.append(item)
            else:
                decided[item.key] = verdict
        if open_ and where.reach == "header":
            decided.update(self._by_header(open_))
        self._refused = {key for key, verdict in decided.items() if not verdict}
        if self.renamed and self.renewed:  # what is known stays known, though it is not wanted now
            self._tell_renamed([item.key for item in items if item.key in self._refused])
        yield from self._not_renamed([item for item in items if item.key not in self._refused])

    def _by_header(self, items: list[Item]) -> Iterator[tuple[str, bool]]:
        """Where headers decide, what they refuse is not read further."""
        from mailflow.query import MailFacts

        by_key = {item.key: item for item in items}
        for got in self.fetcher.heads(list(by_key)):
            facts = MailFacts(
                Mail("", got.envelope, got.content), by_key[got.key], whole=False,
                source=self.step.name,
            )  # fmt: skip
            try:
                refused = self.step.where.decide(facts) is False
            except Exception:  # noqa: BLE001  # told when the whole of it is asked about
                refused = False
            if refused:
                self._passed.append(got.key)
                yield got.key, False

    def _not_renamed(self, items: list[Item]) -> list[Item]:
        """Where many keys are new and known ones are gone, the headers tell them apart."""
        if not self.renamed or (len(items) < HEADS_FROM and not self.renewed):
            return items
        told = self._tell_renamed([item.key for item in items])
        return [item for item in items if item.key not in told]

    def _tell_renamed(self, keys: list[str]) -> set[str]:
        """Those whose headers say that they were known under another key."""
        return {
            got.key for got in self.fetcher.heads(keys) if self._is_renamed(got.key, digest_of(got))
        }

    def _is_renamed(self, key: str, digest: bytes | None) -> bool:
        """Whether that message was known under another key; it is known under this one then."""
        old = self.renamed.take(digest)
        if old is None:
            return False
        self._rebound.append((old, key))
        self.flow.log.info("renamed at the source", step=self.step.name, key=key, before=old)
        if self.known[old].at + self.step.keep <= time.time():
            self._settle(key)
        return True

    def _settle(self, key: str) -> None:
        self.fetcher.settle(key, Fate.DONE)
        self.intake.settled.append(key)

    def _since_start(self, fresh: list[Item]) -> list[Item]:
        """What came before the first visit is not wanted under its new key either."""
        older = [item.key for item in fresh if item.date is not None and item.date < self.start]
        self._pass_by(older, self.start)
        left_out = set(older)
        return [item for item in fresh if item.key not in left_out]

    def _pass_by(self, keys: list[str], at: float) -> None:
        """They were there at the start, and are not wanted."""
        lane = self.lane
        self.flow.journal.commit(lambda tx: arrivals.pass_by(tx, lane, keys, "start", at))

    def _first_visit(self, fresh: list[Item]) -> list[Item]:
        sends = any(step.component.sends for step in self.flow.pipeline.distribute)
        if self.step.start == "new":
            self._pass_by([item.key for item in self.items], time.time())
            self._passed.clear()
            return []
        if sends and self.step.start != "all" and len(fresh) > START_LIMIT:
            number = self.flow.pipeline.fetch.index(self.step)
            place = place_of(self.flow.pipeline.path, ("fetch", number))
            raise ConfigError(
                f"{place}: fetch.{self.step.name}: {len(fresh)} messages wait at"
                f' {self.lane.source} and all would be sent; add start = "all" to send them,'
                ' or start = "new" to begin with what comes from now on'
            )
        return fresh

    def _passes(self, mail: Mail, item: Item | None) -> bool | None:
        """Whether `where` holds; None where it cannot be told of this mail."""
        where = self.step.where
        if where == Query.always:
            return True
        from mailflow.query import MailFacts

        try:
            return where.matches(MailFacts(mail, item, source=self.step.name))
        except Exception as error:  # noqa: BLE001  # a query over hostile mail
            failure = as_error(error, "where")
            self.flow.failed(failure)
            self._missed(item.key if item else "", failure)
            return None

    def _missed(self, key: str, error: MailflowError) -> None:
        """This one stays where it is; the others go on."""
        if key in self.sizes:
            self._left.add(key)
        self.flow.log.warning("cannot be had", step=self.step.name, key=key, error=error.text)


def interested(steps: Iterable[FetchStep]) -> list[FetchStep]:
    """The steps that are fetched from, not handed mail."""
    return [step for step in steps if not getattr(step.component, "pushed", False)]
