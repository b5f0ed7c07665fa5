"""Serving POP3: sessions a second, octets a second, memory of those that wait, large drops."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench import corpus, held, processes
from bench.figures import Figure, Goal, Goals, Measured
from bench.load import Generator, LoadError
from bench.measure import take_turns
from bench.row import Contender, Options, Outcome, Row
from bench.servers import Server, all_of

TUNED = ("Dovecot tuned",)
MB = 1e6
KIB, MIB = 1 << 10, 1 << 20

Measure = Callable[[Server, Measured], None]


def contenders(servers: Sequence[Server]) -> list[Contender]:
    return [
        Contender(server.name, server.role, lambda: NotImplemented, server.version)
        for server in servers
    ]


def place(row: Row, options: Options) -> Path:
    directory = options.directory / row.name
    directory.mkdir()
    directory.chmod(0o711)
    return directory


@contextlib.contextmanager
def voiding(figures: Measured) -> Iterator[None]:
    """What goes wrong with one server voids its figures, and no other's."""
    try:
        yield
    except (LoadError, OSError, RuntimeError) as error:
        figures.fault = f"{type(error).__name__}: {error}"


def measured(
    servers: Sequence[Server],
    turns: Callable[[Server], int],
    measure: Measure,
    expected: Sequence[bytes],
) -> Outcome:
    """All run beside each other, and are loaded in turn, after one session that checks that
    user0 gets what was filled in."""
    found = {server.name: Measured(server.name) for server in servers}
    with contextlib.ExitStack() as running:
        for server in servers:
            with voiding(found[server.name]):
                running.enter_context(server)
                found[server.name].fault = held.fault(server.port, expected)
        for _, server in take_turns(servers, turns):
            figures = found[server.name]
            if not figures.fault:
                with voiding(figures):
                    measure(server, figures)
    return Outcome(list(found.values()), contenders(servers))


def run_sessions(row: Row, options: Options, *, clients: int) -> Outcome:
    directory = place(row, options)
    mails = list(corpus.messages(20, size=2000))
    servers = all_of(options.script, directory, default=options.context)
    for server in servers:
        server.fill(clients, mails)
    generator = Generator(options.directory)

    def measure(server: Server, figures: Measured) -> None:
        before = processes.cpu(server.pid)
        load = generator.run("sessions", server.port, clients, len(mails), warm=1, seconds=4)
        used = processes.cpu(server.pid) - before
        figures.add(
            **{
                "sessions a second": load.sessions / load.seconds,
                "half take": load.p50,
                "99 of 100 take": load.p99,
                "CPU of the server": used * 4 / 5 / max(1, load.sessions),
            }
        )

    return measured(servers, options.turns, measure, mails)


def run_retrieve(row: Row, options: Options, *, clients: int) -> Outcome:
    directory = place(row, options)
    mails = list(corpus.messages(options.count(500)))
    servers = all_of(options.script, directory, default=options.context)
    for server in servers:
        server.fill(clients, mails)
    generator = Generator(options.directory)

    def measure(server: Server, figures: Measured) -> None:
        load = generator.run("retrieve", server.port, clients, len(mails), warm=1, seconds=3)
        figures.add(**{"octets a second": load.octets / load.seconds / MB})

    return measured(servers, options.turns, measure, mails)


def run_idle(row: Row, options: Options, *, sessions: int) -> Outcome:
    """One server after the other, once: the memory of a thousand processes is much."""
    directory = place(row, options)
    count = options.count(sessions)
    mails = list(corpus.messages(20, size=2000))
    servers = all_of(options.script, directory, default=False)
    found = []
    with held.many_descriptors():
        for server in servers:
            server.fill(count, mails)
            figures = Measured(server.name)
            found.append(figures)
            with voiding(figures), server:
                held.log_in(server.port, 0, len(mails)).close()
                before = processes.memory(server.pid)
                with held.Sessions(server.port, count, len(mails)) as idle:
                    after = processes.memory(server.pid)
                    idle.check()
                figures.add(**{"memory of a session": (after - before) / count})
                figures.add(**{"sessions held": count})
    return Outcome(found, contenders(servers))


def run_large(row: Row, options: Options, *, messages: int) -> Outcome:
    """user0 and user1 have the large drops, user2 has one message."""
    directory = place(row, options)
    mails = list(corpus.messages(options.count(messages), size=1000))
    servers = all_of(options.script, directory, default=False)
    for server in servers:
        server.fill(2, mails)
        server.fill(1, mails[:1], first=2)

    found = {server.name: Measured(server.name) for server in servers}
    for server in servers:
        figures = found[server.name]
        with voiding(figures), server:
            held.log_in(server.port, 2, 1).close()
            before = processes.memory(server.pid)
            begin = time.perf_counter()
            sessions = [held.log_in(server.port, user, len(mails)) for user in (0, 1)]
            cold = time.perf_counter() - begin
            after = processes.memory(server.pid)
            for sock in sessions:
                held.quit_(sock)
            figures.add(**{"memory of a session": (after - before) / 2})
            figures.add(**{"first listing, nothing warm": cold / 2})
            for _ in range(options.repetitions):
                held.quit_(held.log_in(server.port, 0, len(mails)))
                figures.add(**{"log-in to first line": held.first_line(server.port, 0)})
    return Outcome(list(found.values()), contenders(servers))


SESSIONS = """\
As many sessions as {clients} clients can have: each connects, logs in (USER, PASS), asks for STAT
and for UIDL of 20 messages, and ends with QUIT, each command when the answer before has come;
then the next begins. Each client has an account, an address and a drop of its own. The drop
is locked, its listing read and the password checked against a salted digest in every session.
``bench/load.c`` is the clients, on the same two processors. mailflow runs a worker for each
processor. Dovecot has the log-in of its manual for speed and keeps its processes (tuned), or is
as it comes."""

RETRIEVE = """\
RETR of 500 messages of about 20 KB, all asked for in one flight, again and again, by {clients}
session{s} at once, without TLS. What arrives is counted; each flight must end where the first
one did."""

SESSION_FIGURES = (
    Figure("sessions a second", "/s"),
    Figure("half take", "s"),
    Figure("99 of 100 take", "s"),
    Figure("CPU of the server", "s"),
)


def sessions(clients: int) -> Row:
    return Row(
        f"serve-{clients}",
        f"POP3 sessions by {clients} clients at once",
        " ".join(SESSIONS.format(clients=clients).split()),
        partial(run_sessions, clients=clients),
        Goals(
            SESSION_FIGURES,
            (
                Goal("sessions a second", 1.5, TUNED, more=True, aim=2.5),
                Goal("99 of 100 take", 1.0, (*TUNED, "Dovecot as it comes")),
            ),
        ),
    )


def retrieve(clients: int, least: float, aim: float) -> Row:
    s = "" if clients == 1 else "s"
    return Row(
        f"serve-retr-{clients}",
        f"POP3: 500 messages in a flight, {clients} session{s}",
        " ".join(RETRIEVE.format(clients=clients, s=s).split()),
        partial(run_retrieve, clients=clients),
        Goals(
            (Figure("octets a second", "MB/s"),),
            (Goal("octets a second", least, TUNED, more=True, aim=aim),),
        ),
        "A spool has its mail as POP3 sends it, and the kernel takes it from the file. Of a"
        " Maildir every message is opened, read and given CRLF line ends and dots: of some 45"
        " microseconds for one of 20 KB, 25 are for that in Python's own replacing of octets.",
    )


ROWS = (
    sessions(20),
    sessions(200),
    retrieve(1, 1.0, 2.0),
    retrieve(20, 0.9, 1.2),
    Row(
        "serve-idle",
        "POP3: 5,000 sessions that wait",
        "5,000 clients have logged in, each at a drop of 20 messages, have listed it, and say"
        " nothing more. What the server's processes have grown by (Pss) is shared out; then each"
        " client is answered once more. Sockets in the kernel are not in it.",
        partial(run_idle, sessions=5000),
        Goals(
            (Figure("memory of a session", "octets"), Figure("sessions held")),
            (Goal("memory of a session", 16 * KIB),),
        ),
    ),
    Row(
        "serve-100000",
        "POP3: a drop of 100,000 messages",
        "From the first octet of PASS until the first line of the listing that answers UIDL has"
        " come, in a session that is not the first; and by how much the server's processes grow"
        " (Pss) for each of two such sessions that have listed all. The first listing of all is"
        " shown as well, from the connection to its last line, nothing read before.",
        partial(run_large, messages=100_000),
        Goals(
            (
                Figure("log-in to first line", "s"),
                Figure("memory of a session", "octets"),
                Figure("first listing, nothing warm", "s"),
            ),
            (
                Goal("log-in to first line", 1.0),
                Goal("memory of a session", 32 * MIB),
            ),
        ),
    ),
)
