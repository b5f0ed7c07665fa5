"""Visits that count: the contenders take turns at the same mail, and each is checked.

Rule of the file: a new directory for each run, and a quiet disk before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from bench import corpus, mailbox
from bench.mailbox import Account, Mailbox
from bench.measure import Command, Series, take_turns
from bench.row import Contender, Options, Outcome, Row, judged

PIECE = 1 << 20


def begin(
    row: Row,
    options: Options,
    contender: Contender,
    repetition: int,
    account: Account,
    *,
    delete: bool = False,
) -> Command:
    """The command of one run, in a directory of its own."""
    where = options.directory / f"{row.name}-{contender.name.replace(' ', '-')}-{repetition}"
    where.mkdir()
    how = {"delete": True} if delete else {}  # which not everybody can
    return contender.prepare(where, account, **how)


FAR = 0.2
"""Seconds of delay each way from which on two repetitions do: the link says how long it takes."""


def run(
    row: Row,
    options: Options,
    known: Sequence[Contender],
    count: int,
    *,
    delay: float = 0.0,
    protocol: str = "pop3",
    delete: bool = False,
    most: int | None = None,
) -> Outcome:
    """Each takes so many messages, at most `most` times. Those that are context at a slow link,
    where they do nothing but wait, run together, when the others are done."""
    series = {contender.name: Series(contender.name) for contender in known}
    expected = mailbox.digests(corpus.messages(count))
    waiting = [each for each in known if delay and each.role == "context"]
    apart = [each for each in known if each not in waiting]
    turns = partial(options.turns, most=most or (2 if delay >= FAR else None))
    with Mailbox(options.directory, delay, protocol) as box:
        shared = None if delete else box.account(corpus.messages(count))
        groups = [(repetition, [each]) for repetition, each in take_turns(apart, turns)]
        for repetition, group in [*groups, *([(0, waiting)] if waiting else [])]:
            commands, accounts = [], []
            for contender in group:
                accounts.append(shared or box.account(corpus.messages(count)))
                begun = begin(row, options, contender, repetition, accounts[-1], delete=delete)
                commands.append(begun)
            mailbox.settle_disk()
            _, samples = options.launcher.run_all(commands)
            kept = 0 if delete else count
            runs = zip(group, commands, samples, accounts, strict=True)
            for contender, command, sample, account in runs:
                inbox = command.directory / "Maildir"
                fault = mailbox.fault(inbox, expected, box.count(account), kept)
                series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


def run_long(
    row: Row, options: Options, known: Sequence[Contender], size: int, *, protocol: str = "pop3"
) -> Outcome:
    """Each takes one message of so many octets, once."""
    size //= options.scale
    series = {contender.name: Series(contender.name) for contender in known}
    expected = digest(corpus.long_message(size))
    with Mailbox(options.directory, 0, protocol) as box:
        account = box.long_account(corpus.long_message(size))
        for repetition, contender in take_turns(known, partial(options.turns, most=1)):
            command = begin(row, options, contender, repetition, account)
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            there = arrived(command.directory / "Maildir") == [expected]
            fault = "" if there else "the message is not there"
            series[contender.name].samples.append(judged(sample, command, fault))
    return Outcome(list(series.values()), known)


def digest(pieces: Iterable[bytes]) -> str:
    total = hashlib.sha1()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def arrived(maildir: Path) -> list[str]:
    """The digests of what lies in a Maildir, as it was sent, read in pieces."""
    found = []
    for path in sorted((maildir / "new").iterdir()):
        with path.open("rb") as file:
            first = mailbox.as_sent(file.read(PIECE))
            found.append(digest(chain([first], iter(lambda: file.read(PIECE), b""))))
    return found
