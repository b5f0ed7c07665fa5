"""Getting a session: connect, protect, log in, and what is asked in the same flight.

Rule of the file: a secret leaves only by a way that the user wants and the server
offers, never before TLS where it is wanted; each way is tried once, and not at all after
the server said that the credentials are wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from mailflow.errors import ConfigError, LoginError
from mailflow.net import Wire, is_loopback, tls_context
from mailflow.sasl import Credentials
from mailflow.typed import TYPE_CHECKING, TypeVar
from mailflow_imap.session import Session

if TYPE_CHECKING:
    from mailflow.kinds import Runtime
    from mailflow_imap.settings import ImapOptions

T = TypeVar("T")


def connect(options: ImapOptions, runtime: Runtime) -> Session:
    """A session that was greeted, and is protected as `tls` says; nobody is logged in.

    Raises UnavailableError, LoginError (TLS refused or not to be had), PeerError.
    """
    protection = options.protection
    if protection == "none" and not (is_loopback(options.host) or options.command):
        runtime.log.warning("the password goes in clear", host=options.host)
    session = Session.open(
        lambda: _dial(options, runtime),
        runtime.log,
        runtime.scratch,
        context=None if protection == "none" else tls_context(options.ca_file),
        name=options.tls_name or options.host,
        implicit=protection == "implicit",
    )
    session.progress = runtime.progress
    return session


def enter(
    options: ImapOptions,
    session: Session,
    follow: Callable[[], T] = lambda: None,  # type: ignore[assignment,return-value]
    credentials: Credentials | None = None,
) -> T:
    """Log in as `options` say, or with other `credentials`; gives what `follow` gives.

    `follow` asks for what is to leave in the same flight; it is called once for each way
    that is tried, and its Answers are good where this returns.
    """
    return session.log_in(credentials or who(options), options.ways, follow)


def who(options: ImapOptions) -> Credentials:
    """The user and the password or token. Raises ConfigError, UnavailableError."""
    if options.user is None or options.secret is None:
        raise ConfigError(f"no `user` or no `password` for {options.host}")
    credentials = Credentials(options.user, options.secret.reveal())
    if any(c in text for text in credentials for c in "\r\n\0"):
        raise LoginError(f"the user or password for {options.host} holds a line end")
    return credentials


def _dial(options: ImapOptions, runtime: Runtime) -> Wire:
    """A connection to the server, or to the program that leads there."""
    if options.command is None:
        return Wire.connect(
            options.host, options.number, timeout=options.timeout, halt=runtime.halt
        )
    from mailflow.tunnel import Tunnel

    return Tunnel.through(
        options.command.words, peer=options.host, timeout=options.timeout, halt=runtime.halt
    )
