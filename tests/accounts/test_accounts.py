"""Who is let in where: names, aliases, globs, networks, and the claims of clients."""

from __future__ import annotations

import hashlib
import os

import pytest

from mailflow.accounts import (
    Account,
    Accounts,
    ApopClaim,
    Pace,
    PasswordClaim,
    ScramClaim,
    TokenClaim,
)
from mailflow.accounts.verifiers import app_verifier, argon2_verifier, scram_verifier
from mailflow.errors import ConfigError, InUseError, LoginError, UnavailableError
from mailflow.options import SecretValue

from .parts import BackEnd, Drops, Log, secret

STAMP = "<1896.697170952@dbc.mtview.ca.us>"


def book(*accounts, **words):
    words.setdefault("log", Log())
    words.setdefault("pace", Pace(first=0.0))
    return Accounts(accounts, **words)


def ann(**words):
    return Account("ann", words.pop("maildrop", Drops()), secret=secret("sesame"), **words)


def refused(accounts, claim, address=""):
    with pytest.raises(LoginError) as caught:
        accounts.enter(accounts.check(claim, address))
    assert str(caught.value) == "no such login name, or a wrong password"
    return caught.value


class TestNames:
    def test_pwm_17_the_login_name_is_that_of_the_table(self):
        accounts = book(Account("ann@example.org", Drops(), secret=secret("x")))
        entered = accounts.password("ann@example.org", "x")
        assert (entered.login, entered.drop.login) == ("ann@example.org", "ann@example.org")
        refused(accounts, PasswordClaim("ann", "x"))

    def test_pwm_22_other_names_and_another_password_than_at_the_back_end(self):
        drops = Drops()
        accounts = book(
            Account("ann", drops, secret=secret("for pop3"), aliases=("ann@example.org", "a"))
        )
        for name in ("ann", "ann@example.org", "a"):
            assert accounts.password(name, "for pop3").login == "ann"
        assert {who.login for who in drops.opened} == {"ann"}
        assert all(who.password == "" for who in drops.opened)

    def test_pwm_19_without_a_secret_a_maildrop_is_not_reachable(self):
        accounts = book(Account("ann", Drops()), Account("bob", Drops(), secret=secret("x")))
        for password in ("", "x", "None"):
            refused(accounts, PasswordClaim("ann", password))
        assert accounts.password("bob", "x").login == "bob"

    def test_a_glob_takes_its_secrets_from_a_file_and_a_name_goes_before_it(self, tmp_path):
        file = tmp_path / "passwords"
        file.write_text(f"a@x.org:{app_verifier('1')}\nb@x.org:2\nann:3\n")
        file.chmod(0o600)
        accounts = book(
            Account("*@x.org", Drops(), passwords=str(file)),
            Account("b@x.org", Drops(), secret=secret("own")),
        )
        assert accounts.password("a@x.org", "1").drop.login == "a@x.org"
        assert accounts.password("b@x.org", "own").login == "b@x.org"
        refused(accounts, PasswordClaim("b@x.org", "2"))
        refused(accounts, PasswordClaim("c@x.org", "1"))
        refused(accounts, PasswordClaim("ann", "3"))

    def test_of_two_globs_that_fit_the_first_counts(self):
        first, second = Drops(), Drops()
        accounts = book(
            Account("*@x.org", first, secret=secret("1")), Account("*", second, secret=secret("2"))
        )
        accounts.password("a@x.org", "1")
        accounts.password("a@y.org", "2")
        refused(accounts, PasswordClaim("a@x.org", "2"))
        assert [len(first.opened), len(second.opened)] == [1, 1]

    def test_the_users_own_file_is_that_of_maildrop_add(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        os.mkdir(tmp_path / "mailflow")
        accounts = book(Account("ann", Drops()))
        refused(accounts, PasswordClaim("ann", "x"))
        file = tmp_path / "mailflow" / "maildrops"
        file.write_text("ann:x\n")
        file.chmod(0o600)
        assert accounts.password("ann", "x").login == "ann"

    @pytest.mark.parametrize(
        "login",
        [
            "", ".", "..", "/", "../../x", "a/b", "x" * 4096, "ann\0", "ann\n", "ann\x1b[2J",
            "\u202eann", "%s", "{login}", "$(id)", "ANN", "Ann", "\u0430nn", "ann ", "an\u200bn",
            "\ud800", "*", "?nn", "[a]nn", ".hidden",
        ],
    )  # fmt: skip
    def test_g05_a_name_is_looked_up_in_a_map_and_no_file_is_touched(self, login, monkeypatch):
        accounts = book(ann(), Account("bob", Drops(), secret=secret("x")))
        for name in ("open", "stat", "lstat", "mkdir", "listdir"):
            monkeypatch.setattr(os, name, lambda *_, name=name: pytest.fail(f"{name} was called"))
        refused(accounts, PasswordClaim(login, "sesame"))

    @pytest.mark.parametrize("login", ["../../x", "/", "a/b", ".", "..", ".x", "x" * 256, "a\0b"])
    def test_g05_not_even_a_glob_lets_a_name_through_that_is_a_path(self, login):
        drops = Drops()
        accounts = book(Account("*", drops, secret=secret("sesame")))
        refused(accounts, PasswordClaim(login, "sesame"))
        assert drops.opened == []

    def test_letters_that_are_composed_otherwise_are_the_same(self):
        accounts = book(Account("j\u00f6rg", Drops(), secret=secret("x")))
        assert accounts.password("jo\u0308rg", "x").login == "j\u00f6rg"

    def test_two_maildrops_of_one_name_are_an_error(self):
        with pytest.raises(ConfigError, match="'ann' is a login name of two maildrops"):
            book(ann(), ann())
        with pytest.raises(ConfigError, match="'a' is a login name of two"):
            book(ann(aliases=("a",)), Account("bob", Drops(), aliases=("a",)))


class TestClaims:
    def test_p3s_27_each_login_gets_its_own_drop_from_one_maildrop(self):
        drops = Drops()
        accounts = book(
            Account("ann", drops, secret=secret("1")), Account("bob", drops, secret=secret("2"))
        )
        one, two = accounts.password("ann", "1"), accounts.password("bob", "2")
        assert (one.drop.login, two.drop.login) == ("ann", "bob")
        assert one.drop.checked
        assert two.drop.checked
        refused(accounts, PasswordClaim("ann", "2"))
        refused(accounts, PasswordClaim("bob", "1"))

    def test_no_text_and_no_line_of_the_log_holds_a_password(self):
        log = Log()
        accounts = book(ann(), log=log)
        claims = (
            PasswordClaim("ann", "canary"), TokenClaim("ann", "canary"),
            PasswordClaim("bob", "canary"),
        )  # fmt: skip
        for claim in claims:
            assert "canary" not in repr(claim) + repr(refused(accounts, claim).fields)
        assert "canary" not in repr(log.lines)

    def test_p3s_03_apop_is_offered_only_where_every_secret_is_stored_plain(self):
        assert book(ann()).offers_apop
        assert not book(
            ann(), Account("bob", Drops(), secret=secret(app_verifier("x")))
        ).offers_apop
        assert not book(ann(), Account("*", BackEnd(), login="passthrough")).offers_apop
        assert not book().offers_apop

    def test_p3s_03_apop_proves_the_password_with_the_timestamp(self):
        accounts = book(ann(), Account("bob", Drops(), secret=secret(app_verifier("x"))))
        digest = hashlib.md5(f"{STAMP}sesame".encode()).hexdigest()
        assert accounts.apop("ann", STAMP, digest).login == "ann"
        refused(accounts, ApopClaim("ann", "<other@x>", digest))
        refused(accounts, ApopClaim("ann", STAMP, digest.upper()))
        refused(accounts, ApopClaim("ann", STAMP, hashlib.md5(STAMP.encode()).hexdigest()))
        refused(accounts, ApopClaim("bob", STAMP, hashlib.md5(STAMP.encode()).hexdigest()))
        refused(accounts, ApopClaim("nobody", STAMP, digest))

    def test_scram_is_offered_where_every_secret_can_do_it(self):
        scram = Account("bob", Drops(), secret=secret(scram_verifier("x")))
        assert book(ann(), scram).offers_scram
        assert not book(scram, Account("c", Drops(), secret=secret(app_verifier("x")))).offers_scram
        assert not book(
            scram, Account("d", Drops(), secret=secret(argon2_verifier("x")))
        ).offers_scram
        assert not book().offers_scram

    def test_what_is_offered_follows_the_file(self, tmp_path):
        file = tmp_path / "passwords"
        file.write_text("ann:sesame\n")
        file.chmod(0o600)
        accounts = book(Account("*", Drops(), passwords=str(file)))
        assert accounts.offers_apop
        file.write_text(f"ann:{app_verifier('sesame')}\n")
        accounts.password("ann", "sesame")
        assert not accounts.offers_apop

    def test_an_exchange_that_proved_nothing_lets_nobody_in(self):
        accounts = book(ann())
        assert accounts.check(ScramClaim("ann", proven=True)).login == "ann"
        refused(accounts, ScramClaim("ann", proven=False))
        refused(accounts, ScramClaim("nobody", proven=True))

    def test_what_a_drop_says_to_who_has_the_password_is_no_failed_login(self):
        class Gone(Drops):
            def login(self, who):
                raise LoginError("there is no drop of that name")

        log = Log()
        accounts = book(Account("ann", Gone(), secret=secret("x")), log=log)
        with pytest.raises(LoginError, match="there is no drop of that name"):
            accounts.password("ann", "x")
        assert log.lines == []

    def test_a_drop_that_is_in_use_is_said_to_be_only_to_who_has_the_password(self):
        class Busy(Drops):
            def login(self, who):
                raise InUseError("another session has it")

        accounts = book(Account("ann", Busy(), secret=secret("x")))
        refused(accounts, PasswordClaim("ann", "y"))
        with pytest.raises(InUseError):
            accounts.password("ann", "x")


class TestPassthrough:
    def test_the_back_end_decides_whoever_comes_first(self):
        back = BackEnd()
        accounts = book(Account("*@corp.example.org", back, login="passthrough"))
        entered = accounts.password("new@corp.example.org", "sesame")
        assert entered.login == "new@corp.example.org"
        assert (entered.drop.password, entered.drop.checked) == ("sesame", False)
        refused(accounts, PasswordClaim("new@corp.example.org", "no"))
        refused(accounts, PasswordClaim("new@example.org", "sesame"))

    def test_tokens_are_for_maildrops_that_take_them(self):
        class NoTokens(BackEnd):
            tokens = False
            passthrough = True

        accounts = book(
            Account("*@a.org", BackEnd(), login="passthrough"),
            Account("*@b.org", NoTokens(), login="passthrough"),
            ann(),
        )
        assert accounts.offers_tokens
        assert not book(Account("*@b.org", NoTokens(), login="passthrough")).offers_tokens
        assert not book(Account("x", BackEnd(), secret=secret("y"))).offers_tokens
        assert accounts.token("u@a.org", "sesame").drop.token == "sesame"
        for login in ("u@b.org", "ann", "nobody"):
            refused(accounts, TokenClaim(login, "sesame"))

    def test_what_only_a_stored_secret_can_prove_is_refused(self):
        accounts = book(Account("*", BackEnd(), login="passthrough"))
        refused(accounts, ApopClaim("ann", STAMP, "0" * 32))
        refused(accounts, ScramClaim("ann", proven=True))

    def test_what_the_back_end_says_is_for_the_log(self):
        log = Log()
        accounts = book(Account("*", BackEnd(), login="passthrough"), log=log)
        refused(accounts, PasswordClaim("ann", "no"), "192.0.2.1")
        [(_, event, facts)] = log.lines
        assert event == "login failed from 192.0.2.1"
        assert facts == {"reason": "the server at mail.example.org said no", "login": "ann"}

    @pytest.mark.parametrize("login", ["ann", "new@corp.example.org"])
    def test_a_back_end_that_wants_to_be_left_alone_keeps_no_answer_back(self, login):
        class Throttled(BackEnd):
            def login(self, who):
                raise UnavailableError("mail.example.org has enough", code="LIMIT", delay=1e9)

        accounts = book(
            Account("ann", Throttled(), secret=secret("sesame")),
            Account("*@corp.example.org", Throttled(), login="passthrough"),
        )
        with pytest.raises(UnavailableError, match="has enough") as raised:
            accounts.password(login, "sesame")
        assert raised.value.fields == {"code": "LIMIT"}

    def test_a_maildrop_that_asks_nobody_never_gets_an_unchecked_password(self):
        with pytest.raises(ConfigError, match="`ann` has no back end"):
            book(Account("ann", Drops(), login="passthrough"))


class TestNetworks:
    @pytest.mark.parametrize(
        ("address", "inside"),
        [
            ("192.0.2.7", True), ("192.0.3.7", False), ("::ffff:192.0.2.7", True),
            ("2001:db8::7", True), ("2001:db9::7", False), ("fe80::1%eth0", False),
            ("", False), ("no address", False),
        ],
    )  # fmt: skip
    def test_a_password_counts_only_from_its_networks(self, address, inside):
        accounts = book(ann(networks=("192.0.2.0/24", "2001:db8::/32")))
        if inside:
            assert accounts.password("ann", "sesame", address).login == "ann"
        else:
            refused(accounts, PasswordClaim("ann", "sesame"), address)

    def test_p3s_14_a_maildrop_may_be_for_this_machine_unless_the_file_says_otherwise(self):
        class Probe(Drops):
            networks = ("127.0.0.0/8", "::1")

        def monitor(**words):
            return Account("monitor", Probe(), secret=secret("its own"), **words)

        accounts = book(monitor())
        for address in ("127.0.0.1", "::1", "127.8.0.1", "::ffff:127.0.0.1", ""):
            assert accounts.password("monitor", "its own", address).login == "monitor"
        for address in ("192.0.2.1", "::2"):
            refused(accounts, PasswordClaim("monitor", "its own"), address)
        refused(accounts, PasswordClaim("monitor", "monitor"), "127.0.0.1")
        wider = book(monitor(networks=("192.0.2.0/24",)))
        assert wider.password("monitor", "its own", "192.0.2.1").login == "monitor"

    def test_a_back_end_is_not_asked_from_elsewhere(self):
        back = BackEnd()
        accounts = book(Account("*", back, login="passthrough", networks=("127.0.0.0/8",)))
        refused(accounts, PasswordClaim("ann", "sesame"), "192.0.2.1")
        assert back.opened == []

    def test_allow_nets_and_nologin_of_a_line_count(self, tmp_path):
        file = tmp_path / "passwords"
        file.write_text("ann:x::::::allow_nets=192.0.2.0/24,local\nbob:x::::::nologin\n")
        file.chmod(0o600)
        accounts = book(Account("*", Drops(), passwords=str(file)))
        assert accounts.password("ann", "x", "192.0.2.9").login == "ann"
        assert accounts.password("ann", "x", "").login == "ann"
        refused(accounts, PasswordClaim("ann", "x"), "127.0.0.1")
        refused(accounts, PasswordClaim("bob", "x"), "192.0.2.9")

    def test_what_is_no_network_is_an_error(self):
        with pytest.raises(ConfigError, match=r"`ann`: .10\.0\.0\.0/99. is no network"):
            book(ann(networks=("10.0.0.0/99",)))


class TestSecrets:
    def test_a_secret_in_a_file_is_looked_up_again_when_it_has_changed(self, tmp_path):
        from mailflow.secrets import secret as of_table

        file = tmp_path / "secret"
        file.write_text("one\n")
        file.chmod(0o600)
        accounts = book(Account("ann", Drops(), secret=of_table({"file": str(file)}, ".")))
        accounts.password("ann", "one")
        file.write_text("other\n")
        refused(accounts, PasswordClaim("ann", "one"))
        assert accounts.password("ann", "other").login == "ann"

    def test_one_that_cannot_be_had_is_asked_for_again_after_a_while(self, monkeypatch):
        from mailflow.accounts import locks

        asked, log, now = [], Log(), [1000.0]
        monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])

        def reveal():
            asked.append(1)
            if len(asked) < 2:
                raise UnavailableError("the agent is locked")
            return "sesame"

        accounts = book(Account("ann", Drops(), secret=SecretValue(reveal, "x")), log=log)
        claim = PasswordClaim("ann", "sesame")
        assert not accounts.quick(claim)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="no password can be checked now"):
                accounts.check(claim)
        assert (len(asked), len(log.lines)) == (1, 1)
        now[0] += locks.RETRY
        assert accounts.check(claim).login == "ann"
        assert accounts.quick(claim)

    def test_one_that_is_none_opens_nothing_and_is_told(self):
        log = Log()
        accounts = book(Account("ann", Drops(), secret=secret("{FOO}x")), log=log)
        refused(accounts, PasswordClaim("ann", "{FOO}x"))
        assert "the secret of maildrop `ann`: {FOO} is no scheme" in log.lines[0][1]

    def test_a_reload_keeps_what_is_known_of_clients(self):
        before = book(ann(), pace=Pace(first=1.0))
        assert refused(before, PasswordClaim("ann", "x"), "192.0.2.1").fields["delay"] == 1.0
        after = Accounts([ann()], before=before, log=Log())
        again = refused(after, PasswordClaim("ann", "x"), "192.0.2.1").fields["delay"]
        assert again == pytest.approx(2.0, rel=0.01)
