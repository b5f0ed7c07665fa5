"""The limit for sending: what a bare socket needs that knows the server to pipeline.

    python -I limit_smtp.py PORT CONNECTIONS FOLDER RECIPIENT...

Each file of FOLDER is one message to all RECIPIENTs, in one transaction. No TLS, no
journal, no state, no checks: not a program to use but a floor to measure by.
Rule of the file: the envelope of the next message goes out with the body of the last.
"""

import os
import select
import socket
import sys


class Connection:
    """One session, with its share of the messages."""

    def __init__(self, port: int, messages: list[str], envelope: bytes, replies: int) -> None:
        self.messages = messages
        self.envelope = envelope
        self.replies = replies  # to an envelope
        self.inbox = b""
        self.outbox = b""
        self.state = "greeting"
        self.wanted = 1
        self.sock = socket.socket()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", port))

    def ready(self, events: int) -> bool:
        """Send and read; whether there is more to do."""
        if events & select.POLLIN:
            data = self.sock.recv(1 << 16)
            if not data:
                raise SystemExit("the server has left")
            self.inbox += data
            while self.wanted and (end := self.inbox.find(b"\n")) >= 0:
                line, self.inbox = self.inbox[: end + 1], self.inbox[end + 1 :]
                if line[:1] not in (b"2", b"3"):
                    raise SystemExit(f"the server says {line!r}")
                if line[3:4] == b" ":
                    self.wanted -= 1
            if not self.wanted:
                self.next()
        if self.outbox:
            self.outbox = self.outbox[self.sock.send(self.outbox) :]
        return self.state != "done"

    def next(self) -> None:
        if self.state == "greeting":
            self.say(b"EHLO limit.example.org\r\n", "ehlo", 1)
        elif self.state == "ehlo":
            self.say(self.envelope, "envelope", self.replies)
        elif self.state == "envelope":
            with open(self.messages.pop(), "rb") as file:
                body = file.read()
            wire = body.replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b".\r\n"
            if self.messages:
                self.say(wire + self.envelope, "envelope", 1 + self.replies)
            else:
                self.say(wire + b"QUIT\r\n", "last", 1)
        else:
            self.state = "done"

    def say(self, data: bytes, state: str, wanted: int) -> None:
        self.outbox += data
        self.state, self.wanted = state, wanted


def main() -> None:
    port, count, folder, *recipients = sys.argv[1:]
    messages = sorted(f"{folder}/{name}" for name in os.listdir(folder))
    envelope = b"MAIL FROM:<ann0@example.com> BODY=8BITMIME\r\n"
    envelope += b"".join(b"RCPT TO:<%s>\r\n" % each.encode() for each in recipients) + b"DATA\r\n"
    poll = select.poll()
    connections = {}
    for number in range(int(count)):
        share = messages[number :: int(count)]
        connection = Connection(int(port), share, envelope, len(recipients) + 2)
        connections[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.POLLIN | select.POLLOUT)
    while connections:
        for number, events in poll.poll():
            connection = connections[number]
            if connection.ready(events):
                mask = select.POLLIN | (select.POLLOUT if connection.outbox else 0)
                poll.modify(connection.sock, mask)
            else:
                poll.unregister(connection.sock)
                del connections[number]
    os._exit(0)


if __name__ == "__main__":
    main()
