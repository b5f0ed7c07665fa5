"""A distributor driven as the engine drives it: a ticket, a runtime, a log that is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from mailflow import Envelope, Mail, MailflowError, Octets, Report, Runtime, Ticket
from mailflow.halt import Halt
from mailflow.options import Mailbox, SecretValue
from mailflow.testing.smtp import SmtpSink
from mailflow_smtp.distributor import SmtpDistributor, SmtpOptions

POST = b"From: ann@example.org\r\nSubject: hello\r\n\r\nhello\r\n"


class Log:
    """Keeps (level, event, facts)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **facts: object) -> None:
        self.lines.append(("debug", event, facts))

    def info(self, event: str, **facts: object) -> None:
        self.lines.append(("info", event, facts))

    def warning(self, event: str, **facts: object) -> None:
        self.lines.append(("warning", event, facts))

    def error(self, event: str, **facts: object) -> None:
        self.lines.append(("error", event, facts))

    def facts(self, event: str) -> dict[str, object]:
        """Of the first line of that event."""
        return next(facts for _, name, facts in self.lines if name == event)


class Result(NamedTuple):
    """What came of one mail: reports, what was committed, and what was raised."""

    reports: list[Report]
    commits: list[tuple[str, ...]]
    error: MailflowError | None

    def outcome(self, recipient: str) -> tuple[str, str] | None:
        """("sent", "2.0.0") of the one report about `recipient`."""
        found = [(r.outcome.value, r.code) for r in self.reports if r.recipient == recipient]
        assert len(found) < 2, f"{recipient} was reported twice"
        return found[0] if found else None

    @property
    def in_doubt(self) -> set[str]:
        """Who was committed and never reported."""
        committed = {each for group in self.commits for each in group}
        return committed - {report.recipient for report in self.reports}


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def halt() -> Iterator[Halt]:
    halt = Halt()
    yield halt
    halt.close()


@pytest.fixture
def runtime(tmp_path: Path, log: Log, halt: Halt) -> Runtime:
    return Runtime("smtp", "red", halt, log, str(tmp_path))  # type: ignore[arg-type]


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as sink:
        yield sink


@pytest.fixture
def distributor(runtime: Runtime) -> Iterator[Callable[..., SmtpDistributor]]:
    """distributor(server, **options): an entered one, left at the end of the test."""
    entered: list[SmtpDistributor] = []

    def make(server: object = None, **options: object) -> SmtpDistributor:
        values: dict[str, object] = {"timeout": 10.0, "message_timeout": 10.0, **options}
        if server is not None:
            values.setdefault("host", server.host)  # type: ignore[attr-defined]
            values.setdefault("port", server.port)  # type: ignore[attr-defined]
        if isinstance(password := values.get("password"), str):
            values["password"] = SecretValue(lambda: password, "the test")
        if isinstance(sender := values.get("sender"), str):
            values["sender"] = Mailbox("", sender)
        made = SmtpDistributor(SmtpOptions(values), runtime)
        entered.append(made.__enter__())
        return made

    yield make
    for each in entered:
        each.__exit__(None, None, None)


@pytest.fixture
def mail() -> Callable[..., Mail]:
    def make(data: bytes = POST, sender: str | None = "red@example.org") -> Mail:
        return Mail("m1", Envelope(sender), Octets(data))

    return make


@pytest.fixture
def send(mail: Callable[..., Mail]) -> Callable[..., Result]:
    """send(distributor, *recipients, data=, sender=, commit=): what the engine would see."""

    def run(
        distributor: SmtpDistributor,
        *recipients: str,
        post: Mail | None = None,
        commit: Callable[[Sequence[str]], None] = lambda recipients: None,
        **facts: object,
    ) -> Result:
        commits: list[tuple[str, ...]] = []

        def committed(group: Sequence[str]) -> None:
            if group:  # for nobody: what was reported is to be written
                commits.append(tuple(group))
                commit(group)

        ticket = Ticket("t1", recipients or ("ann@example.org",), commit=committed)
        reports: list[Report] = []
        error = None
        try:
            for report in distributor.distribute(post or mail(**facts), ticket):
                reports.append(report)  # what came before an error counts
        except MailflowError as raised:
            error = raised
        return Result(reports, commits, error)

    return run


class Group:
    """What came of several mails in one call: by mail, and in the order it happened."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.reports: dict[str, dict[str, tuple[str, str]]] = {}
        self.commits: dict[str, list[tuple[str, ...]]] = {}
        self.drawn: list[str] = []
        self.error: MailflowError | None = None

    @property
    def in_doubt(self) -> dict[str, set[str]]:
        """Who was committed and never reported, by mail."""
        found = {
            mail: {to for group in groups for to in group} - set(self.reports.get(mail, {}))
            for mail, groups in self.commits.items()
        }
        return {mail: who for mail, who in found.items() if who}


@pytest.fixture
def send_many() -> Callable[..., Group]:
    """send_many(distributor, {"m1": ("ann@example.org",), ...}, data={"m1": ...}): mails in one
    call, each with a Subject of its own; `told` has ("commit", mail) and ("report", mail)."""

    def run(
        distributor: SmtpDistributor,
        jobs: Mapping[str, Sequence[str]],
        data: Mapping[str, bytes] = {},
        senders: Mapping[str, str | None] = {},
    ) -> Group:
        group = Group()

        def draw() -> Iterator[tuple[Mail, Ticket]]:
            for name, recipients in jobs.items():
                group.drawn.append(name)
                octets = data.get(name, f"Subject: {name}\r\n\r\nhello\r\n".encode())
                sender = senders.get(name, "red@example.org")

                def commit(some: Collection[str], name: str = name) -> None:
                    if some:
                        group.told.append(("commit", name))
                        group.commits.setdefault(name, []).append(tuple(some))

                ticket = Ticket(name, tuple(recipients), commit=commit)
                yield Mail(name, Envelope(sender), Octets(octets)), ticket

        try:
            for ticket, report in distributor.distribute_many(draw()):
                group.told.append(("report", ticket.key))
                mine = group.reports.setdefault(ticket.key, {})
                assert report.recipient not in mine, f"{report.recipient} was reported twice"
                mine[report.recipient] = (report.outcome.value, report.code)
        except MailflowError as raised:
            group.error = raised
        return group

    return run
