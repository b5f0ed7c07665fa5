"""STLS and TLS: nothing in clear text is believed once TLS was asked for."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
from contextlib import suppress

import pytest

from mailflow_pop3.gateway import GatewayOptions

from .dialogue import Dialogue, EndedError

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@pytest.fixture(autouse=True)
def _certified(request):
    """Another server may have no certificate, or one that nobody here is told to trust."""
    if "server" in request.fixturenames and not request.getfixturevalue("server").ca_file:
        pytest.skip("no --server-ca")


def secured(server, ahead: bytes = b"") -> Dialogue:
    """A connection after STLS; `ahead` stands behind it in the same packet."""
    dialogue = server.connect()
    dialogue.send(b"STLS\r\n" + ahead)
    assert dialogue.status().ok
    dialogue.secure(server.context())
    return dialogue


def test_096_stls_begins_tls_without_another_greeting(server):
    drop = server.fill(MAIL)
    dialogue = secured(server)
    assert dialogue.log_in(*drop).ok
    assert dialogue.retrieve(1) == MAIL
    assert dialogue.quit().ok


def test_096_stls_is_for_the_authorization_state(server):
    dialogue = server.open(MAIL)
    assert not dialogue.say("STLS").ok
    assert dialogue.stat()[0] == 1


def test_096_after_the_answer_clear_text_is_no_command(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert dialogue.say("STLS").ok
    dialogue.send(f"USER {drop.login}\r\nPASS {drop.password}\r\nDELE 1\r\nQUIT\r\n".encode())
    said = dialogue.rest()
    assert b"+OK" not in said
    assert b"-ERR" not in said
    assert server.enter(drop).stat()[0] == 1


INJECTED = [b"NOOP\r\n", b"XYZZY\r\n" * 3, b"USER ann\r\n", b"QUIT\r\n", b"CAP", b"\r\n" * 12]


@pytest.mark.parametrize("ahead", INJECTED)
def test_097_what_stands_behind_stls_in_the_same_packet_is_never_run(server, ahead):
    """RFC 2595, 4; CVE-2011-0411. Dropped, or the connection ends: no answer to it comes."""
    try:
        dialogue = secured(server, ahead)
    except (ssl.SSLError, OSError, EndedError):
        return
    assert dialogue.say("CAPA").line.startswith(b"+OK")
    dialogue.body()
    assert dialogue.say("PASS x").ok is False
    assert dialogue.alive()


def test_097_an_injected_login_is_forgotten(server):
    drop = server.fill(MAIL)
    injected = f"USER {drop.login}\r\nPASS {drop.password}\r\n".encode()
    try:
        dialogue = secured(server, injected)
    except (ssl.SSLError, OSError, EndedError):
        return
    assert not dialogue.say("STAT").ok


def test_097_an_injection_is_told_in_the_log(gateway):
    running = gateway(MAIL, secure=True)
    dialogue = running.connect()
    dialogue.send(b"STLS\r\nUSER evil\r\n")
    assert dialogue.status().ok
    dialogue.secure(running.context())
    assert dialogue.alive()
    assert any("STLS" in line for line in running.logged())
    assert not any("evil" in line for line in running.logged())


def test_098_a_user_that_was_named_before_is_forgotten(server):
    drop = server.fill(MAIL)
    dialogue = server.connect()
    assert dialogue.say(f"USER {drop.login}").ok
    assert dialogue.say("STLS").ok
    dialogue.secure(server.context())
    assert not dialogue.say(f"PASS {drop.password}").ok
    assert dialogue.log_in(*drop).ok


def test_099_stls_twice_is_refused(server):
    dialogue = secured(server)
    assert not dialogue.say("STLS").ok
    assert dialogue.alive()


def test_100_stls_is_not_offered_under_tls(server):
    assert "STLS" not in secured(server).capabilities()


def test_100_nor_where_tls_is_there_from_the_first_octet(server):
    drop = server.fill(MAIL)
    dialogue = server.connect(implicit=True)
    assert dialogue.greeting.startswith(b"+OK")
    assert "STLS" not in dialogue.capabilities()
    assert not dialogue.say("STLS").ok
    assert dialogue.log_in(*drop).ok


def test_100_nor_where_there_is_no_certificate(gateway):
    dialogue = gateway(MAIL).connect()
    assert "STLS" not in dialogue.capabilities()
    assert not dialogue.say("STLS").ok
    assert dialogue.alive()


@pytest.mark.parametrize(
    "garbage", [b"QUIT\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff", b"\x80" * 9]
)
def test_101_a_handshake_that_fails_ends_the_connection(server, garbage):
    dialogue = server.connect()
    assert dialogue.say("STLS").ok
    dialogue.send(garbage)
    dialogue.end_of_sending()
    said = dialogue.rest()
    assert b"+OK" not in said
    assert b"-ERR" not in said


def test_101_a_client_that_trusts_nobody_ends_it_too(server):
    dialogue = server.connect()
    dialogue.say("STLS")
    raw = dialogue.sock
    with pytest.raises(ssl.SSLCertVerificationError):
        dialogue.secure(ssl.create_default_context())
    raw.close()


def test_101_a_failed_handshake_is_one_line_in_the_log(gateway):
    running = gateway(MAIL, secure=True)
    dialogue = running.connect()
    dialogue.say("STLS")
    dialogue.send(b"GET / HTTP/1.0\r\n\r\n")
    dialogue.rest()
    told = [line for line in running.logged() if "handshake" in line]
    assert len(told) == 1
    assert "127.0.0.1" in told[0]


def test_102_implicit_tls_on_995_is_what_a_certificate_brings(certificate):
    options = GatewayOptions.read({"certificate": certificate.cert_file})
    assert [str(address) for address in options.addresses] == ["*:995"]
    assert options.protection(995) == "implicit"
    assert options.protection(110) == "starttls"


def test_102_without_one_it_listens_on_this_machine_alone():
    options = GatewayOptions.read({})
    assert [str(address) for address in options.addresses] == ["127.0.0.1:1110"]


def lax() -> ssl.SSLContext:
    """A client that takes whatever this OpenSSL still knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
@pytest.mark.parametrize("implicit", [False, True], ids=["stls", "implicit"])
def test_103_nothing_older_than_tls_1_2_is_spoken(server, version, implicit):
    context = lax()
    context.maximum_version = ssl.TLSVersion[version]
    port = server.tls_port if implicit else server.port
    dialogue = Dialogue(socket.create_connection((server.host, port), 20), greeted=not implicit)
    if not implicit:
        assert dialogue.say("STLS").ok
    with pytest.raises((ssl.SSLError, OSError)):
        dialogue.secure(context)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_103_both_of_today_s_versions_are(server, version):
    context = server.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    dialogue = server.connect()
    dialogue.say("STLS")
    dialogue.secure(context)
    assert dialogue.alive()


WEAK = [
    "eNULL",
    "aNULL",
    "RC4",
    "3DES",
    "DES",
    "EXPORT",
    "LOW",
    "MD5",
    "SEED",
    "IDEA",
    "PSK",
    "kRSA",
]


@pytest.mark.parametrize("ciphers", WEAK)
def test_103_no_weak_cipher_is_taken(memory, ciphers):
    context = lax()
    try:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    except ssl.SSLError:
        return  # this OpenSSL has none: nobody here can ask for it
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    dialogue = Dialogue(socket.create_connection((memory.host, memory.tls_port), 20), greeted=False)
    with pytest.raises((ssl.SSLError, OSError)):
        dialogue.secure(context)


def test_103_nothing_is_compressed_and_keys_are_of_this_session(memory):
    context = memory.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    dialogue = Dialogue(socket.create_connection((memory.host, memory.tls_port), 20), greeted=False)
    dialogue.secure(context)
    assert dialogue.sock.compression() is None
    assert dialogue.sock.cipher()[0].startswith(("ECDHE-", "DHE-"))


def test_104_handshakes_that_do_not_go_on_stop_nobody(server):
    waiting = [socket.create_connection((server.host, server.tls_port), 20) for _ in range(30)]
    for sock in waiting[::2]:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    drop = server.fill(MAIL)
    dialogue = server.connect(implicit=True)
    assert dialogue.log_in(*drop).ok
    assert dialogue.retrieve(1) == MAIL
    for sock in waiting:
        sock.close()


def test_104_who_does_not_shake_hands_goes_as_who_does_not_log_in(gateway):
    running = gateway(MAIL, secure=True, tls="implicit", login_timeout="1s")
    sock = socket.create_connection(("127.0.0.1", running.gateway.port), 20)
    sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert Dialogue(sock, greeted=False).rest()[:1] in (b"", b"\x15")


def test_105_a_new_certificate_is_taken_and_sessions_go_on(gateway, authority, tmp_path):
    first, second = authority.issue(), authority.issue()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(certificate):
        for source, place in ((certificate.key_file, key), (certificate.cert_file, cert)):
            shutil.copy(source, f"{place}.new")
            (place.parent / f"{place.name}.new").replace(place)

    put(first)
    running = gateway(MAIL, tls="implicit", certificate_file=cert, key_file=key)
    before = running.connect(implicit=True)
    assert before.log_in(*running.drop).ok
    serial = before.sock.getpeercert()["serialNumber"]
    put(second)
    for _ in range(200):
        after = running.connect(implicit=True)
        if after.sock.getpeercert()["serialNumber"] != serial:
            break
        after.drop()
    else:
        pytest.fail("the new certificate is not taken")
    assert before.retrieve(1) == MAIL


def test_105_a_certificate_that_has_expired_is_warned_of(gateway, authority):
    expired = authority.issue(days=-1)
    running = gateway(
        MAIL, tls="implicit", certificate_file=expired.cert_file, key_file=expired.key_file
    )
    assert [line for line in running.logged() if "warning" in line and "expired" in line]


@pytest.mark.parametrize("how", ["no-close-notify", "close-notify", "reset"])
def test_106_the_end_of_tls_is_no_quit(server, how):
    drop = server.fill(MAIL, MAIL)
    dialogue = server.connect(implicit=True)
    assert dialogue.log_in(*drop).ok
    dialogue.say("DELE 1")
    if how == "close-notify":
        dialogue.sock.settimeout(5)
        with suppress(ssl.SSLError, OSError):  # the server left without one
            dialogue.sock.unwrap()
    elif how == "reset":
        linger = struct.pack("ii", 1, 0)
        dialogue.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    dialogue.drop()
    assert server.enter(drop).stat()[0] == 2


def test_107_stls_after_utf8_is_refused(server):
    dialogue = server.connect()
    if "UTF8" not in dialogue.capabilities():
        pytest.skip("no UTF8 here")
    assert dialogue.say("UTF8").ok
    assert not dialogue.say("STLS").ok
    assert dialogue.alive()
