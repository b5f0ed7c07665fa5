"""Stored secrets in Dovecot's notation: each fits its password, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from mailflow.accounts.verifiers import (
    app_password,
    app_verifier,
    argon2_verifier,
    read,
    scheme,
    scram_verifier,
    sort,
)

PASSWORD = "hello w"

BY_DOVECOT = (
    "hello w",
    "{PLAIN}hello w",
    "{CLEARTEXT}hello w",
    "{SSHA256}EtsKau3U+RjBYcOKYOmZWEoxIu6lUQYiYXQaTJRVwUm5IIds",
    (
        "{SSHA512}GEAXBkHZc5o61qC2/EqjxyWoqAzXUXw2cHmih91BNB+7fk9HrejAFOxKpWAOD3CRi8NjgNs97k1fcGWYjMoC"
        "T6YKnzw="
    ),
    (
        "{SHA512-CRYPT}$6$0QjTSlNOn98oo76D$SUJ7/V59aLTOFlj2aiky.o0qg6Tiu0lNWJxFrqTP0DBbYgqUP66qlGU.jJ.Or"
        ".ozozDBd3qh.ShgKU0CqYJAO0"
    ),
    (
        "$6$0QjTSlNOn98oo76D$SUJ7/V59aLTOFlj2aiky.o0qg6Tiu0lNWJxFrqTP0DBbYgqUP66qlGU.jJ.Or"
        ".ozozDBd3qh.ShgKU0CqYJAO0"
    ),
    "{BLF-CRYPT}$2y$05$77te8O.u6uz3IlefiAi80uPrDVBAFYaC99gZpF3aJnPXi5t50SnjG",
    (
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$rRUx+Hh4xTlUR7CYGYKHGA$stirj6+tZ9Q8VNGrhVU8znySHtnVcn"
        "hx7u0eqnNhgIE"
    ),
    (
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$2vxohSSNhPnMPi3f/Lt/3g$tRUCgS0V4OPtgq5zQyrKV6IeMrw+afj"
        "o13+vrTQj1JQ"
    ),
    (
        "{SCRAM-SHA-256}4096,oBF/DLUFjO3K/n4GBhgQJg==,OhqfDGWy9ME1sveIj6p8TY1Z25d3BccNNRjhHOz1RnM=,vGtLS"
        "gg2tSJBG4zdEH5GRX/OOUP9oGASXZssS/D7hEw="
    ),
    "{SHA256.HEX}7d54b750c56c32c1ef1b2c96f40739895b06ca0638a461287e802498b53583ae",
    "{ssha256.hex}5f2253d6dafebe5fca13af5b8fc1ab0692c84fd9acf643370a79a7dc5fa9485b5133a669",
)
"""Of `doveadm pw -p "hello w"`, or as its passwd-file may have it."""


@pytest.mark.parametrize("stored", BY_DOVECOT, ids=lambda each: scheme(each)[0])
def test_what_dovecot_wrote_fits_its_password_and_no_other(stored):
    verifier = read(stored)
    assert verifier.fits(PASSWORD)
    assert not any(verifier.fits(each) for each in ("hello", "", "hello w ", "Hello w"))


@pytest.mark.interop
@pytest.mark.parametrize("made", [app_verifier, argon2_verifier, scram_verifier])
def test_dovecot_takes_what_we_write(made):
    if shutil.which("doveadm") is None:
        pytest.skip("there is no doveadm (dovecot-core)")
    done = subprocess.run(
        ["doveadm", "pw", "-t", made(PASSWORD), "-p", PASSWORD], capture_output=True, text=True
    )
    assert "(verified)" in done.stdout, done.stderr


@pytest.mark.parametrize("made", [app_verifier, argon2_verifier, scram_verifier])
def test_what_we_write_fits_its_password_whatever_its_letters(made):
    assert read(made("pä\u0308ss wörd")).fits("p\u00e4\u0308ss wo\u0308rd")
    assert not read(made("pass")).fits("Pass")


def test_each_has_a_salt_of_its_own():
    assert len({app_verifier("x") for _ in range(50)}) == 50


def test_an_app_password_has_128_random_bits_and_can_be_typed():
    found = {app_password() for _ in range(200)}
    assert len(found) == 200
    for each in found:
        assert len(each.replace("-", "")) == 26
        assert set(each) <= set("abcdefghijklmnopqrstuvwxyz234567-")


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ("{MD5}abc", "{MD5} is no scheme that is known here"),
        ("{", "names no scheme; write {PLAIN} before it"),
        ("{PLAIN}", "is empty"),
        ("", "is empty"),
        ("{SSHA256}canary", "{SSHA256} is not base64"),
        ("{SSHA256}Y2FuYXJ5", "has not the length of its digest and salt"),
        ("{SHA256}EtsKau3U+RjBYcOKYOmZWEoxIu6lUQYiYXQaTJRVwUm5IIds", "has not the length"),
        ("{SCRAM-SHA-256}4096,canary", "is not iterations,salt,StoredKey,ServerKey"),
        (("{SCRAM-SHA-256}1,oBF/DLUFjO3K/n4GBhgQJg==,OhqfDGWy9ME1sveIj6p8TY1Z25d3BccNNRjhHOz1RnM=,"
         "vGtLSgg2tSJBG4zdEH5GRX/OOUP9oGASXZssS/D7hEw="), "has less than 4096 iterations"),
        ("{ARGON2ID}canary", "is no digest of argon2"),
        ("{BLF-CRYPT}canary", "is nothing that crypt(3) knows on this machine"),
        ("{CRYPT}$9$canary", "is nothing that crypt(3) knows on this machine"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_told_without_showing_it(stored, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        read(stored)
    assert "canary" not in str(caught.value)


def test_without_its_library_a_secret_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for stored in BY_DOVECOT:
        if scheme(stored)[0].startswith(("ARGON", "SCRAM")):
            with pytest.raises(ValueError, match="pip install 'mailflow\\[gateway\\]'"):
                read(stored)


def test_only_what_takes_microseconds_is_quick():
    quick = {scheme(each)[0] for each in BY_DOVECOT if read(each).quick}
    assert quick == {"PLAIN", "CLEARTEXT", "SSHA256", "SSHA512", "SHA256.HEX", "SSHA256.HEX"}


def test_two_secrets_that_cost_the_same_are_of_one_sort_and_of_one_kind():
    for made in (app_verifier, argon2_verifier, scram_verifier):
        one, two = made("one"), made("two")
        assert sort(one) == sort(two)
        assert read(one).kind == read(two).kind
    assert len({read(each).kind for each in BY_DOVECOT}) == 8
    assert sort("$6$salt$x") == sort("$6$other$y") != sort("$6$rounds=9999$salt$x")


def test_only_a_plain_secret_gives_its_password_away():
    assert read("{PLAIN}sesame").plain == b"sesame"
    assert all(read(each).plain is None for each in BY_DOVECOT[3:])


def test_scram_keys_come_of_what_is_stored_or_of_a_plain_password():
    salt = bytes(range(16))
    stored = read(BY_DOVECOT[10])
    keys = stored.scram(salt)
    assert (keys.iterations, len(keys.stored_key), keys.salt == salt) == (4096, 32, False)
    plain = read("{PLAIN}hello w")
    assert plain.scram(keys.salt) == keys
    assert read(BY_DOVECOT[3]).scram(salt) is None
