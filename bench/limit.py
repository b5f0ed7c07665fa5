"""The limit: what a bare pipelining socket needs that makes every file durable.

    python -I limit.py pop3 PORT USER PASSWORD MAILDIR keep|delete [KNOWN NEW]
    python -I limit.py imap PORT USER PASSWORD MAILDIR

With KNOWN and NEW, so many new ones behind the known are asked for with the log-in.
No TLS, no journal, no state, no checks: not a program to use but a floor to measure by.
Rule of the file: POP3 takes one flight for the log-in and the listing and one for every
RETR, IMAP one for all; files in groups of 100 are written, flushed, renamed and their
directory flushed.
"""

import os
import re
import select
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

GROUP = 100
LITERAL = re.compile(rb"\* \d+ FETCH [^\r\n]*\{(\d+)\}")


class Limit:
    def __init__(self, port: int, maildir: str) -> None:
        self.maildir = maildir
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.poll = select.poll()
        self.inbox = bytearray()
        self.buffer = bytearray(1 << 18)
        self.view = memoryview(self.buffer)
        self.outbox = b""
        self.group: list[tuple[int, str]] = []
        self.pool = ThreadPoolExecutor(16)

    def more(self) -> None:
        """Send what waits, read what has come."""
        mask = select.POLLIN | (select.POLLOUT if self.outbox else 0)
        self.poll.register(self.sock, mask)
        ((_, events),) = self.poll.poll()
        if events & select.POLLOUT:
            self.outbox = self.outbox[self.sock.send(self.outbox) :]
        if events & (select.POLLIN | select.POLLHUP):
            size = self.sock.recv_into(self.buffer)
            if not size:
                raise SystemExit("the server has left")
            self.inbox += self.view[:size]

    def line(self) -> bytes:
        while (end := self.inbox.find(b"\r\n")) < 0:
            self.more()
        line = bytes(self.inbox[:end])
        del self.inbox[: end + 2]
        return line

    def ok(self) -> None:
        """The first line of an answer of POP3."""
        if not (line := self.line()).startswith(b"+OK"):
            raise SystemExit(f"the server says {line!r}")

    def lines(self) -> bytes:
        """The lines behind it, unstuffed."""
        self.ok()
        start = 0
        if not self.inbox.startswith(b".\r\n"):
            while (end := self.inbox.find(b"\r\n.\r\n", start)) < 0:
                start = max(0, len(self.inbox) - 4)
                self.more()
            body = bytes(self.inbox[: end + 2])
            del self.inbox[: end + 5]
            return body[body.startswith(b".") :].replace(b"\r\n..", b"\r\n.")
        del self.inbox[:3]
        return b""

    def literal(self, size: int) -> bytes:
        while len(self.inbox) < size:
            self.more()
        body = bytes(self.inbox[:size])
        del self.inbox[:size]
        return body

    def store(self, number: int, body: bytes) -> None:
        name = f"{number}.limit"
        where = f"{self.maildir}/tmp/{name}"
        file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, body.replace(b"\r\n", b"\n"))
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write back at once
        self.group.append((file, name))
        if len(self.group) == GROUP:
            self.flush()

    def flush(self) -> None:
        list(self.pool.map(os.fsync, [file for file, _ in self.group]))
        for file, name in self.group:
            os.close(file)
            os.rename(f"{self.maildir}/tmp/{name}", f"{self.maildir}/new/{name}")
        self.group.clear()
        directory = os.open(f"{self.maildir}/new", os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def retrieve(numbers: range, done: str) -> bytes:
    commands = b"".join(b"RETR %d\r\n" % number for number in numbers)
    return commands + (b"QUIT\r\n" if done == "keep" else b"")  # nothing hangs on its answer


def pop3(limit: Limit, user: str, password: str, done: str, *ahead: str) -> None:
    known, new = map(int, ahead or (0, 0))
    limit.ok()
    limit.outbox = f"USER {user}\r\nPASS {password}\r\nUIDL\r\nLIST\r\n".encode()
    if new:
        limit.outbox += retrieve(range(known + 1, known + new + 1), done)
    limit.ok()
    limit.ok()
    count = limit.lines().count(b"\r\n")
    limit.lines()
    numbers = range(known + 1, count + 1)
    if not new:
        limit.outbox += retrieve(numbers, done)
    for number in numbers:
        limit.store(number, limit.lines())
        if not limit.group and done == "delete":  # they are safe
            first = number - GROUP + 1
            limit.outbox += b"".join(b"DELE %d\r\n" % n for n in range(first, number + 1))
    left = len(limit.group)
    limit.flush()
    if done == "delete":
        limit.outbox += b"".join(b"DELE %d\r\n" % n for n in range(count - left + 1, count + 1))
        limit.outbox += b"QUIT\r\n"
    for _ in range(1 + count * (done == "delete")):
        limit.ok()


def imap(limit: Limit, user: str, password: str) -> None:
    limit.line()
    flight = f"1 LOGIN {user} {password}\r\n2 EXAMINE INBOX\r\n3 UID FETCH 1:* BODY.PEEK[]\r\n"
    limit.outbox = flight.encode()
    number = 0
    while not (line := limit.line()).startswith(b"3 "):
        if line.startswith((b"1 ", b"2 ")) and line[2:4] != b"OK":
            raise SystemExit(f"the server says {line!r}")
        if found := LITERAL.fullmatch(line):
            number += 1
            limit.store(number, limit.literal(int(found[1])))
            limit.line()
    if not line.startswith(b"3 OK"):
        raise SystemExit(f"the server says {line!r}")
    limit.flush()
    limit.sock.send(b"4 LOGOUT\r\n")


def main() -> None:
    protocol, port, user, password, maildir, *how = sys.argv[1:]
    limit = Limit(int(port), maildir)
    if protocol == "imap":
        imap(limit, user, password)
    else:
        pop3(limit, user, password, *how)
    os._exit(0)


if __name__ == "__main__":
    main()
