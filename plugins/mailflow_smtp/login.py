"""Logging in (RFC 4954): the mechanisms in their order, and what a refusal means.

Rule of the file: no secret is sent to a mechanism that asks for something else,
and none is in an error.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

from mailflow.errors import LoginError, UnavailableError

if TYPE_CHECKING:
    from mailflow_smtp.session import Session
    from mailflow_smtp.wire import Reply

MECHANISMS = ("PLAIN", "LOGIN")

LINE_LIMIT = 512
"""Octets of a command with its CRLF (RFC 5321, 4.5.3.1.4)."""


class Credentials(NamedTuple):
    """Who logs in, and by which mechanisms, the preferred first."""

    user: str
    password: str
    mechanisms: tuple[str, ...] = MECHANISMS

    def __repr__(self) -> str:
        return f"<credentials of {self.user}>"


def log_in(session: Session, credentials: Credentials) -> None:
    """Try each mechanism that both sides know, until one is accepted.

    Raises LoginError if none is, UnavailableError if the server cannot say for now.
    """
    offered = session.extensions.parameters("AUTH")
    usable = [name for name in credentials.mechanisms if name in offered]
    if not usable:
        raise LoginError(
            f"{session.peer} offers no way to log in that is wanted here:"
            f" it offers {' '.join(offered) or 'none'},"
            f" wanted is {' '.join(credentials.mechanisms)}"
        )
    refusal = ""
    for name in usable:
        try:
            reply = _authenticate(session, name, credentials)
        except UnavailableError:
            if refusal:
                break  # it left because of the refusal before
            raise
        text = _masked(f"{name}: {reply}", credentials)
        if reply.code == 235:
            return
        if reply.temporary:
            raise UnavailableError(f"{session.peer} cannot check the login for now: {text}")
        refusal = refusal or text
    raise LoginError(f"{session.peer} refuses the login of {credentials.user}: {refusal}")


def _authenticate(session: Session, name: str, credentials: Credentials) -> Reply:
    """One exchange. What the mechanism does not know is cancelled (RFC 4954, 4)."""
    user, password = credentials.user.encode(), credentials.password.encode()
    answers = [b"\0" + user + b"\0" + password] if name == "PLAIN" else [user, password]
    command = f"AUTH {name}"
    if name == "PLAIN":
        initial = f"{command} {_encoded(answers[0])}"
        if len(initial) + 2 <= LINE_LIMIT:
            command = initial
            answers.clear()
    reply = session.request(command)
    while reply.code == 334:
        if not answers or not _is_challenge(reply):
            return session.request("*")
        reply = session.request(_encoded(answers.pop(0)))
    return reply


def _encoded(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _is_challenge(reply: Reply) -> bool:
    """Whether it is base64, and of a length that makes sense."""
    text = reply.lines[0].strip()
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(reply.lines) == 1 and len(text) < LINE_LIMIT


def _masked(text: str, credentials: Credentials) -> str:
    """Without what the server repeats of the secret."""
    password = credentials.password
    plain = f"\0{credentials.user}\0{password}"
    for secret in (_encoded(plain.encode()), _encoded(password.encode()), password):
        text = text.replace(secret, "***") if secret else text
    return text
