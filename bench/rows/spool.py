"""POP3 into the spool: whole processes, from Dovecot, durable; beside who writes a Maildir."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import corpus, fetchers, mailbox, visits
from bench.measure import Command, Series, take_turns
from bench.row import Contender, Options, Outcome, Ratio, Row, judged


def mailflow(script: Path) -> Contender:
    """As fetchers.mailflow, but into a drop of a spool."""
    to_maildir = fetchers.mailflow(script)

    def prepare(directory: Path, account: mailbox.Account, delete: bool = False) -> Command:
        command = to_maildir.prepare(directory, account, delete)
        pipeline = directory / "bench.toml"
        text, _, _ = pipeline.read_text().partition("[[distribute]]")
        pipeline.write_text(
            f'{text}[[distribute]]\nuse = "spool"\ndrop = "red"\npath = "{directory}/spool"\n'
        )
        return command

    return Contender("mailflow", "ours", prepare, to_maildir.version)


def spooled(directory: Path) -> list[bytes]:
    """What lies in the drop, with LF."""
    from mailflow.halt import Halt
    from mailflow.kinds import Credentials, Runtime
    from mailflow.log import get_logger
    from mailflow.mail import read
    from mailflow_spool.maildrop import MaildropOptions, SpoolMaildrop

    halt = Halt()
    options = MaildropOptions.read({"path": str(directory / "spool")})
    runtime = Runtime("red", "bench", halt, get_logger(), str(directory))
    drop = SpoolMaildrop(options, runtime).login(Credentials("red", checked=True))
    found = [read(drop.read(item.key)).replace(b"\r\n", b"\n") for item in drop.items()]
    drop.close()
    halt.close()
    return found


def fault(name: str, where: Path, mails: Sequence[bytes], on_server: int) -> str:
    """Why a run does not count; "" if it does."""
    expected = mailbox.digests(mails)
    if name != "mailflow":
        return mailbox.fault(where / "Maildir", expected, on_server, len(mails))
    if mailbox.digests(spooled(where)) != expected:
        return "what is in the spool is not what was sent"
    return "" if on_server == len(mails) else f"{on_server} messages on the server"


def run(row: Row, options: Options, *, messages: int) -> Outcome:
    mails = list(corpus.messages(options.count(messages)))
    found = [mailflow(options.script), fetchers.mpop(), fetchers.limit()]
    known = [contender for contender in found if contender]
    series = {contender.name: Series(contender.name) for contender in known}
    with mailbox.Mailbox(options.directory, 0) as box:
        account = box.account(mails)
        for repetition, contender in take_turns(known, options.turns):
            command = visits.begin(row, options, contender, repetition, account)
            mailbox.settle_disk()
            sample = options.launcher.run(command)
            where, left = command.directory, box.count(account)
            wrong = "" if sample.status else fault(contender.name, where, mails, left)
            series[contender.name].samples.append(judged(sample, command, wrong))
    return Outcome(list(series.values()), known)


ROWS = (
    Row(
        "spool-loopback",
        "POP3 to the spool: 2,000 messages of about 20 KB on loopback, keeping",
        "From the start of the process to its end, fetching from Dovecot on loopback. mailflow puts"
        " the mail into a drop of its spool, from where its POP3 server serves it; mpop and the"
        " limit write a Maildir. All of it is durable at the end.",
        partial(run, messages=2000),
        Ratio(1.0, ("mpop",)),
    ),
)
