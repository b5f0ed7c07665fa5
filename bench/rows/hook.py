"""The hook: one process for each message, durable in a Maildir when it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import corpus, deliverers, mailbox
from bench.measure import Command, Sample, Series, take_turns
from bench.row import Contender, Options, Outcome, Ratio, Row

CALLS = 60


def contenders(options: Options) -> Sequence[Contender]:
    found = [
        deliverers.mailflow(options.script),
        deliverers.getmail_maildir(),
        deliverers.python(options.script),
    ]
    if options.context:
        found += [deliverers.procmail(), deliverers.fdm()]
    return [contender for contender in found if contender]


def prepared(
    row: Row, options: Options, known: Sequence[Contender], message: Path
) -> dict[str, Command]:
    commands = {}
    for contender in known:
        where = options.directory / f"{row.name}-{contender.name}"
        where.mkdir()
        commands[contender.name] = contender.prepare(where, message)
    return commands


def message_file(options: Options) -> tuple[Path, bytes]:
    path = options.directory / "message"
    (mail,) = corpus.messages(1)
    path.write_bytes(mail)
    return path, mail


def judge(series: Series, command: Command, mail: bytes, calls: int) -> None:
    """Void the figures if a call failed or a message is missing or changed."""
    fault = mailbox.fault(command.directory / "Maildir", expected(mail, calls), 0, 0)
    if bad := [sample.status for sample in series.samples if sample.status]:
        output = command.output.read_text(errors="replace").strip()[-500:]
        fault = f"{len(bad)} calls ended with a status like {bad[0]}: {output}"
    if fault:
        series.samples[0] = replace(series.samples[0], fault=fault)


def expected(mail: bytes, calls: int) -> Counter[bytes]:
    (digest,) = mailbox.digests([mail])
    return Counter({digest: calls}) if calls else Counter()


def run_single(row: Row, options: Options) -> Outcome:
    path, mail = message_file(options)
    known = contenders(options)
    calls = options.count(CALLS)
    commands = prepared(row, options, known, path)
    series = {contender.name: Series(contender.name) for contender in known}
    for command in commands.values():  # files in the page cache, bytecode, a journal that is there
        options.launcher.run(command)
    mailbox.settle_disk()
    for _, contender in take_turns(known, lambda _: calls):
        sample = options.launcher.run(commands[contender.name])
        series[contender.name].samples.append(sample)
    for contender in known:
        delivered = 0 if contender.role == "floor" else calls + 1
        judge(series[contender.name], commands[contender.name], mail, delivered)
    return Outcome(list(series.values()), known)


def run_together(row: Row, options: Options, *, together: int) -> Outcome:
    path, mail = message_file(options)
    known = [contender for contender in contenders(options) if contender.role != "floor"]
    commands = prepared(row, options, known, path)
    series = {contender.name: Series(contender.name) for contender in known}
    all_of: dict[str, Series] = {contender.name: Series(contender.name) for contender in known}
    repetitions = max(3, options.repetitions)
    for _, contender in take_turns(known, lambda _: repetitions):
        mailbox.settle_disk()
        seconds, samples = options.launcher.run_all([commands[contender.name]] * together)
        all_of[contender.name].samples += samples
        total = Sample(
            seconds, 0, max(s.peak for s in samples), sum(sample.cpu for sample in samples)
        )
        series[contender.name].samples.append(total)
    for name, command in commands.items():
        judge(all_of[name], command, mail, together * repetitions)
        if all_of[name].fault:
            first = series[name].samples[0]
            series[name].samples[0] = replace(first, fault=all_of[name].fault)
    return Outcome(list(series.values()), known)


ROWS = (
    Row(
        "hook",
        "The hook: one message of about 20 KB on stdin, durable in a Maildir",
        "From the start of the process to its end, one call after the other, always with the "
        "same Maildir and journal. *bare python* is the interpreter of the same virtual "
        "environment with nothing to do.",
        run_single,
        Ratio(1.0, ("getmail_maildir",)),
    ),
    Row(
        "hook-together",
        "The hook: 50 messages at once",
        "50 processes started at once, with one Maildir and one journal, until the last has "
        "ended. Each must end with status 0, and each message must be there.",
        partial(run_together, together=50),
        Ratio(1.0, ("getmail_maildir",)),
    ),
)
