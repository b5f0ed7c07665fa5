"""TLS and logging in: what is protected, what is refused, and what never leaves in clear."""

from __future__ import annotations

import ssl

import pytest

from mailflow import ConfigError, LoginError, PeerError, UnavailableError
from mailflow.options import SecretValue
from mailflow.testing.smtp import CUT, STALL, SmtpSink
from mailflow.testing.tls import Authority
from mailflow_smtp.distributor import SmtpOptions

ANN = "ann@example.org"
SECRET = "canary-7731"
LOGIN = {"user": "red", "password": SECRET}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def secure(authority):
    """A server that wants STARTTLS and a login."""
    context = authority.issue().server_context()
    with SmtpSink(tls=context, users={"red": SECRET}) as sink:
        yield sink


def no_secret_was_said(result, sink, log):
    """Neither in what was raised or logged, nor to the server."""
    assert SECRET not in f"{result.error!r} {result.error} {result.reports} {log.lines}"
    assert not any(command.upper().startswith("AUTH") for command in sink.commands)
    assert not any(command.startswith("MAIL") for command in sink.commands)


# Protection


def test_starttls_protects_the_login_and_the_mail(secure, distributor, send, authority):
    smtp = distributor(secure, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    assert [command.split()[0] for command in secure.commands[:4]] == [
        "EHLO", "STARTTLS", "EHLO", "AUTH",
    ]  # fmt: skip
    assert secure.connections[0].secure
    assert secure.violations == []


def test_implicit_tls_protects_from_the_first_octet(distributor, send, authority):
    context = authority.issue().server_context()
    with SmtpSink(tls=context, implicit=True, users={"red": SECRET}) as sink:
        smtp = distributor(sink, tls="implicit", ca_file=authority.ca_file, **LOGIN)
        assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
        assert [command.split()[0] for command in sink.commands[:2]] == ["EHLO", "AUTH"]


@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
def test_a_large_mail_arrives_octet_for_octet_through_tls(distributor, send, authority, implicit):
    data = b"Subject: x\r\n\r\n" + b"".join(b"line %d\r\n" % number for number in range(500_000))
    with SmtpSink(tls=authority.issue().server_context(), implicit=implicit) as sink:
        tls = "implicit" if implicit else "starttls"
        smtp = distributor(sink, tls=tls, ca_file=authority.ca_file)
        assert send(smtp, ANN, data=data).outcome(ANN) == ("sent", "2.0.0")
        assert sink.messages[0].data == data


def test_a_protected_connection_closed_while_idle_is_opened_and_logged_in_to_again(
    secure, distributor, send, authority
):
    secure.on(".", "250 2.0.0 taken", CUT, times=1)
    smtp = distributor(secure, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    secure.settle()
    assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")
    assert [each.user for each in secure.connections] == ["red", "red"]


@pytest.mark.parametrize(
    ("host", "tls", "protection", "port"),
    [
        ("smtp.example.org", "", "starttls", 587),
        ("smtp.example.org", "implicit", "implicit", 465),
        ("smtp.example.org", "none", "none", 25),
        ("127.0.0.1", "", "none", 25),
        ("localhost", "", "none", 25),
        ("::1", "starttls", "starttls", 587),
        ("127.0.0.1.example.org", "starttls", "starttls", 587),
    ],
)
def test_off_loopback_nothing_is_sent_in_clear_unless_told_to(host, tls, protection, port):
    options = SmtpOptions({"host": host, "tls": tls})
    assert (options.protection, options.port_number) == (protection, port)


def test_the_port_can_be_another():
    assert SmtpOptions({"host": "localhost", "port": 2525}).port_number == 2525


def test_f20_starttls_that_is_not_offered_ends_it_before_any_secret(
    sink, distributor, send, log, authority
):
    sink.users = {"red": SECRET}
    smtp = distributor(sink, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    result = send(smtp, ANN)
    assert isinstance(result.error, LoginError)
    assert "does not offer STARTTLS" in result.error.text
    no_secret_was_said(result, sink, log)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("454 4.7.0 TLS not available", UnavailableError),
        ("502 5.5.1 not implemented", LoginError),
        ("250 2.0.0 what", LoginError),
        ("421 4.7.0 bye", UnavailableError),
    ],
)
def test_f20_starttls_that_is_refused_ends_it_before_any_secret(
    secure, distributor, send, log, authority, reply, kind
):
    secure.on("STARTTLS", reply)
    smtp = distributor(secure, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    result = send(smtp, ANN)
    assert type(result.error) is kind
    no_secret_was_said(result, secure, log)


def test_f21_octets_injected_behind_starttls_are_never_believed(
    secure, distributor, send, log, authority
):
    secure.on("STARTTLS", b"220 2.0.0 go ahead\r\n250-evil\r\n250 AUTH PLAIN\r\n")
    smtp = distributor(secure, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    result = send(smtp, ANN)
    assert isinstance(result.error, PeerError)
    assert "sent octets in clear behind" in result.error.text
    no_secret_was_said(result, secure, log)


def test_f22_what_was_offered_in_clear_counts_no_more(secure, distributor, send, log, authority):
    secure.on("EHLO", b"250-sink.example\r\n250-PIPELINING\r\n250 SIZE 10\r\n", after=1)
    smtp = distributor(secure, tls="starttls", ca_file=authority.ca_file, **LOGIN)
    result = send(smtp, ANN)
    assert isinstance(result.error, LoginError)
    assert "it offers none" in result.error.text
    no_secret_was_said(result, secure, log)


@pytest.mark.parametrize(
    ("names", "days", "trusted", "reason"),
    [
        (["localhost", "127.0.0.1"], -1, True, "expired"),
        (["smtp.example.org"], 10, True, "not valid for"),
        ([], 10, True, "not valid for"),
        (["localhost", "127.0.0.1"], 10, False, "signature failure"),
    ],
    ids=["expired", "other name", "no name", "unknown authority"],
)
@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
def test_d19_a_certificate_that_proves_nothing_gets_no_secret(
    distributor, send, log, tmp_path, authority, names, days, trusted, reason, implicit
):
    context = authority.issue(names, days).server_context()
    (tmp_path / "other").mkdir()
    ca_file = authority.ca_file if trusted else Authority(tmp_path / "other").ca_file
    with SmtpSink(tls=context, implicit=implicit, users={"red": SECRET}) as sink:
        tls = "implicit" if implicit else "starttls"
        result = send(distributor(sink, tls=tls, ca_file=ca_file, **LOGIN), ANN)
        assert isinstance(result.error, LoginError)
        assert "certificate" in result.error.text
        assert reason in result.error.text.lower()
        no_secret_was_said(result, sink, log)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_d19_tls_1_1_is_refused(distributor, send, log, authority):
    context = authority.issue().server_context()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with SmtpSink(tls=context, implicit=True, users={"red": SECRET}) as sink:
        smtp = distributor(sink, tls="implicit", ca_file=authority.ca_file, **LOGIN)
        result = send(smtp, ANN)
        assert result.error is not None
        assert "TLS" in result.error.text
        no_secret_was_said(result, sink, log)


def test_tls_where_none_is_spoken_is_one_clear_error(sink, distributor, send, authority):
    smtp = distributor(sink, tls="implicit", ca_file=authority.ca_file, timeout=2.0)
    result = send(smtp, ANN)
    assert result.error is not None
    assert "TLS" in result.error.text
    assert "MAIL" not in "".join(sink.commands)


def test_an_authority_that_cannot_be_read_is_said_before_connecting(
    sink, distributor, send, tmp_path
):
    result = send(distributor(sink, tls="implicit", ca_file=str(tmp_path / "none.pem")), ANN)
    assert isinstance(result.error, ConfigError)
    assert "none.pem" in result.error.text
    assert sink.connections == []


# Logging in


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_each_mechanism_logs_in(distributor, send, mechanism):
    with SmtpSink(users={"red": SECRET}, mechanisms=[mechanism]) as sink:
        assert send(distributor(sink, **LOGIN), ANN).outcome(ANN) == ("sent", "2.0.0")
        assert sink.connections[0].user == "red"


@pytest.mark.parametrize("password", ["pä ss\u00a0wörd", 'quo"te\\', "x" * 400])
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_any_password_can_be_said(distributor, send, mechanism, password):
    with SmtpSink(users={"red": password}, mechanisms=[mechanism]) as sink:
        smtp = distributor(sink, user="red", password=password)
        assert send(smtp, ANN).outcome(ANN) == ("sent", "2.0.0")


def test_a_login_happens_once_for_many_mails(distributor, send):
    with SmtpSink(users={"red": SECRET}) as sink:
        smtp = distributor(sink, **LOGIN)
        for _ in range(3):
            send(smtp, ANN)
        assert len([c for c in sink.commands if c.startswith("AUTH")]) == 1


def test_the_order_of_mechanisms_is_the_users(distributor, send):
    with SmtpSink(users={"red": SECRET}) as sink:
        send(distributor(sink, auth=("LOGIN", "PLAIN"), **LOGIN), ANN)
        assert sink.commands[1] == "AUTH LOGIN"


def test_the_next_mechanism_is_tried_where_the_first_is_refused(distributor, send):
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", "535 5.7.8 not this way", match="PLAIN*")
        assert send(distributor(sink, **LOGIN), ANN).outcome(ANN) == ("sent", "2.0.0")


def test_f12_a_wrong_password_is_a_login_error_that_names_user_and_server(distributor, send, log):
    with SmtpSink(users={"red": "another"}) as sink:
        result = send(distributor(sink, **LOGIN), ANN)
        assert isinstance(result.error, LoginError)
        assert not result.error.temporary
        assert "red" in result.error.text
        assert f"127.0.0.1:{sink.port}" in result.error.text
        assert "535 5.7.8" in result.error.text
        assert result.error.text.endswith("; check `user` and `password`")
        assert SECRET not in f"{result.error} {log.lines}"
        assert result.reports == []


def test_f12_a_server_that_hangs_up_on_a_wrong_password_is_a_login_error(distributor, send):
    with SmtpSink(users={"red": "another"}) as sink:
        sink.on("AUTH", "535 5.7.8 wrong", CUT)
        assert isinstance(send(distributor(sink, **LOGIN), ANN).error, LoginError)


@pytest.mark.parametrize("reply", ["454 4.7.0 temporary failure", "421 4.7.0 bye"])
def test_f12_a_login_that_cannot_be_checked_now_is_temporary(distributor, send, reply):
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", reply)
        assert isinstance(send(distributor(sink, **LOGIN), ANN).error, UnavailableError)


def test_a_server_without_any_login_wanted_here_says_what_it_offers(distributor, send, log):
    with SmtpSink(users={"red": SECRET}, mechanisms=["GSSAPI", "XOAUTH2"]) as sink:
        result = send(distributor(sink, **LOGIN), ANN)
        assert isinstance(result.error, LoginError)
        assert "GSSAPI XOAUTH2" in result.error.text
        no_secret_was_said(result, sink, log)


def test_a_server_that_offers_no_login_gets_no_mail_of_somebody_who_has_one(
    sink, distributor, send, log
):
    result = send(distributor(sink, **LOGIN), ANN)
    assert isinstance(result.error, LoginError)
    no_secret_was_said(result, sink, log)


@pytest.mark.parametrize(
    "challenge",
    [b"334 \r\n", b"334 !!!\r\n", b"334 " + b"A" * (1 << 20) + b"\r\n", b"334-a\r\n334 b\r\n"],
    ids=["empty", "no base64", "1 MB", "two lines"],
)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_f24_a_challenge_that_makes_no_sense_is_cancelled(
    distributor, send, log, mechanism, challenge
):
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", challenge)
        result = send(distributor(sink, auth=(mechanism,), **LOGIN), ANN)
        assert isinstance(result.error, LoginError | PeerError)
        assert "*" in sink.commands
        assert SECRET not in f"{result.error} {log.lines}"


def test_f24_a_login_that_goes_on_after_it_was_cancelled_ends(distributor, send):
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", "334 ")
        sink.on("*", "334 ", match="", after=1)  # whatever has no argument, but the greeting
        result = send(distributor(sink, auth=("PLAIN",), **LOGIN), ANN)
        assert isinstance(result.error, PeerError)


def test_c02_a_server_that_repeats_the_secret_does_not_get_it_into_the_error(
    distributor, send, log
):
    import base64

    coded = base64.b64encode(f"\0red\0{SECRET}".encode()).decode()
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", f"535 5.7.8 AUTH PLAIN {coded} means {SECRET}")
        result = send(distributor(sink, **LOGIN), ANN)
        assert isinstance(result.error, LoginError)
        assert SECRET not in result.error.text
        assert coded not in result.error.text
        assert "***" in result.error.text


def test_silence_in_the_midst_of_a_login_ends_in_time(distributor, send):
    with SmtpSink(users={"red": SECRET}) as sink:
        sink.on("AUTH", STALL)
        result = send(distributor(sink, timeout=0.2, **LOGIN), ANN)
        assert isinstance(result.error, UnavailableError)


# Options


def faults(**options):
    return dict(SmtpOptions({"host": "smtp.example.org", **options}).faults())


def test_a_user_needs_a_password_and_a_password_a_user():
    secret = SecretValue(lambda: SECRET, "the test")
    assert list(faults(user="red")) == ["password"]
    assert list(faults(password=secret)) == ["user"]
    assert faults(user="red", password=secret) == {}


@pytest.mark.parametrize("helo", ["red example", "", "-red", "red.example.org\r\nMAIL", "räd"])
def test_a_name_to_greet_with_is_a_host_name_or_a_literal(helo):
    assert list(faults(helo=helo)) == ["helo"]


@pytest.mark.parametrize("helo", ["red", "red.example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_a_host_name_or_a_literal_is_a_name_to_greet_with(helo):
    assert faults(helo=helo) == {}


def test_mechanisms_go_with_what_is_given():
    secret = SecretValue(lambda: SECRET, "the test")
    assert list(faults(user="red", password=secret, auth=("XOAUTH2",))) == ["auth"]
    assert list(faults(user="red", token=secret, auth=("PLAIN", "XOAUTH2"))) == ["auth"]
    assert faults(user="red", token=secret, auth=("XOAUTH2",)) == {}
