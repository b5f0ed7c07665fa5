"""Mailboxes in one word, and where ~/.netrc has their passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow_pop3.place import Place, PlaceError, read


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("pop.example.org", Place("implicit", "me", "pop.example.org", "", 995, "")),
        ("ssl:pop.example.org", Place("implicit", "me", "pop.example.org", "", 995, "")),
        ("tcp:localhost", Place("none", "me", "localhost", "", 110, "")),
        ("stls:localhost", Place("starttls", "me", "localhost", "", 110, "")),
        ("tcp:ann@localhost:1110", Place("none", "ann", "localhost", "", 1110, "")),
        ("ann@example.org@pop.x", Place("implicit", "ann@example.org", "pop.x", "", 995, "")),
        ("[::1]:1995", Place("implicit", "me", "::1", "", 1995, "")),
    ],
)
def test_csp01_csp04_what_a_word_says(word, expected):
    """CSP-01, CSP-04: ssl: is the default and 995, tcp: is clear text and 110."""
    assert read(word, {}, "me") == expected


def test_csp05_the_certificate_may_bear_another_name():
    place = read("ann@localhost!pop.example.org:1995", {}, "me")
    assert place == Place("implicit", "ann", "localhost", "pop.example.org", 1995, "")
    assert place.options() == {
        "user": "ann", "host": "localhost", "port": 1995, "tls": "implicit",
        "tls_name": "pop.example.org",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "login", "user"),
    [
        ("work", "ann", "ann"),  # the login in ~/.netrc
        ("work", "", "red"),  # the user in the name of the machine
        ("pop.example.org", "ann", "ann"),
        ("pop.example.org", "", "me"),  # the user here
        ("red@pop.example.org", "", "red"),
        ("red@pop.example.org", "red@example.org", "red@example.org"),
    ],
)
def test_csp06_who_the_user_is(word, login, user):
    """CSP-06: the login in ~/.netrc, else the user in the word, else the one here."""
    logins = {
        "red@pop.example.org:995": (login, "work"),
        "pop.example.org": (login, ""),
    }
    assert read(word, logins, "me").user == user


@pytest.mark.parametrize(
    ("machines", "machine"),
    [
        (["red@h:995", "red@h", "h:995", "h"], "red@h:995"),
        (["red@h", "h:995", "h"], "red@h"),
        (["h:995", "h"], "h:995"),
        (["h"], "h"),
        (["blue@h:995", "h:110", "other"], ""),
    ],
)
def test_csp07_the_machine_that_says_most_is_taken(machines, machine):
    """CSP-07: lookup by machine "user@host:port", then by less."""
    logins = dict.fromkeys(machines, ("red", ""))
    assert read("red@h", logins, "me").machine == machine


def test_csp07_an_account_is_looked_up_by_its_name():
    """CSP-07: the name of the machine then says where it is."""
    logins = {"tcp:red@localhost!pop.example.org:1110": ("", "work"), "work": ("x", "")}
    assert read("work", logins, "me") == Place(
        "none", "red", "localhost", "pop.example.org", 1110,
        "tcp:red@localhost!pop.example.org:1110",
    )  # fmt: skip
    assert read("stls:work", logins, "me").tls == "starttls"


def test_another_users_password_is_not_taken():
    assert read("red@h", {"h": ("blue", ""), "h:995": ("blue", "")}, "me").machine == ""


def test_an_entry_without_an_account_is_none_without_a_name():
    assert read("h", {"other": ("blue", "")}, "me").machine == ""


@pytest.mark.parametrize(
    "word", ["", "ssl:", "a b", "h:0", "h:99999", "h:x", "@h", "h!", "ftp:h", "pop3s://ann@h"]
)
def test_what_names_no_mailbox_is_told(word):
    with pytest.raises(PlaceError, match=r"expected an account of ~/\.netrc or \[\{ssl"):
        read(word, {}, "me")


def test_an_account_of_a_machine_that_is_none_is_told():
    with pytest.raises(PlaceError, match="account 'work' is of machine 'a b'"):
        read("work", {"a b": ("red", "work")}, "me")


HOSTS = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
USERS = st.from_regex(r"[a-z0-9.+@-]{1,20}", fullmatch=True)


@given(USERS, HOSTS, st.integers(1, 65535))
def test_what_a_place_is_printed_as_names_it(user, host, port):
    place = read(f"{user}@{host}:{port}", {}, "me")
    assert str(place) == f"{user}@{host}:{port}"
    assert read(str(place), {}, "me") == place
