"""One look at a source: which of its messages are known, which are wanted, which are due.

Rule of the file: it knows keys, what the journal has noted of them, and what the source says
of its own listing; what a key is made of is the source's affair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence

from mailflow.engine.context import new_id
from mailflow.engine.flow import as_error
from mailflow.engine.journal import Arrival, Known, Lane, SourceState, arrivals, bodies
from mailflow.engine.journal.arrivals import plain
from mailflow.engine.renamed import Renamed, digest_of, whole_digest
from mailflow.engine.work import Arrived
from mailflow.errors import ConfigError, MailflowError, PeerError
from mailflow.kinds import Fetched, Item, Missed
from mailflow.mail import Mail
from mailflow.query import Query
from mailflow.toml_file import place_of
from mailflow.typed import TYPE_CHECKING
from mailflow.verdicts import Fate

if TYPE_CHECKING:
    from typing import TypeGuard

    from mailflow.engine.intake import Intake
    from mailflow.engine.journal.database import Transaction
    from mailflow.kinds import Fetcher, IncrementalFetcher

START_LIMIT = 100
"""A first visit that would send more than this asks for `start`."""

HEADS_FROM = 20
"""From so many new keys on, renamed messages are looked for by their headers alone."""

_GONE = "gone from the source before its delivery was confirmed"
_REFUSED = "not wanted any more, by another `where`, before its delivery was confirmed"


def is_incremental(fetcher: Fetcher) -> TypeGuard[IncrementalFetcher]:
    return hasattr(fetcher, "complete")


class _Everything:
    """What a fetcher that lists all that is there, always, need not say."""

    complete = True
    removes = True
    renewed = False
    doubtful: Callable[[str], bool] | None = None

    def lists(self, key: str) -> bool:
        return True

    def unfinished(self, keys: Collection[str]) -> None:
        """All is listed again."""


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
        self.listed = {item.key: item for item in items}
        self.incremental = is_incremental(fetcher)
        self.fickle = bool(getattr(fetcher, "fickle", False))
        self.told: IncrementalFetcher | _Everything
        self.told = fetcher if is_incremental(fetcher) else _Everything()
        self.renewed = self.told.complete and self.told.renewed
        journal = self.flow.journal
        self.known: dict[str, Known] = journal.read(
            lambda tx: (
                arrivals.known(tx, lane, self.listed, whole=self.renewed)
                if self.told.complete
                else arrivals.known_of(tx, lane, self.listed)
            )
        )
        self.intents = journal.read(lambda tx: arrivals.intents(tx, lane))
        gone = {key: known for key, known in self.known.items() if self._has_gone(key)}
        self.missing = [key for key, known in gone.items() if known.missing is None]
        self.back = [
            key for key in self.known
            if key in self.listed and self.known[key].missing is not None
        ]  # fmt: skip
        self.renamed = Renamed()
        for key, known in gone.items():
            if self._may_be_renamed(known):
                self.renamed.add(known.digest, key)
        started = [known.at for known in gone.values() if known.why == "start"]
        self.start = max(started, default=0.0) if self.renewed else 0.0
        self._before = state.mark
        self._cut = False
        self._asked: set[str] = set()
        self._left: set[str] = set()
        self._refused: set[str] = set()
        self._passed: list[str] = []
        self._rebound: list[tuple[str, str]] = []
        self._orphans: list[str] = []
        self._doubted = self._doubt()

    @property
    def mark(self) -> str:
        """Where the next listing may start: where this one did, if a limit has left what may be
        known under another key, which only such a listing tells."""
        return self._before if self._cut and self.renamed else plain(self.fetcher.mark or "")

    def _has_gone(self, key: str) -> bool:
        """Whether a message is not listed for the reason that it is not there."""
        return key not in self.listed and self._would_list(key)

    def _would_list(self, key: str) -> bool:
        return self.told.complete and self.told.lists(key)

    def _may_be_renamed(self, known: Known) -> bool:
        """Whether a message that has gone may be here under another key. What was due may have
        been removed by a session that was cut: an equal message is another one then."""
        if self.renewed or not self.told.removes:
            return known.state in ("done", "settled")
        due = self.incremental and known.at + self.step.keep <= time.time()
        return known.state == "done" and not due

    def _doubt(self) -> dict[str, Known]:
        """Forget of keys that are used again what is known of another message, which it gives."""
        doubted = {
            key: known for key, known in self.known.items()
            if key in self.listed and self._is_doubtful(key, known)
            and not self._was_at_start(self.listed[key], known)
        }  # fmt: skip
        if not doubted:
            return {}
        for got in self.fetcher.heads(list(doubted)):
            known = doubted.get(got.key)
            if known is not None and known.digest and known.digest == digest_of(got):
                del doubted[got.key]
        for key in doubted:
            del self.known[key]
        return doubted

    def _is_doubtful(self, key: str, known: Known) -> bool:
        """Whether a key may name another message: where the source says so, where that which it
        named was removed for sure, and of a fickle source where it is to be settled now."""
        if self._says_doubtful(key):
            return True
        if self.fickle and known.state == "done" and known.at + self.step.keep <= time.time():
            return True
        removed = self.incremental and self.told.removes and known.state == "settled"
        return removed and known.digest is not None

    def _says_doubtful(self, key: str) -> bool:
        return self.told.doubtful is not None and self.told.doubtful(key)

    def _was_at_start(self, item: Item, known: Known) -> bool:
        return known.why == "start" and (item.date or known.at) < known.at

    def settle_due(self) -> None:
        """Settle again what was ours before, where `keep` is over."""
        before = time.time() - self.step.keep
        for key in self.listed:
            known = self.known.get(key)
            if known and known.state != "passed" and known.at <= before:
                self._settle(key)
        if self.incremental:
            lane = self.lane
            for key in self.flow.journal.read(lambda tx: arrivals.unsettled(tx, lane, before)):
                if key not in self.listed and not self._would_list(key):
                    self._settle(key)

    def wanted(self) -> list[str]:
        """The keys to retrieve, in the order of the listing."""
        fresh = [item for item in self.listed.values() if self._is_fresh(item)]
        if self.start:
            fresh = self._since_start(fresh)
        fresh = list(self._decided(fresh))
        if self.first and not self.known and not self.intents:
            fresh = self._first_visit(fresh)
        limit = self.step.limit
        keys = [item.key for item in fresh]
        if limit is not None:
            self._left.update(keys[limit:])
            self._cut = self.renewed and len(keys) > limit
            keys = keys[:limit]
        self._asked = set(keys)
        return keys

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
        digest = digest_of(got) or (whole_digest(got) if self.incremental else None)
        doubted = self._doubted.get(got.key)
        if doubted is not None and digest is not None and doubted.digest == digest:
            self.known[got.key] = doubted
            if doubted.state != "passed" and doubted.at + self.step.keep <= time.time():
                self._settle(got.key)
            return False
        if self._is_renamed(got.key, digest):
            return False
        intent = self.intents.get(got.key)
        doubtful = self.fickle or self._says_doubtful(got.key)
        if intent is not None and doubtful and intent.digest != digest:
            self._orphans.append(intent.mail)  # its copy, if there is one, is of another message
            intent = None
        mail = Mail(intent.mail if intent else new_id(), got.envelope, got.content)
        passes = self._passes(mail, self.listed.get(got.key))
        if not passes:
            if passes is False:
                self._passed.append(got.key)
            return False
        arrival = Arrival(
            mail, self.lane, got.key, digest, time.time(),
            resumed=intent is not None, crashes=intent.crashes if intent else 0,
        )  # fmt: skip
        self.intake.sent(got.content.size)
        self.intake.put(Arrived(arrival, self.intake))
        return True

    def close(self) -> None:
        """What this visit has learnt besides mail; the source hears what is still wanted."""
        now = time.time()
        gone = [intent.mail for key, intent in self.intents.items() if self._has_gone(key)]
        gone += self._orphans
        refused = {*self._refused, *self._passed}
        unwanted = [intent.mail for key, intent in self.intents.items() if key in refused]
        rebound = {old for old, _ in self._rebound}
        missing = [key for key in self.missing if key not in rebound]
        doubtful = self.told.doubtful

        def work(tx: Transaction) -> None:
            arrivals.pass_by(tx, self.lane, self._passed, self.step.where.hash, now)
            arrivals.rebind(tx, self.lane, self._rebound)
            arrivals.abandon_intents(tx, gone, _GONE, now)
            arrivals.abandon_intents(tx, unwanted, _REFUSED, now)
            arrivals.note_missing(tx, self.lane, missing, self.back, now)
            if doubtful is not None:
                arrivals.forget(tx, self.lane, lambda key: key not in self.listed and doubtful(key))

        if self._passed or self._rebound or gone or unwanted or self.known or doubtful:
            self.flow.journal.commit(work)
        self.told.unfinished(self._left | self._asked)

    def _is_fresh(self, item: Item) -> bool:
        known = self.known.get(item.key)
        if known is None:
            return True
        if known.state != "passed" or known.why == "start":
            return False
        where = self.step.where  # a refusal that time or a flag may undo is looked at again
        return known.why != where.hash or not where.final

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
        """Tell the source; the journal hears of it unless it knows that already."""
        self.fetcher.settle(key, Fate.DONE)
        known = self.known.get(key)
        if known is None or known.state != "settled":
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
            self._pass_by(list(self.listed), time.time())
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
        if key in self.listed:
            self._left.add(key)
        self.flow.log.warning("cannot be had", step=self.step.name, key=key, error=error.text)
