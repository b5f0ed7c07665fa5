"""One mail as it is to be sent: what it needs of the server, and its octets.

Rule of the file: nothing is converted. That would break signatures, and octets cut down to
7 bits are lost; what the server cannot take is refused before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from mailflow.errors import BadMailError, RefusedError
from mailflow.mail import chunks
from mailflow.typed import TYPE_CHECKING
from mailflow_smtp.wire import Stuffer, Transaction, path

if TYPE_CHECKING:
    from mailflow.mail import Mail
    from mailflow_smtp.session import Session
    from mailflow_smtp.settings import Settings

_NOT_XTEXT = re.compile(rb"[^!-*,-<>-~]")
"""What RFC 3461, 4 writes as + and two digits."""

ENVID_LIMIT = 100
"""Octets of an envelope identifier (RFC 3461, 4.4)."""


def xtext(text: str) -> bytes:
    """RFC 3461, 4."""
    return _NOT_XTEXT.sub(lambda found: b"+%02X" % found[0][0], text.encode())


class Letter:
    """A mail, and what the options of its step say about it."""

    def __init__(self, mail: Mail, settings: Settings) -> None:
        """Raises BadMailError where no reverse-path is known, or it cannot be said."""
        self.mail = mail
        self.settings = settings
        self.sender = self._sender()

    def _sender(self) -> str:
        sender = self.mail.envelope.sender
        if sender != "" and self.settings.sender is not None:
            sender = self.settings.sender.address
        if sender is None:
            raise BadMailError(
                "no envelope sender is known for this mail: set `sender` in the [[distribute]]"
                " step, or let an earlier step set one"
            )
        try:
            path(sender)
        except ValueError as error:
            raise BadMailError(f"the envelope sender cannot be sent: {error}") from None
        return sender

    @cached_property
    def eight_bit(self) -> bool:
        """Whether any octet is outside ASCII."""
        return not all(piece.isascii() for piece in chunks(self.mail.content))

    def transaction(
        self, session: Session, recipients: Sequence[str], *, data: bool
    ) -> Transaction:
        """Asks for these recipients. Raises RefusedError where the server is not able."""
        sender, verp = self.sender, self.settings.verp
        parameters = self._parameters(session, recipients)
        if verp is not None and sender:
            if len(recipients) == 1:
                sender = verp.sender(sender, recipients[0])
            else:
                parameters += f" XVERP={verp.delimiters}"
        wishes = self._wishes(session)
        return Transaction(path(sender), recipients, parameters.encode("ascii"), wishes, data=data)

    def alone(self, session: Session) -> bool:
        """Whether each recipient needs a transaction: a reverse-path of its own that the
        server does not make."""
        verp = self.settings.verp
        if verp is None or not self.sender:
            return False
        return not (verp.delimiters and "XVERP" in session.extensions)

    def _parameters(self, session: Session, recipients: Sequence[str]) -> str:
        """What MAIL says besides the path."""
        offered = session.extensions
        words = []
        size = self.mail.content.size
        if "SIZE" in offered:
            if offered.size is not None and size > offered.size:
                raise RefusedError(
                    f"the mail has {size} octets, the server takes {offered.size}", code="5.3.4"
                )
            words.append(f" SIZE={size}")
        if self.eight_bit:
            if "8BITMIME" not in offered:
                raise RefusedError(
                    "the mail has 8-bit octets, and the server does not offer 8BITMIME",
                    code="5.6.3",
                )
            words.append(" BODY=8BITMIME")
        foreign = [each for each in (self.sender, *recipients) if not each.isascii()]
        if foreign:
            if "SMTPUTF8" not in offered:
                raise RefusedError(
                    f"the address {foreign[0]} is not ASCII, and the server does not offer"
                    " SMTPUTF8",
                    code="5.6.7",
                )
            words.append(" SMTPUTF8")
        if "DSN" in offered and (self.settings.dsn_notify or self.settings.dsn_return):
            if self.settings.dsn_return:
                words.append(
                    " RET=" + {"full": "FULL", "headers": "HDRS"}[self.settings.dsn_return]
                )
            words.append(f" ENVID={xtext(self.mail.id)[:ENVID_LIMIT].decode()}")
        return "".join(words)

    def _wishes(self, session: Session) -> Callable[[str], bytes]:
        """What RCPT says besides the path (RFC 3461, 4.1 and 4.2; RFC 6533, 3)."""
        if not self.settings.dsn_notify or "DSN" not in session.extensions:
            return lambda recipient: b""
        notify = b" NOTIFY=" + ",".join(self.settings.dsn_notify).upper().encode()

        def wishes(recipient: str) -> bytes:
            if recipient.isascii():
                return notify + b" ORCPT=rfc822;" + xtext(recipient)
            return notify  # RFC 6533 writes it in a way that few servers read

        return wishes

    def pieces(self, note: Callable[[Mail, int], None], *, dots: bool = True) -> Iterator[bytes]:
        """The octets in the form of the wire; `note` is told of line ends that were mended."""
        stuffer = Stuffer(dots=dots)
        for piece in chunks(self.mail.content):
            yield stuffer.feed(piece)
        yield stuffer.end()
        if stuffer.mended:
            note(self.mail, stuffer.mended)
