"""POP3 clients as people have them: what each is told, and what it then brings home.

Rule of the file: a reader is the program as it is, with the shortest configuration its
manual gives for the case; it remembers in `home` what it has, as it does for its owner.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mailflow.testing.corpus import stored

PASSWORD = "correct horse"
PATIENCE = 30.0

MESSAGES = [
    b"From: ben@example.com\r\nSubject: %d\r\nMessage-ID: <%d@example.com>\r\n\r\n%b" % (n, n, text)
    for n, text in enumerate([
        b"hello\r\n",
        b"one\r\n.\r\n..two\r\n...\r\n",
        "Grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
        b"no end of line",
        (b"y" * 76 + b"\r\n") * 8000,
    ])
]  # fmt: skip


def lf(octets: bytes) -> bytes:
    return stored(octets).replace(b"\r\n", b"\n").removesuffix(b"\n") + b"\n"


WANTED = sorted(map(lf, MESSAGES))
"""As `Reader.brought` gives them."""

PLAIN, STLS, TLS = "plain", "stls", "tls"


class Door(NamedTuple):
    """Where a reader knocks: `way` is plain, stls or tls; `user` is its login name."""

    way: str
    port: int
    ca_file: str
    user: str = "ann"
    host: str = "localhost"


class Reader(ABC):
    """One program. `ways` are those it knows; `remembers`: it can leave mail and fetch
    only what is new later; `adds` are the header fields that it puts into every message;
    `notices` is a way in which a line breaks that it notices, "cut" (FIN) or "reset"."""

    packages: ClassVar[tuple[str, ...]] = ()
    ways: ClassVar[tuple[str, ...]] = (PLAIN, STLS, TLS)
    remembers: ClassVar[bool] = True
    adds: ClassVar[tuple[bytes, ...]] = ()
    notices: ClassVar[Literal["cut", "reset"]] = "cut"

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home = home
        for folder in ("tmp", "new", "cur"):
            (home / "Maildir" / folder).mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def read(self, door: Door, *, keep: bool) -> int:
        """Read the drop once, and leave there what was read or delete it. An exit status."""

    def brought(self) -> list[bytes]:
        """Every message it has brought home so far, with LF lines, without the fields that
        it adds, and with an end to its last line, which none of them leaves out."""
        files = sorted(self.home.glob("Maildir/[nc]*/*"))
        return [self._as_it_was(path.read_bytes().replace(b"\r\n", b"\n")) for path in files]

    def _as_it_was(self, octets: bytes) -> bytes:
        head, blank, body = octets.partition(b"\n\n")
        kept = [line for line in head.split(b"\n") if not line.startswith(self.adds or b"\n")]
        return (b"\n".join(kept) + blank + body).removesuffix(b"\n") + b"\n"

    def close(self) -> None:  # noqa: B027  # most have nothing there
        """Remove what it has outside of `home`."""

    @property
    def said(self) -> str:
        """What it printed, for whoever must find out why."""
        path = self.home / "said"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self, command: Sequence[str | Path], door: Door) -> subprocess.CompletedProcess[bytes]:
        """Start it as its owner would."""
        with (self.home / "said").open("ab") as said:
            done = subprocess.run(
                command, env=self.environment(door), cwd=self.home, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=said, timeout=PATIENCE, check=False,
            )  # fmt: skip
            said.write(done.stdout)
        return done

    def environment(self, door: Door) -> dict[str, str]:
        return {
            "HOME": str(self.home), "PATH": os.defpath, "LC_ALL": "C.UTF-8", "TERM": "vt100",
            "SSL_CERT_FILE": door.ca_file, "USER": "ann", "LOGNAME": "ann",
        }  # fmt: skip

    def write(self, name: str, *lines: str) -> Path:
        """A file of its configuration, which only its owner can read."""
        path = self.home / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path


class Configured(Reader):
    """One that a file tells what to do."""

    @abstractmethod
    def command(self, door: Door, *, keep: bool) -> Sequence[str | Path]:
        """Write that file, and give the words that start the program."""

    def mda(self, last: str = "true") -> Path:
        """A program that takes a message on its stdin, as such readers like to deliver."""
        place = f"{self.home}/Maildir"
        script = self.write(
            "mda",
            "#!/bin/sh",
            f"cat > {place}/tmp/$$ && mv {place}/tmp/$$ {place}/new/$$ && {last}",
        )
        script.chmod(0o700)
        return script

    def read(self, door: Door, *, keep: bool) -> int:
        return self.run(self.command(door, keep=keep), door).returncode


class Fetchmail(Configured):
    packages = ("fetchmail",)

    def command(self, door: Door, *, keep: bool) -> Sequence[str | Path]:
        secured = {PLAIN: "sslproto ''", STLS: "sslproto 'TLS1.2+'", TLS: "ssl"}[door.way]
        trust = "" if door.way == PLAIN else f"sslcertck sslcertfile '{door.ca_file}'"
        self.write(
            "fetchmailrc",
            f"poll {door.host} protocol POP3 port {door.port} uidl",
            f"  user '{door.user}' password '{PASSWORD}' {secured} {trust}",
            # flush: also what it has had of a session that was cut off
            f"  {'keep' if keep else 'nokeep flush'} norewrite mda '{self.mda()}'",
        )
        return ["fetchmail", "--nosyslog", "--nodetach", "--invisible", "-f", "fetchmailrc"]

    def read(self, door: Door, *, keep: bool) -> int:
        status = super().read(door, keep=keep)
        return 0 if status == NOTHING_NEW else status


NOTHING_NEW = 1
"""fetchmail's exit status."""


class Getmail(Configured):
    """It misses the end of a program that has ended before it begins to wait (`_wait_for_child`
    of its baseclasses.py), and then hangs for a minute: its program takes a while."""

    packages = ("getmail6",)
    ways = (PLAIN, TLS)
    adds = (b"Return-Path: ",)

    def command(self, door: Door, *, keep: bool) -> Sequence[str | Path]:
        secured = door.way == TLS
        file = self.write(
            "getmailrc", "[retriever]",
            f"type = SimplePOP3{'SSL' if secured else ''}Retriever",
            f"server = {door.host}", f"port = {door.port}",
            f"username = {door.user}", f"password = {PASSWORD}",
            *([f"ca_certs = {door.ca_file}"] if secured else []),
            # root must say it twice, and may not write a Maildir
            "[destination]", "type = MDA_external", f"path = {self.mda('sleep 0.1')}",
            "allow_root_commands = true",
            "[options]", "read_all = false", f"delete = {'false' if keep else 'true'}",
            "delivered_to = false", "received = false",
        )  # fmt: skip
        return ["getmail", "--getmaildir", self.home, "--rcfile", file]


class Mpop(Configured):
    """After a FIN in mid-message it asks for the rest for ever."""

    packages = ("mpop",)
    notices = "reset"

    def command(self, door: Door, *, keep: bool) -> Sequence[str | Path]:
        secured = door.way != PLAIN
        file = self.write(
            "mpoprc", "account ann", f"host {door.host}", f"port {door.port}",
            f"user {door.user}", f'password "{PASSWORD}"',
            f"tls {'on' if secured else 'off'}", "auth user" if not secured else "auth on",
            *([f"tls_starttls {'on' if door.way == STLS else 'off'}"] if secured else []),
            *([f"tls_trust_file {door.ca_file}"] if secured else []),
            f"keep {'on' if keep else 'off'}", "received_header off",
            f"delivery maildir {self.home}/Maildir", f"uidls_file {self.home}/uidls",
        )  # fmt: skip
        return ["mpop", "-C", file, "ann"]


class Fdm(Configured):
    """Started by root, it fetches as a user of its own, who must reach its cache."""

    packages = ("fdm",)
    ways = (PLAIN, TLS)

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._open = tempfile.TemporaryDirectory(prefix="fdm-")
        self.open = Path(self._open.name)
        self.open.chmod(0o777)

    def close(self) -> None:
        self._open.cleanup()

    def environment(self, door: Door) -> dict[str, str]:
        ca_file = shutil.copy(door.ca_file, self.open)
        Path(ca_file).chmod(0o644)
        return {**super().environment(door), "SSL_CERT_FILE": ca_file}

    def command(self, door: Door, *, keep: bool) -> Sequence[str | Path]:
        kind = "pop3s" if door.way == TLS else "pop3"
        file = self.write(
            "fdm.conf", "set no-received", f'set lock-file "{self.open}/lock"',
            *(["set verify-certificates"] * (kind == "pop3s")),
            'set default-user "root"',
            f'action "in" maildir "{self.home}/Maildir"',
            f'account "ann" {kind} server "{door.host}" port {door.port}'
            f' user "{door.user}" pass "{PASSWORD}"'
            + (f' new-only cache "{self.open}/cache" keep' if keep else ""),
            'match all action "in"',
        )  # fmt: skip
        return ["fdm", "-v", "-f", file, "fetch"]


class Curl(Reader):
    """A session for each command: its owner's script asks for UIDLs and sizes first. What
    is cut off it takes for the end of a message, so that the size must be looked at."""

    packages = ("curl",)

    def read(self, door: Door, *, keep: bool) -> int:
        listed = self.ask(door, "", "--request", "UIDL"), self.ask(door, "")
        if status := max(done.returncode for done in listed):
            return status
        uidls, sizes = ([line.split()[1] for line in each.stdout.decode().splitlines()]
                        for each in listed)  # fmt: skip
        # From the last to the first: each session numbers anew what is left.
        for number in range(len(uidls), 0, -1):
            file = self.home / "Maildir" / "new" / uidls[number - 1].replace("/", "_")
            if not file.exists():
                part = self.home / "Maildir" / "tmp" / str(number)
                done = self.ask(door, str(number), "--output", part)
                if done.returncode or part.stat().st_size != int(sizes[number - 1]):
                    return done.returncode or 1
                part.rename(file)
            if not keep:
                done = self.ask(door, str(number), "--list-only", "--request", "DELE")
                if done.returncode:
                    return done.returncode
        return 0

    def ask(
        self, door: Door, number: str, *words: str | Path
    ) -> subprocess.CompletedProcess[bytes]:
        scheme = "pop3s" if door.way == TLS else "pop3"
        secured = ["--ssl-reqd"] if door.way == STLS else []
        return self.run(
            ["curl", "-sS", "--cacert", door.ca_file, *secured, "--user",
             f"{door.user}:{PASSWORD}", *words, f"{scheme}://{door.host}:{door.port}/{number}"],
            door,
        )  # fmt: skip


class Poplib(Reader):
    """What many write for themselves with Python's own module."""

    def read(self, door: Door, *, keep: bool) -> int:
        import poplib
        import ssl

        context = ssl.create_default_context(cafile=door.ca_file)
        if door.way == TLS:
            box: poplib.POP3 = poplib.POP3_SSL(door.host, door.port, context=context, timeout=10)
        else:
            box = poplib.POP3(door.host, door.port, timeout=10)
            if door.way == STLS:
                box.stls(context)
        try:
            box.user(door.user)
            box.pass_(PASSWORD)
            for line in box.uidl()[1]:
                number, uidl = line.decode().split()
                file = self.home / "Maildir" / "new" / uidl.replace("/", "_")
                if not file.exists():
                    file.write_bytes(b"\n".join(box.retr(int(number))[1]) + b"\n")
                if not keep:
                    box.dele(int(number))
            box.quit()
        except (OSError, poplib.error_proto) as error:
            box.close()
            self.write("said", repr(error))
            return 1
        return 0


class Mutt(Reader):
    """On a terminal, the drop opened as a folder: what is not deleted there stays."""

    packages = ("mutt",)
    remembers = False
    adds = (b"Content-Length: ", b"Lines: ", b"Status: ")
    program = "mutt"

    def read(self, door: Door, *, keep: bool) -> int:
        scheme = "pops" if door.way == TLS else "pop"
        # Each key is typed once the one before it was taken: the queue of `push`.
        copied = "<copy-message>" if keep else "<save-message>"
        keys = f"<tag-pattern>~A<enter><tag-prefix>{copied}{self.home}/Maildir<enter><quit>"
        file = self.write(
            "muttrc", f"set pop_user='{door.user}' pop_pass='{PASSWORD}' mbox_type=Maildir",
            f"set ssl_starttls={'yes' if door.way == STLS else 'no'}",
            f"set ssl_force_tls={'no' if door.way == PLAIN else 'yes'}",
            f"set certificate_file='{door.ca_file}'",
            "set delete=yes quit=yes confirmappend=no confirmcreate=no copy=no",
            f"set wait_key=no pop_reconnect=no beep=no folder='{self.home}'", f'push "{keys}"',
        )  # fmt: skip
        url = f"{scheme}://{door.user}@{door.host}:{door.port}/"
        return self.typed([self.program, "-n", "-F", str(file), "-f", url], door)

    def typed(self, command: Sequence[str], door: Door) -> int:
        """Run it on a terminal of its own, which nobody looks at."""
        main, side = pty.openpty()
        with os.fdopen(main, "rb", buffering=0), (self.home / "said").open("ab") as said:
            process = subprocess.Popen(
                command, env=self.environment(door), cwd=self.home, stdin=side, stdout=side,
                stderr=side, start_new_session=True,
            )  # fmt: skip
            os.close(side)
            deadline = time.monotonic() + PATIENCE
            screen = select.poll()
            screen.register(main, select.POLLIN)
            try:
                while time.monotonic() < deadline:
                    if screen.poll(100):
                        try:
                            said.write(os.read(main, 1 << 16))
                        except OSError:  # the last one has left the terminal
                            break
                return process.wait(timeout=max(0.1, deadline - time.monotonic()))
            finally:
                process.kill()
                process.wait()


class Neomutt(Mutt):
    packages = ("neomutt",)
    program = "neomutt"


READERS: tuple[type[Reader], ...] = (
    Poplib, Curl, Fetchmail, Getmail, Mpop, Fdm, Mutt, Neomutt,
)  # fmt: skip


def reads_leaves_and_deletes(
    kind: type[Reader], door: Door, home: Path, there: Callable[[], Sequence[bytes]]
) -> None:
    """A client that leaves what it reads gets all of MESSAGES, one that deletes them leaves none;
    `there` is what lies behind the door."""
    reader = kind(home / "one")
    times = 1 if reader.remembers else 2
    for _ in range(2):
        assert reader.read(door, keep=True) == 0, reader.said
    assert sorted(reader.brought()) == sorted(WANTED * times), reader.said
    assert len(there()) == len(MESSAGES)
    reader.close()
    reader = kind(home / "two")
    assert reader.read(door, keep=False) == 0, reader.said
    assert sorted(reader.brought()) == WANTED, reader.said
    assert there() == []
    reader.close()
