"""What a command brings, and the commands of which only the answer counts.

Rule of the file: an Answer is made with its commands; whoever waits for it makes them leave.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mailflow.errors import LoginError, MailflowError, PeerError
from mailflow.typed import TYPE_CHECKING, ClassVar, Generic, TypeVar
from mailflow_imap.responses import refusal, refused
from mailflow_imap.wire import Command, Reply, Status, Untagged

if TYPE_CHECKING:
    from mailflow_imap.arrival import Arrival
    from mailflow_imap.connection import Connection

T = TypeVar("T")


class Answer(ABC, Generic[T]):
    """What will have come when the command is answered; nothing leaves before a wait.

    `counts`: it bounds by itself how many responses it takes; else the session does.
    """

    counts: ClassVar[bool] = False

    def __init__(self, session: Connection, commands: Sequence[Command], doing: str) -> None:
        self.done = not commands
        self.session = session
        self.doing = doing
        self._left = len(commands)
        self._error: MailflowError | None = None
        if commands:
            session.queue(self, commands)

    def wait(self) -> T:
        """The result. Raises what the server's answer stands for, and what ended the session."""
        while not self.done:
            self.session.pump()
        if self._error is not None:
            raise self._error
        return self.result()

    @abstractmethod
    def result(self) -> T:
        """What there is once all is answered."""

    def take(self, response: Untagged | Status) -> bool:
        """Whether it is part of this answer."""
        return False

    def arrival(self, size: int) -> Arrival | None:
        """Where a literal of `size` octets goes that is long and may be part of this answer."""
        return None

    def challenged(self, data: bytes) -> bytes | None:
        """What the server is answered that waits for more of the command."""
        raise PeerError(f"{self.session.peer} asks for more than there is, to {self.doing}")

    def replied(self, reply: Reply) -> None:
        """One of its commands is answered."""
        if not reply.ok and self._error is None:
            self._error = self.refusal(reply)
        self._left -= 1
        if not self._left:
            self.done = True
            self.finish(reply)

    def refusal(self, reply: Reply) -> MailflowError:
        said = reply.text or reply.code or "no reason given"
        return refused(f"{self.session.peer} refuses to {self.doing}: {said}", reply)

    def finish(self, reply: Reply) -> None:
        """All is answered; `reply` came last."""

    def abandon(self) -> None:
        """Nobody waits any more: leave nothing behind."""


class Done(Answer[None]):
    """Only whether it was done."""

    def result(self) -> None:
        return None


class Idling(Done):
    """IDLE (RFC 2177): `begun` once the server listens for its end."""

    begun = False

    def challenged(self, data: bytes) -> None:
        self.begun = True


class Starting(Done):
    """STARTTLS: nothing secret was said, and nothing will be, where it is refused."""

    def refusal(self, reply: Reply) -> MailflowError:
        return refusal(
            f"{self.session.peer} refuses STARTTLS ({reply.text}); no password was sent."
            ' If it has a port for TLS from the first octet, set tls = "implicit"',
            reply._replace(status="NO"),
            LoginError,
        )
