"""A loopback SMTP server that keeps what it is sent, and fails as it is told to.

    with SmtpSink() as sink:
        sink.on("RCPT", "550 5.1.1 no such user", match="bob@*")
        sink.on(".", CUT, times=1)
        ...                                   # talk to sink.host, sink.port
        sink.messages[0].recipients

Rule of the file: what it is told counts from the next command on, for every connection.
"""

from __future__ import annotations

import fnmatch
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from mailflow.testing.smtp_dialogue import (
    CUT,
    RESET,
    STALL,
    Action,
    Connection,
    Dialogue,
    EndError,
    Message,
    shut,
)

if TYPE_CHECKING:
    import ssl

__all__ = ["CUT", "EXTENSIONS", "RESET", "STALL", "Connection", "Message", "SmtpSink"]

EXTENSIONS = ("PIPELINING", "SIZE 0", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class _Rule:
    def __init__(
        self, verb: str, actions: Sequence[Action], match: str, after: int, times: int | None
    ) -> None:
        self.verb, self.actions, self.match = verb, actions, match
        self.after, self.times = after, times

    def answers(self, verb: str, argument: str) -> bool:
        """Whether this rule is for the command; counts it."""
        if self.verb not in ("*", verb) or not fnmatch.fnmatchcase(argument, self.match):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
            return self.times >= 0
        return True


class SmtpSink:
    """Runs from `__enter__` to `__exit__`, a thread for each connection.

    `users` (name: password) makes a login necessary; of the mechanism XOAUTH2 the password is
    the token. `tls` offers STARTTLS, or, with
    `implicit`, is spoken from the first octet. `lenient` names further ends of data,
    such as b"\\n.\\n", as servers that could be smuggled to took them. `keep` False
    forgets the data. `lmtp` is RFC 2033. `cut_received` and `cut_sent` end each connection
    after so many octets.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        users: Mapping[str, str] | None = None,
        mechanisms: Sequence[str] = ("PLAIN", "LOGIN"),
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        lenient: Sequence[bytes] = (),
        keep: bool = True,
        lmtp: bool = False,
    ) -> None:
        self.extensions = tuple(extensions)
        self.users = dict(users or {})
        self.mechanisms = tuple(mechanisms)
        self.tls, self.implicit = tls, implicit
        self.ends = (b"\r\n.\r\n", *lenient)
        self.keep = keep
        self.lmtp = lmtp
        self.cut_received: int | None = None
        self.cut_sent: int | None = None
        self.messages: list[Message] = []
        self.connections: list[Connection] = []
        self._rules: list[_Rule] = []
        self.lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.sockets: set[socket.socket] = set()
        self._listener = socket.create_server((self.host, 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._stopped = False

    def on(
        self,
        verb: str,
        *actions: Action,
        match: str = "*",
        after: int = 0,
        times: int | None = None,
    ) -> None:
        """Answer `verb` with `actions` instead; the rule given last counts first.

        `verb` is a command, "CONNECT" (the greeting), "BODY" (some of the content has
        come), "." (all of it) or "*". `match` is a pattern for the address of MAIL and
        RCPT, and of "." in LMTP, else for the argument. The first `after` matches are
        spared; `times` is how often it holds. A message is kept unless "." is answered
        with 4yz or 5yz.
        """
        self._rules.insert(0, _Rule(verb, actions, match, after, times))

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self._stopped = True
            for sock in (self._listener, *self.sockets):
                shut(sock)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def settle(self, timeout: float = 10.0) -> None:
        """Wait until every connection so far has ended. Raises TimeoutError."""
        for thread in self._threads[1:]:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError("a connection is still open")

    @property
    def commands(self) -> list[str]:
        """The commands of all connections."""
        return [command for each in self.connections for command in each.commands]

    @property
    def violations(self) -> list[str]:
        return [violation for each in self.connections for violation in each.violations]

    def rule(self, verb: str, argument: str) -> Sequence[Action] | None:
        """The actions scripted for a command."""
        with self.lock:
            for rule in self._rules:
                if rule.answers(verb, argument):
                    return rule.actions
        return None

    def keep_message(self, message: Message) -> None:
        with self.lock:
            self.messages.append(message)

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                if self._stopped:
                    sock.close()
                    return
                self.sockets.add(sock)
                connection = Connection(len(self.connections))
                self.connections.append(connection)
            self._spawn(self._serve, sock, connection)

    def _serve(self, sock: socket.socket, connection: Connection) -> None:
        dialogue = Dialogue(self, sock, connection)
        try:
            dialogue.run()
        except (OSError, EndError):
            pass  # the client left, or is to be left
        finally:
            with self.lock:
                self.sockets.discard(sock)
            dialogue.close()
