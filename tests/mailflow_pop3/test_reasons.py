"""What a client learns of a failure: a short reason; the log has the whole."""

from __future__ import annotations

import poplib
from collections.abc import Collection, Iterator, Sequence

import pytest

from mailflow.accounts import Account, Accounts
from mailflow.errors import (
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Credentials, Item
from mailflow.mail import Content
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import PASSWORD, Gateway
from mailflow_pop3.server import Policy, ServerSession

SECRET = "/srv/mail/of/ann/cur/1700000000.host"


class Failing:
    """A drop with one message, where something fails; it is the same object each time."""

    passthrough = True
    prompt = True

    def __init__(self, at: str, error: MailflowError) -> None:
        self.at, self.error = at, error
        self.right = PASSWORD
        self.closed = 0

    def _do(self, what: str) -> None:
        if what == self.at:
            raise self.error

    def login(self, who: Credentials) -> Failing:
        if not who.checked and who.password != self.right:
            raise LoginError(f"imap.internal refuses {who.login}")
        self._do("login")
        return self

    def items(self) -> Sequence[Item]:
        self._do("items")
        return [Item("one", 10)]

    def read(self, key: str) -> Content:
        raise self.error

    def close(self, delete: Collection[str] = ()) -> None:
        self.closed += 1
        self._do("close")


ERRORS = [
    UnavailableError(f"cannot read {SECRET}: Input/output error"),
    InUseError(f"another session has {SECRET}"),
    GoneError(f"{SECRET} is not there any more"),
    LoginError(f"{SECRET} is no drop"),
    RefusedError(f"{SECRET} was refused"),
]


def said(gateway: Gateway, command: str) -> Iterator[str]:
    client = poplib.POP3(gateway.host, gateway.port, timeout=10)
    for line in ("USER ann", f"PASS {PASSWORD}", command, "QUIT"):
        try:
            yield client._shortcmd(line).decode()
        except poplib.error_proto as error:
            yield str(error)
    client.close()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", ["login", "items", "read", "close"])
def test_no_name_of_a_file_reaches_the_client_and_the_log_has_it(
    at: str, error: MailflowError
) -> None:
    with Gateway({"ann": Failing(at, error)}) as gateway:
        answers = list(said(gateway, "RETR 1"))
    assert not [line for line in answers if SECRET in line]
    assert [line for line in answers if "-ERR" in line]
    if not isinstance(error, InUseError):
        assert SECRET in str(gateway.log.lines)


def test_who_does_not_know_the_password_does_not_learn_that_somebody_logged_in() -> None:
    """LOGIN-DELAY, where a back end checks the password."""
    drop = Failing("", RefusedError("no"))
    account = Account("*", drop, login="passthrough")
    with Gateway([account], login_delay="1h") as gateway:
        assert any(line.startswith("+OK 1 message") for line in said(gateway, "NOOP"))
        *_, again, _, _ = said(gateway, "NOOP")
        drop.right = "another"
        *_, wrong, _, _ = said(gateway, "NOOP")
    assert "[LOGIN-DELAY]" in again
    assert "[AUTH]" in wrong
    assert drop.closed == 2


def test_a_response_that_is_too_long_ends_its_exchange() -> None:
    """Its answer must not be the answer to the next one."""
    log = LogDouble()
    session = ServerSession(Policy(accounts=lambda: Accounts(()), log=log))  # type: ignore[arg-type]
    session.refused = LoginError("the token was refused", delay=0.0)
    session.challenge("")
    session.out.clear()
    session.receive(b"x" * 20_000 + b"\n")
    session.advance()
    assert session.out == [b"-ERR line too long\r\n"]
    assert session.refused is None
