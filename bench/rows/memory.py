"""Peak memory: that of the whole process, for small and large mailboxes and messages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench import fetchers, visits
from bench.row import Bound, Contender, Options, Outcome, Row

TARGET = Bound(64 << 20)
ABOUT = (
    "The largest resident set of the process (``ru_maxrss``) while it fetches {what} from "
    "Dovecot on loopback into a new Maildir. Whatever is started this way shows at least "
    "the 8 MiB or so of the process that starts it."
)


def contenders(options: Options, *, large: bool) -> Sequence[Contender]:
    found = [fetchers.mailflow(options.script), fetchers.mpop()]
    if options.context and not large:
        found += [fetchers.cs_pop3(options.peers / "bin" / "pop3"), fetchers.getmail6()]
    return [contender for contender in found if contender]


def run_many(row: Row, options: Options, *, messages: int) -> Outcome:
    known = contenders(options, large=messages > 1000)
    return visits.run(
        row, options, known, options.count(messages), most=1 if messages > 1000 else 2
    )


def run_long(row: Row, options: Options, *, size: int) -> Outcome:
    return visits.run_long(row, options, contenders(options, large=True), size)


def row(messages: int) -> Row:
    what = f"{messages:,} messages of about 20 KB"
    about = ABOUT.format(what=what)
    run = partial(run_many, messages=messages)
    return Row(f"memory-{messages}", f"Peak memory: {what}", about, run, TARGET)


ROWS = (
    row(200),
    row(20_000),
    Row(
        "memory-500mb",
        "Peak memory: one message of 500 MB",
        ABOUT.format(what="one message of 500 MB"),
        partial(run_long, size=500_000_000),
        TARGET,
    ),
)
