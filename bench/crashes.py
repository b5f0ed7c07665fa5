"""Kills and power cuts, on us and on those who fetch mail today: what became of the mail.

    python -m bench.crashes --blows 50          as root, for loop mounts
    python -m bench.crashes --page              the tables, of what was saved

Rule of the file: all are struck alike, at instants that one seed draws; then cron starts
them again, with nothing tidied in between, and only the mailbox and the Maildir count.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from bench import install
from bench.fetchers import cs_pop3, fdm, fetchmail, getmail6, mailflow, mpop
from bench.mailbox import PASSWORD, SETTINGS, Account
from bench.measure import Command
from bench.row import Contender
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.power import Disk

RESULTS = Path(__file__).parent / "results" / "crashes.jsonl"
MESSAGES = 5
PATIENCE = 6
"""So often cron starts a program again before its mail is called left behind."""

KINDS = ("ext4", "xfs")
LAYOUTS = ("one", "two")
BLOWS = ("kill", "cut", "cut after exit")


@dataclass(frozen=True)
class Blow:
    """What was done to whom, and what had become of five messages in the end."""

    program: str
    version: str
    blow: str
    disk: str
    layout: str
    seconds: float
    whole: int
    lost: int
    copies: int
    broken: int
    left: int
    starts: int

    @property
    def harmless(self) -> bool:
        return not (self.lost or self.copies or self.broken or self.left)


def message(number: int) -> bytes:
    body = "".join(f"line {n} of message {number}\r\n" for n in range(200 * number + 1))
    return (
        f"From: ann@example.org\r\nTo: red@example.org\r\nSubject: {number}\r\n"
        f"Message-ID: <{number}@example.org>\r\nDate: Fri, 21 Nov 2025 01:02:03 +0000\r\n\r\n"
        f"{body}end of message {number}\r\n"
    ).encode()


MAIL = [message(number) for number in range(MESSAGES)]


def body(octets: bytes) -> bytes:
    """Without the header, to which some add, and with LF."""
    return octets.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip(b"\n")


class Field:
    """A mailbox, and two disks of one kind: one for state, one for mail, or one for both."""

    def __init__(self, kind: str, dovecot: Dovecot, directory: Path) -> None:
        self.kind = kind
        self.dovecot = dovecot
        self.disks = [Disk(directory / kind / name, kind) for name in ("state", "mail")]
        self.number = 0

    def place(self, contender: Contender, layout: str) -> tuple[Command, Account, Path]:
        """A user with five messages, and a program set up to fetch them; all of it durable."""
        self.number += 1
        user = f"u{self.kind}{self.number}"
        self.dovecot.add_user(user, PASSWORD)
        self.dovecot.deliver(user, *MAIL)
        account = Account("pop3", user, self.dovecot.pop3_port)
        state, mail = (disk.path / str(self.number) for disk in self.disks)
        for path in (state, mail):
            path.mkdir()
        command = contender.prepare(state, account, True)
        inbox = state / "Maildir"
        if layout == "two":
            moved = mail / "Maildir"
            shutil.move(inbox, moved)
            inbox.symlink_to(moved)
            if command.user:
                for path in (mail, moved, *moved.iterdir()):
                    os.chown(path, *command.user)
            inbox = moved
        os.sync()
        return command, account, inbox

    def off(self) -> None:
        for disk in self.disks:
            disk.off()

    def on(self) -> None:
        for disk in self.disks:
            disk.on()


def start(command: Command) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.defpath, "HOME": str(command.directory), "LC_ALL": "C.UTF-8"}
    uid, gid = command.user or (None, None)
    return subprocess.Popen(
        list(command.argv), env=environment | command.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=uid, group=gid,
        extra_groups=[] if uid else None, start_new_session=True, cwd="/",
    )  # fmt: skip


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for it; one that hangs is ended."""
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for it and what it has started (an MDA, a worker)."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def undisturbed(field: Field, contender: Contender) -> float:
    """Seconds that it takes. Raises SystemExit where it does not fetch all without a blow."""
    command, account, inbox = field.place(contender, "one")
    begun = time.monotonic()
    finish(start(command))
    seconds = time.monotonic() - begun
    whole, copies, broken = look(inbox)
    if (whole, copies, broken, left(field, account)) != (MESSAGES, 0, 0, 0):
        raise SystemExit(f"{contender.name} does not fetch {MESSAGES} messages undisturbed")
    return seconds


def struck(field: Field, contender: Contender, blow: str, layout: str, seconds: float) -> Blow:
    command, account, inbox = field.place(contender, layout)
    process = start(command)
    if blow == "cut after exit":
        finish(process)
        field.off()
    else:
        time.sleep(seconds)
        if blow == "cut":
            field.off()
        end(process)
    if blow != "kill":
        field.on()
    starts = 0
    while starts < PATIENCE and (starts == 0 or left(field, account)):
        starts += 1
        finish(start(command))
    whole, copies, broken = look(inbox)
    remain = left(field, account)
    return Blow(
        contender.name, contender.version, blow, field.kind, layout, round(seconds, 4),
        whole, max(0, MESSAGES - whole - remain), copies, broken, remain, starts,
    )  # fmt: skip


def look(inbox: Path) -> tuple[int, int, int]:
    """(messages that are whole, copies of such, files that are none of them)."""
    wanted = {body(octets) for octets in MAIL}
    files = [each for place in ("new", "cur") for each in (inbox / place).iterdir()]
    found = Counter(body(each.read_bytes()) for each in files)
    whole = sum(1 for each in wanted if found[each])
    copies = sum(found[each] - 1 for each in wanted if found[each])
    return whole, copies, sum(count for each, count in found.items() if each not in wanted)


def left(field: Field, account: Account) -> int:
    return len(field.dovecot.messages(account.user))


def contenders(scratch: Path) -> Iterator[Contender]:
    yield mailflow(install.mailflow(scratch / "ours"))
    peers = install.peers(scratch / "peers")
    for each in (mpop(), getmail6(), fetchmail(), fdm(), cs_pop3(peers / "bin" / "pop3")):
        if each is not None:
            yield each


def campaign(blows: int, seed: int, names: Sequence[str]) -> Iterator[Blow]:
    """So many blows of each sort for each program, drawn from the seed."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        scratch.chmod(0o755)
        dovecot = stack.enter_context(
            Dovecot(scratch / "dovecot", settings=SETTINGS.format(protocol="pop3"))
        )
        fields = [Field(kind, dovecot, scratch) for kind in KINDS]
        for field in fields:
            for disk in field.disks:
                stack.enter_context(disk)
                disk.path.chmod(0o755)
        for contender in contenders(scratch):
            if names and contender.name not in names:
                continue
            rng = random.Random(f"{seed} {contender.name}")
            seconds = max(undisturbed(fields[0], contender) for _ in range(3))
            for _, blow in product(range(blows), BLOWS):
                field, layout = rng.choice(fields), rng.choice(LAYOUTS)
                yield struck(field, contender, blow, layout, rng.uniform(0, seconds * 1.1))


def table(found: Sequence[Blow]) -> str:
    """Per program and sort of blow: how many did no harm, and the harm that was done."""
    lines = []
    for program in dict.fromkeys(each.program for each in found):
        for blow, layout in product(BLOWS, LAYOUTS):
            some = [b for b in found if (b.program, b.blow, b.layout) == (program, blow, layout)]
            if some:
                harm = "; ".join(
                    f"{sum(getattr(b, what) for b in some)} {what}"
                    f" in {sum(1 for b in some if getattr(b, what))}"
                    for what in ("lost", "copies", "broken", "left")
                    if any(getattr(b, what) for b in some)
                )
                where = f"{program:20} {blow:15} {layout} disk(s)"
                lines.append(f"{where}: {len(some):4} blows, {harm or 'no harm'}")
    return "\n".join(lines)


def saved() -> list[Blow]:
    if not RESULTS.exists():
        return []
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    return [Blow(**json.loads(line)) for line in lines if not line.startswith('{"seed"')]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.crashes", description=__doc__)
    parser.add_argument("programs", nargs="*", help="of these alone (default: all)")
    parser.add_argument("--blows", type=int, default=50, help="of each sort, for each program")
    parser.add_argument("--seed", type=int, default=time.time_ns() % (1 << 31))
    parser.add_argument("--page", action="store_true", help="print what was saved, and end")
    given = parser.parse_args()
    if not given.page:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seed": given.seed, "blows": given.blows}) + "\n")
            for each in campaign(given.blows, given.seed, given.programs):
                file.write(json.dumps(asdict(each)) + "\n")
                file.flush()
    print(table(saved()))


if __name__ == "__main__":
    sys.exit(main())
