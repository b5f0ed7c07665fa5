"""Sources, steps and destinations in memory, and a pipeline of them on a real journal.

    works = Works(tmp_path)
    box, post = Mailbox(a=MAIL), Post()
    status = works.run(works.pipeline([fetch(box)], [distribute(post)]))

Rule of the file: the parts keep the contract of their kind unless a test tells them
not to; whatever decides or lasts is the real engine on a real disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mailflow.engine import supervisor
from mailflow.engine.config import DistributeStep, FetchStep, Pipeline, ProcessStep, ReactStep
from mailflow.engine.journal import Database
from mailflow.engine.journal.queue import Entry, Story, entries, story
from mailflow.engine.registry import Registry
from mailflow.kinds import Context, Fetched, Item, Missed, Runtime, Ticket, Trouble
from mailflow.mail import Content, Envelope, Mail, Octets, read
from mailflow.options import FOREVER, Options
from mailflow.query import Query
from mailflow.verdicts import SENT, Fate, Report


def message(name: str = "one", body: str = "hello\r\n", **fields: str) -> bytes:
    """A small message whose Subject and Message-ID say `name`."""
    lines = [f"Subject: {name}", f"Message-ID: <{name}@example.org>"]
    lines += [f"{field}: {value}" for field, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def subject(content: Content) -> str:
    return Mail("", Envelope(), content).header().get("Subject") or ""


class Mailbox:
    """Messages at a source, by key. What is settled is gone when a session ends in order."""

    def __init__(self, name: str = "box", **messages: bytes) -> None:
        self.name = name
        self.messages: dict[str, bytes] = dict(messages)
        self.envelope = Envelope("ann@example.org", ("bob@example.org",))
        self.sessions = 0
        self.fetched: list[str] = []
        self.settled: list[str] = []
        self.headed: list[str] = []
        self.on_listing: Callable[[], None] = lambda: None
        self.on_fetch: Callable[[str], None] = lambda key: None
        self.on_quit: Callable[[], None] = lambda: None
        self.make: Callable[[Runtime, bytes], Content] = lambda runtime, octets: Octets(octets)
        self.missed: dict[str, Any] = {}
        self.mark = ""
        self.renumbered = False

    def add(self, **messages: bytes) -> None:
        self.messages.update(messages)


def mailbox(count: int = 3, name: str = "box") -> Mailbox:
    """A source with messages m0, m1 ... under the keys k0, k1 ..."""
    return Mailbox(name, **{f"k{number}": message(f"m{number}") for number in range(count)})


class BoxFetcher:
    options = Options
    box: Mailbox

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self.runtime = runtime
        self.source = self.box.name
        self.mark = ""
        self._settled: list[str] = []

    def __enter__(self) -> BoxFetcher:
        self.box.sessions += 1
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.box.on_quit()
            for key in self._settled:
                self.box.messages.pop(key, None)

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        self.box.on_listing()
        self.mark = self.box.mark
        return [Item(key, len(octets)) for key, octets in self.box.messages.items()]

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        for key in keys:
            self.box.headed.append(key)
            section = self.box.messages[key].partition(b"\r\n\r\n")[0] + b"\r\n"
            yield Fetched(key, Octets(section), self.box.envelope)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        for key in keys:
            self.box.on_fetch(key)
            if key in self.box.missed:
                yield Missed(key, self.box.missed[key])
                continue
            self.box.fetched.append(key)
            content = self.box.make(self.runtime, self.box.messages[key])
            yield Fetched(key, content, self.box.envelope)

    def settle(self, key: str, fate: Fate) -> None:
        assert fate is Fate.DONE
        self.box.settled.append(key)
        self._settled.append(key)


def fetch(box: Mailbox, name: str = "box", **words: Any) -> FetchStep:
    """A [[fetch]] step on a mailbox; `words` are the engine's own."""
    component = type("Fetcher", (BoxFetcher,), {"box": box})
    where = Query(words["where"]) if isinstance(words.get("where"), str) else Query.always
    known = {"keep": FOREVER, "limit": None, "start": None}
    return FetchStep(name, name, component, Options(), **{**known, **words, "where": where})


def process(
    work: Callable[[Mail, Context], Iterable[Any]],
    name: str = "step",
    *,
    pure: bool = False,
    when: str | None = None,
) -> ProcessStep:
    """A [[process]] step that does `work`."""

    def run(self: object, mail: Mail, context: Context) -> Iterable[Any]:
        return work(mail, context)

    made = {"options": Options, "pure": pure, "process": run, "__init__": _take_any}
    component = type("Processor", (), made)
    return ProcessStep(name, name, component, Options(), None if when is None else Query(when))


class Post:
    """A destination. `sent` has (ticket key, recipient, octets) of each delivery, in order.

    `act(mail, ticket)` gives the reports, or raises; as it is, all goes well, after
    `ticket.commit`.
    """

    def __init__(self, *, repeatable: bool = False, per_recipient: bool = True) -> None:
        self.repeatable = repeatable
        self.per_recipient = per_recipient
        self.sends = per_recipient
        self.sent: list[tuple[str, str, bytes]] = []
        self.tickets: list[Ticket] = []
        self.opened = 0
        self.closed: list[object] = []
        self.finished: list[str] = []
        self.act: Callable[[Mail, Ticket], Iterable[Report]] = self.take
        self.on_open: Callable[[], None] = lambda: None

    def take(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """Deliver to all; a repeatable one knows a ticket that it has had."""
        if not self.repeatable:
            ticket.commit(ticket.recipients)
        for recipient in ticket.recipients:
            if not (self.repeatable and (ticket.key, recipient) in self.keys):
                self.sent.append((ticket.key, recipient, read(mail.content)))
            yield Report(recipient, SENT)

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(key, recipient) for key, recipient, _ in self.sent]

    @property
    def subjects(self) -> list[str]:
        """Of every delivery, in order."""
        return [subject(Octets(octets)) for _, _, octets in self.sent]

    @property
    def octets(self) -> list[bytes]:
        return [octets for _, _, octets in self.sent]


class PostDistributor:
    options = Options
    post: Post

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self.runtime = runtime

    def __enter__(self) -> PostDistributor:
        self.post.on_open()
        self.post.opened += 1
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.post.closed.append(error)

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterable[Report]:
        self.post.tickets.append(ticket)
        return self.post.act(mail, ticket)

    def finish(self, keys: Iterable[str]) -> None:
        self.post.finished += keys


def distribute(post: Post, name: str = "post", **words: Any) -> DistributeStep:
    """A [[distribute]] step to a post; `many` for one that takes several mails at once."""
    facts = {
        "post": post, "repeatable": post.repeatable, "per_recipient": post.per_recipient,
        "sends": post.sends,
    }  # fmt: skip
    if words.pop("many", False):
        facts["distribute_many"] = _many
    component = type("Distributor", (PostDistributor,), facts)
    when = Query(words["when"]) if words.get("when") else None
    known = {"parallel": 1, "if_in_doubt": "resend"}
    return DistributeStep(name, name, component, Options(), **{**known, **words, "when": when})


def _many(
    self: PostDistributor, jobs: Iterable[tuple[Mail, Ticket]]
) -> Iterator[tuple[Ticket, Report]]:
    for mail, ticket in jobs:
        for report in self.distribute(mail, ticket):
            yield ticket, report


def react(
    decide: Callable[[Trouble, Context], Any], name: str = "react", *, when: str | None = None
) -> ReactStep:
    """A [[react]] step that does `decide`."""

    def run(self: object, trouble: Trouble, context: Context) -> Any:
        return decide(trouble, context)

    component = type("Reactor", (), {"options": Options, "react": run, "__init__": _take_any})
    return ReactStep(name, name, component, Options(), None if when is None else Query(when))


def _take_any(self: object, options: Options, runtime: Runtime) -> None:
    self.runtime = runtime  # type: ignore[attr-defined]


class Listener(Registry):
    """A registry that keeps the events it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, /, **facts: object) -> None:
        self.told.append((name, facts))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]


class Works:
    """Pipelines in one directory, with one journal unless told otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = str(root / "journal.db")
        self.registry = Listener()

    def pipeline(
        self,
        fetch: Sequence[FetchStep],
        distribute: Sequence[DistributeStep],
        process: Sequence[ProcessStep] = (),
        react: Sequence[ReactStep] = (),
        **words: Any,
    ) -> Pipeline:
        name = words.pop("name", "red")
        known = {
            "path": str(self.root / f"{name}.toml"), "name": name, "base": str(self.root),
            "journal": self.path, "history": 86400.0, "linger": 20.0,
        }  # fmt: skip
        return Pipeline(
            **{**known, **words}, fetch=tuple(fetch), process=tuple(process),
            distribute=tuple(distribute), react=tuple(react),
        )  # fmt: skip

    def run(self, *pipelines: Pipeline, **words: Any) -> int:
        """A run; its exit status."""
        return supervisor.run(pipelines, self.registry, **words)

    def journal(self) -> Database:
        return Database(self.path)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the journal says, as another program would read it."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def change(self, query: str, *values: object) -> None:
        """Change the journal, as time or another program would."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                connection.execute(query, values)
        finally:
            connection.close()

    def due_now(self) -> None:
        """Time passes until everything that waits is due."""
        self.change("UPDATE delivery SET due = 0 WHERE state = 'due'")
        self.change("UPDATE copy SET due = 0 WHERE state = 'waiting'")

    def states(self) -> list[tuple[str, str, str]]:
        """(step, recipient, state) of every delivery."""
        return self.rows(
            "SELECT step, recipient, state FROM delivery ORDER BY mail, step, recipient"
        )

    def waits(self) -> list[Entry]:
        """As `queue list`."""
        journal = self.journal()
        try:
            return journal.read(entries)
        finally:
            journal.close()

    def story(self, mail: str) -> Story:
        """As `trace`."""
        journal = self.journal()
        try:
            found = journal.read(lambda tx: story(tx, mail))
            assert found is not None
            return found
        finally:
            journal.close()

    def mail(self) -> str:
        """The id of the one mail there is."""
        ((identity,),) = self.rows("SELECT id FROM mail WHERE NOT notice")
        return str(identity)
