"""What the programs before this one promised of their POP3 servers, and the contrary of what
was wrong there."""

from __future__ import annotations

import email
import poplib
import threading

import pytest

from mailflow.errors import InUseError
from mailflow.kinds import Credentials, Item
from mailflow.log import configure
from mailflow.mail import Octets, chunks
from mailflow.testing.gateway import Gateway

from .apart import Apart
from .dialogue import Dialogue, sasl
from .memory import Memory
from .ours import reach
from .servers import Drop
from .shelf import Shelf
from .test_login import digest, hashed

MAIL = b"From: ann@example.org\r\nSubject: one\r\n\r\nbody\r\n"
OTHER = b"Subject: other\r\n\r\nother\r\n"


def numbered(count: int) -> list[bytes]:
    return [MAIL + b"%d\r\n" % number for number in range(1, count + 1)]


def test_p3s_01_each_login_name_has_a_back_end_of_its_own():
    with Gateway({"ann": Shelf(MAIL), "bob": Shelf(OTHER, OTHER)}) as gateway:
        server = reach(gateway)
        assert server.enter(Drop("ann", "secret")).retrieve(1) == MAIL
        assert server.enter(Drop("bob", "secret")).stat() == (2, 2 * len(OTHER))


def test_p3s_02_every_command_works_and_list_and_uidl_with_and_without_a_number(store):
    drop = store.fill(*numbered(3))
    dialogue = store.connect()
    assert dialogue.say(f"USER {drop.login}").ok
    assert dialogue.say(f"PASS {drop.password}").ok
    size = len(MAIL) + 3
    assert dialogue.stat() == (3, 3 * size)
    assert dialogue.listing() == dict.fromkeys((1, 2, 3), b"%d" % size)
    assert dialogue.say("LIST 2").line == b"+OK 2 %d" % size
    names = dialogue.listing("UIDL")
    assert dialogue.say("UIDL 2").line == b"+OK 2 " + names[2]
    assert dialogue.retrieve(3) == MAIL + b"3\r\n"
    assert dialogue.ask("TOP 3 0").octets == MAIL[: MAIL.index(b"body")]
    assert dialogue.say("DELE 1").ok
    assert dialogue.say("NOOP").ok
    assert dialogue.stat() == (2, 2 * size)
    assert dialogue.say("RSET").ok
    assert dialogue.stat() == (3, 3 * size)
    assert dialogue.say("DELE 2").ok
    assert dialogue.quit().ok
    assert list(store.enter(drop).listing("UIDL").values()) == [names[1], names[3]]


def test_p3s_03_apop_is_offered_where_it_works_and_sasl_anyway(gateway):
    ways = ["user", "apop", "plain", "scram-sha-256"]
    works = gateway(MAIL, auth=ways)
    dialogue = works.connect()
    assert dialogue.say(f"APOP ann {digest(dialogue, 'sesame')}").ok
    hidden = gateway(MAIL, auth=ways, secret=hashed("sesame")).connect()
    assert b"<" not in hidden.greeting
    answer = hidden.say(f"APOP ann {'0' * 32}")
    assert not answer.ok
    assert b"not implemented" not in answer.line
    assert "PLAIN" in hidden.capabilities()["SASL"]
    assert not gateway(MAIL).connect().say(f"APOP ann {'0' * 32}").ok


@pytest.mark.parametrize("command", ["STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL"])
def test_p3s_04_a_command_in_the_wrong_state_is_named_in_the_refusal(gateway, command):
    dialogue = gateway(MAIL).connect()
    answer = dialogue.say(f"{command} 1" if command in ("RETR", "DELE") else command)
    assert answer.line == f"-ERR invalid state for command {command}".encode()


@pytest.mark.parametrize("command", ["USER", "PASS", "APOP", "AUTH", "STLS"])
def test_p3s_04_and_so_is_a_login_after_the_login(gateway, command):
    dialogue = gateway(MAIL).enter()
    argument = "" if command == "STLS" else " x"
    assert dialogue.say(command + argument).line == (
        f"-ERR invalid state for command {command}".encode()
    )


def test_p3s_05_an_unknown_command_is_refused_and_the_banner_says_what_it_is_told(gateway):
    dialogue = gateway(MAIL).connect()
    assert dialogue.greeting == b"+OK POP3 server ready"
    assert not dialogue.say("XYZZY").ok
    assert "IMPLEMENTATION" not in dialogue.capabilities()
    other = gateway(MAIL, banner="mail of the chess club").connect()
    assert other.greeting == b"+OK mail of the chess club"


def test_p3s_06_a_mailbox_has_one_session_and_is_released_by_its_end(store):
    drop = store.fill(MAIL)
    first, second = store.enter(drop), store.connect()
    assert second.log_in(*drop).code == "IN-USE"
    assert first.retrieve(1) == MAIL
    first.quit()
    assert second.log_in(*drop).ok
    second.drop()
    assert store.enter(drop).stat()[0] == 1


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
        dialogue = reach(gateway).enter(Drop("ann", "secret"))
        assert dialogue.retrieve(2) == OTHER
        dialogue.say("DELE 1")
        assert dialogue.quit().ok
        assert list(hole.letters) == ["b"]


def test_p3s_13_a_message_has_its_header_its_body_its_octets_its_id_and_its_length(disk_store):
    octets = b"From: ann@example.org\r\nSubject: one\r\n\r\nbody\r\n.\r\n"
    drop = disk_store.fill(octets)
    opened = disk_store.maildrop(drop).login(Credentials(drop.login, checked=True))
    (item,) = opened.items()
    content = opened.read(item.key)
    assert b"".join(chunks(content)) == octets
    assert content.size == item.size == len(octets)
    opened.close()
    dialogue = disk_store.enter(drop)
    header = dialogue.ask("TOP 1 0").octets
    assert header + octets.partition(b"\r\n\r\n")[2] == dialogue.retrieve(1)
    assert email.message_from_bytes(header)["Subject"] == "one"
    assert dialogue.say("UIDL 1").line.endswith(item.key.encode())


def test_p3s_16_many_clients_are_served_at_a_time():
    with Gateway({f"user{n}": Shelf(MAIL) for n in range(50)}) as gateway:
        server = reach(gateway)
        dialogues = [server.enter(Drop(f"user{n}", "secret")) for n in range(50)]
        for dialogue in dialogues:
            dialogue.send(b"RETR 1\r\n")
        for dialogue in dialogues:
            assert dialogue.status().ok
            assert dialogue.body() == MAIL


def test_p3s_17_the_log_of_a_session_has_each_command_and_no_body_and_no_password(gateway):
    configure(level="debug")
    running = gateway(MAIL + b"canary-body\r\n", password="canary-pass")
    dialogue = running.connect()
    dialogue.say("USER ann")
    dialogue.say("PASS canary-wrong")
    dialogue.say("PAS canary-slip")
    dialogue.say(f"AUTH PLAIN {sasl('', 'ann', 'canary-sasl')}")
    dialogue.challenge("AUTH PLAIN")
    dialogue.say(sasl("", "ann", "canary-pass"))
    dialogue.retrieve(1)
    dialogue.quit()
    said = [line for line in running.gateway.log.lines if line.event in ("C:", "S:")]
    assert [text(line.facts["line"]) for line in said if line.event == "C:"] == [
        "USER ann", "PASS ***", "PAS ***", "AUTH PLAIN ***", "AUTH PLAIN ***", "RETR 1", "QUIT",
    ]  # fmt: skip
    answers = [text(line.facts["line"]).split()[0] for line in said if line.event == "S:"]
    assert answers == ["+OK", "+OK", "-ERR", "-ERR", "-ERR", "+OK", "+OK", "+OK"]
    everything = " ".join(running.logged())
    for secret in ("canary", sasl("", "ann", "canary-sasl"), sasl("", "ann", "canary-pass")):
        assert secret not in everything


def text(line: object) -> str:
    return line.decode() if isinstance(line, bytes) else str(line)


def test_p3s_18_every_octet_passes_and_names_are_utf_8(store):
    octets = b"Subject: \xfc\r\n\r\n" + bytes(set(range(256)) - {10, 13}) + b"\r\n"
    dialogue = store.open(octets)
    assert dialogue.retrieve(1) == octets
    dialogue.quit()


def test_p3s_18_a_login_name_may_be_of_any_script(gateway):
    running = gateway(MAIL, login="jörg", password="пароль")
    assert running.enter().stat()[0] == 1


def test_p3s_20_the_newest_message_is_shown(store):
    dialogue = store.open(*numbered(2))
    assert list(dialogue.listing()) == [1, 2]
    assert dialogue.retrieve(2) == MAIL + b"2\r\n"
    assert dialogue.stat()[0] == 2


def test_p3s_21_stat_asked_again_says_the_same(store):
    dialogue = store.open(*numbered(3))
    assert len({dialogue.stat() for _ in range(5)}) == 1
    assert len(dialogue.listing()) == 3


def test_p3s_22_a_deletion_renumbers_nothing(store):
    drop = store.fill(*numbered(4))
    dialogue = store.enter(drop)
    for number in (1, 2, 3):
        assert dialogue.say(f"DELE {number}").ok
    assert list(dialogue.listing()) == [4]
    assert dialogue.retrieve(4) == MAIL + b"4\r\n"
    dialogue.quit()
    assert store.enter(drop).retrieve(1) == MAIL + b"4\r\n"


def test_p3s_23_a_connection_that_is_lost_commits_nothing(store):
    drop = store.fill(*numbered(3))
    dialogue = store.enter(drop)
    for number in (1, 2, 3):
        assert dialogue.say(f"DELE {number}").ok
    dialogue.drop()
    assert store.enter(drop).stat()[0] == 3


def test_p3s_24_uidl_counts_from_1(store):
    dialogue = store.open(*numbered(3))
    assert list(dialogue.listing("UIDL")) == [1, 2, 3]


@pytest.mark.parametrize("command", ["RETR 1", "TOP 1 9"])
def test_p3s_25_a_dot_at_the_beginning_of_a_line_is_doubled(store, command):
    dialogue = store.open(b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n")
    answer = dialogue.ask(command)
    assert answer.body == b"Subject: dots\r\n\r\n..\r\n...\r\n..a\r\n"
    assert dialogue.stat()[0] == 1


def test_p3s_26_top_gives_the_fields_with_their_names(store):
    dialogue = store.open(MAIL)
    assert dialogue.ask("TOP 1 0").octets == b"From: ann@example.org\r\nSubject: one\r\n\r\n"


def test_p3s_27_nobody_sees_another_s_mailbox(store):
    drops = [store.fill(MAIL + b"of %d\r\n" % number) for number in range(8)]
    found: dict[int, list[bytes]] = {}

    def read(number: int) -> None:
        for _ in range(10):
            dialogue = store.enter(drops[number])
            found.setdefault(number, []).append(dialogue.retrieve(1))
            dialogue.quit()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [MAIL + b"of %d\r\n" % number] * 10 for number in range(8)}


def test_p3s_28_messages_are_not_held_in_memory(tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(MAIL)
        file.truncate(300 << 20)
    with Apart(messages=0, file=str(large)) as apart:
        dialogue = Dialogue(apart.connect())
        with Memory(apart.pid) as memory:
            assert dialogue.log_in("user0", "sesame").ok
            assert dialogue.stat()[0] == 1
            dialogue.send(b"RETR 1\r\nQUIT\r\n")
            while dialogue.sock.recv(1 << 20):
                pass
        assert memory.grown < 8 << 20


@pytest.mark.parametrize("argument", ["0", "-1", "99", "text", "1x", ""])
@pytest.mark.parametrize("command", ["RETR", "DELE", "TOP", "LIST", "UIDL"])
def test_p3s_29_what_is_no_number_is_refused_and_no_session_ends(store, command, argument):
    dialogue = store.open(*numbered(2))
    if not (command in ("LIST", "UIDL") and not argument):
        assert not dialogue.say(
            f"{command} {argument} 0" if command == "TOP" else f"{command} {argument}"
        ).ok
    assert dialogue.stat()[0] == 2
    assert dialogue.retrieve(2) == MAIL + b"2\r\n"


@pytest.mark.parametrize("size", [1, 3, 1000, 1500])
def test_p3s_30_commands_come_in_any_packets(store, size):
    drop = store.fill(*numbered(300))
    dialogue = store.enter(drop)
    octets = b"".join(b"DELE %d\r\n" % number for number in range(1, 301)) + b"STAT\r\n"
    for at in range(0, len(octets), size):
        dialogue.send(octets[at : at + size])
    assert all(dialogue.status().ok for _ in range(300))
    assert dialogue.status().line.startswith(b"+OK 0 0")


def test_pwm_02_any_drop_is_read_by_any_pop3_client():
    with Gateway({"ann": Shelf(MAIL)}) as gateway:
        client = poplib.POP3(gateway.host, gateway.port, timeout=10)
        client.user("ann")
        client.pass_("secret")
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == MAIL
        client.quit()
