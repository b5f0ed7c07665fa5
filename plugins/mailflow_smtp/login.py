"""Logging in to an SMTP server (RFC 4954): which mechanism, and what a refusal means.

Rule of the file: no error holds a secret, whatever the server repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailflow.errors import LoginError, PeerError, UnavailableError
from mailflow.sasl import TOKEN_MECHANISMS, Credentials, Exchange, choose, mechanism
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow_smtp.session import Session
    from mailflow_smtp.wire import Reply

LINE_LIMIT = 512
"""Octets of a command with its CRLF (RFC 5321, 4.5.3.1.4)."""


def log_in(session: Session, credentials: Credentials, wanted: Sequence[str]) -> str:
    """Try each of `wanted` that the server offers, until it accepts one: that one's name.

    Some offer what they then refuse. Raises LoginError if none is accepted,
    UnavailableError if the server cannot say for now.
    """
    offered = session.extensions.parameters("AUTH")
    names = choose(wanted, offered)
    if not names:
        raise LoginError(
            f"{session.peer} offers no way to log in that `auth` allows: it offers"
            f" {' '.join(offered) or 'none'}, `auth` is {', '.join(wanted)}"
        )
    refusal = ""
    for name in names:
        try:
            reply, text = _authenticate(session, name, credentials)
        except UnavailableError:
            if refusal:
                break  # it left because of the refusal before
            raise
        if reply.code == 235:
            return name
        if reply.temporary:
            raise UnavailableError(f"{session.peer} cannot check the login for now: {text}")
        refusal = refusal or text
    what = "the token" if name in TOKEN_MECHANISMS else "`password`"
    raise LoginError(
        f"{session.peer} refuses the login of {credentials.user}: {refusal.rstrip('.')};"
        f" check `user` and {what}"
    )


def _authenticate(session: Session, name: str, credentials: Credentials) -> tuple[Reply, str]:
    """One exchange: the last reply, and what to say of it."""
    exchange = Exchange(mechanism(name, credentials))
    reply = session.request(f"AUTH {exchange.command(LINE_LIMIT - len('AUTH ') - 2)}")
    while reply.code == 334:
        if exchange.cancelled:
            raise PeerError(f"{session.peer} goes on with a login that was cancelled")
        reply = session.request(exchange.answer(reply.lines[0].strip()))
    text = f"{reply} (cancelled: {exchange.cancelled})" if exchange.cancelled else str(reply)
    return reply, credentials.mask(f"{name}: {text}")
