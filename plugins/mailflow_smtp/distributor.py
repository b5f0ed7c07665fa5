"""Hands mail to a server by SMTP or LMTP, and says for each recipient what became of it.

Rule of the file: one connection for each distributor, opened when there is something to
send and kept for the mails that follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mailflow.net import tls_context
from mailflow.typed import TYPE_CHECKING, ClassVar, Self
from mailflow_smtp.session import Session
from mailflow_smtp.settings import LmtpOptions, Settings, SmtpOptions
from mailflow_smtp.transfer import Transfer, Turns

if TYPE_CHECKING:
    from mailflow.kinds import Runtime, Ticket
    from mailflow.mail import Mail
    from mailflow.options import Options
    from mailflow.verdicts import Report


class SmtpDistributor:
    """Sends mail to a mail server, over one connection for many mails."""

    options: ClassVar[type[Options]] = SmtpOptions
    schemes: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "smtp": {},
        "smtps": {"tls": "implicit"},
        "submission": {"tls": "starttls"},
    }
    repeatable = False
    per_recipient = True
    sends = True

    def __init__(self, options: Settings, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._session.quit()
            self._session = None

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterator[Report]:
        """As many transactions as its recipients need; each one's outcome is his own."""
        for _, report in self.distribute_many([(mail, ticket)]):
            yield report

    def distribute_many(
        self, jobs: Iterable[tuple[Mail, Ticket]]
    ) -> Iterator[tuple[Ticket, Report]]:
        """Each envelope in flight with the content before it, where the server pipelines."""
        turns = Turns(jobs, self._options)
        return Transfer(turns, self._options, self._runtime, self._connected, self._drop).run()

    def offers(self) -> Iterator[str]:
        """What the server says it can; it is greeted and logged in to, and sent nothing."""
        session = self._connected()
        extensions = session.extensions
        yield f"{session.peer} greets: {session.greeting}"
        yield f"TLS: {session.wire.protection or 'none'}"
        yield f"extensions: {', '.join(extensions.keywords) or 'none'}"
        limit = f"{extensions.size} octets" if extensions.size else "no limit told"
        yield f"largest message: {limit}"
        ways = extensions.parameters("AUTH")
        done = f"; logged in by {session.mechanism}" if session.mechanism else ""
        yield f"logins: {', '.join(ways) or 'none'}{done}"

    def _connected(self) -> Session:
        if self._session and self._session.alive():
            return self._session
        self._drop()
        options = self._options
        tls = None
        if options.protection != "none":
            tls = options.standing.tls(lambda: tls_context(options.ca_file))
        self._session = Session.open(options, self._runtime.halt, tls)
        self._runtime.log.debug(
            "connection opened", host=self._session.peer, tls=options.protection
        )
        return self._session

    def _drop(self) -> None:
        """Leave without a word."""
        if self._session:
            self._session.close()
            self._session = None


class LmtpDistributor(SmtpDistributor):
    """Hands mail to a delivery agent, such as Dovecot's, by LMTP (RFC 2033), which answers for
    each recipient whether the mail lies in his mailbox."""

    options: ClassVar[type[Options]] = LmtpOptions
    schemes: ClassVar[Mapping[str, Mapping[str, object]]] = {"lmtp": {}}
    url_path: ClassVar[str] = "path"
    sends = False
