"""A drop says of each log-in whether the event loop may wait for it; a thread does else."""

from __future__ import annotations

import poplib
import threading

import pytest

from mailflow.kinds import Item
from mailflow.mail import Octets
from mailflow.testing.gateway import PASSWORD, Gateway

MAIL = b"Subject: one\r\n\r\n.one\r\n"


class Drop:
    """`threads` are those that it was called in, by what was called."""

    def __init__(self, prompt: object) -> None:
        self.threads: dict[str, str] = {}
        if prompt is not None:
            self.prompt = prompt

    def _called(self, what: str) -> None:
        self.threads[what] = threading.current_thread().name

    def login(self, who):
        self._called("login")
        return OpenDrop(self)


class OpenDrop:
    def __init__(self, drop: Drop) -> None:
        self._called = drop._called

    def items(self):
        return [Item("k1", len(MAIL)), Item("k2", len(MAIL))]

    def wire(self, key):
        self._called("wire")
        return b"+OK\r\nSubject: one\r\n\r\n..one\r\n.\r\n" if key == "k1" else None

    def read(self, key):
        self._called("read")
        return Octets(MAIL)

    def close(self, delete=()):
        self._called("close")


def read_both(drop: Drop) -> list[list[bytes]]:
    with Gateway({"ann": drop}) as gateway:
        session = poplib.POP3(gateway.host, gateway.port, timeout=10)
        session.user("ann")
        session.pass_(PASSWORD)
        found = [session.retr(1)[1], session.retr(2)[1]]
        session.quit()
    return found


@pytest.mark.parametrize("prompt", [None, False, lambda login: False, lambda login: login != "ann"])
def test_a_log_in_that_may_take_its_time_is_for_a_thread(prompt) -> None:
    drop = Drop(prompt)
    read_both(drop)
    assert drop.threads["login"] == "pop3 call"


@pytest.mark.parametrize("prompt", [True, lambda login: login == "ann"])
def test_a_prompt_log_in_needs_no_thread(prompt) -> None:
    drop = Drop(prompt)
    read_both(drop)
    assert drop.threads["login"] == drop.threads["wire"] != "pop3 call"


def test_what_a_drop_has_at_hand_goes_out_as_it_is_without_a_thread() -> None:
    drop = Drop(False)
    assert read_both(drop) == [MAIL.splitlines()] * 2
    assert drop.threads["wire"] != "pop3 call"
    assert drop.threads["read"] == drop.threads["close"] == "pop3 call"
