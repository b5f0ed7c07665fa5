"""POP3, the client's side: the same events however the octets of a server come."""

from __future__ import annotations

from mailflow.errors import PeerError, UnavailableError
from mailflow_pop3.wire import Client, Command, capabilities, numbered

PACKAGES = ["mailflow_pop3"]
WORDS = [b"+OK", b"-ERR", b"\r\n", b".\r\n", b"..", b"+ ", b" [AUTH] ", b"[IN-USE]", b"<1@x>"]
SEEDS = [
    b"\x01\x03+OK ready\r\n+OK\r\nUIDL\r\n.\r\n+OK\r\nSubject: x\r\n\r\n..a\r\n.\r\n+OK\r\n",
    b"\x40\x01+OK <1896.697170952@x>\r\n+OK\r\n1 a\r\n2 b\r\n.\r\n-ERR no\r\n+OK 2 300\r\n",
]
COMMANDS = [Command("CAPA"), Command("RETR", 1), Command("DELE", 1), Command("AUTH"),
            Command("UIDL"), Command("LIST", 2), Command("TOP", 1, 0), Command("QUIT")]  # fmt: skip


def events(octets: bytes, step: int) -> list[object]:
    client = Client("mail.example.org", 64)
    found: list[object] = []
    sent = False
    fed = [octets[at : at + step] for at in range(0, len(octets), step)]
    try:
        for data in [*fed, b""]:
            client.receive(data)
            while (event := client.next_event()) is not None:
                found.append((type(event).__name__, *map(str, event)))
                if not sent:
                    sent = True
                    for command in COMMANDS:
                        client.send(command)
    except (PeerError, UnavailableError) as error:
        assert error.text.isprintable(), error.text
        found.append(str(error))
    return found


def one(data: bytes) -> None:
    step, octets = 1 + (data[0] if data else 0) % 64, data[1:]
    assert events(octets, step) == events(octets, max(1, len(octets)))
    assert all(name == name.upper() for name in capabilities(octets))
    assert all(number >= 0 for number, _ in numbered(octets))
