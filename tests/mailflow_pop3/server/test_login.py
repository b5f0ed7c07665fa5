"""USER, PASS and APOP: nobody learns who is known, and no password goes where it may not."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from mailflow.accounts.verifiers import app_verifier
from mailflow.errors import UnavailableError

from .shelf import Shelf

MAIL = b"Subject: one\r\n\r\nbody\r\n"
TIMESTAMP = re.compile(rb"<[!-;=?-~]+@[!-;=?-~]+>")


@pytest.mark.parametrize("name", ["nobody-here", "x", "a@b", "root", "../etc/passwd"])
def test_026_user_takes_any_name(server, name):
    dialogue = server.connect()
    assert dialogue.say(f"USER {name}").ok
    dialogue.quit()


def test_026_user_says_of_an_unknown_name_what_it_says_of_a_known_one(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert dialogue.say("USER nobody-here").line == dialogue.say(f"USER {drop.login}").line


def test_027_pass_without_user_is_refused(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert not dialogue.say(f"PASS {drop.password}").ok
    assert dialogue.log_in(*drop).ok


def test_027_a_refused_pass_forgets_the_user(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    dialogue.log_in(drop.login, "wrong")
    assert not dialogue.say(f"PASS {drop.password}").ok


def test_027_another_command_between_forgets_the_user(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    dialogue.say(f"USER {drop.login}")
    assert not dialogue.say("STAT").ok
    assert not dialogue.say(f"PASS {drop.password}").ok


@pytest.mark.parametrize("password", ["a b", " a", "a ", "  a  b  ", "a:b", "%s{}$x"])
def test_028_every_character_of_a_password_counts(gateway, password):
    running = gateway(MAIL, password=password)
    dialogue = running.connect()
    assert not dialogue.log_in(running.drop.login, password.strip() + "x").ok
    assert dialogue.log_in(*running.drop).ok


@pytest.mark.parametrize(("password", "other"), [("a b", "a  b"), ("a ", "a"), (" a", "a")])
def test_028_spaces_are_not_trimmed(server, password, other):
    drop = server.fill(MAIL, password=password)
    dialogue = server.connect()
    assert not dialogue.log_in(drop.login, other).ok
    assert dialogue.log_in(*drop).ok


def test_029_a_wrong_password_and_an_unknown_user_get_the_same_answer(server):
    drop = server.fill(MAIL)
    wrong = server.connect().log_in(drop.login, "wrong")
    unknown = server.connect().log_in("nobody-here", "wrong")
    assert not wrong.ok
    assert wrong.code == "AUTH"
    assert wrong.line == unknown.line


def test_030_a_new_user_may_follow_a_failed_login(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert not dialogue.log_in("nobody-here", "wrong").ok
    assert not dialogue.log_in(drop.login, "wrong").ok
    assert not dialogue.say("STAT").ok
    assert dialogue.log_in(*drop).ok
    assert dialogue.stat() == (1, len(MAIL))


AFTER = ["USER red", "PASS x", f"APOP red {'0' * 32}", "AUTH PLAIN", "AUTH", "STLS"]


@pytest.mark.parametrize("command", AFTER)
def test_031_after_the_login_there_is_no_other(server, command):
    dialogue = server.open(MAIL)
    assert not dialogue.say(command).ok
    assert dialogue.stat() == (1, len(MAIL))


def test_032_quit_before_the_login_ends_the_connection(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    dialogue.say(f"USER {drop.login}")
    assert dialogue.quit().ok
    assert server.left(drop) == 1


def digest(dialogue, password: str) -> str:
    found = TIMESTAMP.search(dialogue.greeting)
    assert found, dialogue.greeting
    return hashlib.md5(found[0] + password.encode()).hexdigest()


def test_033_apop_digests_a_timestamp_that_no_other_connection_has(gateway):
    running = gateway(MAIL, auth=["user", "apop"])
    greetings = {running.connect().greeting for _ in range(20)}
    assert len(greetings) == 20
    assert all(TIMESTAMP.search(greeting) for greeting in greetings)
    dialogue = running.connect()
    login, password = running.drop
    assert dialogue.say(f"APOP {login} {digest(dialogue, password)}").ok
    assert dialogue.stat() == (1, len(MAIL))


def test_033_a_digest_is_lower_case_and_of_this_connection_and_password(gateway):
    running = gateway(MAIL, auth=["user", "apop"])
    login, password = running.drop
    other = digest(running.connect(), password)
    dialogue = running.connect()
    for wrong in (other, digest(dialogue, "wrong"), digest(dialogue, password).upper(), "x", ""):
        answer = dialogue.say(f"APOP {login} {wrong}")
        assert not answer.ok
    assert dialogue.say(f"APOP nobody {digest(dialogue, password)}").code == "AUTH"
    assert dialogue.say(f"APOP {login} {digest(dialogue, password)}").ok


def test_034_no_timestamp_is_shown_where_apop_does_not_work(server):
    dialogue = server.connect()
    works = dialogue.say(f"APOP red {'0' * 32}").code == "AUTH"
    assert bool(TIMESTAMP.search(dialogue.greeting)) == works


def hashed(password: str) -> str:
    """As Dovecot notes a salted digest."""
    salted = hashlib.sha256(password.encode() + b"salt").digest() + b"salt"
    return "{SSHA256}" + base64.b64encode(salted).decode()


def test_034_no_timestamp_where_a_secret_is_stored_as_a_digest(gateway):
    running = gateway(MAIL, auth=["user", "apop"], secret=hashed("sesame"))
    dialogue = running.connect()
    assert not TIMESTAMP.search(dialogue.greeting)
    assert not dialogue.say(f"APOP {running.drop.login} {'0' * 32}").ok
    assert dialogue.log_in(*running.drop).ok


def test_035_apop_is_off_by_default(gateway):
    dialogue = gateway(MAIL).connect()
    assert not TIMESTAMP.search(dialogue.greeting)
    assert not dialogue.say(f"APOP red {'0' * 32}").ok


def test_036_without_tls_user_is_refused_before_a_password_is_sent(gateway):
    running = gateway(MAIL, plaintext="never", secure=True)
    dialogue = running.connect()
    assert "USER" not in dialogue.capabilities()
    assert not dialogue.say(f"USER {running.drop.login}").ok
    assert not dialogue.say(f"PASS {running.drop.password}").ok
    assert dialogue.say("STLS").ok
    dialogue.secure(running.context())
    assert "USER" in dialogue.capabilities()
    assert dialogue.log_in(*running.drop).ok


def test_036_from_another_machine_clear_text_is_refused_by_default(gateway, outer_address):
    """On loopback nobody listens; an address of the network is another matter."""
    running = gateway(MAIL, secure=True, host=outer_address)
    dialogue = running.connect()
    assert not dialogue.say(f"USER {running.drop.login}").ok
    assert not dialogue.say("AUTH PLAIN").ok


def test_036_unless_the_file_says_so(gateway, outer_address):
    running = gateway(MAIL, plaintext="anywhere", host=outer_address)
    assert running.connect().log_in(*running.drop).ok


def test_037_a_password_outside_ascii_works_where_utf8_user_is_offered(gateway):
    running = gateway(MAIL, password="grüße-密码")
    dialogue = running.connect()
    assert dialogue.capabilities()["UTF8"] == ["USER"]
    assert not dialogue.log_in(running.drop.login, "gruesse").ok
    assert dialogue.log_in(*running.drop).ok


def test_037_what_is_no_utf_8_is_refused(gateway):
    running = gateway(MAIL, password="grüße")
    dialogue = running.connect()
    dialogue.say(f"USER {running.drop.login}")
    assert not dialogue.say("PASS grüße".encode("latin-1")).ok
    assert not dialogue.say(b"USER \xff").ok
    assert dialogue.alive()


def test_037_a_password_is_compared_as_saslprep_has_it(gateway):
    """The same letters typed on another keyboard: RFC 4013, normalization form KC."""
    running = gateway(MAIL, password="grüße")
    decomposed = "gru\u0308ße"
    assert running.connect().log_in(running.drop.login, decomposed).ok


@pytest.mark.parametrize(
    ("options", "hashed", "said"),
    [
        ({"plaintext": "never"}, True, "there is no `certificate`"),
        ({"listen": ["*:0"]}, True, "there is no `certificate`"),
        ({"auth": ["apop"]}, True, "no way of `auth` works"),
        ({"auth": ["xoauth2"], "secure": True}, False, "no way of `auth` works"),
        ({"auth": ["apop"], "plaintext": "never"}, False, None),
        ({}, True, None),
        ({"plaintext": "never", "secure": True}, True, None),
    ],
)
def test_a_listener_where_nobody_can_log_in_is_warned_of(gateway, options, hashed, said):
    """The secrets decide it, so that the file alone does not tell."""
    secret = app_verifier("sesame") if hashed else None
    running = gateway(MAIL, secret=secret, **options)
    told = [line for line in running.logged() if "nobody can log in" in line]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


def test_a_drop_that_cannot_be_opened_is_logged_with_who_wanted_it(gateway):
    def lost(what):
        raise UnavailableError("the disk of the drop is away")

    shelf = Shelf()
    shelf.before = lost
    running = gateway(shelf)
    dialogue = running.connect()
    dialogue.say("USER ann")
    assert dialogue.say("PASS sesame").line.startswith(b"-ERR [SYS/TEMP]")
    [told] = [line for line in running.logged() if "the disk of the drop is away" in line]
    assert "login=ann" in told or "'login': 'ann'" in told
