"""What the options of a step have in common that reads mail from a server.

Rule of the file: `host` names the account and the certificate, whatever way leads there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mailflow.net import Wire, is_loopback
from mailflow.options import ServerOptions, Text
from mailflow.program import Command
from mailflow.typed import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mailflow.halt import Halt


class Connector(Command):
    """A program that is a connection."""

    expected = 'a command such as ["ssh", "-W", "mail.example.org:993", "gateway"]'


class MailServerOptions(ServerOptions):
    """How the server is reached; `ports` is the port of each `tls`, where nothing else is said."""

    ports: ClassVar[Mapping[str, int]] = {}

    command = Connector.optional(
        "A program whose stdin and stdout are the connection, instead of one to `host` and"
        ' `port`; `host` still names the account and the certificate. With tls = "none" its'
        " way is taken for protected."
    )
    tls_name = Text.optional(
        "The name that the certificate must be for, where it is not `host` (behind an ssh forward)."
    )

    @property
    def protection(self) -> str:
        """`tls`, with its default worked out."""
        return self.tls or ("none" if is_loopback(self.host) else "implicit")

    @property
    def number(self) -> int:
        """`port`, with its default worked out."""
        return self.port or self.ports[self.protection]

    def look(self) -> Iterator[tuple[str, str]]:
        yield from super().look()
        if self.command is not None and (missing := self.command.missing()):
            yield "command", missing

    def dial(self, halt: Halt) -> Wire:
        """A connection to the server, or to the program that leads there. Raises
        UnavailableError."""
        if self.command is None:
            return Wire.connect(self.host, self.number, timeout=self.timeout, halt=halt)
        from mailflow.tunnel import Tunnel

        return Tunnel.through(self.command.words, peer=self.host, timeout=self.timeout, halt=halt)
