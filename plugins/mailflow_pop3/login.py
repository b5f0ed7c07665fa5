"""Logging in, and what is asked in the same flight.

Rule of the file: a secret leaves only by a way that the user wants and the server
offers; each way is tried once, and not at all after the server said that the
credentials are wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from mailflow.errors import InUseError, LoginError, MailflowError, PeerError, UnavailableError
from mailflow.record import NamedTuple
from mailflow.sasl import Credentials, Exchange, choose, mechanism
from mailflow.typed import TYPE_CHECKING
from mailflow_pop3.guess import may_delete
from mailflow_pop3.session import refusal
from mailflow_pop3.wire import COMMAND_LIMIT, Challenge, Command, Reply

if TYPE_CHECKING:
    from mailflow_pop3.session import Session

WAYS = ("plain", "login", "user", "apop")
"""SASL PLAIN and LOGIN (RFC 5034), USER and PASS, APOP (RFC 1939)."""

TOKEN_WAYS = ("oauthbearer", "xoauth2")
"""With an access token instead of a password (RFC 7628)."""

_LOCKED = re.compile(r"(mail ?(drop|box)|pop3?) .*(lock|in use|busy)|already (locked|in use)", re.I)


class Entry(NamedTuple):
    """A log-in: its way, the answers to what was to follow, and what was sent ahead."""

    way: str
    answers: list[Reply]
    ahead: Sequence[Command]


def log_in(
    session: Session,
    credentials: Credentials,
    ways: Sequence[str],
    pipelining: str,
    follow: Sequence[Command],
    ahead: Mapping[str, Sequence[Command]] = {},
) -> Entry:
    """Log in, and have `follow` answered.

    `pipelining` is "auto" (as CAPA says), "always" (without asking first) or "never".
    `ahead` maps a way to the RETRs that are sent behind `follow` in the flight of the
    log-in, where there is such a flight; their answers are left to the caller.
    Raises LoginError, UnavailableError (InUseError, a log-in delay), PeerError.
    """
    try:
        return _log_in(session, credentials, ways, pipelining, follow, ahead)
    except MailflowError as error:
        masked = credentials.mask(error.text)
        if masked == error.text:
            raise
        raise type(error)(masked) from None  # the server has repeated the secret


def _log_in(
    session: Session,
    credentials: Credentials,
    ways: Sequence[str],
    pipelining: str,
    follow: Sequence[Command],
    ahead: Mapping[str, Sequence[Command]],
) -> Entry:
    session.streaming = pipelining == "always"
    if not session.streaming:
        session.ask_capabilities()
        session.streaming = pipelining == "auto" and "PIPELINING" in session.capabilities
    refused: MailflowError | None = None
    for way in _ways(session, ways, pipelining):
        try:
            reply, answers, sent = _attempt(session, way, credentials, follow, ahead.get(way, ()))
        except UnavailableError:
            if refused:
                raise refused from None  # it left because of the refusal
            raise
        if reply.ok:
            return Entry(way, answers, sent)
        error = _refused(session, credentials, reply, way)
        if reply.code or not isinstance(error, LoginError):
            raise error
        refused = refused or error
    if refused:
        raise refused
    if not session.capabilities:
        session.ask_capabilities()
    offered = " ".join(session.capabilities.get("SASL", ())) or "none"
    raise LoginError(
        f"{session.peer} offers no way to log in that `auth` allows: it offers {offered},"
        f" `auth` is {', '.join(ways)}"
    )


def _ways(session: Session, wanted: Sequence[str], pipelining: str) -> Iterator[str]:
    """The ways that both sides know, in the order wanted; what is offered is asked late,
    since the first flight may bring CAPA."""
    if pipelining == "always" and "user" in wanted:
        yield "user"
        wanted = [way for way in wanted if way != "user"]
    for way in wanted:
        if way == "apop":
            known = session.timestamp is not None
        elif way == "user":
            known = "USER" in session.capabilities or "SASL" not in session.capabilities
        else:
            known = bool(choose((way,), session.capabilities.get("SASL", ())))
        if known or (pipelining == "always" and not session.capabilities and way != "apop"):
            yield way


def _attempt(
    session: Session,
    way: str,
    credentials: Credentials,
    follow: Sequence[Command],
    ahead: Sequence[Command],
) -> tuple[Reply, list[Reply], Sequence[Command]]:
    """One try: its answer, those to `follow` if it was accepted, and what of `ahead` was sent."""
    exchange = None if way in ("user", "apop") else Exchange(mechanism(way, credentials))
    commands = _commands(session, way, credentials, exchange)
    behind: list[Command] = []
    if not session.streaming or (exchange is not None and not exchange.said_all):
        ahead = ()
    else:
        ahead = () if may_delete(session.capabilities) else ahead
        behind = [*follow] if session.capabilities else [Command("CAPA"), *follow]
    session.queue(*commands, *behind, *ahead)
    refused: Reply | None = None
    for command in commands:
        reply = _answer(session, command, exchange)
        if not reply.ok and refused is None:
            refused = reply
            if not session.streaming:
                session.withdraw("PASS")
                break
    if refused is not None:
        with suppress(UnavailableError, PeerError):  # it may well leave now
            for _ in (*behind, *ahead):
                _learn(session, _whole(session))
        return refused, [], ()
    answers = [_whole(session) for _ in behind]
    if len(behind) > len(follow):
        session.learn(answers.pop(0))
    if not behind:
        session.queue(*follow)
        answers = [_whole(session) for _ in follow]
    return reply, answers, ahead


def _learn(session: Session, reply: Reply) -> None:
    """What a server offers is worth knowing where another way is to be tried."""
    if reply.command.keyword == "CAPA":
        session.learn(reply)


def _commands(
    session: Session, way: str, credentials: Credentials, exchange: Exchange | None
) -> list[Command]:
    user, secret = credentials
    if exchange is not None:
        return [Command("AUTH", exchange.command(COMMAND_LIMIT - len("AUTH \r\n")))]
    if way == "apop":
        import hashlib

        seed = (session.timestamp or b"") + secret.encode()
        return [Command("APOP", user, hashlib.md5(seed, usedforsecurity=False).hexdigest())]
    return [Command("USER", user), Command("PASS", secret)]


def _answer(session: Session, command: Command, exchange: Exchange | None) -> Reply:
    """The reply to one command of a log-in, with all challenges answered on the way."""
    for _ in range(10):
        event = session.next()
        if isinstance(event, Reply) and event.command is command:
            if exchange is not None and exchange.cancelled:
                return event._replace(ok=False, code="", text=f"{exchange.cancelled}; {event.text}")
            return event
        if exchange is None or not isinstance(event, Challenge):
            break
        session.respond(exchange.answer(event.data))
    raise PeerError(f"{session.peer} does not end the log-in ({command!r})")


def _whole(session: Session) -> Reply:
    event = session.next()
    if not isinstance(event, Reply):
        raise PeerError(f"{session.peer} answers a log-in with too much")
    return event


def _refused(session: Session, credentials: Credentials, reply: Reply, way: str) -> MailflowError:
    said = reply.text or "no reason given"
    if not reply.code and _LOCKED.search(said):
        return InUseError(f"{session.peer} has the mailbox of {credentials.user} in use: {said}")
    text = f"{session.peer} refuses the login of {credentials.user}: {said}"
    if reply.code in ("", "AUTH"):
        what = "the token" if way in TOKEN_WAYS else "`password`"
        text = f"{text.rstrip('.')}; check `user` and {what}"
    return refusal(text, reply.code, LoginError)
