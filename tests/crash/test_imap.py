"""From IMAP: killed or cut off before any step, each message is there once, and what was to be
done at the server is done once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing import power
from mailflow.testing.crash import Strike, Trip, killed_before_each_step
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.kill import Step

from .conftest import KILLS, SEED, demand

pytestmark = [
    pytest.mark.crash,
    pytest.mark.interop("dovecot-imapd"),
    pytest.mark.usefixtures("watched"),
    pytest.mark.timeout(900),
]

PARTS = 1 if KILLS >= 100 else 12
"""`make crash` tries every step; else a run tries one step in so many, others each time."""

LARGE = 400_000
"""Octets of the last message: it passes through a file, and the batch ends before it."""


def message(number: int) -> bytes:
    body = b"x" * (LARGE if number == 2 else 10)
    return b"Subject: %d\nMessage-ID: <%d@trip>\n\n%b\n" % (number, number, body)


class FromImap(Trip):
    """All of a mailbox to a Maildir; then `on_done` with each."""

    on_done = "delete"
    count = 3
    where = ""

    def __init__(self, home: Path, dovecot: Dovecot) -> None:
        self.dovecot = dovecot
        self.user = f"u{os.urandom(6).hex()}"
        self.far = home / "far"
        super().__init__(home)

    def prepare(self) -> str:
        self.dovecot.add_user(self.user, "secret")
        self.dovecot.deliver(self.user, *map(message, range(self.count)))
        secret = self.home / "secret"
        secret.write_text("secret\n")
        secret.chmod(0o600)
        return f"""
            [[fetch]]
            use = "imap"
            host = "127.0.0.1"
            port = {self.dovecot.imap_port}
            tls = "none"
            user = "{self.user}"
            password = {{ file = "{secret}" }}
            keep = "0d"
            on_done = "{self.on_done}"
            batch = 100
            {self.where}
            [[distribute]]
            use = "maildir"
            path = "{self.far}"
            """

    def expected(self) -> Sequence[bytes]:
        return [message(number) for number in range(self.count)]

    def left(self) -> Sequence[bytes]:
        return self.dovecot.messages(self.user)

    def arrived(self) -> Sequence[bytes]:
        return [file.read_bytes() for file in self.far.glob("[nc]*/*")]


class Moved(FromImap):
    on_done = "move Done"

    def complaints(self) -> list[str]:
        moved = Counter(self.dovecot.messages(self.user, "Done"))
        lost = [] if moved == Counter(self.expected()) else [f"moved: {moved.values()}"]
        return super().complaints() + lost


class Seen(FromImap):
    on_done = "seen"

    def left(self) -> Sequence[bytes]:
        """What nobody has marked; all of it must still be there."""
        files = list(Path(self.dovecot.maildir(self.user)).glob("[nc]*/*"))
        assert len(files) == self.count
        return [file.read_bytes() for file in files if "S" not in file.name.partition(":2,")[2]]


class Later(FromImap):
    """The second visit, which starts from the mark of the first."""

    count = 2

    def session(self, strike: Strike) -> None:
        self.start(None, "run", "--now", str(self.file))
        self.between()
        self.dovecot.deliver(self.user, *map(message, range(2, 4)))
        self.count = 4
        super().session(strike)

    def between(self) -> None:
        """Nothing else happens."""

    @property
    def first_steps(self) -> list[Step]:
        return self.outcomes[1].steps


class LaterSeen(Later, Seen):
    pass


class LaterAnew(LaterSeen):
    """Between the two visits the folder was made anew: what is known has other UIDs."""

    def between(self) -> None:
        self.dovecot.renumber(self.user)


class Searched(Later):
    """A SEARCH for each visit, since a flag may change."""

    where = "where = 'not flagged'"


@pytest.fixture(scope="module")
def imap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("imap"), imap=True) as dovecot:
        yield dovecot


@pytest.mark.parametrize("trip", [FromImap, Moved, Seen, Later, LaterSeen, LaterAnew, Searched])
def test_d04_killed_before_any_step_each_message_is_there_once(
    trip: type[FromImap], imap: Dovecot, tmp_path: Path
) -> None:
    share = (SEED % PARTS, PARTS)
    found = killed_before_each_step(
        lambda home: trip(home, imap), tmp_path, thorough=KILLS >= 100, share=share
    )
    assert found == [], f"MAILFLOW_SEED={SEED}"


@pytest.mark.parametrize("trip", [FromImap, Later])
def test_d05_cut_off_before_any_step_each_message_is_there_once(
    trip: type[FromImap], imap: Dovecot, tmp_path: Path
) -> None:
    """What is deleted at the server is on the disk here."""
    demand(power.obstacle("ext4"))
    with power.Disk(tmp_path / "disk", "ext4") as disk:

        def make(home: Path) -> FromImap:
            session = trip(home, imap)
            session.far = disk.path / home.name
            text = session.file.read_text()
            session.file.write_text(text.replace(str(home / "far"), str(session.far)))
            return session

        share = (SEED % (2 * PARTS), 2 * PARTS)
        found = killed_before_each_step(
            make, tmp_path, thorough=KILLS >= 100, share=share, disk=disk
        )
    assert found == [], f"MAILFLOW_SEED={SEED}"
