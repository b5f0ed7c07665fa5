"""What grows with a mailbox: the first visit and a later one, from 100 messages to 100,000."""

from __future__ import annotations

from bench import corpus, fetchers, mailbox, visits
from bench.figures import Figure, Goal, Goals, Measured
from bench.mailbox import Mailbox
from bench.measure import Sample
from bench.row import Contender, Options, Outcome, Row, judged

STEPS = (100, 1_000, 10_000, 100_000)
SIZE = 2_000
MEMORY = "{:,} peak"
OFTEN = 10_000
"""From so many messages on each program runs once."""


def run(row: Row, options: Options) -> Outcome:
    """Each figure is named by the number of messages, of a trial too."""
    programs = [each for each in (fetchers.mailflow(options.script), fetchers.mpop()) if each]
    found: dict[tuple[str, str], Measured] = {}
    known: list[Contender] = []
    for program in programs:
        role = "ours" if program.role == "ours" else "gauge"
        for visit in ("first visit", "later visit"):
            name = f"{program.name}, {visit}"
            found[program.name, visit] = Measured(name)
            known.append(Contender(name, role, program.prepare, program.version))
    with Mailbox(options.directory, 0) as box:
        for step in STEPS:
            count = options.count(step)
            mails = list(corpus.messages(count, size=SIZE))
            expected, account = mailbox.digests(mails), box.account(mails)
            for turn in range(1 if step >= OFTEN else options.repetitions):
                for program in programs:
                    command = visits.begin(row, options, program, step + turn, account)
                    for visit in ("first visit", "later visit"):
                        mailbox.settle_disk()
                        sample = options.launcher.run(command)
                        _note(found[program.name, visit], step, judged(sample, command, ""))
                    inbox = command.directory / "Maildir"
                    if fault := mailbox.fault(inbox, expected, count, count):
                        for visit in ("first visit", "later visit"):
                            found[program.name, visit].fault = fault
    return Outcome(list(found.values()), known)


def _note(measured: Measured, step: int, sample: Sample) -> None:
    measured.fault = measured.fault or sample.fault
    measured.add(**{f"{step:,}": sample.seconds, MEMORY.format(step): sample.peak})


ROWS = (
    Row(
        "growth",
        "Growth: POP3 to Maildir, 100 to 100,000 messages of about 2 KB on loopback, keeping",
        "Whole processes, fetching from Dovecot: the first visit, which fetches all, and a later"
        " one, which finds nothing new; time and peak memory by the number of messages. After"
        " both, each message must be there once.",
        run,
        Goals(
            (
                *(Figure(f"{step:,}", "s") for step in STEPS),
                *(Figure(MEMORY.format(step), "octets") for step in STEPS),
            ),
            (Goal(MEMORY.format(STEPS[-1]), 64 << 20),),
            axis="messages",
        ),
        "Of each message that is listed, objects of Python's hold its key, its number, its size and"
        " what the journal knows of it: some 600 octets. A table by columns would need a fifth of"
        " that; for 10,000 messages it would save 5 MiB.",
    ),
)
