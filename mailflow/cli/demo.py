"""mailflow demo: the main job, on servers of its own and with awkward mail.

Rule of the file: what runs is what `mailflow run` runs; only the servers and the mail
are made up, and what is claimed at the end was counted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from mailflow.cli import demo_page
from mailflow.tables import json_option, show, show_json

if TYPE_CHECKING:
    from pathlib import Path

    from mailflow.engine.journal.queue import Story
    from mailflow.engine.pipeline import Pipeline
    from mailflow.testing.pop3 import Pop3Server
    from mailflow.testing.smtp import SmtpSink

SECRET = "correct horse"  # noqa: S105  # of a server that lives for a second
FULL = "452 4.2.2 mailbox full"

MEMBERS = """\
# One address on each line.
Ann Archer <ann@example.org>
ben@example.com
cleo@example.net
Dan <dan@example.org>
eve@example.com          # her mailbox is full today
"""

PIPELINE = """\
# A mailing list: posts from a POP3 mailbox to the members, and a copy to an archive.
[pipeline]
journal = "red.journal"

[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {pop3}
user = "red"
password = {{ file = "red.secret" }}
keep = "0d"

[[process]]
use = "list.post"
address = "Red <red@example.org>"
members = "red.members"
posting = {{ members = "accept", others = "hold" }}
prefix = "[Red]"

[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {smtp}

[[distribute]]
name = "archive"
use = "maildir"
path = "red.archive"

# Ann has a program that speaks POP3 only: `mailflow serve` has every post ready for it.
[[distribute]]
use = "spool"
drop = "ann"
path = "red.spool"

[maildrop.ann]
use = "spool"
path = "red.spool"
secret = {{ file = "ann.secret" }}

[[serve]]
use = "pop3"
listen = ["127.0.0.1:{serve}"]
"""


class Post(NamedTuple):
    """One message in the mailbox; `what` says why it is there."""

    what: str
    data: bytes


def _post(what: str, sender: str, fields: str, body: bytes) -> Post:
    head = f"From: {sender}\r\nTo: red@example.org\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\n"
    return Post(what, f"{head}{fields}\r\n\r\n".encode() + body)


POSTS = (
    _post("a post", "Ann Archer <ann@example.org>",
          "Subject: Summer party\r\nMessage-ID: <1@example.org>", b"Who comes?\r\n"),
    _post("8-bit text", "ben@example.com",
          "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <2@example.com>\r\n"
          "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
          "Content-Transfer-Encoding: 8bit", "Viele Grüße vom Süden\r\n".encode()),
    _post("lines of dots", "cleo@example.net",
          "Subject: Dots\r\nMessage-ID: <3@example.net>", b".\r\n..\r\nthat was no end\r\n.\r\n"),
    _post("no subject", "Dan <dan@example.org>", "Message-ID: <4@example.org>", b"Hm.\r\n"),
    _post("an answer", "eve@example.com",
          "Subject: Re: [Red] Summer party\r\nMessage-ID: <5@example.com>\r\n"
          "In-Reply-To: <1@example.org>", b"I do!\r\n"),
    _post("not a member", "Max <max@example.com>",
          "Subject: Cheap watches\r\nMessage-ID: <6@example.com>", b"Buy!\r\n"),
    _post("the first once more", "Ann Archer <ann@example.org>",
          "Subject: Summer party\r\nMessage-ID: <1@example.org>", b"Who comes?\r\n"),
    _post("a post that comes back", "Ann Archer <ann@example.org>",
          "Subject: [Red] Summer party\r\nMessage-ID: <7@example.org>\r\n"
          "List-Id: Red <red.example.org>\r\nX-Loop: red@example.org", b"Who comes?\r\n"),
    _post("a vacation note", "cleo@example.net",
          "Subject: Out of office\r\nMessage-ID: <8@example.net>\r\n"
          "Auto-Submitted: auto-replied", b"Back in May.\r\n"),
    _post("no header to speak of", "nobody", "X-Nothing: here", b""),
)  # fmt: skip


@click.command(name="demo")
@click.option(
    "--keep", metavar="DIR", help="Keep pipeline, journal and archive in DIR, which must be empty."
)
@json_option
def command(keep: str | None, as_json: bool) -> int:
    """Run a mailing list on servers of its own, and tell the story of every mail.

    At its end the posts are served to POP3 clients, which read them; and where Flask is
    installed, messages are read from a web page. Needs no root, no network and a few seconds.
    Ends with 0 if every mail is where it should be.
    """
    from mailflow import log
    from mailflow.errors import from_os
    from mailflow.testing.serving import free_ports

    log.configure(level="error")
    (port,) = free_ports(1)
    with _directory(keep) as directory, _servers() as (pop3, smtp):
        try:
            pipeline = _write(directory, pop3.port, smtp.port, port)
        except OSError as error:
            raise from_os(error, f"write into {directory}") from None
        demo = Demo(pipeline, pop3, smtp, port)
        demo.run()
        demo.serve()
        demo.read_page()
        if as_json:
            show_json([each._asdict() for each in demo.rows()])
        else:
            demo.tell()
            _next(keep)
        return 0 if demo.faultless else 70


class Row(NamedTuple):
    """What became of one post."""

    post: str
    id: str
    subject: str
    author: str
    outcome: str
    why: str


class Served(NamedTuple):
    """What a reader of the served drop got: each message, octet for octet."""

    reader: str
    messages: list[bytes]

    @property
    def bodies(self) -> list[bytes]:
        return sorted(message.partition(b"\r\n\r\n")[2] for message in self.messages)


def _by_poplib(port: int) -> Iterator[bytes]:
    import poplib

    box = poplib.POP3("127.0.0.1", port, timeout=10)
    box.user("ann")
    box.pass_(SECRET)
    for number in range(1, box.stat()[0] + 1):
        yield b"".join(line + b"\r\n" for line in box.retr(number)[1])
    box.quit()


def _by_curl(curl: str, directory: Path, port: int) -> Iterator[bytes]:
    """The words with the password stand in a file: others see those of a command."""
    import subprocess

    options = directory / "curl.secret"
    _write_secret(options, f'user = "ann:{SECRET}"\n')

    def ask(number: str) -> bytes:
        url = f"pop3://127.0.0.1:{port}/{number}"
        command = [curl, "--silent", "--show-error", "--config", str(options), url]
        return subprocess.run(command, check=True, capture_output=True, timeout=10).stdout

    for line in ask("").split(b"\r\n"):
        if line:
            yield ask(line.split()[0].decode())


class Demo:
    """Two runs of the pipeline, and what they did; then its drop, served at `port`."""

    def __init__(self, pipeline: Pipeline, pop3: Pop3Server, smtp: SmtpSink, port: int) -> None:
        self.pipeline = pipeline
        self.pop3 = pop3
        self.smtp = smtp
        self.port = port
        self.seconds = 0.0
        self.first: list[Story] = []
        self.sent_first = 0
        self.served: list[Served] = []
        self.page: demo_page.Read | None = None

    def run(self) -> None:
        """Once with a member's mailbox full; then once more, when it has room again."""
        self.smtp.on("RCPT", FULL, match="eve@*", after=4, times=1)
        began = time.monotonic()
        self._run()
        self.seconds = time.monotonic() - began
        self.first = self._stories()
        self.sent_first = self._copies()
        self._retry()
        self._run()

    def serve(self) -> None:
        """`mailflow serve`, and whoever reads from it."""
        from pathlib import Path

        from mailflow.testing.serving import Serving

        directory = Path(self.pipeline.base)
        with Serving(directory / "red.toml", arguments=["--offline"], environ=os.environ):
            self.served = [Served("Python's poplib", list(_by_poplib(self.port)))]
            if curl := shutil.which("curl"):
                self.served.append(Served("curl", list(_by_curl(curl, directory, self.port))))

    def read_page(self) -> None:
        """The same messages once more, from a webmail."""
        if demo_page.can_read():
            self.page = demo_page.read(self.pipeline.base, [post.data for post in POSTS])

    def rows(self) -> list[Row]:
        """The story of each post, in the order in which they were fetched."""
        from mailflow.mail import Header, Octets, head

        found = []
        for post, story in zip(POSTS, self.first, strict=True):
            header = Header(head(Octets(post.data)))
            author = (header.get("From") or "").rpartition("<")[2].rstrip(">")
            subject = header.decoded("Subject") or ""
            found.append(Row(post.what, story.mail, subject, author, *_outcome(story)))
        return found

    @property
    def faultless(self) -> bool:
        """Whether every member has every post once and unchanged, and nothing else came."""
        wanted = sorted((each.data.partition(b"\r\n\r\n")[2], 5) for each in POSTS[:5])
        found: dict[bytes, int] = {}
        for message in self.smtp.messages:
            body = message.data.partition(b"\r\n\r\n")[2]
            found[body] = found.get(body, 0) + len(set(message.recipients))
        archived = len(os.listdir(os.path.join(self.pipeline.base, "red.archive", "new")))
        left = len(self.pop3.messages("red"))
        delivered = sorted(found.items()) == wanted and archived == 5 and left == 0
        bodies = [body for body, _ in wanted]
        read = self.page is None or self.page.holds([post.data for post in POSTS])
        return delivered and read and all(each.bodies == bodies for each in self.served)

    def tell(self) -> None:
        click.echo(
            "A mailing list, red@example.org, has five members; in its mailbox wait"
            f" {len(POSTS)} messages.\nServers and mail are made up, on loopback;"
            " what ran is `mailflow run red.toml`.\n"
        )
        show(("MAIL", "FROM", "WHAT BECAME OF IT"), _wrapped(self.rows()))
        more = self._copies() - self.sent_first
        click.echo(
            f"\nThe first run took {self.seconds:.2f} s and sent {self.sent_first} copies."
            f" A second one, when the full mailbox\nhad room again, sent {more} more and nothing"
            " twice. The mailbox at the server is empty:\nevery message is in the archive,"
            " in the journal, or was thrown away for the reason above."
        )
        readers = " and ".join(each.reader for each in self.served)
        octets = sum(map(len, self.served[0].messages))
        click.echo(
            "\nThen `mailflow serve red.toml` offered the posts to those who only speak POP3:"
            f"\n{readers} logged in as ann and read {len(self.served[0].messages)} messages,"
            f" {octets} octets, each as it was."
        )
        click.echo(f"\n{demo_page.told(self.page)}")
        if not self.faultless:
            click.echo("\nSomething is not as it should be: please report this.", err=True)

    def _run(self) -> None:
        from mailflow.engine.registry import Registry
        from mailflow.engine.supervisor import run
        from mailflow.halt import Halt

        halt = Halt()
        try:
            run([self.pipeline], Registry(), halt=halt)
            if halt.is_set():
                raise KeyboardInterrupt  # ^C, which ended the run in order: the story has no end
        finally:
            halt.close()

    def _copies(self) -> int:
        return sum(len(message.recipients) for message in self.smtp.messages)

    def _stories(self) -> list[Story]:
        from mailflow.engine.journal import Database, queue

        journal = Database(self.pipeline.journal)
        try:
            return [each for each in journal.read(queue.stories) if each.step == "pop3"]
        finally:
            journal.close()

    def _retry(self) -> None:
        """What `mailflow queue retry` does, for all that waits."""
        from mailflow.engine.journal import Database, queue

        journal = Database(self.pipeline.journal)
        now = time.time()
        try:
            journal.commit(
                lambda tx: [queue.retry(tx, entry.mail, now) for entry in queue.entries(tx)]
            )
        finally:
            journal.close()


def _wrapped(rows: Sequence[Row]) -> Iterator[tuple[str, str, str]]:
    """Cells of a table that a terminal has room for: a long reason takes several lines."""
    from shutil import get_terminal_size
    from textwrap import wrap

    used = max(len(row.post) for row in rows) + max(len(row.author) for row in rows) + 4
    room = max(30, get_terminal_size((100, 24)).columns - used - 2)
    for row in rows:
        first, *more = wrap(": ".join(filter(None, (row.outcome, row.why))), room)
        yield row.post, row.author, first
        for line in more:
            yield "", "", f"  {line}"


def _outcome(story: Story) -> tuple[str, str]:
    """Where a mail went, or what was decided, and the reason."""
    verdicts = [each for each in story.chapters if each.what in ("hold", "reject", "discard")]
    if verdicts:
        words = {"hold": "held for a human", "reject": "refused", "discard": "thrown away"}
        return words[verdicts[0].what], verdicts[0].text
    sent = sum(each.what == "sent" and each.step == "smtp" for each in story.chapters)
    later = [each.text for each in story.chapters if each.what == "due"]
    parts = [f"sent to {sent} members", f"{len(later)} later" if later else ""]
    if any(each.what == "sent" and each.step == "archive" for each in story.chapters):
        parts.append("archived")
    return ", ".join(filter(None, parts)), ", ".join(later)


@contextmanager
def _servers() -> Iterator[tuple[Pop3Server, SmtpSink]]:
    from mailflow.testing.pop3 import Pop3Server
    from mailflow.testing.smtp import SmtpSink

    mailbox = {"red": [post.data for post in POSTS]}
    with Pop3Server({"red": SECRET}, mailbox) as pop3, SmtpSink() as smtp:
        yield pop3, smtp


@contextmanager
def _directory(keep: str | None) -> Iterator[str]:
    """Where the demo happens; the user's own state directory is left alone."""
    from tempfile import TemporaryDirectory

    from mailflow.errors import ConfigError, from_os

    with TemporaryDirectory(prefix="mailflow-demo-") as temporary:
        os.environ["XDG_STATE_HOME"] = temporary
        if keep is None:
            yield temporary
            return
        directory = os.path.abspath(os.path.expanduser(keep))
        try:
            os.makedirs(directory, exist_ok=True)
            if os.listdir(directory):
                raise ConfigError(
                    f"{directory} is not empty; name a directory that is, or a new one"
                )
        except OSError as error:
            raise from_os(error, f"make {directory}") from None
        yield directory


def _write(directory: str, pop3: int, smtp: int, serve: int) -> Pipeline:
    """The files of the demo, as a user would write them; gives the pipeline."""
    from pathlib import Path

    from mailflow.engine.config import load
    from mailflow.engine.registry import Registry

    base = Path(directory)
    _write_secret(base / "red.secret", f"{SECRET}\n")
    _write_secret(base / "ann.secret", f"{SECRET}\n")
    (base / "red.members").write_text(MEMBERS)
    (base / "red.toml").write_text(PIPELINE.format(pop3=pop3, smtp=smtp, serve=serve))
    return load([str(base / "red.toml")], Registry())[0]


def _write_secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


def _next(keep: str | None) -> None:
    if keep is None:
        click.echo(
            "\nTo look at the pipeline, the journal and the archive:  mailflow demo --keep DIR"
            "\nTo set up a list of your own:  docs/tutorial-list.rst"
        )
        return
    file = os.path.join(keep, "red.toml")
    click.echo(
        f"\nThe pipeline:  {file}"
        f"\nWhat waits:    mailflow queue list --file {file}"
        f"\nOne story:     mailflow trace --file {file} ID"
        f"\nThe archive:   {os.path.join(keep, 'red.archive', 'new')}"
        f"\nThe drop:      mailflow serve --offline {file}   (ann, ann.secret)"
        "\n(The demo's servers are gone: what is to be sent can wait here for good.)"
    )
