"""CAPA (RFC 2449): what is listed works, and what works is listed."""

from __future__ import annotations

import re

import pytest

from .dialogue import sasl
from .shelf import Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def test_048_capa_is_a_multi_line_answer_in_both_states(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    for _ in range(2):
        answer = dialogue.ask("CAPA")
        assert answer.ok
        assert all(0 < len(line) <= 510 for line in answer.lines)
        assert all(re.fullmatch(rb"[!-~]+( [!-~]+)*", line) for line in answer.lines)
        dialogue.log_in(*drop)


def test_048_capa_changes_nothing(server):
    """RFC 2449, 5: it may stand anywhere, as between USER and PASS."""
    drop = server.fill(MAIL)
    dialogue = server.connect()
    dialogue.say(f"USER {drop.login}")
    assert dialogue.ask("CAPA").ok
    assert dialogue.say(f"PASS {drop.password}").ok
    dialogue.say("DELE 1")
    assert dialogue.ask("CAPA").ok
    assert dialogue.stat() == (0, 0)


def test_049_the_list_is_that_of_the_state(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    before = dialogue.capabilities()
    assert "STLS" in before
    dialogue.say("STLS")
    dialogue.secure(server.context())
    secure = dialogue.capabilities()
    assert "STLS" not in secure
    assert "PLAIN" in secure["SASL"]
    dialogue.log_in(*drop)
    entered = dialogue.capabilities()
    assert "STLS" not in entered
    assert {"TOP", "UIDL", "PIPELINING"} <= entered.keys()


def test_049_plain_appears_with_tls_where_it_is_not_for_clear_text(gateway):
    running = gateway(MAIL, plaintext="never", secure=True)
    dialogue = running.connect()
    before = dialogue.capabilities()
    assert "PLAIN" not in before.get("SASL", [])
    assert "USER" not in before
    dialogue.say("STLS")
    dialogue.secure(running.context())
    after = dialogue.capabilities()
    assert "PLAIN" in after["SASL"]
    assert "USER" in after


def test_050_what_is_listed_works(server):
    drop = server.fill(MAIL, MAIL)
    dialogue = server.connect()
    listed = dialogue.capabilities()
    assert {"UIDL", "TOP", "USER", "RESP-CODES", "PIPELINING"} <= listed.keys()
    dialogue.send(f"USER {drop.login}\r\nPASS {drop.password}\r\nUIDL 1\r\nTOP 1 0\r\n".encode())
    assert [dialogue.status().ok for _ in range(4)] == [True] * 4
    dialogue.body()
    assert {"UIDL", "TOP", "RESP-CODES", "PIPELINING"} <= dialogue.capabilities().keys()


def test_050_what_is_not_listed_does_not_work(server):
    dialogue = server.connect()
    listed = dialogue.capabilities()
    for command, name in [("UTF8", "UTF8"), ("LANG", "LANG"), ("LAST", "LAST"), ("XSTAT", "XSTAT")]:
        if name not in listed:
            assert not dialogue.say(command).ok


def test_051_expire_is_never_where_nothing_expires(gateway):
    dialogue = gateway(MAIL).enter()
    assert b"EXPIRE NEVER" in dialogue.ask("CAPA").lines


def test_051_expire_is_well_formed_where_it_stands(server):
    lines = [line for line in server.connect().ask("CAPA").lines if line.startswith(b"EXPIRE")]
    assert all(re.fullmatch(rb"EXPIRE (NEVER|\d+)( USER)?", line) for line in lines)
    assert len(lines) <= 1


class Passing(Shelf):
    """A maildrop that says how long mail stays: in this drop, and in the one where it stays
    for the shortest time."""

    here = everywhere = float("inf")

    def retention(self) -> float:
        return self.everywhere

    def login(self, who):
        drop = super().login(who)
        drop.retention = self.here
        return drop


@pytest.mark.parametrize(
    ("here", "everywhere", "before", "after"),
    [
        (30.5, 7.9, [b"EXPIRE 7 USER"], [b"EXPIRE 30"]),
        (float("inf"), 7, [b"EXPIRE 7 USER"], [b"EXPIRE NEVER"]),
        (float("inf"), float("inf"), [b"EXPIRE NEVER"], [b"EXPIRE NEVER"]),
        (0, 0, [], []),
        (0.5, 0, [], []),
    ],
)
def test_051_expire_promises_no_more_than_the_maildrop_keeps(
    gateway, here, everywhere, before, after
):
    shelf = Passing(MAIL)
    shelf.here, shelf.everywhere = here * 86400, everywhere * 86400
    running = gateway(shelf)
    assert expire_of(running.connect()) == before
    assert expire_of(running.enter()) == after


def test_051_expire_is_the_less_of_what_is_said_and_what_is_kept(gateway):
    shelf = Passing(MAIL)
    shelf.here, shelf.everywhere = 60 * 86400, 20 * 86400
    running = gateway(shelf, expire="30d")
    assert expire_of(running.connect()) == [b"EXPIRE 20 USER"]
    assert expire_of(running.enter()) == [b"EXPIRE 30"]


def test_051_a_maildrop_that_cannot_say_how_long_it_keeps_mail_promises_nothing(gateway):
    shelf = Passing(MAIL)
    shelf.everywhere = None
    assert expire_of(gateway(shelf).connect()) == []


def expire_of(dialogue):
    return [line for line in dialogue.ask("CAPA").lines if line.startswith(b"EXPIRE")]


def test_051_expire_says_the_days(gateway):
    dialogue = gateway(MAIL, expire="30d").enter()
    assert b"EXPIRE 30" in dialogue.ask("CAPA").lines


def test_052_a_login_delay_is_enforced_as_announced(gateway):
    running = gateway(MAIL, login_delay="1h")
    dialogue = running.connect()
    assert dialogue.capabilities()["LOGIN-DELAY"] == ["3600"]
    assert dialogue.log_in(*running.drop).ok
    dialogue.quit()
    for _ in range(2):
        answer = running.connect().log_in(*running.drop)
        assert answer.code == "LOGIN-DELAY", answer.line


def test_052_a_wrong_password_meets_no_login_delay(gateway):
    """Or whoever guesses would learn that the name is known."""
    running = gateway(MAIL, login_delay="1h")
    running.enter().quit()
    assert running.connect().log_in(running.drop.login, "wrong").code == "AUTH"


def test_052_none_is_announced_where_there_is_none(server):
    dialogue = server.connect()
    if "LOGIN-DELAY" not in dialogue.capabilities():
        drop = server.fill(MAIL)
        server.enter(drop).quit()
        assert server.connect().log_in(*drop).ok


def test_053_auth_resp_code_is_shown_where_auth_is_used(server):
    dialogue = server.connect()
    listed = "AUTH-RESP-CODE" in dialogue.capabilities()
    refused = [
        dialogue.log_in("nobody-here", "wrong"),
        dialogue.say(f"AUTH PLAIN {sasl('', 'nobody-here', 'wrong')}"),
    ]
    assert [answer.code == "AUTH" for answer in refused] == [listed] * 2


def test_054_before_the_login_nobody_learns_which_version_this_is(server):
    dialogue = server.connect()
    named = dialogue.capabilities().get("IMPLEMENTATION", [])
    assert not re.search(r"\d+\.\d+", " ".join(named))
    assert not re.search(rb"\d+\.\d+", dialogue.greeting)


def test_054_ours_names_itself_after_the_login_without_a_version(gateway):
    running = gateway(MAIL)
    dialogue = running.connect()
    assert "IMPLEMENTATION" not in dialogue.capabilities()
    found = running.enter().capabilities()["IMPLEMENTATION"]
    assert not re.search(r"\d", " ".join(found))


@pytest.mark.parametrize("argument", ["x", "x y", "1", " ", "STLS", "%n" * 40])
def test_055_an_argument_of_capa_is_refused_or_ignored(server, argument):
    dialogue = server.connect()
    dialogue.ask(f"CAPA {argument}")
    assert dialogue.alive()
