"""The limit of IMAP: what a bare pipelining socket needs that makes every file durable.

    python -I limit_imap.py PORT USER PASSWORD MAILDIR

No TLS, no journal, no state, no checks: not a program to use but a floor to measure by.
Rule of the file: one flight for LOGIN, EXAMINE and all messages; files in groups of 100
are written, flushed, renamed and their directory flushed.
"""

import os
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

GROUP = 100
LITERAL = re.compile(rb"\* \d+ FETCH [^\r\n]*\{(\d+)\}\r\n")


class Limit:
    def __init__(self, port: int, maildir: str) -> None:
        self.maildir = maildir
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox = bytearray()
        self.buffer = bytearray(1 << 18)
        self.view = memoryview(self.buffer)
        self.group: list[tuple[int, str]] = []
        self.pool = ThreadPoolExecutor(16)

    def more(self) -> None:
        size = self.sock.recv_into(self.buffer)
        if not size:
            raise SystemExit("the server has left")
        self.inbox += self.view[:size]

    def line(self) -> bytes:
        while (end := self.inbox.find(b"\r\n")) < 0:
            self.more()
        line = bytes(self.inbox[: end + 2])
        del self.inbox[: end + 2]
        return line

    def body(self, size: int) -> bytes:
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

    def flush(self) -> None:
        list(self.pool.map(os.fsync, [file for file, _ in self.group]))
        for file, name in self.group:
            os.close(file)
            os.rename(f"{self.maildir}/tmp/{name}", f"{self.maildir}/new/{name}")
        self.group.clear()
        directory = os.open(f"{self.maildir}/new", os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def main() -> None:
    port, user, password, maildir = sys.argv[1:]
    limit = Limit(int(port), maildir)
    limit.line()
    flight = f"1 LOGIN {user} {password}\r\n2 EXAMINE INBOX\r\n3 UID FETCH 1:* BODY.PEEK[]\r\n"
    limit.sock.sendall(flight.encode())
    number = 0
    while not (line := limit.line()).startswith(b"3 "):
        if line.startswith((b"1 ", b"2 ")) and line[2:4] != b"OK":
            raise SystemExit(f"the server says {line!r}")
        if found := LITERAL.fullmatch(line):
            number += 1
            limit.store(number, limit.body(int(found[1])))
            limit.line()
            if len(limit.group) == GROUP:
                limit.flush()
    if not line.startswith(b"3 OK"):
        raise SystemExit(f"the server says {line!r}")
    limit.flush()
    limit.sock.sendall(b"4 LOGOUT\r\n")
    os._exit(0)


if __name__ == "__main__":
    main()
