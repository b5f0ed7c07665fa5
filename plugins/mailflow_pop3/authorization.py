"""The commands before the log-in, and CAPA (RFC 1939, 4; 2449, 5; 2595, 4; 5034; 6856, 2).

Rule of the file: a password is never taken where it might have been overheard, and is refused
before it is sent.
"""

from __future__ import annotations

from base64 import b16encode
from collections.abc import Callable
from os import urandom
from socket import gethostname

from mailflow.accounts import ApopClaim, PasswordClaim
from mailflow.errors import MailflowError
from mailflow.options import FOREVER
from mailflow.sasl_server import Exchange, ExchangeError, mechanisms
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import counted
from mailflow_pop3 import surrogate
from mailflow_pop3.transaction import MANAGING, Visit

if TYPE_CHECKING:
    from mailflow.accounts import Accounts, Checked, Claim, Entered
    from mailflow_pop3.server import ServerSession

DAY = 86400

CLEAR = "no passwords in clear text: begin TLS first"

HEADS = {"surrogate": surrogate.written, "refuse": surrogate.refused}
"""What becomes of a header section for who has not said UTF8."""


def greeting(session: ServerSession) -> str:
    """The banner; with a timestamp where APOP works (RFC 1939, 7), which is told by it."""
    policy = session.policy
    if "apop" in policy.ways and policy.accounts().offers_apop:
        mark = b16encode(urandom(12)).decode("ascii").lower()
        session.timestamp = f"<{mark}@{gethostname() or 'localhost'}>"
        return f"{policy.banner} {session.timestamp}"
    return policy.banner


def capa(session: ServerSession) -> None:
    """What is offered now."""
    policy = session.policy
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"]
    if "user" in policy.ways and _clear(session):
        lines.append("USER")
    if ways := _mechanisms(session):
        lines.append(f"SASL {' '.join(ways)}")
    lines += _expire(session)
    if policy.delay is not None:
        lines.append(f"LOGIN-DELAY {policy.delay.seconds}")
    if policy.utf8 != "off":
        lines.append("UTF8 USER")
    if session.visit is None:
        if policy.stls and not session.tls and not session.utf8:
            lines.append("STLS")
    else:
        if policy.implementation:
            lines.append(f"IMPLEMENTATION {policy.implementation}")
        if session.visit.manages:
            lines += MANAGING
    session.ok("capabilities follow")
    session.say("\r\n".join([*lines, ".", ""]).encode())


def _expire(session: ServerSession) -> list[str]:
    """How many days mail is sure to stay (RFC 2449, 6.7): of this drop or, before the log-in,
    of the one that keeps it for the shortest time. Where that is less than a day, no word of
    it: EXPIRE 0 would say that what is read is deleted."""
    granted, visit = session.policy.expire, session.visit
    if visit is None:
        kept = session.policy.accounts().retention
    else:
        kept = getattr(visit.drop, "retention", FOREVER)
    if kept >= granted:
        return ["EXPIRE NEVER" if granted == FOREVER else f"EXPIRE {int(granted // DAY)}"]
    if kept < DAY:
        return []
    return [f"EXPIRE {int(kept // DAY)}{'' if visit is not None else ' USER'}"]


def _clear(session: ServerSession) -> bool:
    """Whether a password may come as it is."""
    return session.tls or session.policy.plain


def _mechanisms(session: ServerSession) -> list[str]:
    policy = session.policy
    found = mechanisms(policy.accounts(), plain=_clear(session))
    return [each for each in found if each.lower() in policy.ways]


def _text(session: ServerSession, argument: bytes | None) -> str | None:
    """A name or a password, UTF-8 where that is offered (RFC 6856, 2.2); None where it is
    neither, which was answered."""
    try:
        return (argument or b"").decode("ascii" if session.policy.utf8 == "off" else "utf-8")
    except UnicodeDecodeError:
        session.err("a name or password that is no text in UTF-8")
        return None


def user(session: ServerSession, argument: bytes | None) -> None:
    """USER: any name is good, so that nobody learns which there are."""
    if "user" not in session.policy.ways:
        session.err("log in by AUTH")
    elif not _clear(session):
        session.err(CLEAR)
    elif not argument:
        session.err("expected a name")
    elif (name := _text(session, argument)) is not None:
        session.user = name
        session.ok("send the password")


def pass_(session: ServerSession, argument: bytes | None) -> None:
    """PASS: all that follows the first space is the password."""
    name, session.user = session.user, None
    if name is None:
        session.err("send USER first")
    elif (password := _text(session, argument)) is not None:
        claim(session, PasswordClaim(name, password))


def apop(session: ServerSession, argument: bytes | None) -> None:
    """APOP, where the greeting had a timestamp."""
    name, _, digest = (argument or b"").rpartition(b" ")
    if not session.timestamp:
        session.err("APOP is not offered")
    elif not name or len(digest) != 32:
        session.err("expected a name and a digest")
    elif (text := _text(session, name)) is not None:
        sent = digest.decode("ascii", "replace")
        claim(session, ApopClaim(text, session.timestamp, sent))


def auth(session: ServerSession, argument: bytes | None) -> None:
    """AUTH (RFC 5034); alone it lists the mechanisms, as clients before RFC 2449 expect."""
    found = _mechanisms(session)
    if not argument:
        session.ok("mechanisms follow")
        session.say("\r\n".join([*found, ".", ""]).encode())
        return
    word, _, initial = argument.partition(b" ")
    name = word.decode("ascii", "replace").upper()
    if name not in found:
        clear = name.lower() in session.policy.ways and not _clear(session)
        session.err(CLEAR if clear else "no such mechanism")
        return
    exchange = Exchange(name, session.policy.accounts())
    said = initial.decode("ascii", "replace") or None
    _exchange(session, exchange, lambda: exchange.begin(said))


def answered(session: ServerSession, data: bytes) -> None:
    """The client's response to a challenge."""
    exchange, session.exchange = session.exchange, None
    if session.refused is not None:
        error, session.refused = session.refused, None
        _refuse(session, error)
    elif exchange is not None:
        said = data.decode("ascii", "replace")
        _exchange(session, exchange, lambda: exchange.answer(said))


def _exchange(session: ServerSession, exchange: Exchange, step: Callable[[], str | Claim]) -> None:
    """A step of it: another challenge, or a claim. SCRAM derives keys, which takes a while."""

    def done(said: Any, error: BaseException | None) -> None:
        if isinstance(error, ExchangeError):
            session.err(error.text)
        elif error is not None:
            _refuse(session, error)
        elif isinstance(said, str):
            session.exchange = exchange
            session.challenge(said)
        else:
            claim(session, said, exchange)

    session.do(step, done, exchange.mechanism != "SCRAM-SHA-256")


def claim(session: ServerSession, made: Claim, exchange: Exchange | None = None) -> None:
    """Have it checked, then the drop opened."""
    accounts, address = session.policy.accounts(), session.address
    session.lane = None

    def checked(value: Any, error: BaseException | None) -> None:
        if error is None:
            _open(session, accounts, value)
        elif exchange is not None and exchange.refusal is not None:
            session.refused = error
            session.challenge(exchange.refusal)
        else:
            _refuse(session, error)

    session.do(lambda: accounts.check(made, address), checked, accounts.quick(made))


def _open(session: ServerSession, accounts: Accounts, checked: Checked) -> None:
    policy = session.policy

    def opened(visit: Any, error: BaseException | None) -> None:
        if error is not None:
            _refuse(session, error, checked.login)
            return
        policy.log.info("logged in", login=visit.login, address=session.address, tls=session.tls)
        session.enter(visit)
        session.ok(counted(len(visit.items), "message"))

    def enter() -> Visit:
        if policy.delay is not None and checked.who.checked:
            policy.delay.check(checked.login)
        return _visit(session, accounts.enter(checked), checked.who.checked)

    session.lane = id(checked.account.maildrop)
    prompt = getattr(checked.account.maildrop, "prompt", False)
    session.do(enter, opened, prompt(checked.who.login) if callable(prompt) else prompt)


def _visit(session: ServerSession, entered: Entered, checked: bool) -> Visit:
    """The drop as its session sees it; closed again where it cannot be listed. Where its back
    end has only now `checked` the password, how long ago the last log-in was is asked only now:
    who does not know the password must not learn it."""
    policy, (login, drop) = session.policy, entered
    try:
        if policy.delay is not None and not checked:
            policy.delay.check(login)
        visit = Visit(login, drop, None if session.utf8 else HEADS.get(policy.utf8))
        if policy.delay is not None:
            policy.delay.note(login)
    except BaseException:
        drop.close()
        raise
    return visit


def _refuse(session: ServerSession, error: BaseException, login: str = "") -> None:
    """-ERR, kept back as long as the error says. Wrong claims are in the log already."""
    if isinstance(error, MailflowError):
        delay = error.fields.get("delay", 0.0)
        session.hold = float(delay) if isinstance(delay, int | float) else 0.0
    session.fail(error, "log-in", login)


def stls(session: ServerSession) -> None:
    """STLS. What came behind it in clear text is not from whom it seems: it is dropped."""
    if session.tls:
        session.err("TLS is on already")
    elif not session.policy.stls:
        session.err("no TLS on this port")
    elif session.utf8:
        session.err("not after UTF8")
    else:
        if dropped := session.forget():
            session.policy.log.warning(
                "dropped what came behind STLS in clear text", octets=dropped,
                address=session.address,
            )  # fmt: skip
        session.ok("begin TLS")
        session.secure = True


def utf8(session: ServerSession) -> None:
    """UTF8: messages come as they are, whatever their header sections hold."""
    if session.policy.utf8 == "off":
        session.err("UTF8 is not offered")
    else:
        session.utf8 = True
        session.ok("UTF8 enabled")
