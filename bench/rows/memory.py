"""Peak memory: that of the whole process, for small and large mailboxes and messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from bench import corpus, fetchers, mailbox
from bench.measure import Series, take_turns
from bench.row import Bound, Contender, Options, Outcome, Row, judged

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
    count = options.count(messages)
    known = contenders(options, large=messages > 1000)
    series = {contender.name: Series(contender.name) for contender in known}
    expected = mailbox.digests(corpus.messages(count))
    with mailbox.Mailbox(options.directory, 0) as box:
        account = box.account(corpus.messages(count))
        for repetition, contender in take_turns(known, partial(options.turns, most=2)):
            where = options.directory / f"{row.name}-{contender.name}-{repetition}"
            where.mkdir()
            command = contender.prepare(where, account, False)
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            fault = mailbox.fault(where / "Maildir", expected, box.count(account), count)
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


def run_long(row: Row, options: Options, *, size: int) -> Outcome:
    size //= options.scale
    known = contenders(options, large=True)
    series = {contender.name: Series(contender.name) for contender in known}
    expected = digest(corpus.long_message(size))
    with mailbox.Mailbox(options.directory, 0) as box:
        account = box.long_account(corpus.long_message(size))
        for repetition, contender in take_turns(known, partial(options.turns, most=1)):
            where = options.directory / f"{row.name}-{contender.name}-{repetition}"
            where.mkdir()
            command = contender.prepare(where, account, False)
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            fault = "" if arrived(where / "Maildir") == [expected] else "the message is not there"
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


def digest(pieces: Iterable[bytes]) -> str:
    total = hashlib.sha1()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def arrived(maildir: Path) -> list[str]:
    """The digests of what lies in a Maildir, read in pieces."""
    found = []
    for path in sorted((maildir / "new").iterdir()):
        with path.open("rb") as file:
            found.append(digest(iter(lambda: file.read(1 << 20), b"")))
    return found


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
