"""AUTH (RFC 5034): one exchange, cancelled or finished, and nothing believed in between."""

from __future__ import annotations

import base64

import pytest

from .dialogue import sasl

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@pytest.fixture
def drop(server):
    return server.fill(MAIL)


@pytest.fixture
def dialogue(server):
    dialogue = server.connect()
    yield dialogue
    dialogue.drop()


def test_038_auth_with_an_initial_response_logs_in(dialogue, drop):
    assert dialogue.say(f"AUTH PLAIN {sasl('', *drop)}").ok
    assert dialogue.stat() == (1, len(MAIL))


def test_038_auth_without_one_is_challenged(dialogue, drop):
    assert dialogue.challenge("AUTH PLAIN") == b""
    assert dialogue.say(sasl("", *drop)).ok
    assert dialogue.stat() == (1, len(MAIL))


def test_038_the_mechanism_is_known_in_any_case(dialogue, drop):
    assert dialogue.say(f"auth plain {sasl('', *drop)}").ok


def test_038_an_equals_sign_is_an_empty_response_and_no_omitted_one(dialogue, drop):
    """An empty PLAIN response names nobody: it is refused, not asked for again."""
    assert not dialogue.say("AUTH PLAIN =").ok
    assert dialogue.say(f"AUTH PLAIN {sasl('', *drop)}").ok


def test_039_a_star_cancels(dialogue, drop):
    assert dialogue.challenge("AUTH PLAIN") == b""
    assert not dialogue.say("*").ok
    assert not dialogue.say("STAT").ok
    assert dialogue.log_in(*drop).ok


@pytest.mark.parametrize("bad", ["!!!", "AHJlZ", "AHJlZAB4=", "A", "=AAA", "AHJl ZAB4"])
def test_040_what_is_no_base64_is_refused(dialogue, drop, bad):
    assert dialogue.challenge("AUTH PLAIN") == b""
    assert not dialogue.say(bad).ok
    assert not dialogue.say(f"AUTH PLAIN {bad}").ok
    assert not dialogue.say("STAT").ok
    assert dialogue.log_in(*drop).ok


@pytest.mark.parametrize("name", ["X-NONE", "GSSAPI", "CRAM-MD5", "PLAIN2", "-", "p\xe9"])
def test_041_an_unknown_mechanism_is_refused_and_the_session_goes_on(dialogue, drop, name):
    assert not dialogue.say(f"AUTH {name}").ok
    assert not dialogue.say(f"AUTH {name} =").ok
    assert dialogue.log_in(*drop).ok


def test_042_plain_is_neither_offered_nor_taken_in_clear_text(gateway):
    running = gateway(MAIL, plaintext="never", secure=True)
    dialogue = running.connect()
    offered = dialogue.capabilities().get("SASL", [])
    assert "PLAIN" not in offered
    assert "LOGIN" not in offered
    assert not dialogue.say("AUTH PLAIN").ok
    assert not dialogue.say("AUTH LOGIN").ok
    assert not dialogue.say(f"AUTH PLAIN {sasl('', *running.drop)}").ok
    assert dialogue.say("STLS").ok
    dialogue.secure(running.context())
    assert "PLAIN" in dialogue.capabilities()["SASL"]
    assert dialogue.say(f"AUTH PLAIN {sasl('', *running.drop)}").ok


def test_043_a_challenge_is_a_plus_a_space_and_base64(dialogue, drop):
    login, password = (base64.b64encode(each.encode()).decode() for each in drop)
    assert dialogue.challenge("AUTH LOGIN").lower().startswith(b"user")
    assert dialogue.challenge(login).lower().startswith(b"pass")
    assert dialogue.say(password).ok
    assert dialogue.stat() == (1, len(MAIL))


def test_044_a_response_may_have_12_kilobytes(dialogue, drop):
    """One that long names nobody, but it is read to its end and judged as what it is."""
    response = sasl("", drop.login, "x" * 9100)
    assert 12_000 < len(response) <= 12_286
    assert dialogue.challenge("AUTH PLAIN") == b""
    answer = dialogue.say(response)
    assert answer.code == "AUTH", answer.line
    assert dialogue.log_in(*drop).ok


def test_044_a_longer_one_is_refused_once_and_no_part_of_it_is_a_command(gateway):
    running = gateway(MAIL)
    dialogue = running.connect()
    assert dialogue.challenge("AUTH PLAIN") == b""
    dialogue.send(b"A" * 20_000 + b"QUIT\r\nNOOP\r\n")
    assert not dialogue.status().ok
    assert not dialogue.status().ok
    assert dialogue.log_in(*running.drop).ok


def test_045_auth_alone_lists_the_mechanisms_or_is_refused(dialogue, drop):
    answer = dialogue.ask("AUTH")
    if answer.ok:
        offered = dialogue.capabilities()["SASL"]
        assert sorted(line.decode() for line in answer.lines) == sorted(offered)
    assert dialogue.log_in(*drop).ok


def test_046_another_identity_than_ones_own_is_refused(dialogue, server, drop):
    other = server.fill(MAIL, MAIL)
    assert not dialogue.say(f"AUTH PLAIN {sasl(other.login, *drop)}").ok
    assert not dialogue.say("STAT").ok
    assert dialogue.log_in(*drop).ok


def test_046_ones_own_identity_may_be_named(dialogue, drop):
    assert dialogue.say(f"AUTH PLAIN {sasl(drop.login, *drop)}").ok


@pytest.mark.parametrize("count", [2, 4, 5])
def test_046_plain_without_its_two_nuls_is_refused(dialogue, drop, count):
    parts = ("", *drop, "more", "still more")[:count]
    assert not dialogue.say(f"AUTH PLAIN {sasl(*parts)}").ok
    assert not dialogue.say("STAT").ok
    assert dialogue.log_in(*drop).ok


class Scram:
    """The client's side of SCRAM-SHA-256 (RFC 7677), by scramp."""

    def __init__(self, login: str, password: str) -> None:
        from scramp import ScramClient

        self.client = ScramClient(["SCRAM-SHA-256"], login, password)

    def first(self) -> str:
        return base64.b64encode(self.client.get_client_first().encode()).decode()

    def final(self, challenge: bytes) -> str:
        self.client.set_server_first(challenge.decode())
        return base64.b64encode(self.client.get_client_final().encode()).decode()


def test_047_scram_proves_both_sides_to_each_other(gateway):
    running = gateway(MAIL, plaintext="never")
    dialogue = running.connect()
    assert dialogue.capabilities()["SASL"] == ["SCRAM-SHA-256"]
    scram = Scram(*running.drop)
    challenge = dialogue.challenge(f"AUTH SCRAM-SHA-256 {scram.first()}")
    last = dialogue.challenge(scram.final(challenge))
    scram.client.set_server_final(last.decode())  # raises where the server knows no secret
    assert dialogue.say("").ok
    assert dialogue.stat() == (1, len(MAIL))


def test_047_scram_refuses_a_wrong_password(gateway):
    running = gateway(MAIL)
    dialogue = running.connect()
    scram = Scram(running.drop.login, "wrong")
    challenge = dialogue.challenge(f"AUTH SCRAM-SHA-256 {scram.first()}")
    answer = dialogue.say(scram.final(challenge))
    assert not answer.ok
    assert answer.code == "AUTH"
    assert not dialogue.say("STAT").ok


def test_047_scram_challenges_an_unknown_name_as_it_does_a_known_one(gateway):
    running = gateway(MAIL)
    shapes = []
    for login in (running.drop.login, "nobody-here"):
        scram = Scram(login, "wrong")
        dialogue = running.connect()
        challenge = dialogue.challenge(f"AUTH SCRAM-SHA-256 {scram.first()}")
        fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
        shapes.append((sorted(fields), len(fields["s"]), fields["i"]))
        assert dialogue.say(scram.final(challenge)).code == "AUTH"
    assert shapes[0] == shapes[1]


def test_047_the_salt_of_an_unknown_name_is_always_the_same(gateway):
    running = gateway(MAIL)
    salts = set()
    for _ in range(3):
        dialogue = running.connect()
        challenge = dialogue.challenge(f"AUTH SCRAM-SHA-256 {Scram('nobody', 'x').first()}")
        salts.add(challenge.decode().split(",")[1])
    assert len(salts) == 1


@pytest.mark.parametrize("change", ["nonce", "shorter-nonce", "binding", "downgrade", "twice"])
def test_047_scram_refuses_what_was_changed_on_the_way(gateway, change):
    running = gateway(MAIL)
    dialogue = running.connect()
    scram = Scram(*running.drop)
    first = scram.first()
    if change == "binding":  # the client asks for a channel binding that was not offered
        text = base64.b64decode(first).replace(b"n,,", b"p=tls-unique,,")
        assert not dialogue.say(f"AUTH SCRAM-SHA-256 {base64.b64encode(text).decode()}").ok
        return
    challenge = dialogue.challenge(f"AUTH SCRAM-SHA-256 {first}")
    final = base64.b64decode(scram.final(challenge)).decode()
    fields = final.split(",")
    if change == "nonce":
        fields[1] = fields[1][:-1] + ("A" if fields[1][-1] != "A" else "B")
    elif change == "shorter-nonce":
        fields[1] = "r=" + base64.b64decode(first).decode().rpartition("r=")[2]
    elif change == "downgrade":
        fields[0] = "c=" + base64.b64encode(b"y,,").decode()
    else:
        fields.append(fields[-1])
    answer = dialogue.say(base64.b64encode(",".join(fields).encode()).decode())
    assert not answer.ok
    assert not dialogue.say("STAT").ok
