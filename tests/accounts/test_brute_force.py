"""Guessing passwords: it slows down, and the one who knows it is let in."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailflow import log as mailflow_log
from mailflow.accounts import Account, Accounts, Pace, PasswordClaim, verifiers
from mailflow.accounts.pace import KEPT, Brake, Turns, network
from mailflow.accounts.verifiers import argon2_verifier
from mailflow.errors import LoginError, UnavailableError

from .parts import BackEnd, Clock, Drops, Log, secret


@pytest.fixture
def clock():
    return Clock()


def book(clock, *names, stored="sesame"):
    made = [Account(name, Drops(), secret=secret(stored)) for name in names or ("ann",)]
    return Accounts(made, log=Log(), clock=clock)


def guess(accounts, login, address):
    """The delay of one wrong password; None where it was not looked at."""
    with pytest.raises((LoginError, UnavailableError)) as caught:
        accounts.check(PasswordClaim(login, "guess"), address)
    looked = isinstance(caught.value, LoginError)
    assert caught.value.fields["delay"] > 0.0
    return caught.value.fields["delay"] if looked else None


class TestDelays:
    def test_g03_each_failure_doubles_the_delay_up_to_its_bound(self, clock):
        accounts = book(clock)
        assert [guess(accounts, "ann", "192.0.2.1") for _ in range(7)] == [
            0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0,
        ]  # fmt: skip

    def test_g03_one_address_is_slowed_down_over_all_names(self, clock):
        accounts = book(clock)
        assert [guess(accounts, f"user{number}", "192.0.2.1") for number in range(3)] == [
            0.5, 1.0, 2.0,
        ]  # fmt: skip

    def test_g03_one_name_is_slowed_down_over_all_addresses(self, clock):
        accounts = book(clock)
        assert [guess(accounts, "ann", f"192.0.2.{number}") for number in range(3)] == [
            0.5, 1.0, 2.0,
        ]  # fmt: skip

    def test_g03_names_that_nobody_has_are_slowed_down_as_much(self, clock):
        accounts = book(clock)
        known = [guess(accounts, "ann", f"192.0.2.{number}") for number in range(80)]
        unknown = [guess(accounts, "bob", f"198.51.100.{number}") for number in range(80)]
        assert known == unknown

    def test_half_is_forgotten_in_a_while(self, clock):
        accounts = book(clock)
        for _ in range(4):
            guess(accounts, "ann", "192.0.2.1")
        clock.now += 300.0
        assert guess(accounts, "ann", "192.0.2.1") == pytest.approx(0.5 * 2.0**2)
        clock.now += 86400.0
        assert guess(accounts, "ann", "192.0.2.1") == pytest.approx(0.5)

    def test_a_subscriber_of_ipv6_has_one_address(self, clock):
        accounts = book(clock)
        guess(accounts, "ann", "2001:db8:0:1::1")
        assert guess(accounts, "bob", "2001:db8:0:1:ffff::9") == 1.0
        assert guess(accounts, "cat", "2001:db8:0:2::1") == 0.5

    def test_an_address_written_otherwise_is_the_same(self):
        assert network("::ffff:192.0.2.1") == network("192.0.2.1")
        assert network("fe80::1%eth0") == network("fe80::2%eth1")
        assert network("no:address") == "no:address"


class TestGuessing:
    def test_g03_who_guesses_for_an_hour_at_many_connections_gets_few_answers(self, clock):
        accounts, read = book(clock), 0
        end = clock.now + 3600.0
        while clock.now < end:
            for _ in range(30):
                read += guess(accounts, "ann", "192.0.2.1") is not None
            clock.now += 15.0
        assert read <= 20 * 3600 / 15 + 20

    def test_g03_many_addresses_get_few_answers_about_one_name(self, clock):
        accounts, read = book(clock), 0
        for number in range(3000):
            read += guess(accounts, "ann", f"10.0.{number // 250}.{number % 250}") is not None
        assert read <= 50

    def test_g03_from_a_known_address_the_user_comes_in_at_once_meanwhile(self, clock):
        accounts = book(clock)
        accounts.password("ann", "sesame", "192.0.2.1")
        for number in range(3000):
            guess(accounts, "ann", f"10.0.{number // 250}.{number % 250}")
        for _ in range(100):
            guess(accounts, f"other{_}", "192.0.2.1")
        assert accounts.password("ann", "sesame", "192.0.2.1").login == "ann"
        assert guess(accounts, "ann", "192.0.2.1") == 0.5

    def test_g03_a_login_makes_its_own_failures_forgotten(self, clock):
        accounts = book(clock)
        accounts.password("ann", "sesame", "192.0.2.1")
        assert [guess(accounts, "ann", "192.0.2.1") for _ in range(2)] == [0.5, 1.0]
        accounts.password("ann", "sesame", "192.0.2.1")
        assert guess(accounts, "ann", "192.0.2.1") == 0.5

    def test_g03_a_back_end_that_lets_somebody_in_makes_its_address_known(self, clock):
        account = Account("*", BackEnd(), login="passthrough")
        accounts = Accounts([account], log=Log(), clock=clock)
        accounts.password("ann", "sesame", "192.0.2.1")
        for number in range(60):
            with pytest.raises((LoginError, UnavailableError)):
                accounts.password("ann", "guess", f"10.0.0.{number}")
        assert accounts.password("ann", "sesame", "192.0.2.1").login == "ann"

    def test_g03_who_was_in_does_not_guess_others_from_there(self, clock):
        accounts = book(clock, "ann", "bob")
        for _ in range(5):
            accounts.password("ann", "sesame", "192.0.2.1")
            guess(accounts, "bob", "192.0.2.1")
        assert guess(accounts, "bob", "192.0.2.1") == 15.0

    def test_g03_who_knows_the_password_is_let_in_from_elsewhere_when_it_is_over(self, clock):
        accounts = book(clock)
        for number in range(60):
            guess(accounts, "ann", f"10.0.0.{number}")
        with pytest.raises(UnavailableError, match="too many wrong passwords; try again later"):
            accounts.password("ann", "sesame", "192.0.2.1")
        clock.now += 15.0
        assert accounts.password("ann", "sesame", "192.0.2.1").login == "ann"

    def test_g03_the_right_password_is_never_kept_waiting(self, clock):
        accounts = book(clock)
        for number in range(19):
            guess(accounts, "ann", f"10.0.0.{number}")
        assert accounts.password("ann", "sesame", "192.0.2.1").login == "ann"

    def test_what_is_remembered_has_a_bound(self):
        brake = Brake(Pace())
        for number in range(KEPT + 500):
            brake.failed(f"user{number}", "192.0.2.1")
            brake.passed(f"user{number}", "192.0.2.1")
        assert len(brake._failures) <= KEPT
        assert len(brake._known) <= KEPT
        assert brake.failed("last", "192.0.2.1") == 15.0
        assert max(len(each.held) for each in brake._failures.values()) <= 100


class TestLog:
    DOCS = Path(__file__).parents[2] / "docs" / "accounts.rst"
    FAIL2BAN = re.search(r"failregex = (.*)", DOCS.read_text())[1].replace(
        "<HOST>", "(?P<host>[0-9a-f.:]+)"
    )
    """As the docs tell it to fail2ban, which takes the date away first."""

    def line(self, capsys, login):
        mailflow_log.configure(level="warning")
        accounts = Accounts([Account("ann", Drops(), secret=secret("x"))])
        with pytest.raises(LoginError):
            accounts.password(login, "y", "192.0.2.1")
        out = capsys.readouterr().err
        assert out.count("\n") == 1
        return out

    def test_g03_a_failure_is_one_line_with_the_address(self, capsys):
        found = re.search(self.FAIL2BAN, self.line(capsys, "ann"))
        assert found
        assert found["host"] == "192.0.2.1"

    def test_g03_journald_s_mark_before_it_is_no_hindrance(self, capsys):
        line = "host mailflow[4711]: " + self.line(capsys, "ann")
        assert re.search(self.FAIL2BAN, line)["host"] == "192.0.2.1"

    @pytest.mark.parametrize(
        "login",
        [
            "ann\r\n[warning] login failed from 10.9.9.9: x",
            "x [warning] login failed from 10.9.9.9: x", "\x1b[2Jx", "\u202ex", "\ud800",
        ],
    )  # fmt: skip
    def test_g08_a_name_makes_no_line_of_its_own(self, capsys, login):
        line = self.line(capsys, login)
        assert re.search(self.FAIL2BAN, line)["host"] == "192.0.2.1"
        assert line.rstrip("\n").isprintable()


class TestSlowChecks:
    def test_so_many_at_a_time_and_no_more(self, monkeypatch):
        at_work, most, lock = [0], [0], threading.Lock()
        inside, go = threading.Semaphore(0), threading.Event()

        def fits(self, password):
            with lock:
                at_work[0] += 1
                most[0] = max(most[0], at_work[0])
            inside.release()
            go.wait(10)
            with lock:
                at_work[0] -= 1
            return True

        monkeypatch.setattr("mailflow.accounts.book._CALM", Turns(2, 64))
        accounts = book(Clock(), stored=argon2_verifier("sesame"))
        monkeypatch.setattr(verifiers.Argon2, "fits", fits)
        threads = [
            threading.Thread(target=accounts.password, args=("ann", "sesame")) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for _ in range(2):
            assert inside.acquire(timeout=10)
        go.set()
        for thread in threads:
            thread.join()
        assert most[0] == 2

    def test_those_who_failed_lately_keep_nobody_else_waiting(self, monkeypatch):
        go, busy = threading.Event(), threading.Event()

        def fits(self, password):
            if password == "guess":
                busy.set()
                go.wait(10)
            return password == "sesame"

        accounts = book(Clock(), "ann", "bob", stored=argon2_verifier("sesame"))
        monkeypatch.setattr(verifiers.Argon2, "fits", fits)
        with pytest.raises(LoginError):
            accounts.password("ann", "wrong", "192.0.2.1")
        guesser = threading.Thread(target=guess, args=(accounts, "ann", "192.0.2.1"))
        guesser.start()
        assert busy.wait(10)
        assert accounts.password("bob", "sesame", "198.51.100.1").login == "bob"
        go.set()
        guesser.join()

    def test_who_was_in_from_there_is_none_of_those_who_failed(self):
        brake = Brake(Pace(), Clock())
        brake.passed("ann", "192.0.2.1")
        for address in ("192.0.2.1", "198.51.100.1"):
            brake.failed("ann", address)
        assert not brake.suspects("ann", "192.0.2.1")
        assert brake.suspects("ann", "198.51.100.1")
        assert brake.suspects("bob", "198.51.100.1")
        assert not brake.suspects("bob", "203.0.113.1")

    def test_those_who_had_to_wait_are_refused_unread_if_others_failed_meanwhile(self, monkeypatch):
        clock, tried = Clock(), []
        accounts = book(clock, stored=argon2_verifier("sesame"))
        monkeypatch.setattr(verifiers.Argon2, "fits", lambda self, text: tried.append(text))
        guess(accounts, "ann", "192.0.2.1")

        class Late:
            """A turn that comes when twenty others have had theirs."""

            @contextmanager
            def one(self):
                for _ in range(20):
                    accounts._brake.failed("ann", "192.0.2.1")
                yield

        monkeypatch.setattr("mailflow.accounts.book._SUSPECTS", Late())
        assert guess(accounts, "ann", "192.0.2.1") is None
        assert tried == ["guess"]

    def test_too_many_who_wait_are_told_to_come_again(self):
        turns = Turns(1, 0)
        with (
            turns.one(),
            pytest.raises(UnavailableError, match="too many log in at once"),
            turns.one(),
        ):
            pass
        with turns.one():
            pass

    def test_only_slow_checks_are_for_a_thread(self):
        quick = book(Clock())
        slow = book(Clock(), stored=argon2_verifier("sesame"))
        for login in ("ann", "nobody"):
            assert quick.quick(PasswordClaim(login, "x"))
            assert not slow.quick(PasswordClaim(login, "x"))
