"""POP3 to Maildir: whole processes, from Dovecot, every file durable."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench import corpus, fetchers, mailbox, visits
from bench.measure import Series, take_turns
from bench.row import Contender, Options, Outcome, Ratio, Row, judged

WAITING = (
    " getmail6, fdm and fetchmail run once, and together:"
    " they wait for the link and do little else."
)
LOCK_STEP = (
    " getmail6, fdm and fetchmail ask for a message when the one before has come, so that each"
    " costs a round trip or two; on this link they would take minutes and are left out."
)
REMEMBERING = ("mailflow", "mpop")
"""Those that note what they have fetched, where it stays on the server."""


def contenders(options: Options, delay: float) -> Sequence[Contender]:
    found = [
        fetchers.mailflow(options.script),
        fetchers.mpop(),
        fetchers.cs_pop3(options.peers / "bin" / "pop3"),
        fetchers.limit(),
    ]
    if options.context and delay < visits.FAR:
        found += [fetchers.getmail6(), fetchers.fdm(), fetchers.fetchmail()]
    return [contender for contender in found if contender]


def run(row: Row, options: Options, *, messages: int, delay: float, delete: bool) -> Outcome:
    known = contenders(options, delay)
    return visits.run(row, options, known, options.count(messages), delay=delay, delete=delete)


def run_again(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    """The second visit counts: a first one, without delay, has fetched as many messages.

    Who keeps no note of what was fetched finds only the new ones there, which is the
    best that could happen to it.
    """
    count = options.count(messages)
    mails = list(corpus.messages(2 * count))
    known = [
        fetchers.mailflow(options.script),
        fetchers.mpop(),
        fetchers.cs_pop3(options.peers / "bin" / "pop3"),
        fetchers.limit(known=count, new=count),
    ]
    present = [contender for contender in known if contender]
    series = {contender.name: Series(contender.name) for contender in present}
    with mailbox.Mailbox(options.directory, delay) as box:
        for repetition, contender in take_turns(present, partial(options.turns, most=2)):
            first = [] if contender.name == "cs.pop3" else mails[:count]
            account = box.account(first)
            command = visits.begin(row, options, contender, repetition, account)
            fetches = contender.name in REMEMBERING
            if fetches:
                with box.near():
                    options.launcher.run(command)
            box.add(account, mails[count:])
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            expected = mailbox.digests([*(first if fetches else []), *mails[count:]])
            on_server = len(first) + count
            inbox = command.directory / "Maildir"
            fault = mailbox.fault(inbox, expected, box.count(account), on_server)
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), present)


def row(
    name: str, messages: int, milliseconds: int, *, delete: bool, most: float, of: Sequence[str]
) -> Row:
    link = f"at a round trip of {milliseconds} ms" if milliseconds else "on loopback"
    told = WAITING if milliseconds else ""
    if milliseconds / 2000 >= visits.FAR:
        told = LOCK_STEP
    after = "and so is the mailbox, which is empty afterwards" if delete else "the mail stays"
    return Row(
        name,
        f"POP3 to Maildir: {messages:,} messages of about 20 KB {link}, "
        f"{'deleting' if delete else 'keeping'}",
        f"From the start of the process to its end, fetching from Dovecot {link}. The Maildir "
        f"and the program's state are new each time, {after}.{told}",
        partial(run, messages=messages, delay=milliseconds / 2000, delete=delete),
        Ratio(most, tuple(of)),
    )


AGAIN = "200 new messages of about 20 KB at a round trip of 600 ms, keeping"

ROWS = (
    row("pop3-loopback", 2000, 0, delete=False, most=0.9, of=["mpop"]),
    row("pop3-50ms", 500, 50, delete=False, most=0.55, of=["mpop"]),
    row("pop3-600ms-keep", 200, 600, delete=False, most=0.6, of=["mpop", "cs.pop3"]),
    row("pop3-600ms-delete", 200, 600, delete=True, most=0.65, of=["mpop", "cs.pop3"]),
    Row(
        "pop3-600ms-again",
        f"POP3 to Maildir, the next visit: {AGAIN}",
        "As in the row that keeps, but for what went before: the program has fetched 200 messages"
        " that are still there, in a visit without delay that is not measured, and 200 more have"
        " come since. mailflow asks for what is probably new together with the log-in. cs.pop3"
        " keeps no note of what it had, and finds nothing but the new ones. The limit knows what"
        " is new.",
        partial(run_again, messages=200, delay=0.3),
        Ratio(0.5, ("mpop", "cs.pop3")),
    ),
)
