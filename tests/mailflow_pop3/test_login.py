"""Logging in: the right way, each once, and never in clear where TLS is wanted."""

from __future__ import annotations

import sys
from base64 import b64encode

import pytest

from mailflow.errors import (
    ConfigError,
    InUseError,
    LoginError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.options import SecretValue
from mailflow.program import CommandLine
from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.tls import Authority
from mailflow_pop3.settings import Pop3Options

from .conftest import SECRET

POST = b"Subject: 1\r\n\r\none\r\n"
NO_TLS = ("PIPELINING", "UIDL", "TOP", "USER", "SASL PLAIN LOGIN", "RESP-CODES")


def serve(**options):
    return Pop3Server({"red": SECRET}, {"red": [POST]}, **options)


@pytest.fixture
def server():
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def secrets_sent(server):
    """Commands that carry credentials."""
    return [line for line in server.commands if line[:4] in ("PASS", "AUTH", "APOP", "USER")]


class TestWays:
    @pytest.mark.parametrize(
        ("ways", "expected"),
        [
            (("plain", "user"), ["AUTH ***"]),
            (("login",), ["AUTH ***", "***", "***"]),
            (("user", "plain"), ["USER red", "PASS ***"]),
            (("apop", "plain"), ["AUTH ***"]),
        ],
    )
    @pytest.mark.parametrize("pipelining", ["auto", "never"])
    def test_the_first_way_that_both_know_is_taken(
        self, server, session, ways, expected, pipelining
    ):
        assert session(server, auth=ways, pipelining=pipelining) == {"red-000001": POST}
        assert server.commands[1 : 1 + len(expected)] == expected

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_apop_where_the_server_greets_with_a_timestamp(self, session, pipelining):
        with serve(apop=True) as server:
            assert session(server, auth=("apop",), pipelining=pipelining)
            assert secrets_sent(server) == ["APOP ***"]

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_a_server_without_capa_is_asked_by_user_and_pass(self, session, pipelining):
        with serve(capabilities=None) as server:
            assert session(server, pipelining=pipelining) == {"red-000001": POST}
            assert secrets_sent(server) == ["USER red", "PASS ***"]

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_where_no_way_is_shared_nothing_is_sent(self, session, pipelining):
        with serve(capabilities=("SASL GSSAPI", "PIPELINING")) as server:
            with pytest.raises(LoginError, match="it offers GSSAPI, `auth` is apop"):
                session(server, auth=("apop",), pipelining=pipelining)
            assert secrets_sent(server) == []

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_pml16_the_next_way_is_tried_where_one_is_refused_without_a_reason(
        self, server, session, pipelining
    ):
        server.faults = Faults(answers={"AUTH": b"-ERR try something else\r\n"})
        assert session(server, auth=("plain", "user"), pipelining=pipelining)
        assert secrets_sent(server)[-2:] == ["USER red", "PASS ***"]

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_always_falls_back_from_user_to_what_capa_then_offers(
        self, server, session, pipelining
    ):
        server.faults = Faults(answers={"USER": b"-ERR use SASL\r\n"})
        assert session(server, auth=("user", "plain"), pipelining=pipelining)
        assert secrets_sent(server)[-1] == "AUTH ***"

    def test_a_long_password_does_not_fit_into_the_command(self, session):
        password = "x" * 400
        with Pop3Server({"red": password}, {"red": [POST]}) as server:
            secret = SecretValue(lambda: password, "the test")
            assert session(server, password=secret, auth=("plain",)) == {"red-000001": POST}
            assert server.commands[1:3] == ["AUTH ***", "***"]

    def test_a_password_with_spaces_and_letters_is_kept(self, session):
        password = " pass  wörd "
        for ways in (("plain",), ("login",), ("user",)):
            with Pop3Server({"red": password}, {"red": [POST]}) as server:
                assert session(
                    server, password=SecretValue(lambda: password, "the test"), auth=ways
                )


class TestRefusals:
    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_csp13_nothing_is_asked_for_that_a_log_in_has_not_opened(
        self, server, session, pipelining
    ):
        """CSP-13: a refused log-in is an error, and no message was touched."""
        got = {}
        with pytest.raises(LoginError):
            session(server, yielded=got, pipelining=pipelining,
                    password=SecretValue(lambda: "guessed", "the test"))  # fmt: skip
        assert got == {}
        assert not [line for line in server.commands if line[:4] in ("RETR", "DELE", "TOP ")]

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_f12_wrong_credentials_are_tried_once(self, server, session, pipelining):
        secret = SecretValue(lambda: "guessed", "the test")
        with pytest.raises(LoginError, match="refuses the login of red: wrong name or password"):
            session(server, password=secret, pipelining=pipelining)
        assert len([line for line in server.commands if "***" in line]) == 1

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"-ERR [IN-USE] locked", InUseError),
            (b"-ERR [LOGIN-DELAY] wait", UnavailableError),
            (b"-ERR [SYS/TEMP] later", UnavailableError),
            (b"-ERR [SYS/PERM] never", LoginError),
            (b"-ERR [AUTH] wrong", LoginError),
            (b"-ERR wrong", LoginError),
            (b"-ERR maildrop already locked", InUseError),
            (b"-ERR mailbox of red is in use", InUseError),
            (b"-ERR account locked", LoginError),
        ],
    )
    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    def test_f12_a_refusal_is_temporary_or_not_as_its_code_says(
        self, server, session, answer, error, pipelining
    ):
        server.faults = Faults(answers={"PASS": answer + b"\r\n"})
        with pytest.raises(error) as caught:
            session(server, auth=("user",), pipelining=pipelining)
        assert type(caught.value) is error
        assert server.messages("red") == [POST]

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"-ERR [SYS/TEMP] overloaded", UnavailableError),
            (b"-ERR too many connections", UnavailableError),
            (b"-ERR [SYS/PERM] not for you", RefusedError),
            (b"220 smtp.example.org", PeerError),
        ],
    )
    def test_f12_a_greeting_may_turn_us_away(self, server, session, answer, error):
        server.faults = Faults(answers={"": answer + b"\r\n"})
        with pytest.raises(error, match=r"127\.0\.0\.1:\d+ (turns us away|sent neither)"):
            session(server)
        assert server.commands in ([], ["CAPA"])  # and no name, no password

    def test_a_server_that_leaves_after_a_refusal_is_not_asked_again(self, server, session):
        server.faults = Faults(answers={"AUTH": b"-ERR no\r\n"}, cut_before=["UIDL"])
        with pytest.raises(LoginError, match="refuses the login of red: no"):
            session(server, auth=("plain", "user"))
        assert server.connections == 1
        server.faults = Faults(answers={"AUTH": b"-ERR no\r\n"}, cut_before=["USER"])
        with pytest.raises(LoginError, match="refuses the login of red: no"):
            session(server, auth=("plain", "user"))

    @pytest.mark.parametrize("pipelining", ["auto", "always", "never"])
    @pytest.mark.parametrize("status", ["-ERR", "-ERR [SYS/TEMP]", "+NO"])
    @pytest.mark.parametrize("way", ["user", "plain", "login"])
    def test_c02_a_server_that_repeats_the_password_is_masked(
        self, server, session, status, way, pipelining
    ):
        whole = b64encode(f"\0red\0{SECRET}".encode()).decode()
        encoded = b64encode(SECRET.encode()).decode()
        said = {"user": SECRET, "plain": whole, "login": encoded}[way]
        answer = f"{status} unknown: {said}\r\n".encode()
        server.faults = Faults(answers={"PASS" if way == "user" else "AUTH": answer})
        with pytest.raises((LoginError, UnavailableError, PeerError)) as caught:
            session(server, auth=(way,), pipelining=pipelining)
        shown = str(caught.value) + repr(caught.value.fields)
        assert "***" in shown
        assert not any(secret in shown for secret in (SECRET, whole, encoded))

    @pytest.mark.parametrize("bad", ["a\r\nDELE 1", "a\nb", "a\0b"])
    def test_d18_a_password_with_a_line_end_is_never_sent(self, server, session, bad):
        with pytest.raises(LoginError, match="holds a line end"):
            session(server, password=SecretValue(lambda: bad, "the test"))
        assert server.connections == 0

    @pytest.mark.parametrize("missing", ["user", "password"])
    def test_without_credentials_there_is_no_connection(self, server, session, missing):
        with pytest.raises(ConfigError, match="no `user` or no `password`"):
            session(server, **{missing: None})
        assert server.connections == 0


class TestChallenges:
    """F24: what the mechanism does not know is cancelled, and the password stays here."""

    @pytest.mark.parametrize(
        "challenge",
        [
            b"+ \r\n",
            b"+ " + b64encode(b"Password:") + b"\r\n",
            b"+ not base64\r\n",
            b"+\r\n",
            b"+ " + b"QUFB" * 3500 + b"\r\n",
        ],
        ids=["empty", "unneeded", "not base64", "bare", "14,000 octets"],
    )
    @pytest.mark.parametrize("pipelining", ["auto", "never"])
    def test_f24_a_surprise_is_cancelled_and_the_next_way_taken(
        self, server, session, challenge, pipelining
    ):
        server.faults = Faults(answers={"AUTH": challenge})
        assert session(server, pipelining=pipelining) == {"red-000001": POST}
        assert "*" in server.commands
        assert "***" not in server.commands

    def test_f24_login_does_not_give_the_password_to_a_repeated_question(self, server, session):
        question = b"+ " + b64encode(b"Username:") + b"\r\n"
        name = b64encode(b"red").decode()
        server.faults = Faults(answers={"AUTH": question, name: question})
        with pytest.raises(LoginError, match="LOGIN asks for a name and a password, once each"):
            session(server, auth=("login",))
        assert server.commands == ["CAPA", "AUTH ***", name, "*"]
        assert b64encode(SECRET.encode()).decode() not in server.commands

    def test_f24_a_challenge_of_a_million_octets_ends_the_session(self, server, session):
        server.faults = Faults(answers={"AUTH": b"+ " + b"A" * 1_000_000 + b"\r\n"})
        with pytest.raises(PeerError, match="a line without end"):
            session(server)

    def test_f24_challenges_without_end_end_the_session(self, server, session):
        server.faults = Faults(answers={"AUTH": b"+ QQ==\r\n", "*": b"+ QQ==\r\n"})
        with pytest.raises(PeerError, match="does not end the log-in"):
            session(server, auth=("plain",), pipelining="never")


class TestTls:
    @pytest.fixture
    def secured(self, authority):
        with serve(tls=authority.issue()) as running:
            yield running

    def test_stls_first_then_what_is_offered_under_it(self, secured, session, authority):
        got = session(secured, host="localhost", tls="starttls", ca_file=authority.ca_file)
        assert got == {"red-000001": POST}
        assert secured.commands[:3] == ["STLS", "CAPA", "AUTH ***"]
        assert secured.messages("red") == []

    def test_implicit_tls(self, session, authority):
        with serve(tls=authority.issue(), implicit=True) as server:
            got = session(server, host="localhost", tls="implicit", ca_file=authority.ca_file)
            assert got == {"red-000001": POST}

    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (b"-ERR unknown command\r\n", LoginError),
            (b"-ERR [SYS/TEMP] no entropy\r\n", UnavailableError),
        ],
    )
    def test_f20_a_server_that_refuses_stls_gets_no_password(self, server, session, answer, error):
        server.faults = Faults(answers={"STLS": answer})
        with pytest.raises(error, match=r"refuses STLS .*no password was sent"):
            session(server, tls="starttls")
        assert server.commands == ["STLS"]

    def test_f20_a_server_without_stls_gets_no_password(self, server, session):
        with pytest.raises(LoginError, match='set tls = "implicit"'):
            session(server, tls="starttls", pipelining="always")
        assert server.commands == ["STLS"]

    @pytest.mark.parametrize("injected", [b"+OK\r\n", b".", b"+OK\r\nPIPELINING\r\n.\r\n"])
    def test_f21_octets_behind_the_answer_to_stls_are_never_believed(
        self, secured, session, authority, injected
    ):
        secured.faults = Faults(answers={"STLS": b"+OK begin\r\n" + injected})
        with pytest.raises(PeerError, match="octets in clear"):
            session(secured, host="localhost", tls="starttls", ca_file=authority.ca_file)
        assert secrets_sent(secured) == []

    def test_f22_what_is_offered_in_clear_is_forgotten_under_tls(self, secured, session, authority):
        """The timestamp for APOP was said in clear; CAPA is asked only under TLS."""
        secured.apop = True
        with pytest.raises(LoginError, match="offers no way to log in"):
            session(
                secured,
                host="localhost",
                tls="starttls",
                ca_file=authority.ca_file,
                auth=("apop",),
            )
        assert secured.commands == ["STLS", "CAPA"]

    @pytest.mark.parametrize("implicit", [True, False])
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"ca_file": None}, "unable to get local issuer certificate"),
            ({"tls_name": "pop.example.org"}, "Hostname mismatch"),
        ],
    )
    def test_f23_a_certificate_that_does_not_fit_gets_no_password(
        self, session, authority, implicit, changes, reason
    ):
        with serve(tls=authority.issue(), implicit=implicit) as server:
            options = {"host": "localhost", "ca_file": authority.ca_file} | changes
            with pytest.raises(LoginError, match=reason):
                session(server, tls="implicit" if implicit else "starttls", **options)
            assert secrets_sent(server) == []

    def test_f23_an_expired_certificate_gets_no_password(self, session, authority):
        with serve(tls=authority.issue(days=-1), implicit=True) as server:
            with pytest.raises(LoginError, match="certificate has expired"):
                session(server, host="localhost", tls="implicit", ca_file=authority.ca_file)
            assert server.commands == []

    def test_csp05_the_name_in_the_certificate_may_differ_from_the_host(self, session, authority):
        with serve(tls=authority.issue(["pop.example.org"]), implicit=True) as server:
            got = session(
                server,
                tls="implicit",
                tls_name="pop.example.org",
                ca_file=authority.ca_file,
            )
            assert got == {"red-000001": POST}

    def test_a_password_in_clear_off_loopback_is_warned_of(self, server, session, log, monkeypatch):
        monkeypatch.setattr("mailflow_pop3.fetcher.is_loopback", lambda host: False)
        monkeypatch.setattr("mailflow.mailserver.is_loopback", lambda host: False)
        assert session(server, tls="none")
        assert log.warnings() == ["the password goes in clear"]

    def test_off_loopback_nothing_is_said_in_clear_by_default(self, server, session, monkeypatch):
        monkeypatch.setattr("mailflow_pop3.fetcher.is_loopback", lambda host: False)
        monkeypatch.setattr("mailflow.mailserver.is_loopback", lambda host: False)
        with pytest.raises((LoginError, UnavailableError)):
            session(server)
        assert secrets_sent(server) == []


class TestTokens:
    TOKEN = SecretValue(lambda: "ya29." + "t" * 2000, "the test")

    @staticmethod
    def response(form):
        """A long token does not fit into the command, and answers an empty challenge."""
        return b64encode(form.format("ya29." + "t" * 2000).encode()) + b"\r\n"

    @pytest.mark.parametrize(
        ("way", "form"),
        [
            ("oauthbearer", "n,a=red,\1auth=Bearer {}\1\1"),
            ("xoauth2", "user=red\1auth=Bearer {}\1\1"),
        ],
    )
    def test_csp22_a_token_logs_in(self, script, session, way, form):
        """CSP-22: OAuth, where cs.pop3 has passwords only."""
        steps = [
            (b"CAPA\r\n", b"+OK\r\n+OK\r\nPIPELINING\r\nSASL OAUTHBEARER XOAUTH2\r\n.\r\n"),
            (f"AUTH {way.upper()}\r\n".encode(), b"+ \r\n"),
            (self.response(form), b"+OK\r\n"),
            (b"UIDL\r\nLIST\r\n", b"+OK\r\n1 a\r\n.\r\n+OK\r\n1 3\r\n.\r\n"),
            (b"RETR 1\r\n", b"+OK\r\na\r\n.\r\n"),
            (b"DELE 1\r\nQUIT\r\n", b"+OK\r\n+OK\r\n"),
        ]
        with script(*steps) as server:
            assert session(server, password=None, token=self.TOKEN, auth=(way,))

    def test_a_refused_token_is_told_as_one(self, script, session):
        form = "n,a=red,\1auth=Bearer {}\1\1"
        refusal = b64encode(b'{"status":"invalid_token"}')
        steps = [
            (b"CAPA\r\n", b"+OK\r\n+OK\r\nSASL OAUTHBEARER\r\n.\r\n"),
            (b"AUTH OAUTHBEARER\r\n", b"+ \r\n"),
            (self.response(form), b"+ " + refusal + b"\r\n"),
            (b"AQ==\r\n", b"-ERR [AUTH] no\r\n"),
        ]
        with (
            script(*steps) as server,
            pytest.raises(LoginError, match="check `user` and the token"),
        ):
            session(server, password=None, token=self.TOKEN)

    def test_without_such_a_mechanism_the_token_is_not_sent(self, server, session):
        with pytest.raises(LoginError, match="offers no way to log in"):
            session(server, password=None, token=self.TOKEN)
        assert secrets_sent(server) == []

    @pytest.mark.parametrize(
        ("given", "fault"),
        [
            ({}, "password: expected a password for user 'u', a `token` or `oauth2`"),
            ({"password": "p", "token": "t"}, "token: a `password` is given too"),
            ({"password": "p", "auth": "xoauth2"}, "xoauth2 does not go with a `password`"),
            ({"token": "t", "auth": ["user", "xoauth2"]}, "auth: user does not go with a `token`"),
        ],
    )
    def test_what_does_not_go_together_is_a_fault(self, given, fault):
        with pytest.raises(ConfigError, match=fault):
            Pop3Options.read({"host": "h", "user": "u", **given})


class TestCommand:
    """The connection is a program's stdin and stdout, as with ssh -W."""

    @pytest.fixture
    def relay(self, tmp_path):
        """What makes a program of a server: it copies both ways."""
        path = tmp_path / "relay.py"
        path.write_text(
            "import os, select, socket, sys\n"
            "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "while True:\n"
            "    for ready in select.select([0, sock], [], [])[0]:\n"
            "        data = os.read(0, 65536) if ready == 0 else sock.recv(65536)\n"
            "        if not data:\n"
            "            sys.exit(0)\n"
            "        sock.sendall(data) if ready == 0 else os.write(1, data)\n"
        )
        return lambda port: CommandLine([sys.executable, "-S", str(path), str(port)])

    def test_messages_come_through_it_and_are_deleted(self, server, session, relay, log):
        got = session(
            server, host="pop.example.org", port=None, tls="none", command=relay(server.port)
        )
        assert list(got.values()) == [POST]
        assert server.messages("red") == []
        assert log.warnings() == []  # its way is the user's to judge

    def test_csp05_tls_inside_it_is_for_the_name_of_the_host(self, session, authority, relay):
        with serve(tls=authority.issue(["pop.example.org"]), implicit=True) as server:
            options = {"ca_file": authority.ca_file, "command": relay(server.port)}
            assert session(server, host="pop.example.org", **options)
            with pytest.raises(LoginError, match=r"expected for other\.example\.org"):
                session(server, host="other.example.org", **options)

    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_a_program_that_fails_is_what_the_error_tells(self, server, session, tls):
        command = CommandLine(["sh", "-c", "echo Connection refused >&2; exit 255"])
        with pytest.raises(UnavailableError, match=r"exits with status 255 \(Connection refused\)"):
            session(server, command=command, tls=tls)
        assert server.connections == 0

    def test_a_program_that_is_not_there_is_told_at_check(self):
        values = {"host": "h", "command": ["no-such-ssh"]}
        assert list(Pop3Options.read({**values, "user": "u", "password": "p"}).look()) == [
            ("command", "no program no-such-ssh")
        ]
