"""The maildrops for those who look after a machine: a message of ours, and a door without mail."""

from __future__ import annotations

import email
import uuid

import pytest

from mailflow.testing.gateway import Gateway

from .ours import Component, reach
from .servers import Drop
from .shelf import Shelf

MAIL = b"Subject: one\r\n\r\none\r\n"


@pytest.fixture
def made(tmp_path):
    """A maildrop of the plugin's."""
    make = Component(tmp_path)
    return lambda use: make("maildrop", use)


def test_p3s_14_the_probe_has_a_new_message_for_each_login(made):
    with Gateway({"monitor": made("pop3.probe")}) as gateway:
        seen = set()
        for _ in range(2):
            dialogue = reach(gateway).enter(Drop("monitor", "secret"))
            message = email.message_from_bytes(dialogue.retrieve(1))
            assert dialogue.listing()[1] == b"%d" % len(dialogue.retrieve(1))
            uuid.UUID(message.get_payload().strip())
            assert message["Date"]
            seen.add(message["Message-ID"])
            dialogue.say("DELE 1")
            assert dialogue.quit().ok
        assert len(seen) == 2


@pytest.mark.parametrize("use", ["pop3.probe", "pop3.manager"])
def test_p3s_14_it_is_for_this_machine_alone(made, use):
    assert made(use).networks == ("127.0.0.0/8", "::1/128")


@pytest.fixture
def managed(made):
    """A gateway with a drop that manages, and one that does not."""
    with Gateway({"admin": made("pop3.manager"), "ann": Shelf(MAIL)}) as gateway:
        yield gateway


def test_pwm_27_the_state_is_told_to_who_manages(managed):
    dialogue = reach(managed).enter(Drop("admin", "secret"))
    assert {"XSTAT", "XPOKE"} <= dialogue.capabilities().keys()
    assert dialogue.ask("XSTAT").lines == [b"sources.work.state: idle"]
    assert dialogue.stat() == (0, 0)


def test_pwm_27_a_source_is_fetched_from_at_a_word(managed):
    dialogue = reach(managed).enter(Drop("admin", "secret"))
    assert dialogue.say("XPOKE work").ok
    assert managed.service_host.poked == ["work"]
    for wrong in ("XPOKE", "XPOKE else", b"XPOKE \xff"):
        assert not dialogue.say(wrong).ok
    assert managed.service_host.poked == ["work"]


def test_pwm_27_nobody_else_knows_these_commands(managed):
    server = reach(managed)
    for dialogue in (server.connect(), server.enter(Drop("ann", "secret"))):
        assert not {"XSTAT", "XPOKE"} & dialogue.capabilities().keys()
        for command in ("XSTAT", "XPOKE work"):
            assert dialogue.say(command).line == b"-ERR unknown command"
    assert managed.service_host.poked == []
