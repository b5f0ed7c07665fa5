"""SASL: a secret goes only where its mechanism asks for it."""

from __future__ import annotations

from base64 import b64encode

import pytest

from mailflow.sasl import MECHANISMS, Credentials, Exchange, choose, mechanism

ANN = Credentials("ann", "open sesame")


def encoded(text):
    return b64encode(text.encode()).decode()


def exchange(name):
    return Exchange(mechanism(name, ANN))


class TestOrder:
    def test_the_order_is_ours_the_choice_is_what_both_know(self):
        assert choose(("login", "plain"), ("PLAIN", "LOGIN", "GSSAPI")) == ["LOGIN", "PLAIN"]
        assert choose(("plain", "login"), ("login",)) == ["LOGIN"]

    def test_what_nobody_offers_is_not_tried(self):
        assert choose(("plain", "login"), ("CRAM-MD5",)) == []
        assert choose(("cram-md5",), ("CRAM-MD5",)) == []


class TestPlain:
    def test_the_initial_response_goes_with_the_command(self):
        assert exchange("PLAIN").command(255) == "PLAIN " + encoded("\0ann\0open sesame")

    def test_one_that_does_not_fit_waits_for_the_empty_challenge(self):
        plain = exchange("PLAIN")
        assert plain.command(20) == "PLAIN"
        assert plain.answer(b"") == encoded("\0ann\0open sesame")

    def test_names_and_passwords_are_utf8(self):
        plain = Exchange(mechanism("plain", Credentials("grün", "pässwörd")))
        assert plain.command(255) == "PLAIN " + encoded("\0grün\0pässwörd")

    def test_f24_a_challenge_that_is_not_needed_is_cancelled(self):
        plain = exchange("PLAIN")
        plain.command(255)
        assert plain.answer(b"") == "*"
        assert plain.cancelled == "PLAIN has no challenge"

    def test_f24_a_first_challenge_that_is_not_empty_is_cancelled(self):
        plain = exchange("PLAIN")
        plain.command(20)
        assert plain.answer(encoded("Password:")) == "*"
        assert plain.cancelled


class TestExternal:
    def test_the_certificate_says_who_and_the_name_as_whom(self):
        assert exchange("EXTERNAL").command(255) == "EXTERNAL " + encoded("ann")

    def test_without_a_name_it_is_whom_the_certificate_names(self):
        external = Exchange(mechanism("external", Credentials("", "")))
        assert external.command(255) == "EXTERNAL ="

    def test_f24_a_challenge_is_cancelled(self):
        external = exchange("EXTERNAL")
        external.command(255)
        assert external.answer(b"") == "*"


class TestLogin:
    def test_the_name_is_answered_first_then_the_password(self):
        login = exchange("LOGIN")
        assert login.command(255) == "LOGIN"
        assert login.answer(encoded("Username:")) == encoded("ann")
        assert login.answer(encoded("Password:")) == encoded("open sesame")
        assert login.cancelled == ""

    def test_f24_a_question_asked_twice_does_not_get_the_password(self):
        login = exchange("LOGIN")
        login.command(255)
        login.answer(encoded("Username:"))
        assert login.answer(encoded("Username:")) == "*"

    def test_f24_a_third_question_is_cancelled(self):
        login = exchange("LOGIN")
        login.command(255)
        login.answer(encoded("Username:"))
        login.answer(encoded("Password:"))
        assert login.answer(encoded("PIN:")) == "*"

    @pytest.mark.parametrize("challenge", [b"", b"IA=="])
    def test_f24_an_empty_question_is_cancelled(self, challenge):
        login = exchange("LOGIN")
        login.command(255)
        assert login.answer(challenge) == "*"


class TestChallenges:
    @pytest.mark.parametrize("name", MECHANISMS)
    @pytest.mark.parametrize(
        "challenge",
        [b"not base64!", b"QQ=", b"\xff\xfe", "\u00e4", b"QUFB" * 250_000],
        ids=["words", "padding", "octets", "letters", "a million octets"],
    )
    def test_f24_what_is_no_challenge_is_cancelled(self, name, challenge):
        asked = exchange(name)
        asked.command(4)
        assert asked.answer(challenge) == "*"
        assert asked.cancelled


class TestSecrets:
    def test_c02_no_repr_shows_the_secret(self):
        assert repr(ANN) == "<credentials of ann>"
        for name in MECHANISMS:
            assert "open sesame" not in repr(mechanism(name, ANN)) + repr(exchange(name))

    def test_c02_what_a_server_repeats_is_masked(self):
        for said in ("open sesame", encoded("open sesame"), encoded("\0ann\0open sesame")):
            assert ANN.mask(f"unknown command: AUTH {said}") == "unknown command: AUTH ***"

    def test_an_empty_secret_masks_nothing(self):
        assert Credentials("ann", "").mask("text") == "text"


def test_a_mechanism_with_tokens_fits(monkeypatch):
    """XOAUTH2 has an initial response, and answers an error's challenge with nothing."""

    class Xoauth2:
        name = "XOAUTH2"

        def __init__(self, credentials):
            self._credentials = credentials

        def initial(self):
            user, token = self._credentials
            return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()

        def answer(self, challenge):
            return b""

    monkeypatch.setattr("mailflow.sasl.MECHANISMS", {**MECHANISMS, "XOAUTH2": Xoauth2})
    assert choose(("xoauth2", "plain"), ("PLAIN", "XOAUTH2")) == ["XOAUTH2", "PLAIN"]
    asked = Exchange(mechanism("xoauth2", Credentials("ann", "token")))
    assert asked.command(255) == "XOAUTH2 " + encoded("user=ann\x01auth=Bearer token\x01\x01")
    assert asked.answer(encoded('{"status":"400"}')) == ""


class TestTokens:
    TOKEN = Credentials("ann,x=y@example.org", "ya29.token")

    def test_oauthbearer_says_all_at_once_with_the_name_escaped(self):
        bearer = Exchange(mechanism("OAUTHBEARER", self.TOKEN))
        assert bearer.command(255) == "OAUTHBEARER " + encoded(
            "n,a=ann=2Cx=3Dy@example.org,\1auth=Bearer ya29.token\1\1"
        )

    def test_xoauth2_does_too(self):
        bearer = Exchange(mechanism("xoauth2", self.TOKEN))
        assert bearer.command(255) == "XOAUTH2 " + encoded(
            "user=ann,x=y@example.org\1auth=Bearer ya29.token\1\1"
        )

    @pytest.mark.parametrize(("name", "last"), [("OAUTHBEARER", "AQ=="), ("XOAUTH2", "")])
    def test_a_refusal_gets_the_last_word_that_it_asks_for_once(self, name, last):
        bearer = Exchange(mechanism(name, self.TOKEN))
        bearer.command(255)
        refusal = encoded('{"status":"invalid_token"}')
        assert bearer.answer(refusal) == last
        assert not bearer.cancelled
        assert bearer.answer(refusal) == "*"
        assert bearer.cancelled

    def test_f24_an_empty_challenge_gets_no_token_again(self):
        bearer = Exchange(mechanism("OAUTHBEARER", self.TOKEN))
        bearer.command(255)
        assert bearer.answer(b"") == "*"

    def test_a_password_is_never_sent_as_a_token_by_itself(self):
        assert not set(MECHANISMS) & {"OAUTHBEARER", "XOAUTH2"}
