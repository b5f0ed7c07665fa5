"""A file of users: each line is an entry or a fault; each secret a verifier or a reason."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from mailflow.accounts import Accounts
from mailflow.accounts.claims import Account
from mailflow.accounts.passwords import parsed
from mailflow.accounts.verifiers import Scram, read, scheme, sort
from mailflow.sasl_server import Exchange, ExchangeError
from mailflow.secret_value import SecretValue

WORDS = [
    b":", b"\n", b"\r\n", b"#", b"{PLAIN}", b"{SSHA256}", b"{SHA512.HEX}", b"{SCRAM-SHA-256}4096,",
    b"{ARGON2ID}", b"$argon2id$v=19$m=8,t=1,p=1$", b"$6$rounds=1000$a$", b"$2y$04$", b"$1$",
    b"{CRYPT}", b"allow_nets=127.0.0.0/8", b"nologin", b"\xff", b"\0", b"c2FsdHNhbHRzYWx0", b",",
    b"=", b"n,,n=ann,r=x", b"biws", b"c=biws,r=", b",p=", b"n=user,", b"*",
]  # fmt: skip
SEEDS = [
    b"ann:{PLAIN}secret:::::: allow_nets=127.0.0.0/8,::1 nologin\n"
    b"bob:{SSHA256}AAAA\n\xff:x\nann:b\r\n\0"
    b"n,,n=ann,r=fyko\nc=biws,r=fyko,p=AAAA",
    b"#x\n:\nx\nc:{SCRAM-SHA-256}4096,c2FsdHNhbHRzYWx0,AAAA,AAAA\nd:$6$rounds=1000$a$b\n\0\0ann\0secret",
]
QUICK = ("PLAIN", "SHA256", "SSHA256", "SHA512", "SSHA512")


def one(data: bytes) -> None:
    octets, _, said = data.partition(b"\n\0")
    table = parsed(octets)
    last = octets.count(b"\n") + 1
    for line, text in table.faults:
        assert 0 < line <= last
        assert text.isprintable(), text
    for login, entry in table.entries.items():
        assert login.isprintable()
        assert 0 < entry.line <= last
        sort(entry.secret)
        try:
            verifier = read(entry.secret)
        except ValueError as error:
            assert str(error).isprintable() or "{" in str(error)
            continue
        if scheme(entry.secret)[0].partition(".")[0] in QUICK:
            verifier.fits("secret")
        if isinstance(verifier, Scram):
            assert len(verifier.scram(b"").stored_key) == 32
    talk(said)


ANN: Any = None


def talk(said: bytes) -> None:
    """What a client answers to AUTH: a claim, a challenge or an error, and no more of both."""
    for name in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"):
        exchange = Exchange(name, ACCOUNTS)
        try:
            heard = exchange.begin()
            for line in said.split(b"\n")[:4]:
                if not isinstance(heard, str):
                    break
                assert heard.isprintable()
                heard = exchange.answer(b64encode(line).decode())
        except ExchangeError as error:
            assert error.text.isprintable(), error.text


ACCOUNTS = Accounts([Account("ann", ANN, secret=SecretValue(lambda: "secret", "", literal=True))])
