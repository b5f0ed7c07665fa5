"""Webmail to Maildir: whole processes, from Roundcube, every file durable; polls; memory."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from bench import corpus, fetchers, visits
from bench.figures import Figure, Goal, Goals, Measured
from bench.mailbox import Account, Mailbox
from bench.measure import Command, Series
from bench.row import Contender, Options, Outcome, Ratio, Row
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.log import get_logger
from mailflow.query import Query
from mailflow.testing.http_way import HttpWay
from mailflow_webmail.fetcher import WebmailFetcher
from mailflow_webmail.origin import WebmailSourceOptions

POLLED = 20
"""Messages in the folder of one page."""

LIVING = "mailflow, logged in"
LIBRARIES = "MechanicalSoup, imported"


def programs(options: Options) -> list[Contender]:
    return [
        fetchers.mailflow(options.script),
        fetchers.soup(options.script.with_name("python")),
    ]


def run(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    count, known = options.count(messages), programs(options)
    return visits.run(row, options, known, count, delay=delay, protocol="webmail")


def run_poll(row: Row, options: Options, *, delay: float) -> Outcome:
    """Each request is counted where it passes."""
    ours, soup = programs(options)
    known = [Contender(LIVING, "ours", ours.prepare, ours.version)]
    found = [Measured(LIVING)]
    mails = list(corpus.messages(POLLED))
    with Mailbox(options.directory, delay, "webmail") as box:
        account = box.account(mails)
        with HttpWay(f"http://127.0.0.1:{account.port}/") as way:
            near = replace(account, port=urlsplit(way.url).port or 0)
            poll_living(found[0], way, near, options)
            for program, visited in ((ours, 1), (soup, 0)):
                measured, command = Measured(program.name), None
                for number in range(options.repetitions):
                    if command is None or not visited:
                        command = visits.begin(row, options, program, number, near)
                        for _ in range(visited):
                            options.launcher.run(command)
                    way.requests.clear()
                    sample = options.launcher.run(command)
                    if sample.status:
                        measured.fault = command.output.read_text(errors="replace")[-500:]
                    measured.add(requests=len(way.requests), seconds=sample.seconds)
                found.append(measured)
                known.append(replace(program, role="context"))
    return Outcome(found, known)


def poll_living(measured: Measured, way: HttpWay, account: Account, options: Options) -> None:
    """The fetcher as `serve` holds it, which has listed the folder before."""
    table = {
        "site": "roundcube", "url": way.url, "user": account.user, "password": account.password,
    }  # fmt: skip
    halt = Halt()
    runtime = Runtime("bench", "bench", halt, get_logger(), str(options.directory))
    fetcher = WebmailFetcher(WebmailSourceOptions.read(table), runtime)
    fetcher.stay()
    try:
        for number in range(-1, options.repetitions):
            way.requests.clear()
            begin = time.monotonic()
            with fetcher:
                listed = len(list(fetcher.listing(Query.always, fetcher.mark)))
            seconds = time.monotonic() - begin
            if listed != POLLED:
                measured.fault = f"{listed} messages listed instead of {POLLED}"
            if number >= 0:
                measured.add(requests=len(way.requests), seconds=seconds)
    finally:
        fetcher.close()
        halt.close()


def run_long(row: Row, options: Options, *, size: int) -> Outcome:
    """What mailflow takes beyond an interpreter that has imported the libraries and no more."""
    ours, _ = programs(options)
    outcome = visits.run_long(row, options, [ours], size, protocol="webmail")
    (series,) = outcome.series
    assert isinstance(series, Series)
    where = options.directory / "libraries"
    where.mkdir()
    python = str(options.script.with_name("python"))
    bare = options.launcher.run(Command([python, "-I", "-c", "import mechanicalsoup"], where))
    alone = Measured(LIBRARIES)
    alone.add(peak=bare.peak, above=0, seconds=bare.seconds)
    measured = Measured(ours.name, fault=series.fault)
    for sample in series.samples:
        measured.add(peak=sample.peak, above=sample.peak - bare.peak, seconds=sample.seconds)
    context = Contender(LIBRARIES, "context", ours.prepare)
    return Outcome([measured, alone], [ours, context])


ROWS = (
    Row(
        "webmail-50ms",
        "Webmail to Maildir: 200 messages of about 20 KB at a round trip of 50 ms",
        "From the start of the process to its end, fetching from Roundcube, whose web server is"
        " lighttpd and keeps connections open, behind it Dovecot. MechanicalSoup alone is the"
        " fifty lines of ``bench/soup_alone.py``: it logs in, lists all pages, and asks for one"
        " source after the other over one connection that is kept; it flushes each file. mailflow"
        " loads four messages at once, as it does by default.",
        partial(run, messages=200, delay=0.025),
        Ratio(0.6, ("MechanicalSoup alone",)),
    ),
    Row(
        "webmail-poll",
        "Webmail: nothing new in a folder of one page, at a round trip of 50 ms",
        f"Requests that a look at a folder of {POLLED} messages takes which finds nothing new,"
        " counted where they pass. mailflow logged in is a source under ``serve`` between two"
        " looks; mailflow by itself is a whole run, which logs in and out; MechanicalSoup alone"
        " keeps no state and fetches all anew.",
        partial(run_poll, delay=0.025),
        Goals((Figure("requests"), Figure("seconds", "s")), (Goal("requests", 1),)),
    ),
    Row(
        "webmail-memory-100mb",
        "Peak memory over a webmail: one message of 100 MB",
        "The largest resident set of the process (``ru_maxrss``) while it fetches one message of"
        " 100 MB from Roundcube on loopback into a new Maildir, and how much that is above an"
        " interpreter that imports MechanicalSoup and ends.",
        partial(run_long, size=100_000_000),
        Goals(
            (Figure("peak", "octets"), Figure("above", "octets"), Figure("seconds", "s")),
            (Goal("above", 64 << 20),),
        ),
    ),
)
