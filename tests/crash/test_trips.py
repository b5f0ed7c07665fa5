"""From file to file: whatever the stores at both ends, a kill at any step costs nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailflow.testing.crash import Trip, killed_before_each_step

from .conftest import KILLS, SEED

pytestmark = [pytest.mark.crash, pytest.mark.usefixtures("watched"), pytest.mark.timeout(600)]

PARTS = 1 if KILLS >= 100 else 8
"""`make crash` tries every step; else a run tries one step in so many, others each time."""

MESSAGES = [b"Subject: %d\nMessage-ID: <%d@trip>\n\nFrom here\n.\n" % (n, n) for n in range(3)]


class FileTrip(Trip):
    """From a Maildir or an mbox to another."""

    source = destination = "maildir"
    steps = ""

    def prepare(self) -> str:
        self.near, self.far = self.home / "near", self.home / "far"
        put(self.source, self.near)
        return (
            f'[[fetch]]\nuse = "{self.source}"\npath = "{self.near}"\nkeep = "0d"\n{self.steps}'
            f"[[distribute]]\n{self.to()}"
        )

    def to(self) -> str:
        return f'use = "{self.destination}"\npath = "{self.far}"\n'

    def expected(self) -> Sequence[bytes]:
        return MESSAGES

    def left(self) -> Sequence[bytes]:
        return there(self.source, self.near)

    def arrived(self) -> Sequence[bytes]:
        return there(self.destination, self.far)


def put(kind: str, path: Path) -> None:
    if kind == "mbox":
        quoted = [re.sub(rb"(?m)^(>*From )", rb">\1", octets) for octets in MESSAGES]
        path.write_bytes(b"".join(b"From a@b Fri Nov 21 01:02:03 2025\n%b\n" % q for q in quoted))
        return
    for place in ("tmp", "new", "cur"):
        (path / place).mkdir(parents=True)
    for number, octets in enumerate(MESSAGES):
        (path / "new" / f"{number}.x").write_bytes(octets)


def there(kind: str, path: Path) -> Sequence[bytes]:
    if kind != "mbox":
        return [file.read_bytes() for file in path.glob("[nc]*/*")]
    parts = re.split(rb"(?m)^From .*\n", path.read_bytes() if path.exists() else b"")[1:]
    return [re.sub(rb"(?m)^>(>*From )", rb"\1", part.removesuffix(b"\n")) for part in parts]


class MaildirToMaildir(FileTrip):
    pass


class MaildirToMbox(FileTrip):
    destination = "mbox"


class MboxToMaildir(FileTrip):
    source = "mbox"


class MboxToMboxByProgram(FileTrip):
    """The common way, since a step is not pure."""

    source = destination = "mbox"
    steps = '[[process]]\nuse = "filter.command"\ncommand = ["/bin/cat"]\n'


class MaildirToProgram(FileTrip):
    """A program cannot be asked what it has: one delivery may be in doubt, and made twice."""

    copies = 2

    def to(self) -> str:
        for place in ("new", "tmp"):
            (self.far / place).mkdir(parents=True)
        script = 'cat > "$0/tmp/$MAILFLOW_KEY.$$" && mv "$0/tmp/$MAILFLOW_KEY.$$" "$0/new"'
        words = ", ".join(f"'''{word}'''" for word in ("/bin/sh", "-c", script, str(self.far)))
        return f'use = "command"\ncommand = [{words}]\n'


@pytest.mark.parametrize(
    "trip", [MaildirToMaildir, MaildirToMbox, MboxToMaildir, MboxToMboxByProgram, MaildirToProgram]
)
def test_d04_killed_before_any_step_the_mail_is_there_once(
    trip: type[FileTrip], tmp_path: Path
) -> None:
    share = (SEED % PARTS, PARTS)
    found = killed_before_each_step(trip, tmp_path, thorough=KILLS >= 100, share=share)
    assert found == [], f"MAILFLOW_SEED={SEED}"
