"""What the programs before this one promised of their POP3 servers, and what was wrong there."""

from __future__ import annotations

import email
import re
import threading
import uuid

import pytest

from mailflow.accounts import Account, Accounts
from mailflow.errors import InUseError
from mailflow.kinds import Item, Runtime
from mailflow.mail import Octets
from mailflow.testing.gateway import Gateway, plain

from .dialogue import Dialogue
from .memory import Memory
from .servers import Drop, Server
from .shelf import Shelf

MAIL = b"Subject: one\r\nFrom: ann@example.org\r\n\r\none\r\n.two\r\nthree\r\n"
OTHER = b"Subject: other\r\n\r\nother\r\n"


def connect(gateway: Gateway) -> Dialogue:
    server = Server()
    server.host, server.port = gateway.host, gateway.port
    return server.connect()


def entered(gateway: Gateway, login: str, password: str = "secret") -> Dialogue:
    dialogue = connect(gateway)
    assert dialogue.log_in(login, password).ok
    return dialogue


def test_p3s_01_each_login_name_has_a_back_end_of_its_own():
    with Gateway({"ann": Shelf(MAIL), "bob": Shelf(OTHER, OTHER)}) as gateway:
        assert entered(gateway, "ann").retrieve(1) == MAIL
        assert entered(gateway, "bob").stat() == (2, 2 * len(OTHER))


def test_p3s_02_every_command_works_with_and_without_its_argument(gateway):
    dialogue = gateway(MAIL, OTHER).enter()
    assert dialogue.say("STAT").line == b"+OK 2 %d" % (len(MAIL) + len(OTHER))
    assert dialogue.listing() == {1: b"%d" % len(MAIL), 2: b"%d" % len(OTHER)}
    assert dialogue.say("LIST 2").line == b"+OK 2 %d" % len(OTHER)
    uidls = dialogue.listing("UIDL")
    assert dialogue.say("UIDL 2").line == b"+OK 2 " + uidls[2]
    assert dialogue.retrieve(1) == MAIL
    assert dialogue.ask("TOP 1 1").octets == MAIL[: MAIL.index(b"one\r\n.") + 5]
    assert dialogue.say("NOOP").ok
    assert dialogue.say("DELE 2").ok
    assert dialogue.say("RSET").ok
    assert dialogue.stat()[0] == 2
    assert dialogue.quit().ok


def test_p3s_03_apop_is_offered_where_a_secret_is_stored_plainly_alone(gateway):
    assert b"<" in gateway(MAIL, auth=["user", "apop"]).connect().greeting
    stored = "{SSHA256}" + "x" * 60
    assert b"<" not in gateway(MAIL, auth=["user", "apop"], secret=stored).connect().greeting
    assert not gateway(MAIL).connect().say("APOP ann " + "0" * 32).ok


@pytest.mark.parametrize(
    "command", ["STAT", "LIST", "UIDL", "RETR 1", "TOP 1 0", "DELE 1", "NOOP", "RSET"]
)
def test_p3s_04_what_is_said_in_the_wrong_state_is_named(gateway, command):
    running = gateway(MAIL)
    word = command.partition(" ")[0].encode()
    wrong = b"-ERR invalid state for command "
    assert running.connect().say(command).line == wrong + word
    assert running.enter().say("USER ann").line == wrong + b"USER"


def test_p3s_05_the_banner_is_what_the_file_says_and_tells_no_version(gateway):
    assert gateway(MAIL).connect().greeting == b"+OK POP3 server ready"
    dialogue = gateway(MAIL, banner="Ann's mail").connect()
    assert dialogue.greeting == b"+OK Ann's mail"
    assert dialogue.say("FROBNICATE").line.startswith(b"-ERR ")
    assert "IMPLEMENTATION" not in dialogue.capabilities()


def test_p3s_06_a_mailbox_has_one_session_at_a_time(gateway):
    running = gateway(MAIL)
    first = running.enter()
    assert running.connect().log_in(*running.drop).code == "IN-USE"
    first.quit()
    assert running.connect().log_in(*running.drop).ok


class Pigeonhole:
    """All that a back end must be."""

    def __init__(self) -> None:
        self.letters = {"a": MAIL, "b": OTHER}
        self.lock = threading.Lock()

    def login(self, who):
        if not self.lock.acquire(blocking=False):
            raise InUseError("somebody is at the pigeonhole")
        return Hand(self)


class Hand:
    def __init__(self, hole: Pigeonhole) -> None:
        self.hole = hole

    def items(self):
        return [Item(key, len(letter)) for key, letter in self.hole.letters.items()]

    def read(self, key):
        return Octets(self.hole.letters[key])

    def close(self, delete=()):
        for key in delete:
            del self.hole.letters[key]
        self.hole.lock.release()


def test_p3s_07_a_back_end_is_a_class_that_opens_lists_reads_and_closes():
    hole = Pigeonhole()
    with Gateway({"ann": hole}) as gateway:
        dialogue = entered(gateway, "ann")
        assert dialogue.retrieve(2) == OTHER
        dialogue.say("DELE 1")
        assert dialogue.quit().ok
        assert list(hole.letters) == ["b"]


def test_p3s_13_a_message_has_a_header_a_body_an_id_and_a_length(gateway):
    dialogue = gateway(MAIL).enter()
    head = dialogue.ask("TOP 1 0").octets
    whole = dialogue.retrieve(1)
    parsed = email.message_from_bytes(whole)
    assert parsed["Subject"] == "one"
    assert whole == head + b"one\r\n.two\r\nthree\r\n"
    assert int(dialogue.listing()[1]) == len(whole)
    assert re.fullmatch(rb"[!-~]{1,70}", dialogue.listing("UIDL")[1])


def made(use: str) -> object:
    from mailflow.engine.registry import Registry
    from mailflow.halt import Halt
    from mailflow.testing.engine import LogDouble

    component = Registry().component("maildrop", use)
    runtime = Runtime("x", "x", Halt(), LogDouble(), ".")  # type: ignore[arg-type]
    return component(component.options.read({}), runtime)


def test_p3s_14_the_probe_has_a_new_message_for_each_login():
    with Gateway({"monitor": made("pop3.probe")}) as gateway:
        seen = set()
        for _ in range(2):
            dialogue = entered(gateway, "monitor")
            message = email.message_from_bytes(dialogue.retrieve(1))
            assert dialogue.listing()[1] == b"%d" % len(dialogue.retrieve(1))
            uuid.UUID(message.get_payload().strip())
            assert message["Date"]
            seen.add(message["Message-ID"])
            dialogue.say("DELE 1")
            assert dialogue.quit().ok
        assert len(seen) == 2


@pytest.mark.parametrize("use", ["pop3.probe", "pop3.manager"])
def test_p3s_14_it_is_for_this_machine_alone_and_has_a_secret_of_its_own(use):
    drop = made(use)
    assert drop.networks == ("127.0.0.0/8", "::1/128")
    with Gateway({"monitor": drop}) as gateway:
        assert connect(gateway).log_in("monitor", "monitor").code == "AUTH"


def test_p3s_16_many_clients_are_served_at_a_time():
    with Gateway({f"user{n}": Shelf(MAIL) for n in range(50)}) as gateway:
        dialogues = [entered(gateway, f"user{n}") for n in range(50)]
        for dialogue in dialogues:
            dialogue.send(b"RETR 1\r\n")
        for dialogue in dialogues:
            assert dialogue.status().ok
            assert dialogue.body().endswith(b"three\r\n")


def test_p3s_17_the_log_has_commands_and_answers_but_no_mail_and_no_password(gateway, monkeypatch):
    monkeypatch.setattr("mailflow_pop3.gateway.tells", lambda level: True)
    running = gateway(b"Subject: canary-mail\r\n\r\ncanary-mail\r\n", password="canary-pass")
    dialogue = running.enter()
    dialogue.retrieve(1)
    dialogue.quit()
    dialogue = running.connect()
    dialogue.say("AUTH PLAIN AGFubgBjYW5hcnktcGFzcw==")
    dialogue.quit()
    said = [
        f"{line.event} {line.facts['line']}"
        for line in running.gateway.log.lines
        if line.event in ("C:", "S:")
    ]
    assert said[1:8] == [
        "C: b'USER ann'", "S: +OK send the password", "C: b'PASS ***'", "S: +OK 1 messages",
        "C: b'RETR 1'", "S: +OK message follows", "C: QUIT",
    ]  # fmt: skip
    assert "canary" not in " ".join(running.logged())
    assert "AGFubg" not in " ".join(running.logged())


def test_p3s_18_octets_are_octets_from_end_to_end(gateway):
    octets = b"Subject: \xfc\r\n\r\n" + bytes(range(1, 10)) + b"\x80\xfc\xff\r\n"
    dialogue = gateway(octets).enter()
    assert dialogue.retrieve(1) == octets
    assert dialogue.ask("TOP 1 9").octets == octets


def test_p3s_20_the_newest_message_is_shown_too(gateway):
    dialogue = gateway(MAIL, MAIL, OTHER).enter()
    assert sorted(dialogue.listing()) == [1, 2, 3]
    assert dialogue.retrieve(3) == OTHER


def test_p3s_21_stat_says_the_same_however_often(gateway):
    dialogue = gateway(MAIL, OTHER).enter()
    assert {dialogue.stat() for _ in range(5)} == {(2, len(MAIL) + len(OTHER))}
    assert sorted(dialogue.listing()) == [1, 2]


def test_p3s_22_numbers_stay_when_messages_are_deleted(gateway):
    running = gateway(MAIL, OTHER, MAIL)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    assert sorted(dialogue.listing()) == [2, 3]
    dialogue.say("DELE 2")
    assert dialogue.retrieve(3) == MAIL
    dialogue.quit()
    assert list(running.shelf.messages) == ["key-000003"]


def test_p3s_23_a_lost_connection_deletes_nothing(gateway):
    running = gateway(MAIL, OTHER)
    dialogue = running.enter()
    dialogue.say("DELE 1")
    dialogue.drop()
    again = running.enter()
    assert again.stat()[0] == 2
    assert running.shelf.closings == [()]


def test_p3s_24_the_first_message_has_the_number_one(gateway):
    dialogue = gateway(MAIL, OTHER).enter()
    assert sorted(dialogue.listing("UIDL")) == [1, 2]
    assert not dialogue.say("UIDL 0").ok


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 100"])
def test_p3s_25_a_dot_at_the_beginning_of_a_line_is_doubled(gateway, command):
    octets = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n"
    answer = gateway(octets).enter().ask(command)
    assert answer.body == b"Subject: dots\r\n\r\n..\r\n...\r\n..a\r\n"


def test_p3s_26_top_gives_whole_header_fields(gateway):
    answer = gateway(MAIL).enter().ask("TOP 1 0")
    assert answer.octets == b"Subject: one\r\nFrom: ann@example.org\r\n\r\n"


def test_p3s_27_nobody_sees_the_mail_of_another():
    drops = {"ann": Shelf(MAIL), "bob": Shelf(OTHER)}
    with Gateway(drops) as gateway:
        ann, bob = entered(gateway, "ann"), entered(gateway, "bob")
        for _ in range(3):
            assert (ann.retrieve(1), bob.retrieve(1)) == (MAIL, OTHER)
        bob.say("DELE 1")
        bob.quit()
        assert ann.retrieve(1) == MAIL


class Endless:
    """A message of many octets, which are nowhere."""

    def __init__(self, octets: int) -> None:
        self.size = octets

    def open(self):
        content = self

        class Reader:
            left = content.size

            def read(self, octets: int) -> bytes:
                made = min(octets, self.left)
                self.left -= made
                return b"y" * (made - 2) + b"\r\n" if made else b""

            def __enter__(self):
                return self

            def __exit__(self, *exception):
                pass

        return Reader()


def test_p3s_28_no_message_is_held_in_memory(gateway):
    size = 200 << 20
    dialogue = gateway(Shelf(Endless(size))).enter()
    with Memory() as memory:
        dialogue.send(b"RETR 1\r\n")
        dialogue.line()
        came, tail = 0, b""
        while not tail.endswith(b"\r\n.\r\n"):
            data = dialogue.sock.recv(1 << 20)
            came += len(data)
            tail = (tail + data)[-5:]
    assert came > size - (1 << 21)
    assert memory.grown < 16 << 20


@pytest.mark.parametrize("number", ["0", "-1", "two", "", "99"])
def test_p3s_29_what_is_no_number_of_a_message_is_refused_and_the_session_lives(gateway, number):
    dialogue = gateway(MAIL, OTHER).enter()
    for command in ("RETR", "DELE", "TOP"):
        assert not dialogue.say(f"{command} {number}").ok
    assert dialogue.stat()[0] == 2


def test_p3s_30_long_lines_and_lines_in_pieces_harm_nothing(gateway):
    dialogue = gateway(MAIL).enter()
    assert not dialogue.say(b"NOOP " + b"x" * 5000).ok
    for octet in b"STAT\r\n":
        dialogue.send(bytes([octet]))
    assert dialogue.status().ok
    assert dialogue.retrieve(1) == MAIL


def test_pwm_02_any_drop_is_read_by_any_pop3_client():
    import poplib

    with Gateway({"ann": Shelf(MAIL)}) as gateway:
        client = poplib.POP3(gateway.host, gateway.port, timeout=10)
        client.user("ann")
        client.pass_("secret")
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == MAIL
        client.quit()


@pytest.fixture
def managed():
    """A gateway with a drop that manages, and one that does not."""
    with Gateway({"admin": made("pop3.manager"), "ann": Shelf(MAIL)}) as gateway:
        yield gateway


def test_pwm_27_the_state_is_told_to_who_manages(managed):
    dialogue = entered(managed, "admin")
    assert {"XSTAT", "XPOKE"} <= dialogue.capabilities().keys()
    assert dialogue.ask("XSTAT").lines == [b"sources.work.state: idle"]
    assert dialogue.stat() == (0, 0)


def test_pwm_27_a_source_is_fetched_from_at_a_word(managed):
    dialogue = entered(managed, "admin")
    assert dialogue.say("XPOKE work").ok
    assert managed.service_host.poked == ["work"]
    for wrong in ("XPOKE", "XPOKE else", b"XPOKE \xff"):
        assert not dialogue.say(wrong).ok
    assert managed.service_host.poked == ["work"]


def test_pwm_27_nobody_else_knows_these_commands(managed):
    for dialogue in (connect(managed), entered(managed, "ann")):
        assert not {"XSTAT", "XPOKE"} & dialogue.capabilities().keys()
        for command in ("XSTAT", "XPOKE work"):
            assert dialogue.say(command).line == b"-ERR unknown command"
    assert managed.service_host.poked == []


def test_a_reload_changes_who_may_log_in_and_no_session(gateway):
    running = gateway(MAIL)
    first = running.enter()
    other = Account("bob", Shelf(OTHER), secret=plain("sesame"))
    running.gateway.service_host.accounts = Accounts([other])
    assert first.retrieve(1) == MAIL
    assert running.connect().log_in(*Drop("bob", "sesame")).ok
