"""The contenders that take one message on stdin and deliver it into a Maildir.

Rule of the file: each is called as its manual says for use from an MTA or a .forward;
the Maildir, and a journal where there is one, stay through all calls.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.fetchers import installed, maildir, output_of, secret, someone, version_in
from bench.measure import Command
from bench.row import Contender


def mailflow(script: Path) -> Contender:
    def prepare(directory: Path, message: Path) -> Command:
        inbox = maildir(directory)
        pipeline = directory / "hook.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n[[fetch]]\nuse = "stdin"\n\n'
            f'[[distribute]]\nuse = "maildir"\npath = "{inbox}"\n'
        )
        return Command([str(script), "hook", str(pipeline)], directory, stdin=message)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def python(script: Path) -> Contender:
    """The interpreter that the hook runs in, doing nothing."""

    def prepare(directory: Path, message: Path) -> Command:
        maildir(directory)
        argv = [str(script.with_name("python")), "-c", "pass"]
        return Command(argv, directory, stdin=message)

    version = version_in(output_of(str(script.with_name("python")), "--version"))
    return Contender("bare python", "floor", prepare, version)


def getmail_maildir() -> Contender | None:
    program = shutil.which("getmail_maildir")
    if not program:
        return None

    def prepare(directory: Path, message: Path) -> Command:
        inbox = maildir(directory)
        return Command([program, f"{inbox}/"], directory, stdin=message, user=someone(directory))

    version = version_in(output_of("getmail", "--version"))
    return Contender("getmail_maildir", "gauge", prepare, version)


def procmail() -> Contender | None:
    program = shutil.which("procmail")
    if not program:
        return None

    def prepare(directory: Path, message: Path) -> Command:
        inbox = maildir(directory)
        rules = secret(directory / "procmailrc", f"DEFAULT={inbox}/\nLOGFILE=/dev/null\n")
        return Command([program, "-m", str(rules)], directory, stdin=message)

    return Contender("procmail", "context", prepare, version_in(output_of(program, "-v")))


def fdm() -> Contender | None:
    program = shutil.which("fdm")
    if not program:
        return None

    def prepare(directory: Path, message: Path) -> Command:
        inbox = maildir(directory)
        config = secret(
            directory / "fdm.conf",
            f'set no-received\nset lock-file ""\naccount "x" stdin\n'
            f'action "m" maildir "{inbox}"\nmatch all action "m"\n',
        )
        argv = [program, "-q", "-f", str(config), "fetch"]
        return Command(argv, directory, stdin=message, user=someone(directory))

    version = output_of("dpkg-query", "-W", "-f", "${Version}", "fdm")
    return Contender("fdm", "context", prepare, version_in(version))
