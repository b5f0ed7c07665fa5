"""IMAP to Maildir: whole processes, from Dovecot, every file durable; memory; the empty visit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench import corpus, fetchers, mailbox, visits
from bench.mailbox import Mailbox
from bench.measure import Series, take_turns
from bench.row import Bound, Contender, Options, Outcome, Ratio, Row, Within, judged

WAITING = (
    " getmail6, fdm, fetchmail and offlineimap run once, and together:"
    " they wait for the link and do little else."
)
LOCK_STEP = (
    " getmail6, fdm, fetchmail and offlineimap ask for a message when the one before has come, so"
    " that each costs a round trip or more; on this link they would take minutes and are left out."
)


def contenders(options: Options, delay: float) -> Sequence[Contender]:
    found = [
        fetchers.mailflow(options.script),
        fetchers.mbsync(),
        fetchers.imapclient(options.script.with_name("python")),
        fetchers.limit(),
    ]
    if options.context and delay < visits.FAR:
        found += [fetchers.getmail6(), fetchers.fdm(), fetchers.fetchmail()]
        found += [fetchers.offlineimap()]
    return [contender for contender in found if contender]


def run(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    known = contenders(options, delay)
    return visits.run(row, options, known, options.count(messages), delay=delay, protocol="imap")


def run_again(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    """The second visit counts: a first one, without delay, has fetched as many messages."""
    count = options.count(messages)
    mails = list(corpus.messages(2 * count))
    expected = mailbox.digests(mails)
    many = [fetchers.mailflow(options.script), fetchers.mbsync()]
    known = [contender for contender in many if contender]
    series = {contender.name: Series(contender.name) for contender in known}
    with Mailbox(options.directory, delay, "imap") as box:
        for repetition, contender in take_turns(known, partial(options.turns, most=2)):
            account = box.account(mails[:count])
            command = visits.begin(row, options, contender, repetition, account)
            with box.near():
                options.launcher.run(command)
            box.add(account, mails[count:])
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            inbox = command.directory / "Maildir"
            fault = mailbox.fault(inbox, expected, box.count(account), 2 * count)
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


POLLED = 10
"""New messages at each visit that counts."""


def run_poll(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    """Each contender has a mailbox of its own, and its state of the visits before.

    The first visit, without delay, is not measured: mailflow is told to leave what is
    there (`start = "new"`), mbsync fetches it all without flushing.
    """
    count = options.count(messages)
    many = [
        fetchers.mailflow(options.script, start="new"),
        fetchers.mbsync(durable=False),
    ]
    known = [contender for contender in many if contender]
    series = {contender.name: Series(contender.name) for contender in known}
    notes = []
    with Mailbox(options.directory, delay, "imap") as box:
        accounts, commands = {}, {}
        for contender in known:
            account = box.account(corpus.messages(count, size=1000))
            command = visits.begin(row, options, contender, 0, account)
            with box.near():
                first = options.launcher.run(command)
            if first.status:
                raise RuntimeError(f"{contender.name}: {command.output.read_text()[-500:]}")
            mib = first.peak / (1 << 20)
            notes.append(f"first visit of {contender.name}: {first.seconds:.1f} s, {mib:.0f} MiB")
            accounts[contender.name], commands[contender.name] = account, command
        news = itertools.count(2)
        for _, contender in take_turns(known, options.turns):
            account, command = accounts[contender.name], commands[contender.name]
            inbox = command.directory / "Maildir" / "new"
            before = {path.name for path in inbox.iterdir()}
            mails = list(corpus.messages(POLLED, seed=next(news)))
            box.add(account, mails)
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            fault = fault_of_poll(inbox, before, mails)
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known, notes)


def fault_of_poll(inbox: Path, before: set[str], mails: Sequence[bytes]) -> str:
    """Why a visit does not count; "" if it brought these messages and no other."""
    fresh = [path for path in inbox.iterdir() if path.name not in before]
    if len(fresh) != len(mails):
        return f"{len(fresh)} messages instead of {len(mails)}"
    found = mailbox.digests(mailbox.as_sent(path.read_bytes()) for path in fresh)
    return "" if found == mailbox.digests(mails) else "other messages than those that came"


def run_long(row: Row, options: Options, *, size: int) -> Outcome:
    many = [
        fetchers.mailflow(options.script),
        fetchers.mbsync() if options.context else None,
    ]
    known = [contender for contender in many if contender]
    return visits.run_long(row, options, known, size, protocol="imap")


def row(messages: int, milliseconds: int, most: float) -> Row:
    link = f"at a round trip of {milliseconds} ms" if milliseconds else "on loopback"
    told = WAITING if milliseconds else ""
    if milliseconds / 2000 >= visits.FAR:
        told = LOCK_STEP
    runner: Callable[[Row, Options], Outcome] = partial(
        run, messages=messages, delay=milliseconds / 2000
    )
    return Row(
        f"imap-{milliseconds}ms" if milliseconds else "imap-loopback",
        f"IMAP to Maildir: {messages:,} messages of about 20 KB {link}",
        f"From the start of the process to its end, fetching from Dovecot {link}, without TLS. The"
        " Maildir and the program's state are new each time, the mail stays. mbsync flushes each"
        " file, as it does by default (FSync). imapclient alone is the thirty lines of"
        f" ``bench/imapclient_alone.py``, which flush too.{told}",
        runner,
        Ratio(most, ("mbsync",)),
    )


ROWS = (
    row(2000, 0, 0.6),
    row(500, 50, 0.6),
    row(200, 600, 0.5),
    Row(
        "imap-600ms-again",
        "IMAP to Maildir, the next visit: 200 new messages of about 20 KB at a round trip of"
        " 600 ms",
        "As in the row before, but for what went before: the program has fetched 200 messages in a"
        " visit without delay that is not measured, and 200 more have come since.",
        partial(run_again, messages=200, delay=0.3),
        Ratio(0.5, ("mbsync",)),
    ),
    Row(
        "imap-poll",
        "IMAP: 10 new messages in a mailbox of 100,000, at a round trip of 50 ms",
        "The visits after a first one that is not measured: 10 messages of about 20 KB have come"
        " since the visit before, and 100,000 of about 1 KB are there. The whole process, from its"
        " start to its end. mbsync has fetched the 100,000 and does not flush in this row;"
        ' mailflow was told to leave them (``start = "new"``), and flushes.',
        partial(run_poll, messages=100_000, delay=0.025),
        Within(1.0),
    ),
    Row(
        "imap-memory-500mb",
        "Peak memory over IMAP: one message of 500 MB",
        "The largest resident set of the process (``ru_maxrss``) while it fetches one message of"
        " 500 MB from Dovecot on loopback into a new Maildir.",
        partial(run_long, size=500_000_000),
        Bound(80 << 20),
    ),
)
