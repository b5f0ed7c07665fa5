"""mailflow journal: is a journal whole, a backup of it, and that backup put back.

Rule of the file: FILE is a pipeline, whose journal is meant; or, where its name does not
end in .toml and it is there, a journal itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mailflow.cli.journals import paths
from mailflow.tables import dry_run_option, json_option, moment, say, show_json

if TYPE_CHECKING:
    from mailflow.engine.journal.checkup import Checkup
    from mailflow.engine.journal.copies import Restored

DATA_ERROR = 74


@click.group(name="journal")
def command() -> None:
    """Check a journal, back it up, and put a backup back.

    FILE is a pipeline, or a journal itself (`mailflow check` says where it is).
    """


@command.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@json_option
def check(files: tuple[str, ...], as_json: bool) -> int:
    """Look a journal over: whether it is damaged, whether any mail or body is missing.

    Without FILE, every journal that was used here. Nothing is changed, and a run may be
    at work. Ends with 74 where mail may be lost.
    """
    from mailflow.engine.journal.checkup import look

    found = [look(path) for path in _journals(files)]
    if as_json:
        show_json([_as_json(each) for each in found])
    else:
        for each in found:
            _tell(each)
    return 0 if all(each.sound for each in found) else DATA_ERROR


@command.command(short_help="Copy a journal, with the bodies of all mail in it, into one file.")
@click.argument("file", metavar="FILE")
@click.argument("target", metavar="BACKUP", type=click.Path())
@dry_run_option
def backup(file: str, target: str, dry: bool) -> None:
    """Copy the journal of FILE, with the bodies of all mail in it, into one file BACKUP.

    A run may be at work on it: the copy is of one moment. BACKUP must not be there yet;
    only you can read it. It holds mail, and no passwords.
    """
    from mailflow.engine.journal import checkup, copies
    from mailflow.errors import JournalError

    journal, target = _journal(file), os.path.abspath(target)
    if dry:
        copies.must_not_exist(target)
        found = checkup.look(journal)
        if not found.sound:
            raise JournalError("\n".join(f"{journal} {f.text}" for f in found.findings if f.fault))
        say(f"would write {target}: {_counted(found)}")
        return
    size = copies.backup(journal, target)
    say(f"{target}: {size} octets")


@command.command()
@click.argument("file", metavar="FILE")
@click.argument("copy", metavar="BACKUP", type=click.Path())
@click.option("--resume", is_flag=True, help="Let what waits in it go on, instead of holding it.")
@dry_run_option
def restore(file: str, copy: str, resume: bool, dry: bool) -> None:
    """Put BACKUP in the place of the journal of FILE; the one that is there is kept.

    Never while a process works on that journal. What happened since the backup is not in
    it: what waits in it may have been sent, and is held until you decide (`mailflow queue
    list --held`, then `release` or `drop`). What was fetched since, and is still at its
    source, is fetched again.
    """
    from mailflow.engine.journal import copies

    journal = _journal(file)
    restored = copies.restore(os.path.abspath(copy), journal, resume=resume, dry=dry)
    for line in _warned(journal, restored, resume, dry):
        say(line)


def _journals(files: tuple[str, ...]) -> list[str]:
    if not files:
        return paths(())
    return list(dict.fromkeys(_journal(file) for file in files))


def _journal(file: str) -> str:
    if not file.endswith(".toml") and os.path.exists(file):
        return os.path.abspath(file)
    (journal,) = paths((file,))
    return os.path.abspath(journal)


def _as_json(found: Checkup) -> dict[str, object]:
    findings = [finding._asdict() for finding in found.findings]
    return {**found._asdict(), "findings": findings, "sound": found.sound}


def _tell(found: Checkup) -> None:
    for finding in found.findings:
        say(f"{found.path} {finding.text}")
    if found.sound:
        say(f"{found.path}: sound: {_counted(found)}")


def _counted(found: Checkup) -> str:
    return ", ".join(f"{what}: {number}" for what, number in found.counts.items())


def _warned(journal: str, restored: Restored, resume: bool, dry: bool) -> list[str]:
    """What was done, and what may come twice by it."""
    would = "would be " if dry else ""
    lines = [f"{journal}: {would}restored"]
    if restored.replaced:
        lines.append(f"the journal that was there {would or 'is '}kept: {restored.replaced}")
    if restored.latest is None:
        return lines
    lines.append(
        f"its last entry is of {moment(restored.latest)}; what was fetched since then and is"
        " still at its source is fetched again"
    )
    if restored.waiting and resume:
        lines.append(
            f"what waits in it (mails: {restored.waiting}) goes on at the next run; what was sent"
            " of it since then is sent again"
        )
    elif restored.waiting:
        lines.append(
            f"what waits in it (mails: {restored.waiting}) {would or 'is '}held: see"
            " `mailflow queue list --held`; release what was not sent since then, drop the rest"
        )
    return lines
