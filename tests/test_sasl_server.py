"""SASL on the side of the server: exchanges with the clients of libraries, and with bad ones."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient

from mailflow.accounts import Account, Accounts, Pace, PasswordClaim, ScramClaim, TokenClaim
from mailflow.accounts.verifiers import app_verifier, scram_verifier
from mailflow.errors import LoginError
from mailflow.options import SecretValue
from mailflow.sasl import MECHANISMS, TOKEN_MECHANISMS, Credentials
from mailflow.sasl import Exchange as Client
from mailflow.sasl_server import LIMIT, Exchange, ExchangeError, mechanisms


class Drops:
    tokens = True

    def login(self, who):
        return who


def book(*stored, passthrough=False):
    made = [
        Account(f"user{n}", Drops(), secret=SecretValue(lambda text=text: text, "a test"))
        for n, text in enumerate(stored)
    ]
    if passthrough:
        made.append(Account("*", Drops(), login="passthrough"))
    return Accounts(made, pace=Pace(first=0.0))


def encoded(text):
    return b64encode(text.encode()).decode()


def begun(mechanism, initial, accounts=None):
    return Exchange(mechanism, accounts or book()).begin(encoded(initial))


class TestOffer:
    def test_what_sends_passwords_as_they_are_needs_protection(self):
        assert mechanisms(book("x"), plain=False) == ("SCRAM-SHA-256",)
        assert mechanisms(book("x"), plain=True) == ("SCRAM-SHA-256", "PLAIN", "LOGIN")
        assert mechanisms(book(app_verifier("x")), plain=False) == ()

    def test_tokens_are_for_maildrops_that_take_them(self):
        assert mechanisms(book("x", passthrough=True), plain=True) == (
            "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2",
        )  # fmt: skip
        assert mechanisms(book("x", passthrough=True), plain=False) == ()


class TestOurClient:
    @pytest.mark.parametrize("name", [*MECHANISMS, *TOKEN_MECHANISMS])
    @pytest.mark.parametrize("limit", [0, 255])
    def test_both_sides_understand_each_other(self, name, limit):
        credentials = Credentials("ann, of = York", "open sesame\u2009ä")
        client = Client((MECHANISMS | TOKEN_MECHANISMS)[name](credentials))
        word, space, initial = client.command(limit).partition(" ")
        server = Exchange(word, book())
        said = server.begin(initial if space else None)
        while isinstance(said, str):
            said = server.answer(client.answer(said))
        kind = PasswordClaim if name in MECHANISMS else TokenClaim
        assert said == kind(*credentials)
        assert type(said) is kind


class TestPlain:
    def test_an_empty_initial_response_is_an_equals_sign(self):
        with pytest.raises(ExchangeError):
            Exchange("PLAIN", book()).begin("=")
        assert Exchange("PLAIN", book()).begin(None) == ""

    @pytest.mark.parametrize("text", ["", "ann", "ann\0pw", "\0ann\0pw\0", "\0\0\0\0"])
    def test_046_without_its_two_nuls_it_is_refused(self, text):
        with pytest.raises(ExchangeError):
            begun("PLAIN", text)

    def test_046_nobody_acts_for_somebody_else(self):
        assert begun("PLAIN", "ann\0ann\0pw") == PasswordClaim("ann", "pw")
        with pytest.raises(ExchangeError, match="for somebody else"):
            begun("PLAIN", "bob\0ann\0pw")


class TestLines:
    def test_039_a_star_cancels(self):
        exchange = Exchange("LOGIN", book())
        exchange.begin(None)
        with pytest.raises(ExchangeError, match="cancelled"):
            exchange.answer("*")

    @pytest.mark.parametrize("line", ["!", "YQ", "YQ==YQ==", "Y Q=", "\xff", "YQ=="])
    def test_040_what_is_not_base64_or_not_utf8_is_refused_without_showing_it(self, line):
        with pytest.raises(ExchangeError) as caught:
            Exchange("PLAIN", book()).answer(line)
        assert line not in caught.value.text

    def test_044_a_response_may_have_12_kilobytes(self):
        token = "t" * 8000
        line = encoded(f"user=ann\1auth=Bearer {token}\1\1")
        assert 10_000 < len(line) <= LIMIT
        assert Exchange("XOAUTH2", book()).answer(line) == TokenClaim("ann", token)
        with pytest.raises(ExchangeError, match="too long"):
            Exchange("XOAUTH2", book()).answer("A" * (LIMIT + 4))

    @given(st.sampled_from(["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "SCRAM-SHA-256"]),
           st.lists(st.binary(max_size=80), max_size=4))  # fmt: skip
    def test_whatever_a_client_sends_it_is_a_challenge_a_claim_or_an_error(self, name, lines):
        exchange = Exchange(name, book("x"))
        said = exchange.begin(None)
        for line in lines:
            try:
                said = exchange.answer(b64encode(line).decode())
            except ExchangeError:
                return
            if not isinstance(said, str):
                return
            b64decode(said, validate=True)


class TestTokens:
    @pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
    def test_a_refused_token_is_told_in_json_first(self, name):
        refusal = b64decode(Exchange(name, book()).refusal)
        assert refusal.startswith(b'{"status":')

    @pytest.mark.parametrize("name", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
    def test_nothing_else_is(self, name):
        assert Exchange(name, book("x")).refusal is None

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("OAUTHBEARER", "n,a=ann,\1auth=Basic x\1\1"), ("OAUTHBEARER", "n,a=ann,\1\1"),
            ("OAUTHBEARER", "p=tls,a=ann,\1auth=Bearer x\1\1"), ("OAUTHBEARER", ""),
            ("OAUTHBEARER", "n,,\1auth=Bearer x\1\1"), ("XOAUTH2", "user=\1auth=Bearer x\1\1"),
            ("XOAUTH2", "user=ann\1auth=Bearer \1\1"), ("XOAUTH2", ""),
        ],
    )  # fmt: skip
    def test_what_names_nobody_or_has_no_token_is_refused(self, name, text):
        with pytest.raises(ExchangeError):
            begun(name, text)


class TestScram:
    def dialogue(self, accounts, login, password, change=lambda step, said: said):
        client = ScramClient(["SCRAM-SHA-256"], login, password)
        server = Exchange("SCRAM-SHA-256", accounts)
        assert server.begin(None) == ""
        said = server.answer(encoded(change(1, client.get_client_first())))
        client.set_server_first(b64decode(said).decode())
        said = server.answer(encoded(change(2, client.get_client_final())))
        if not isinstance(said, str):
            return said
        client.set_server_final(b64decode(said).decode())
        return server.answer("")

    @pytest.mark.parametrize("stored", ["sésame", scram_verifier("sésame")])
    def test_047_client_and_server_prove_that_they_know_the_password(self, stored):
        accounts = book(stored)
        claim = self.dialogue(accounts, "user0", "sésame")
        assert claim == ScramClaim("user0", True)
        assert accounts.check(claim).login == "user0"

    @pytest.mark.parametrize(("login", "password"), [("user0", "other"), ("nobody", "sesame")])
    def test_047_without_it_there_is_no_proof(self, login, password):
        accounts = book(scram_verifier("sesame"))
        claim = self.dialogue(accounts, login, password)
        assert claim == ScramClaim(login, False)
        with pytest.raises(LoginError):
            accounts.check(claim)

    def test_047_the_nonce_must_be_that_of_this_exchange(self):
        def other(step, said):
            return said.replace(",r=", ",r=x") if step == 2 else said

        with pytest.raises(ExchangeError):
            self.dialogue(book("sesame"), "user0", "sesame", other)

    def test_047_a_client_that_was_told_of_channel_binding_was_told_by_another(self):
        def bound(step, said):
            return said.replace("n,,", "p=tls-unique,,") if step == 1 else said

        with pytest.raises(ExchangeError):
            self.dialogue(book("sesame"), "user0", "sesame", bound)

    def test_the_proof_alone_logs_nobody_in_before_the_server_has_proven_itself(self):
        client = ScramClient(["SCRAM-SHA-256"], "user0", "sesame")
        server = Exchange("SCRAM-SHA-256", book("sesame"))
        client.set_server_first(
            b64decode(server.begin(encoded(client.get_client_first()))).decode()
        )
        assert isinstance(server.answer(encoded(client.get_client_final())), str)
        with pytest.raises(ExchangeError, match="empty response"):
            server.answer(encoded("x"))
