"""The contenders that send: for each, its configuration and its command line.

Rule of the file: each is set up as its manual says for this job, without logging and
without headers of its own, and ends when the server has answered for the last mail.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.fetchers import installed, maildir, output_of, secret, someone, version_in
from bench.measure import Command
from bench.row import Contender

SENDER = "ann0@example.com"
"""Who wrote the first message of the corpus."""
LIST = "red@example.org"


@dataclass(frozen=True)
class Job:
    """Each message of `folder` is to be sent to all of `recipients` in one transaction
    (in a list's post: as each program does it)."""

    folder: Path
    recipients: Sequence[str]
    connections: int = 1
    port: int = 0

    @property
    def only(self) -> Path:
        """The message, where there is one."""
        (path,) = self.folder.iterdir()
        return path


def limit() -> Contender:
    def prepare(directory: Path, job: Job) -> Command:
        program = str(Path(__file__).with_name("limit_smtp.py"))
        how = (str(job.port), str(job.connections), str(job.folder))
        return Command([sys.executable, "-I", program, *how, *job.recipients], directory)

    return Contender("the limit", "floor", prepare)


def mailflow_hook(script: Path) -> Contender:
    """One message on stdin, its recipients as arguments."""

    def prepare(directory: Path, job: Job) -> Command:
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n[[fetch]]\nuse = "stdin"\n\n'
            f'[[distribute]]\nuse = "smtp"\nhost = "127.0.0.1"\nport = {job.port}\n'
            f'sender = "{SENDER}"\nrecipients_max = {len(job.recipients)}\n'
        )
        argv = [str(script), "hook", str(pipeline), *job.recipients]
        return Command(argv, directory, stdin=job.only)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def mailflow_run(script: Path, *, chunking: bool = True) -> Contender:
    """A Maildir that is sent on: every commit from the first to the last is in it."""

    def prepare(directory: Path, job: Job) -> Command:
        source = maildir(directory)
        for path in job.folder.iterdir():
            os.link(path, source / "new" / path.name)
        to = ", ".join(f'"{each}"' for each in job.recipients)
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n'
            f'[[fetch]]\nuse = "maildir"\npath = "{source}"\nstart = "all"\n\n'
            f'[[process]]\nuse = "filter.recipients"\nset = [{to}]\n\n'
            f'[[distribute]]\nuse = "smtp"\nhost = "127.0.0.1"\nport = {job.port}\n'
            f'sender = "{SENDER}"\nparallel = {job.connections}\n'
            + ("" if chunking else "chunking = false\n")
        )
        return Command([str(script), "run", str(pipeline)], directory)

    name, role = ("mailflow", "ours") if chunking else ("mailflow without CHUNKING", "gauge")
    return Contender(name, role, prepare, installed(script, "mailflow"))


def mailflow_list(script: Path) -> Contender:
    def prepare(directory: Path, job: Job) -> Command:
        members = directory / "members"
        members.write_text("\n".join(job.recipients) + "\n")
        os.utime(members, (1_700_000_000, 1_700_000_000))  # a list has had them for a while
        pipeline = directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{directory}/journal"\n\n[[fetch]]\nuse = "stdin"\n\n'
            f'[[process]]\nuse = "list.post"\naddress = "Red <{LIST}>"\nprefix = "[Red]"\n'
            f'members = "{members}"\n'
            f'posting = {{ members = "accept", others = "reject" }}\n\n'
            f'[[distribute]]\nuse = "smtp"\nhost = "127.0.0.1"\nport = {job.port}\n'
        )
        return Command([str(script), "hook", str(pipeline)], directory, stdin=job.only)

    return Contender("mailflow", "ours", prepare, installed(script, "mailflow"))


def msmtp() -> Contender | None:
    program = shutil.which("msmtp")
    if not program:
        return None

    def prepare(directory: Path, job: Job) -> Command:
        config = secret(
            directory / "msmtprc",
            f"account default\nhost 127.0.0.1\nport {job.port}\ntls off\nauth off\n"
            f"from {SENDER}\nset_from_header off\nset_date_header off\n",
        )
        argv = [program, "-C", str(config), "--", *job.recipients]
        return Command(argv, directory, stdin=job.only)

    return Contender("msmtp", "gauge", prepare, version_in(output_of(program, "--version")))


def smtp_source(*, reconnect: bool = False) -> Contender | None:
    """Postfix's generator of load. It sends one message again and again."""
    program = "/usr/sbin/smtp-source"
    if not os.path.exists(program):
        return None

    def prepare(directory: Path, job: Job) -> Command:
        paths = sorted(job.folder.iterdir())
        argv = [program, *([] if reconnect else ["-d"]), "-M", "source.example.org"]
        argv += ["-s", str(job.connections), "-m", str(len(paths)), "-F", str(paths[0])]
        argv += ["-f", SENDER, "-t", job.recipients[0], f"inet:127.0.0.1:{job.port}"]
        return Command(argv, directory)

    name = "smtp-source, connecting anew" if reconnect else "smtp-source"
    return Contender(name, "context" if reconnect else "gauge", prepare, postfix_version())


def mlmmj() -> Contender | None:
    """`verp` hands VERP over to the server, so that mlmmj sends in groups of 100."""
    program = "/usr/bin/mlmmj-receive"
    if not os.path.exists(program):
        return None

    def prepare(directory: Path, job: Job) -> Command:
        place = directory / "list"
        for name in MLMMJ_DIRECTORIES:
            (place / name).mkdir(parents=True)
        (place / "index").touch()
        (place / "subscribers.d" / "m").write_text("\n".join(job.recipients) + "\n")
        control = {
            "listaddress": LIST, "owner": "owner@example.org", "prefix": "[Red]",
            "relayhost": "127.0.0.1", "smtpport": str(job.port), "smtphelo": "mx.example.org",
            "subonlypost": "", "noarchive": "", "delimiter": "+", "verp": "postfix",
        }  # fmt: skip
        for name, value in control.items():
            (place / "control" / name).write_text(f"{value}\n" if value else "")
        argv = [program, "-F", "-L", str(place)]
        return Command(argv, directory, stdin=job.only, user=someone(directory))

    version = output_of("dpkg-query", "-W", "-f", "${Version}", "mlmmj")
    return Contender("mlmmj", "gauge", prepare, version_in(version))


MLMMJ_DIRECTORIES = (
    "incoming", "queue/discarded", "archive", "text", "subconf", "unsubconf", "bounce",
    "control", "moderation", "subscribers.d", "digesters.d", "requeue", "nomailsubs.d",
)  # fmt: skip


def postfix_version() -> str:
    return version_in(output_of("/usr/sbin/postconf", "-h", "mail_version"))
