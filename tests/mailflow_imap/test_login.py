"""Connecting, protecting, logging in: what leaves, in which flight, and what never leaves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import (
    ConfigError,
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    UnavailableError,
)
from mailflow.kinds import Runtime
from mailflow.options import SecretValue
from mailflow.testing.imap import CAPABILITIES, Faults, ImapServer
from mailflow.testing.tls import Authority, Certificate
from mailflow_imap.login import enter
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapAccount, ImapOptions

SECRET = "canary-7d1e"
USERS = {"red": SECRET}

Connect = Callable[..., Session]
OptionsOf = Callable[..., ImapOptions]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


@pytest.fixture
def certificate(authority: Authority) -> Certificate:
    return authority.issue()


def refused(connected: Connect, options_of: OptionsOf, server: ImapServer, **options: Any) -> Any:
    """The error of a log-in."""
    session = connected(server, **options)
    with pytest.raises(MailflowError) as caught:
        enter(options_of(server, **options), session)
    return caught.value


def said(server: ImapServer) -> list[str]:
    """The commands that held a secret."""
    return [line for line in server.commands if "***" in line]


def without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in CAPABILITIES if name not in names)


@pytest.mark.parametrize(
    ("ways", "command"),
    [((), "LOGIN ***"), (("login",), "LOGIN ***"), (("plain",), "AUTHENTICATE PLAIN ***")],
)
def test_a_way_is_taken_that_is_wanted_and_offered(
    connected: Connect, options_of: OptionsOf, ways: tuple[str, ...], command: str
) -> None:
    with ImapServer(USERS) as server:
        session = connected(server)
        enter(options_of(server, auth=ways), session)
        assert session.logged_in
        assert said(server)[0].startswith(command)


def test_log_in_select_and_listing_leave_in_one_flight(
    connected: Connect, options_of: OptionsOf
) -> None:
    with ImapServer(USERS, {"red": [b"A: b\r\n\r\n"]}) as server:
        session = connected(server)
        before = server.flights
        selecting, facts = enter(
            options_of(server), session, lambda: (session.select("INBOX"), session.facts("1:*"))
        )
        assert selecting.wait().exists == 1
        assert [fact.uid for fact in facts] == [1]
        assert server.flights <= before + 2  # one may be the wait that the flight has ended


def test_without_sasl_ir_the_secret_waits_for_the_challenge(
    connected: Connect, options_of: OptionsOf
) -> None:
    with ImapServer(USERS, capabilities=without("SASL-IR")) as server:
        session = connected(server)
        enter(options_of(server, auth=("plain",)), session)
        assert session.logged_in


def test_f20_login_is_never_said_where_it_is_disabled(
    connected: Connect, options_of: OptionsOf
) -> None:
    offers = (*without("AUTH=PLAIN"), "LOGINDISABLED", "AUTH=CRAM-MD5")
    with ImapServer(USERS, capabilities=offers) as server:
        error = refused(connected, options_of, server)
        assert isinstance(error, LoginError)
        assert "AUTH=CRAM-MD5" in error.text
        assert not said(server)


def test_a_wrong_password_is_tried_once(connected: Connect, options_of: OptionsOf) -> None:
    with ImapServer({"red": "other"}) as server:
        error = refused(connected, options_of, server)
        assert isinstance(error, LoginError)
        assert "check `user` and `password`" in error.text
        assert len(said(server)) == 1


def test_a_way_that_fails_without_a_reason_is_followed_by_the_next(
    connected: Connect, options_of: OptionsOf
) -> None:
    faults = Faults(answers={"AUTHENTICATE": b"<tag> NO not today\r\n"})
    with ImapServer(USERS, {"red": [b"A: b\r\n\r\n"]}, faults=faults) as server:
        session = connected(server)
        options = options_of(server, auth=("plain", "login"))
        selecting = enter(options, session, lambda: session.select("INBOX"))
        assert selecting.wait().exists == 1
        assert said(server) == [
            "AUTHENTICATE PLAIN ***",
            "LOGIN ***",
        ]


def test_what_a_server_offers_is_asked_again_after_the_log_in(
    connected: Connect, options_of: OptionsOf
) -> None:
    with ImapServer(USERS, greets_with_capabilities=False) as server:
        session = connected(server)
        server.capabilities = (*CAPABILITIES, "SORT")
        enter(options_of(server), session)
        assert session.offers("SORT")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("NO [UNAVAILABLE] later", UnavailableError),
        ("NO [THROTTLED] later", UnavailableError),
        ("NO [INUSE] busy", InUseError),
        ("NO [LIMIT] too many connections", UnavailableError),
        ("NO [AUTHENTICATIONFAILED] no", LoginError),
        ("NO [EXPIRED] no", LoginError),
        ("BAD what", LoginError),
        ("NO", LoginError),
    ],
)
def test_f12_a_refusal_is_for_now_or_for_good(
    connected: Connect, options_of: OptionsOf, text: str, kind: type[MailflowError]
) -> None:
    answer = f"<tag> {text}\r\n".encode()
    faults = Faults(answers={"AUTHENTICATE": answer, "LOGIN": answer})
    with ImapServer(USERS, faults=faults) as server:
        error = refused(connected, options_of, server)
        assert type(error) is kind
        assert "\n" not in error.text


def test_a_server_that_asks_us_to_stay_away_says_how_long(
    connected: Connect, options_of: OptionsOf
) -> None:
    answer = b"<tag> NO [THROTTLED] Suggested Backoff Time: 1500 milliseconds\r\n"
    with ImapServer(USERS, faults=Faults(answers={"LOGIN": answer})) as server:
        error = refused(connected, options_of, server)
        assert isinstance(error, UnavailableError)
        assert error.fields["delay"] == 1.5


def test_a_secret_that_the_server_repeats_is_in_no_error(
    connected: Connect, options_of: OptionsOf
) -> None:
    encoded = base64.b64encode(f"\0red\0{SECRET}".encode())
    answer = b"<tag> NO bad " + encoded + b" or " + SECRET.encode() + b"\r\n"
    with ImapServer(
        USERS, faults=Faults(answers={"AUTHENTICATE": answer, "LOGIN": answer})
    ) as server:
        error = refused(connected, options_of, server)
        assert SECRET not in error.text
        assert encoded.decode() not in error.text


@pytest.mark.parametrize(
    "challenge", [b"+ \r\n", b"+ YWJj\r\n", b"+ !!!\r\n", b"+ " + b"A" * 20000 + b"\r\n"]
)
def test_f24_a_challenge_that_no_mechanism_knows_ends_the_session_without_a_secret(
    connected: Connect, options_of: OptionsOf, challenge: bytes
) -> None:
    with ImapServer(USERS, faults=Faults(answers={"LOGIN": challenge})) as server:
        error = refused(connected, options_of, server, auth=("login",))
        assert isinstance(error, PeerError)
        assert SECRET not in error.text


def test_f24_a_token_goes_to_no_second_question(connected: Connect, options_of: OptionsOf) -> None:
    answers = {"AUTHENTICATE": b"+ \r\n<tag> NO cancelled\r\n"}
    with ImapServer({}, tokens={"red": SECRET}, faults=Faults(answers=answers)) as server:
        options = {"password": None, "token": SecretValue(lambda: SECRET, "test")}
        error = refused(connected, options_of, server, **options, auth=("xoauth2",))
        assert isinstance(error, LoginError)
        assert "no such challenge" in error.text
        assert len(said(server)) == 1


@pytest.mark.parametrize("way", ["oauthbearer", "xoauth2"])
def test_a_token_logs_in(connected: Connect, options_of: OptionsOf, way: str) -> None:
    with ImapServer({}, tokens={"red": SECRET}) as server:
        options = {"password": None, "token": SecretValue(lambda: SECRET, "test"), "auth": (way,)}
        session = connected(server, **options)
        enter(options_of(server, **options), session)
        assert server.commands[-1].startswith(("AUTHENTICATE " + way.upper(), "ID"))


@pytest.mark.parametrize("way", ["oauthbearer", "xoauth2"])
def test_a_token_that_is_refused_is_renewed_and_tried_once_more(
    connected: Connect, options_of: OptionsOf, way: str
) -> None:
    token = SecretValue(
        lambda: "old",
        "test",
        renewed=True,
        renew=lambda refused: SECRET if refused == "old" else refused,
    )
    with ImapServer({}, tokens={"red": SECRET}) as server:
        options = {"password": None, "token": token, "auth": (way,)}
        session = connected(server, **options)
        enter(options_of(server, **options), session)
        assert session.logged_in
        assert len(said(server)) == 2


def test_a_certificate_logs_in(
    connected: Connect, options_of: OptionsOf, certificate: Certificate, authority: Authority
) -> None:
    offers = ("SASL-IR", "AUTH=EXTERNAL")
    ours = authority.issue(("red",))
    with ImapServer(USERS, capabilities=offers, tls=certificate, implicit=True) as server:
        options = {
            "tls": "implicit", "ca_file": authority.ca_file, "password": None,
            "certificate": ours.cert_file, "key": ours.key_file,
        }  # fmt: skip
        session = connected(server, **options)
        enter(options_of(server, **options), session)
        assert session.logged_in
        assert "AUTHENTICATE EXTERNAL ***" in server.commands


def test_a_certificate_that_cannot_be_read_is_named(
    connected: Connect, authority: Authority, certificate: Certificate
) -> None:
    with (
        ImapServer(USERS, tls=certificate, implicit=True) as server,
        pytest.raises(ConfigError, match="nowhere"),
    ):
        connected(
            server, tls="implicit", ca_file=authority.ca_file, certificate="/nowhere.pem", key=None
        )


def test_f25_nobody_is_sent_elsewhere(connected: Connect, options_of: OptionsOf) -> None:
    answer = b"<tag> NO [REFERRAL imap://red@evil.example.org/] go there\r\n"
    with ImapServer(USERS, faults=Faults(answers={"LOGIN": answer})) as server:
        error = refused(connected, options_of, server)
        assert isinstance(error, LoginError)
        assert "another server, which is not asked" in error.text
        assert server.connections == 1


def test_f25_a_greeting_that_refers_elsewhere_ends_it(connected: Connect) -> None:
    answer = b"* BYE [REFERRAL imap://evil.example.org/] go there\r\n"
    with (
        ImapServer(USERS, faults=Faults(answers={"": answer})) as server,
        pytest.raises(UnavailableError, match="turns us away"),
    ):
        connected(server)
    assert server.connections == 1


def test_starttls_protects_before_anything_is_said(
    connected: Connect, options_of: OptionsOf, certificate: Certificate, authority: Authority
) -> None:
    with ImapServer(USERS, tls=certificate) as server:
        options = {"tls": "starttls", "ca_file": authority.ca_file}
        session = connected(server, **options)
        assert server.commands == ["STARTTLS"]
        enter(options_of(server, **options), session)
        assert session.logged_in


@pytest.mark.parametrize("answer", [b"<tag> NO no TLS here\r\n", b"<tag> BAD what\r\n"])
def test_f20_stripped_starttls_ends_it_before_a_secret(
    connected: Connect, answer: bytes, certificate: Certificate, authority: Authority
) -> None:
    with ImapServer(USERS, tls=certificate, faults=Faults(answers={"STARTTLS": answer})) as server:
        with pytest.raises(LoginError, match="no password was sent"):
            connected(server, tls="starttls", ca_file=authority.ca_file)
        assert server.commands == ["STARTTLS"]


@pytest.mark.parametrize(
    "behind", [b"* OK hello\r\n", b"* CAPABILITY IMAP4rev1\r\n", b"m2 OK in\r\n", b"x"]
)
def test_f21_what_stands_behind_the_answer_to_starttls_is_never_believed(
    connected: Connect, behind: bytes, certificate: Certificate, authority: Authority
) -> None:
    faults = Faults(answers={"STARTTLS": b"<tag> OK begin\r\n" + behind})
    with (
        ImapServer(USERS, tls=certificate, faults=faults) as server,
        pytest.raises((PeerError, LoginError)),
    ):
        connected(server, tls="starttls", ca_file=authority.ca_file)
    assert server.commands == ["STARTTLS"]


def test_f22_what_was_offered_in_clear_is_forgotten_under_tls(
    connected: Connect, options_of: OptionsOf, certificate: Certificate, authority: Authority
) -> None:
    greeting = b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR X-LIE LITERAL+] hello\r\n"
    with ImapServer(
        USERS, tls=certificate, capabilities=("AUTH=PLAIN",), faults=Faults(answers={"": greeting})
    ) as server:
        options = {"tls": "starttls", "ca_file": authority.ca_file}
        session = connected(server, **options)
        assert not session.offers("X-LIE", "LITERAL+", "SASL-IR")


def test_f19_preauth_before_tls_ends_it_before_anything_is_said(
    connected: Connect, certificate: Certificate, authority: Authority
) -> None:
    faults = Faults(answers={"": b"* PREAUTH you are in\r\n"})
    with ImapServer(USERS, tls=certificate, faults=faults) as server:
        with pytest.raises(LoginError, match="before TLS"):
            connected(server, tls="starttls", ca_file=authority.ca_file)
        assert server.commands == []


def test_preauth_on_a_way_that_is_protected_needs_no_log_in(
    connected: Connect, options_of: OptionsOf
) -> None:
    faults = Faults(answers={"": b"* PREAUTH you are in\r\n", "SELECT": b"<tag> OK open\r\n"})
    with ImapServer(USERS, faults=faults) as server:
        session = connected(server)
        enter(options_of(server), session, lambda: session.select("INBOX").wait())
        assert not said(server)


def test_f23_a_certificate_of_another_host_gets_no_secret(
    connected: Connect, authority: Authority
) -> None:
    wrong = authority.issue(("other.example.org",))
    with ImapServer(USERS, tls=wrong, implicit=True) as server:
        with pytest.raises(LoginError, match="certificate"):
            connected(server, tls="implicit", ca_file=authority.ca_file)
        assert server.commands == []


def test_f23_an_expired_certificate_gets_no_secret(
    connected: Connect, authority: Authority
) -> None:
    with ImapServer(USERS, tls=authority.issue(days=-1), implicit=True) as server:
        with pytest.raises(LoginError, match="expired"):
            connected(server, tls="implicit", ca_file=authority.ca_file)
        assert server.commands == []


def test_a_server_that_cannot_be_asked_early_is_asked_in_turn(connected: Connect) -> None:
    with ImapServer(USERS, faults=Faults(cut_at=0)) as server:
        with pytest.raises(UnavailableError):
            connected(server)
        assert server.connections == 2


def test_a_session_that_never_pipelines_logs_in_all_the_same(
    connected: Connect, options_of: OptionsOf
) -> None:
    with ImapServer(USERS, {"red": [b"A: b\r\n\r\n"]}) as server:
        session = connected(server, pipelining="never")
        facts = enter(
            options_of(server),
            session,
            lambda: (session.select("INBOX"), session.facts("1:*"))[1],
        )
        assert [fact.uid for fact in facts] == [1]


def test_an_alert_is_told_once(connected: Connect, log: Any, options_of: OptionsOf) -> None:
    faults = Faults(before={"NOOP": b"* OK [ALERT] disk \x1b[31mnearly full\r\n"})
    with ImapServer(USERS, faults=faults) as server:
        session = connected(server)
        session.noop().wait()
        session.noop().wait()
    alerts = [facts["said"] for _, event, facts in log.lines if event == "the server alerts"]
    assert alerts == ["disk ?[31mnearly full"]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"user": "ann"}, ["password"]),
        ({}, ["user", "password"]),
        ({"user": "ann", "password": "x"}, []),
        ({"user": "ann", "password": "x", "auth": ["xoauth2"]}, ["auth"]),
        ({"user": "ann", "token": "x", "auth": ["plain"]}, ["auth"]),
        ({"user": "ann", "token": "x", "password": "y"}, ["token"]),
        ({"certificate": "/a.pem"}, []),
        ({"user": "ann", "certificate": "/a.pem", "auth": ["login"]}, ["auth"]),
        ({"user": "ann", "password": "x", "key": "/a.pem"}, ["key"]),
    ],
)
def test_options_that_do_not_go_together_are_named(given: dict[str, Any], fault: list[str]) -> None:
    try:
        ImapOptions.read({"host": "imap.example.org", **given})
        found = []
    except ConfigError as error:
        found = [part.split(":")[0] for part in error.text.split("; ") if ": " in part]
    assert [name for name in found if name in ImapAccount.declared()] == fault


def test_a_line_end_in_a_password_is_never_sent(connected: Connect, options_of: OptionsOf) -> None:
    with ImapServer(USERS) as server:
        session = connected(server)
        with pytest.raises(LoginError, match="line end"):
            enter(options_of(server, password=SecretValue(lambda: "a\r\nb", "it")), session)


def test_the_password_in_clear_is_warned_about(
    options_of: OptionsOf, runtime: Runtime, log: Any
) -> None:
    from mailflow_imap.login import connect

    options = ImapOptions({"host": "imap.invalid", "tls": "none", "timeout": 0.5})
    with pytest.raises(UnavailableError):
        connect(options, runtime)
    assert log.warnings() == ["the password goes in clear"]
