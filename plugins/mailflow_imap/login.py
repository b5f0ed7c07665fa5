"""Getting a session: connect, protect, log in, and what is asked in the same flight.

Rule of the file: a secret leaves only by a way that the user wants and the server
offers, never before TLS where it is wanted; each way is tried once, and not at all after
the server said that the credentials are wrong. Nobody is sent elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from mailflow.errors import ConfigError, LoginError, MailflowError, UnavailableError
from mailflow.net import is_loopback, tls_context
from mailflow.sasl import Credentials, Exchange, choose, mechanism
from mailflow.typed import TYPE_CHECKING, TypeVar
from mailflow_imap.answer import Done
from mailflow_imap.responses import refusal
from mailflow_imap.session import Session
from mailflow_imap.wire import Command, Reply

if TYPE_CHECKING:
    import ssl

    from mailflow.kinds import Runtime
    from mailflow_imap.connection import Connection
    from mailflow_imap.settings import ImapAccount, ImapOptions

T = TypeVar("T")

WRONG = frozenset(("AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "CONTACTADMIN"))
"""Codes after which no other way would work either (RFC 5530, 3)."""

INITIAL_LIMIT = 8000
"""Octets of AUTHENTICATE with its initial response: servers read lines of 8,192."""


_IN_TURN: set[tuple[str, int]] = set()
"""The servers that did not like to be told a password before they had greeted."""


def begin(
    options: ImapOptions, runtime: Runtime, follow: Callable[[Session], T]
) -> tuple[Session, T]:
    """`connect` and `enter` at once: a session, and what `follow` gives.

    Where octets are protected from the first one, LOGIN and what follows it leave before
    the greeting is here, which saves a round trip: the certificate has told who hears them.
    A server that does not take it is asked in turn, this time and from then on. Raises what
    `connect` and `enter` raise.
    """
    server = options.host, options.number
    ahead = goes_ahead(options) and server not in _IN_TURN
    began = time.monotonic()
    session = connect(options, runtime, ahead=ahead)
    try:
        try:
            found = enter(options, session, lambda: follow(session))
        except UnavailableError:
            if session.greeted or not ahead or time.monotonic() - began >= options.timeout:
                raise
            _IN_TURN.add(server)
            session.close()
            session = connect(options, runtime)
            found = enter(options, session, lambda: follow(session))
        if session.turned_down:
            _IN_TURN.add(server)
    except BaseException:
        session.close()
        raise
    return session, found


def goes_ahead(options: ImapOptions) -> bool:
    """Nobody must be able to listen, and what is said be a password that LOGIN has words for."""
    if options.pipelining != "always" or options.command is not None:
        return False
    if options.secret is None or options.by_token or "login" not in options.ways:
        return False
    protection = options.protection
    return protection == "implicit" or (protection == "none" and is_loopback(options.host))


def connect(options: ImapAccount, runtime: Runtime, *, ahead: bool = False) -> Session:
    """A session that was greeted, and is protected as `tls` says; nobody is logged in. With
    `ahead` the greeting is still to come.

    Raises UnavailableError, LoginError (TLS refused or not to be had), PeerError.
    """
    protection = options.protection
    if protection == "none" and not (is_loopback(options.host) or options.command):
        runtime.log.warning("the password goes in clear", host=options.host)
    session = Session.open(
        lambda: options.dial(runtime.halt),
        runtime.log,
        runtime.scratch,
        context=None if protection == "none" else _context(options),
        name=options.tls_name or options.host,
        implicit=protection == "implicit",
        pipelining=options.pipelining == "always",
        ahead=ahead,
    )
    session.progress = runtime.progress
    return session


def enter(
    options: ImapOptions,
    session: Session,
    follow: Callable[[], T] = lambda: None,  # type: ignore[assignment,return-value]
) -> T:
    """Log in as `options` say; gives what `follow` gives.

    `follow` asks for what is to leave in the same flight; it is called once for each way
    that is tried, and its Answers are good where this returns. A token that the server
    refuses is renewed, and tried once more, where the connection still stands.
    """
    session.believed = options.search == "server"
    if options.secret is None:
        if "external" not in options.ways:
            raise ConfigError(f"no `password` for {options.host}")
        return log_in(session, Credentials(options.user or "", ""), options.ways, follow)

    def act(secret: str) -> T:
        if session.lost:
            text = f"{session.peer} refused a token and left; another is here for the next time"
            raise UnavailableError(text)
        known = Credentials(options.user or "", secret)
        if any(c in text for text in known for c in "\r\n\0"):
            raise LoginError(f"the user or password for {options.host} holds a line end")
        return log_in(session, known, options.ways, follow)

    return options.secret.use(act)


def log_in(
    session: Connection, credentials: Credentials, ways: Sequence[str], follow: Callable[[], T]
) -> T:
    """Log in by the first of `ways` that works. Raises LoginError, UnavailableError, PeerError."""
    if session.preauthenticated:
        session.logged_in = True
        return follow()
    try:
        return _log_in(session, credentials, ways, follow)
    except MailflowError as error:
        masked = credentials.mask(error.text)
        if masked == error.text:
            raise
        raise type(error)(masked, **error.fields) from None  # the server has repeated the secret


def _log_in(
    session: Connection, credentials: Credentials, ways: Sequence[str], follow: Callable[[], T]
) -> T:
    refused: MailflowError | None = None
    if not session.greeted:
        try:
            return LoggingIn(session, credentials, "login").attempt(follow)
        except LoginError as error:
            if session.lost or error.fields.get("code") in WRONG:
                raise
            refused = error
        session.turned_down = True
        if session.preauthenticated:
            session.logged_in = True
            return follow()
    for way in _offered(session, ways, credentials):
        if session.turned_down and way == "login":
            continue
        try:
            return LoggingIn(session, credentials, way).attempt(follow)
        except LoginError as error:
            if error.fields.get("code") or session.lost:
                raise refused or error from None
            refused = refused or error
    if refused:
        raise refused
    mechanisms = sorted(name for name in session.capabilities if name.startswith("AUTH="))[:20]
    also = "" if "LOGINDISABLED" in session.capabilities else " and LOGIN"
    raise LoginError(
        f"{session.peer} offers no way to log in that `auth` allows: it offers"
        f" {' '.join(mechanisms) or 'no AUTH='}{also}, `auth` is {', '.join(ways)}"
    )


def _offered(session: Connection, ways: Sequence[str], credentials: Credentials) -> Iterator[str]:
    """The ways that both sides know, in the order wanted; but LOGIN, whose words have no
    charset (RFC 3501, 6.2.3), after the others where they are not ASCII."""
    mechanisms = [
        name.removeprefix("AUTH=") for name in session.capabilities if name.startswith("AUTH=")
    ]
    plain = all(text.isascii() for text in credentials)
    for way in sorted(ways, key=lambda way: way == "login" and not plain):
        if way == "login":
            if "LOGINDISABLED" not in session.capabilities:
                yield way
        elif choose((way,), mechanisms):
            yield way


class LoggingIn(Done):
    """LOGIN (RFC 3501, 6.2.3) or AUTHENTICATE (6.2.2) by one way."""

    def __init__(self, session: Connection, credentials: Credentials, way: str) -> None:
        self._user = credentials.user
        self._way = way
        self._learnt = session.learnings
        self._exchange: Exchange | None = None
        if way == "login":
            self._command = Command("LOGIN", *credentials)
        else:
            self._exchange = Exchange(mechanism(way, credentials))
            limit = INITIAL_LIMIT if session.offers("SASL-IR") else 0
            words = self._exchange.command(limit).encode("ascii").split()
            # a token that is refused is told as a challenge, which is then to be answered; and
            # whatever follows in the same segment, Cyrus 3.6 loses
            self._command = Command("AUTHENTICATE", *words, alone=True)
        super().__init__(session, [self._command], "log in")

    def attempt(self, follow: Callable[[], T]) -> T:
        return self.session.attempt(self, self._command, follow)

    def challenged(self, data: bytes) -> bytes | None:
        if self._exchange is None:
            return super().challenged(data)
        return self._exchange.answer(data).encode("ascii")

    def finish(self, reply: Reply) -> None:
        if self._error is None:
            self.session.entered(self._learnt)

    def refusal(self, reply: Reply) -> MailflowError:
        cancelled = self._exchange.cancelled if self._exchange else ""
        said = "; ".join(filter(None, (cancelled, reply.text))) or "no reason given"
        text = f"{self.session.peer} refuses the login of {self._user}: {said}"
        if reply.code == "REFERRAL":
            return LoginError(
                f"{text}; it names another server, which is not asked", code=reply.code
            )
        if reply.code in ("", "AUTHENTICATIONFAILED"):
            what = "the token" if self._way in ("oauthbearer", "xoauth2") else "`password`"
            text = f"{text.rstrip('.')}; check `user` and {what}"
        return refusal(text, reply._replace(status="NO"), LoginError)


def _context(options: ImapAccount) -> ssl.SSLContext:
    """With our certificate, where there is one to show."""
    import ssl

    context = tls_context(options.ca_file)
    if options.certificate is not None:
        try:
            context.load_cert_chain(options.certificate, options.key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"cannot use certificate {options.certificate}: {reason}") from None
    return context
