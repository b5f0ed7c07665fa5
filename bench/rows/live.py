"""A live maildrop: a POP3 session that is an IMAP session, beside its bare IMAP commands."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench import corpus, mailbox
from bench.fetchers import installed
from bench.mailbox import Account, Mailbox
from bench.measure import Command, Sample, Series, take_turns
from bench.row import Contender, Options, Outcome, Ratio, Row
from bench.servers import Mailflow

BARE = "bare IMAP commands"
LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")

Session = Callable[[Account], Counter[bytes]]
"""Takes all messages of an account, one command after the other; their digests."""


class Live(Mailflow):
    """`mailflow serve` before an IMAP server: a POP3 login is an IMAP login."""

    def __init__(self, script: Path, directory: Path, port: int) -> None:
        super().__init__(script, directory, "live", 1)
        self._imap = port

    def configure(self) -> Path:
        pipeline = self._directory / "bench.toml"
        pipeline.write_text(
            f'[pipeline]\njournal = "{self._directory}/journal"\n\n'
            f'[maildrop."user*"]\nuse = "imap"\nhost = "127.0.0.1"\nport = {self._imap}\n'
            'tls = "none"\nlogin = "passthrough"\n\n'
            f'[[serve]]\nuse = "pop3"\nlisten = ["127.0.0.1:{self.port}"]\n'
        )
        return pipeline


class Line:
    """A connection that is asked one thing after the other; it looks at no single line of a
    message, since what the client needs is in both figures."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> None:
        found = self._socket.recv(1 << 18)
        if not found:
            raise OSError(f"the server has left after {self._buffer[-100:]!r}")
        self._buffer += found

    def _take(self, end: int) -> bytes:
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return found

    def line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            self._more()
        return self._take(end + 2)

    def pop3(self, command: str) -> bytes:
        """The first line of the answer. Raises OSError if that is no +OK."""
        self._socket.sendall(f"{command}\r\n".encode())
        found = self.line()
        if not found.startswith(b"+OK"):
            raise OSError(f"{command}: {found!r}")
        return found

    def body(self) -> bytes:
        """What follows it, unstuffed."""
        while (end := (b"\r\n" + self._buffer).find(b"\r\n.\r\n")) < 0:
            self._more()
        found = b"\r\n" + self._take(end + 3)[:-3]
        return found.replace(b"\r\n..", b"\r\n.")[2:]

    def imap(self, command: str) -> list[bytes]:
        """The lines and literals of the answer. Raises OSError if that is no OK."""
        self._socket.sendall(f"a {command}\r\n".encode())
        found = [self.line()]
        while not found[-1].startswith(b"a "):
            literal = LITERAL.search(found[-1])
            if literal:
                size = int(literal[1])
                while len(self._buffer) < size:
                    self._more()
                found.append(self._take(size))
            found.append(self.line())
        if not found[-1].startswith(b"a OK"):
            raise OSError(f"{command}: {found[-1]!r}")
        return found


def over_pop3(port: int, account: Account) -> Counter[bytes]:
    """USER, PASS, STAT, UIDL, LIST, RETR of each, QUIT."""
    line = Line(port)
    line.line()
    line.pop3(f"USER {account.user}")
    line.pop3(f"PASS {account.password}")
    count = int(line.pop3("STAT").split()[1])
    for command in ("UIDL", "LIST"):
        line.pop3(command)
        line.body()
    found = []
    for number in range(1, count + 1):
        line.pop3(f"RETR {number}")
        found.append(line.body())
    line.pop3("QUIT")
    line.close()
    return digests(found)


def over_imap(account: Account) -> Counter[bytes]:
    """LOGIN, SELECT, UID FETCH of the sizes, UID FETCH of each, LOGOUT."""
    line = Line(account.port)
    line.line()
    line.imap(f"LOGIN {account.user} {account.password}")
    line.imap("SELECT INBOX")
    listed = line.imap("UID FETCH 1:* RFC822.SIZE")
    uids = [found[1].decode() for each in listed if (found := re.search(rb"UID (\d+)", each))]
    bodies = [line.imap(f"UID FETCH {uid} BODY.PEEK[]")[1] for uid in uids]
    line.imap("LOGOUT")
    line.close()
    return digests(bodies)


def digests(messages: Sequence[bytes]) -> Counter[bytes]:
    return Counter(hashlib.sha1(m.replace(b"\r\n", b"\n")).digest() for m in messages)


def run(row: Row, options: Options, *, messages: int, delay: float) -> Outcome:
    """Each session is the first one of a new user: no connection is there from before."""
    count = options.count(messages)
    mails = list(corpus.messages(count))
    expected = mailbox.digests(mails)
    place = options.directory / row.name
    place.mkdir()
    known = [
        Contender("mailflow", "ours", Command, installed(options.script, "mailflow")),
        Contender(BARE, "gauge", Command),
    ]
    series = {contender.name: Series(contender.name) for contender in known}
    notes = []
    with (
        Mailbox(options.directory, delay, "imap") as box,
        Live(options.script, place, box.port) as live,
    ):
        sessions: dict[str, Session] = {"mailflow": partial(over_pop3, live.port), BARE: over_imap}
        account = box.account(mails)
        for session in sessions.values():
            session(account)  # modules, processes: what comes once
        again = one(sessions["mailflow"], account, expected)
        notes.append(f"the next session of the same user: {again.seconds:.3f} s")
        for _, contender in take_turns(known, options.turns):
            account = box.account(mails)
            sample = one(sessions[contender.name], account, expected)
            series[contender.name].samples.append(sample)
    return Outcome(list(series.values()), known, notes)


def one(session: Session, account: Account, expected: Counter[bytes]) -> Sample:
    begin = time.perf_counter()
    try:
        found = session(account)
    except OSError as error:
        return Sample(0.0, 1, 0, 0.0, str(error))
    seconds = time.perf_counter() - begin
    return Sample(seconds, 0, 0, 0.0, "" if found == expected else "other messages than there are")


def row(messages: int, milliseconds: int) -> Row:
    link = f"{milliseconds} ms away" if milliseconds else "on loopback"
    return Row(
        f"live-{milliseconds}ms" if milliseconds else "live-loopback",
        f"POP3 before an IMAP server {link}: {messages} messages of about 20 KB",
        "A POP3 session through ``mailflow serve`` (maildrop ``imap``): connect, USER, PASS, STAT,"
        " UIDL, LIST, RETR of each message, QUIT, each command when the answer before has come."
        " Beside it the session that it stands for: connect, LOGIN, SELECT, UID FETCH of all"
        " sizes, UID FETCH of each message, LOGOUT, in the same way. The client is on the machine"
        f" of mailflow, Dovecot is {link}. Every session is the first one of another user.",
        partial(run, messages=messages, delay=milliseconds / 2000),
        Ratio(1.3, (BARE,)),
        "There is nothing to wait for here, so that only work counts: every octet comes from"
        " Dovecot, is given the dots of POP3 and goes out once more, some 0.2 ms for a message,"
        " and both servers share two processors with the client.",
    )


ROWS = (row(500, 0), row(40, 50))
