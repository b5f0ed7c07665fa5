"""The limit: what a bare pipelining socket needs that makes every file durable.

    python -I limit.py PORT USER PASSWORD MAILDIR keep|delete [KNOWN NEW]

With KNOWN and NEW, so many new ones behind the known are asked for with the log-in.
No TLS, no journal, no state, no checks: not a program to use but a floor to measure by.
Rule of the file: one flight for the log-in and the listing, one for every RETR; files
in groups of 100 are written, flushed, renamed and their directory flushed.
"""

import os
import select
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

GROUP = 100


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
        if not line.startswith(b"+OK"):
            raise SystemExit(f"the server says {line!r}")
        return line

    def body(self) -> bytes:
        """A multi-line answer, unstuffed, behind its first line."""
        self.line()
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

    def store(self, number: int, body: bytes) -> None:
        name = f"{number}.limit"
        where = f"{self.maildir}/tmp/{name}"
        file = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(file, body.replace(b"\r\n", b"\n"))
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # begins to write back at once
        self.group.append((file, name))

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


def main() -> None:
    port, user, password, maildir, done, *ahead = sys.argv[1:]
    known, new = map(int, ahead or (0, 0))
    limit = Limit(int(port), maildir)
    limit.line()
    limit.outbox = f"USER {user}\r\nPASS {password}\r\nUIDL\r\nLIST\r\n".encode()
    if new:
        limit.outbox += retrieve(range(known + 1, known + new + 1), done)
    limit.line()
    limit.line()
    count = limit.body().count(b"\r\n")
    limit.body()
    numbers = range(known + 1, count + 1)
    if not new:
        limit.outbox += retrieve(numbers, done)
    for number in numbers:
        limit.store(number, limit.body())
        if len(limit.group) == GROUP:
            limit.flush()
            if done == "delete":
                first = number - GROUP + 1
                limit.outbox += b"".join(b"DELE %d\r\n" % n for n in range(first, number + 1))
    left = len(limit.group)
    limit.flush()
    if done == "delete":
        limit.outbox += b"".join(b"DELE %d\r\n" % n for n in range(count - left + 1, count + 1))
        limit.outbox += b"QUIT\r\n"
    for _ in range(1 + count * (done == "delete")):
        limit.line()
    os._exit(0)


if __name__ == "__main__":
    main()
