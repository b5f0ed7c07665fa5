"""What time tells about names: nothing."""

from __future__ import annotations

import random
from statistics import median, quantiles
from time import perf_counter_ns

import pytest

from mailflow.accounts import Account, Accounts, Pace, PasswordClaim, verifiers
from mailflow.accounts.verifiers import app_verifier, argon2_verifier, scram_verifier
from mailflow.errors import LoginError

from .parts import Drops, Log, secret

TRIES = 10_000


class Silent(Log):
    __slots__ = ()

    def _say(self, level, event, facts):
        pass


def book(*accounts):
    return Accounts(accounts, log=Silent(), pace=Pace(first=0.0))


def took(accounts, claim, address):
    begin = perf_counter_ns()
    with pytest.raises(LoginError):
        accounts.check(claim, address)
    return perf_counter_ns() - begin


@pytest.mark.parametrize("where", ["secret", "passwords"])
def test_g09_an_unknown_name_takes_as_long_as_a_wrong_password(where, tmp_path):
    file = tmp_path / "passwords"
    file.write_text("".join(f"user{n}:{app_verifier('x')}\n" for n in range(100)))
    file.chmod(0o600)
    if where == "secret":
        drops = (Account(f"user{n}", Drops(), secret=secret(app_verifier("x"))) for n in range(100))
        accounts = book(*drops)
    else:
        accounts = book(Account("*", Drops(), passwords=str(file)))
    for number in range(100):  # nobody is looked up for the first time below
        took(accounts, PasswordClaim(f"user{number}", "guess"), "192.0.2.1")
    times = {"user": [], "none": []}
    for number in range(TRIES):
        pair = ["user", "none"]
        random.shuffle(pair)
        for name in pair:
            claim = PasswordClaim(f"{name}{number % 100}", "guess")
            times[name].append(took(accounts, claim, "192.0.2.1"))
    # Of two tries in a row, since what else the machine does weighs on both alike.
    low, told, high = quantiles(a - b for a, b in zip(times["user"], times["none"], strict=True))
    assert abs(told) < high - low, "less than what one try differs from the next"
    assert abs(told) < 0.05 * median(times["user"])


@pytest.mark.parametrize("made", [app_verifier, argon2_verifier, scram_verifier])
def test_g09_an_unknown_name_costs_one_check_of_the_kind_that_there_is(made, monkeypatch):
    accounts = book(Account("ann", Drops(), secret=secret(made("x"))))
    kind = type(verifiers.read(made("x")))
    tried = []
    monkeypatch.setattr(kind, "fits", lambda self, password: tried.append(password) or True)
    for login in ("nobody", "../x", "x" * 300, ""):
        with pytest.raises(LoginError):
            accounts.check(PasswordClaim(login, "guess"))
    assert tried == ["guess"] * 4


def test_g09_what_is_quick_for_a_name_that_nobody_has_is_quick_then(monkeypatch):
    known = [
        Account(f"u{number}", Drops(), secret=secret(made("x")))
        for number, made in enumerate((app_verifier, argon2_verifier))
    ]
    accounts, tried = book(*known), []
    monkeypatch.setattr(verifiers.Argon2, "fits", lambda self, password: tried.append(1))
    for number in range(200):
        claim = PasswordClaim(f"nobody{number}", "guess")
        quick, before = accounts.quick(claim), len(tried)
        took(accounts, claim, "")
        assert quick == (len(tried) == before)
    assert 50 < len(tried) < 150


def test_g09_of_many_kinds_an_unknown_name_always_meets_the_same():
    made = (app_verifier, argon2_verifier)
    known = [Account(f"u{n}", Drops(), secret=secret(each("x"))) for n, each in enumerate(made)]
    first, second = book(*known), book(*reversed(known))
    kinds = [first._decoy(first._mark(f"nobody{number}")).kind for number in range(100)]
    assert kinds == [second._decoy(second._mark(f"nobody{number}")).kind for number in range(100)]
    assert 20 < kinds.count("SHA256") < 80


def test_g09_salts_for_scram_do_not_tell_who_is_there():
    known = Account("ann", Drops(), secret=secret(scram_verifier("x")))
    accounts, other = book(known), book(known)
    keys = [each.scram_keys("nobody") for each in (accounts, accounts, other)]
    assert len({each.salt for each in keys}) == 1
    assert {len(each.salt) for each in keys} == {len(accounts.scram_keys("ann").salt)}
    assert {each.iterations for each in keys} == {accounts.scram_keys("ann").iterations}
    assert len({each.stored_key for each in keys}) == 3
    assert accounts.scram_keys("somebody").salt != keys[0].salt


def test_g09_for_scram_an_unknown_name_costs_the_keys_of_one_plain_password(monkeypatch):
    accounts, made = book(Account("ann", Drops(), secret=secret("x"))), []
    derive = verifiers._scram_keys
    monkeypatch.setattr(verifiers, "_scram_keys", lambda *words: made.append(1) or derive(*words))
    for login in ("ann", "ann", "nobody", "nobody", "somebody"):
        before = len(made)
        accounts.scram_keys(login)
        assert len(made) - before == 1


def test_g09_what_unknown_names_are_answered_by_is_this_machine_s_and_outlives_a_restart(
    monkeypatch,
):
    from mailflow.accounts import book as module

    assert module._machine_key() == module._machine_key()
    assert len(module._machine_key()) == 32

    def none(*_):
        raise FileNotFoundError

    monkeypatch.setattr(module, "open", none, raising=False)
    assert module._machine_key() != module._machine_key()


def test_g09_from_another_network_a_name_costs_what_was_said_of_it(monkeypatch):
    """`quick` lets the event loop check it: a slow check there keeps everybody waiting."""
    slow = []
    fits = verifiers.Argon2.fits
    monkeypatch.setattr(
        verifiers.Argon2, "fits", lambda self, said: slow.append(said) or fits(self, said)
    )
    names = [f"user{number}" for number in range(30)]
    inside = [Account(n, Drops(), secret=secret("x"), networks=("192.0.2.0/24",)) for n in names]
    accounts = book(*inside, Account("bob", Drops(), secret=secret(argon2_verifier("x"))))
    for name in names:
        claim = PasswordClaim(name, "wrong")
        assert accounts.quick(claim)
        with pytest.raises(LoginError):
            accounts.check(claim, "198.51.100.1")
    assert slow == []
