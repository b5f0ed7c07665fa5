"""Three messages on each way through the program, and what must be true of them after.

    common          POP3 (Dovecot) -> list -> SMTP (the sink) and an archive Maildir
    deliver-first   POP3 (Dovecot) -> Maildir
    hook            stdin -> Maildir, from an MTA that tries again until exit status 0
    hook-smtp       stdin -> SMTP, from the same MTA; `run` delivers what is left

Rule of the file: it looks at the mailbox, the Maildir, the sink and the exit status.
The journal is asked for one thing only: which deliveries it says are in doubt or held.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, NamedTuple

from mailflow.testing import kill
from mailflow.testing.crash import PATIENCE, Session, Strike
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.smtp import SmtpSink

MEMBERS = ("ann@example.org", "bob@example.org", "cleo@example.org")

LARGE = 300_000
"""Octets of the last message: the journal keeps it in a file of its own."""

JOURNAL = '[pipeline]\njournal = "{journal}"\n'

POP3 = """
[[fetch]]
use = "pop3"
host = "127.0.0.1"
port = {pop3_port}
tls = "none"
user = "{user}"
password = {{ file = "secret" }}
keep = "0d"
"""

STDIN = """
[[fetch]]
use = "stdin"
"""

LIST = """
[[process]]
use = "list.post"
address = "Red <red@example.org>"
members = {members}
posting = {{ members = "accept", others = "hold" }}
prefix = "[Red]"
"""

SMTP = """
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
if_in_doubt = "{if_in_doubt}"

[[react]]
use = "react.retry"
after = ["1ms"]
for = "1h"
"""

MAILDIR = """
[[distribute]]
use = "maildir"
path = "{maildir}"
"""


STATES = """
    SELECT delivery.state, mail.size, delivery.recipient
    FROM delivery JOIN mail ON mail.id = delivery.mail
    WHERE delivery.state IN ('sending', 'doubt', 'held')
"""


def messages() -> list[bytes]:
    """Three posts with LF lines, the last one large."""
    texts = ["one\n", ".\n..\n.two\n", "three\n" + ("x" * 99 + "\n") * (LARGE // 100)]
    return [
        f"From: {sender}\nTo: red@example.org\nSubject: {number}\n"
        f"Message-ID: <{number}@example.org>\nDate: Fri, 21 Nov 2025 01:02:03 +0000\n\n"
        f"{text}".encode()
        for number, (sender, text) in enumerate(zip(MEMBERS, texts, strict=True))
    ]


def identity(octets: bytes) -> str:
    """Which message these octets are: its Message-ID."""
    header = octets.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    for line in header.split(b"\n"):
        if line.lower().startswith(b"message-id:"):
            return line.partition(b":")[2].strip().decode()
    return f"no message of ours: {octets[:60]!r}"


class Doubts(NamedTuple):
    """(Message-ID, recipient) of deliveries that a journal says are in that state."""

    sending: frozenset[tuple[str, str]] = frozenset()
    held: frozenset[tuple[str, str]] = frozenset()


class Way(Session):
    """One session on one way, in places of its own."""

    name = ""
    text = ""

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        """`journal` and `maildir` are the directories in which those lie."""
        super().__init__(home)
        self.journal = journal / "journal.db"
        self.maildir = maildir / "Maildir"
        self.file = home / "pipeline.toml"
        self.environment["SENDER"] = "ann@example.org"
        self.doubts = Doubts()

    def write(self, **values: object) -> None:
        text = JOURNAL + self.text
        self.file.write_text(text.format(journal=self.journal, maildir=self.maildir, **values))

    def expected(self) -> list[bytes]:
        """The messages as they are delivered, with LF lines."""
        return messages()

    def control(self) -> None:
        """An undisturbed session, before any other."""
        self.session(Strike())

    def fallen(self) -> None:
        self.doubts = self.look()

    def look(self) -> Doubts:
        """Read a copy of the journal: to open the file itself would change it."""
        if not self.journal.exists():
            return Doubts()
        with tempfile.TemporaryDirectory() as directory:
            for suffix in ("", "-wal"):
                source = self.journal.with_name(self.journal.name + suffix)
                if source.exists():
                    shutil.copy(source, os.path.join(directory, "copy" + suffix))
            connection = sqlite3.connect(os.path.join(directory, "copy"))
            try:
                rows = connection.execute(STATES).fetchall() if _has_tables(connection) else []
            finally:
                connection.close()
        names = {len(message) + message.count(b"\n"): identity(message) for message in messages()}
        found = [(state, (names[size], recipient)) for state, size, recipient in rows]
        return Doubts(
            sending=frozenset(
                delivery for state, delivery in found if state in ("sending", "doubt")
            ),
            held=frozenset(delivery for state, delivery in found if state == "held"),
        )

    def stored(self) -> list[bytes]:
        """What a reader finds in the Maildir."""
        places = [self.maildir / place for place in ("new", "cur")]
        return [file.read_bytes() for place in places if place.exists() for file in place.iterdir()]

    def maildir_complaints(self) -> list[str]:
        wanted, found = Counter(self.expected()), Counter(self.stored())
        said = [f"the Maildir lacks {identity(octets)}" for octets in (wanted - found).elements()]
        for octets in (found - wanted).elements():
            what = "a copy" if octets in wanted else "not the octets"
            said.append(f"the Maildir has {what} of {identity(octets)}: {len(octets)} octets")
        return said


def _has_tables(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    return ("delivery",) in tables


class _Sending(Way):
    """A way that ends at the sink."""

    if_in_doubt = "resend"

    def open_sink(self) -> int:
        self.sink = SmtpSink()
        self.sink.__enter__()
        return self.sink.port

    def close(self) -> None:
        self.sink.__exit__(None, None, None)

    def sink_complaints(self, wanted: Iterable[tuple[str, str]]) -> list[str]:
        """Once for each, or at most twice where the journal said beforehand: in doubt."""
        taken = Counter(
            (identity(message.data), to) for message in self.sink.messages
            for to in message.recipients
        )  # fmt: skip
        held = self.look().held
        said = []
        for delivery in wanted:
            count = taken.pop(delivery, 0)
            doubtful = delivery in self.doubts.sending
            most = 2 if doubtful and self.if_in_doubt == "resend" else 1
            if count > most:
                said.append(f"sent {count} times: {delivery}, in doubt: {doubtful}")
            if count == 0 and not (self.if_in_doubt == "hold" and delivery in held):
                said.append(f"not sent: {delivery}")
            if delivery in held and not (doubtful and self.if_in_doubt == "hold"):
                said.append(f"held without a doubt: {delivery}")
        said += [f"sent to nobody's wish: {delivery}" for delivery in taken]
        whole = set(self.expected())
        said += [
            f"mangled on the wire: {identity(message.data)}" for message in self.sink.messages
            if message.data.replace(b"\r\n", b"\n") not in whole
        ]  # fmt: skip
        return said


class _FromPop3(Way):
    """`mailflow run`, as cron starts it."""

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        super().__init__(home, journal, maildir, dovecot)
        self.dovecot = dovecot
        self.user = f"u{os.urandom(6).hex()}"
        dovecot.add_user(self.user, "secret")
        dovecot.deliver(self.user, *messages())
        secret = home / "secret"
        secret.write_text("secret\n")
        secret.chmod(0o600)

    def session(self, strike: Strike) -> None:
        self.start(strike, "run", "--now", str(self.file))
        for _ in range(PATIENCE):
            if self.start(None, "run", "--now", str(self.file)).status == 0:
                break

    def source_complaints(self) -> list[str]:
        return [f"left at the source: {identity(m)}" for m in self.dovecot.messages(self.user)]


class Common(_FromPop3, _Sending):
    name = "common"
    text = POP3 + LIST + SMTP + MAILDIR
    posted: ClassVar[dict[str, bytes]] = {}

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        super().__init__(home, journal, maildir, dovecot)
        self.write(
            pop3_port=dovecot.pop3_port, user=self.user, members=list(MEMBERS),
            smtp_port=self.open_sink(), if_in_doubt=self.if_in_doubt,
        )  # fmt: skip

    def complaints(self) -> list[str]:
        wanted = [(identity(message), to) for message in messages() for to in MEMBERS]
        return self.source_complaints() + self.sink_complaints(wanted) + self.maildir_complaints()

    def expected(self) -> list[bytes]:
        return [self.posted[identity(message)] for message in messages()]

    def control(self) -> None:
        """Learn from an undisturbed session how the list sends its posts on."""
        self.posted.clear()
        self.session(Strike())
        self.posted.update((identity(octets), octets) for octets in self.stored())
        for message in messages():
            posted = self.posted[identity(message)]
            assert posted.partition(b"\n\n")[2] == message.partition(b"\n\n")[2]
            assert b"List-Id: Red <red.example.org>\n" in posted


class CommonHold(Common):
    name = "common-hold"
    if_in_doubt = "hold"


class DeliverFirst(_FromPop3):
    name = "deliver-first"
    text = POP3 + MAILDIR

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        super().__init__(home, journal, maildir, dovecot)
        self.write(pop3_port=dovecot.pop3_port, user=self.user)

    def complaints(self) -> list[str]:
        return self.source_complaints() + self.maildir_complaints()


class _FromMta(Way):
    """`mailflow hook`: every status but 0 keeps the message in the MTA's queue."""

    def session(self, strike: Strike) -> None:
        self.refused: list[str] = []
        for message in messages():
            for attempt in range(PATIENCE):
                line = b"From ann@example.org  Fri Nov 21 01:02:%02d 2025\n" % attempt
                outcome = self.start(strike, "hook", str(self.file), stdin=line + message)
                if outcome.status == 0:
                    break
            else:
                self.refused.append(f"never taken: {identity(message)}: {outcome.stderr}")

    @property
    def first_steps(self) -> list[kill.Step]:
        return [step for outcome in self.outcomes[: len(messages())] for step in outcome.steps]


class Hook(_FromMta):
    name = "hook"
    text = STDIN + MAILDIR

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        super().__init__(home, journal, maildir, dovecot)
        self.write()

    def complaints(self) -> list[str]:
        return self.refused + self.maildir_complaints()


class HookSmtp(_FromMta, _Sending):
    name = "hook-smtp"
    text = STDIN + SMTP

    def __init__(self, home: Path, journal: Path, maildir: Path, dovecot: Dovecot) -> None:
        super().__init__(home, journal, maildir, dovecot)
        self.environment["RECIPIENT"] = MEMBERS[0]
        self.write(smtp_port=self.open_sink(), if_in_doubt=self.if_in_doubt)

    def session(self, strike: Strike) -> None:
        super().session(strike)
        for _ in range(PATIENCE):
            if self.start(None, "run", str(self.file)).status == 0:
                break

    def complaints(self) -> list[str]:
        wanted = [(identity(message), MEMBERS[0]) for message in messages()]
        return self.refused + self.sink_complaints(wanted)


class HookSmtpHold(HookSmtp):
    name = "hook-smtp-hold"
    if_in_doubt = "hold"


CARELESS = """
import os, poplib, sys

port, user, maildir = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.makedirs(f"{maildir}/new", exist_ok=True)
pop3 = poplib.POP3("127.0.0.1", port)
pop3.user(user)
pop3.pass_("secret")
for number in range(1, pop3.stat()[0] + 1):
    lines = pop3.retr(number)[1]
    with open(f"{maildir}/new/{os.getpid()}.{number}", "wb") as file:
        file.write(b"".join(line + b"\\n" for line in lines))
        os.fsync(file.fileno())
    pop3.dele(number)
pop3.quit()
"""


class Careless(DeliverFirst):
    """What people write instead: no tmp/, no memory, no flush of a directory."""

    name = "careless"
    program: ClassVar[list[str]] = [sys.executable, "-c", CARELESS]

    def session(self, strike: Strike) -> None:
        arguments = [str(self.dovecot.pop3_port), self.user, str(self.maildir)]
        self.start(strike, *arguments)
        self.start(None, *arguments)


WAYS: dict[str, type[Way]] = {
    way.name: way for way in (Common, CommonHold, DeliverFirst, Hook, HookSmtp, HookSmtpHold)
}
