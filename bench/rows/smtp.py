"""Sending by SMTP: one message to many, many messages, and a post to a mailing list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import corpus, mailbox, relay, senders
from bench.measure import Series, take_turns
from bench.row import Contender, Options, Outcome, Ratio, Row, judged
from bench.senders import Job

SIZE = 5000
"""Octets of a message, about."""

TOGETHER = 20
"""Connections over which many messages go."""

DELAY = 0.025
"""Seconds each way."""


def people(count: int) -> tuple[str, ...]:
    return (senders.SENDER, *(f"member{number}@example.net" for number in range(1, count)))


def write(folder: Path, messages: Sequence[bytes]) -> Path:
    """A file for each message, in their order."""
    folder.mkdir()
    for number, message in enumerate(messages):
        (folder / f"{1_700_000_000 + number}.M{number}.bench").write_bytes(message)
    return folder


def run(
    row: Row,
    options: Options,
    known: Sequence[Contender],
    server: relay.Sink | relay.PostfixLink,
    messages: Sequence[bytes],
    job: Job,
    once: Sequence[str] = (),
) -> Outcome:
    """Every contender does the job; those named in `once` do it in one repetition."""
    series = {contender.name: Series(contender.name) for contender in known}
    expected = partial(relay.expected, to=job.recipients, body_only=server.body_only)
    wanted, repeated = expected(messages), expected([messages[0]] * len(messages))

    def turns(contender: Contender) -> int:
        return options.turns(contender, 1 if contender.name in once else None)

    with server:
        for repetition, contender in take_turns(known, turns):
            where = options.directory / f"{row.name}-{contender.name}-{repetition}"
            where.mkdir()
            with server.taking(where / "sent") as port:
                command = contender.prepare(where, replace(job, port=port))
                mailbox.settle_disk()
                sample = options.launcher.run(command)
            same = contender.name.startswith("smtp-source")
            fault = relay.fault(server.sent(where / "sent"), repeated if same else wanted)
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


def run_recipients(row: Row, options: Options) -> Outcome:
    messages = list(corpus.messages(1, size=SIZE))
    folder = write(options.directory / f"{row.name}-corpus", messages)
    known = [
        senders.mailflow_hook(options.script), senders.msmtp(), senders.limit(),
    ]  # fmt: skip
    job = Job(folder, people(options.count(1000)))
    return run(row, options, present(known), relay.Sink(DELAY), messages, job)


def run_messages(row: Row, options: Options, *, postfix: bool) -> Outcome:
    messages = list(corpus.messages(options.count(500), size=SIZE))
    folder = write(options.directory / f"{row.name}-corpus", messages)
    known = [senders.mailflow_run(options.script), senders.smtp_source()]
    if postfix:
        known.append(senders.mailflow_run(options.script, chunking=False))
    known.append(senders.limit())
    if options.context and not postfix:
        known.append(senders.smtp_source(reconnect=True))
    server: relay.Sink | relay.PostfixLink = relay.Sink(DELAY)
    if postfix:
        server = relay.PostfixLink(options.directory, DELAY, senders.LIST)
    job = Job(folder, (senders.LIST,), min(TOGETHER, len(messages)))
    return run(row, options, present(known), server, messages, job)


def run_list(row: Row, options: Options, *, delay: float) -> Outcome:
    messages = list(corpus.messages(1, size=SIZE))
    folder = write(options.directory / f"{row.name}-corpus", messages)
    known = [senders.mailflow_list(options.script), senders.mlmmj(), senders.limit()]
    job = Job(folder, people(options.count(1000)))
    server = relay.Sink(delay, body_only=True)
    once = ["mlmmj"] if delay else []
    return run(row, options, present(known), server, messages, job, once)


def present(contenders: Sequence[Contender | None]) -> list[Contender]:
    return [contender for contender in contenders if contender]


LINK = "at a round trip of 50 ms"
OVER = f"{TOGETHER} connections {LINK}"
POST = (
    "From the start of the process that is given the post, as a mail server starts it, until "
    "smtp-sink has answered for the last member. mlmmj leaves VERP to the server (``verp`` in "
    "its control directory), and so sends in groups of 100 members as mailflow does by default; "
    "its way without that is a transaction for each member. Neither archives. The subject is "
    "prefixed, and only members may post; the bodies are compared."
)
ROWS = (
    Row(
        "smtp-1000-rcpt-50ms",
        f"SMTP: one message to 1,000 recipients {LINK}",
        "From the start of the process to its end. The message, of about 5 KB, comes on stdin, "
        "the recipients are arguments (``mailflow hook``), and the server is Postfix's smtp-sink. "
        "All send one transaction: msmtp knows no other way, and mailflow is told "
        "``recipients_max = 1000``. mailflow has the message and each recipient's outcome in its "
        "journal, msmtp keeps nothing.",
        run_recipients,
        Ratio(0.6, ("msmtp",)),
    ),
    Row(
        "smtp-500-msgs-50ms",
        f"SMTP: 500 messages of about 5 KB over {OVER}",
        "From the start of the process to its end, to Postfix's smtp-sink. mailflow sends on a "
        "Maildir, one recipient each, and every commit of its journal is in the time: what was "
        "taken, what was planned, what was about to be sent, what was answered. smtp-source is "
        "Postfix's generator of load: it reads one message once, sends it 500 times and writes "
        "nothing down.",
        partial(run_messages, postfix=False),
        Ratio(0.45, ("smtp-source",)),
    ),
    Row(
        "smtp-postfix-chunking",
        f"SMTP to Postfix with CHUNKING: 500 messages of about 5 KB over {OVER}",
        "As in the row before, to a real Postfix, which offers CHUNKING (RFC 3030) and delivers "
        "to a Maildir meanwhile. smtp-source and the limit know DATA only.",
        partial(run_messages, postfix=True),
        Ratio(0.45, ("smtp-source",)),
    ),
    Row(
        "list-1000",
        "A post to a mailing list of 1,000 members on loopback",
        POST,
        partial(run_list, delay=0.0),
        Ratio(1.0, ("mlmmj",)),
    ),
    Row(
        "list-1000-50ms",
        f"A post to a mailing list of 1,000 members {LINK}",
        f"{POST} mlmmj runs once: it waits for the answer to each command.",
        partial(run_list, delay=DELAY),
        Ratio(0.03, ("mlmmj",)),
    ),
)
