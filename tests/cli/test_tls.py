"""`mailflow tls self-signed`: a certificate that programs can be told to trust."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow.tls import ServerTls

from .command import Shop


def paths(shop: Shop) -> tuple[Path, Path]:
    pem = shop.home / ".config/mailflow/gateway.pem"
    return pem, pem.with_suffix(".crt")


def verified(pem: Path, ca: Path, name: str) -> None:
    """A handshake with one who trusts the certificate and asks for a name. Raises."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=str(ca))
    server = ServerTls(str(pem)).context().wrap_bio(there, back, server_side=True)
    side = client.wrap_bio(back, there, server_hostname=name)
    for _ in range(4):
        for each in (side, server):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert side.version()


def test_it_is_good_for_its_names_with_programs_that_trust_it(shop: Shop) -> None:
    done = shop("tls", "self-signed", "home.example.org", "192.0.2.1", "::1")
    assert done.status == 0
    pem, crt = paths(shop)
    for name in ("home.example.org", "192.0.2.1", "::1"):
        verified(pem, crt, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        verified(pem, crt, "example.org")


def test_by_default_it_is_for_this_machine(shop: Shop) -> None:
    shop("tls", "self-signed")
    pem, crt = paths(shop)
    for name in ("localhost", "127.0.0.1", "::1"):
        verified(pem, crt, name)


def test_the_key_is_for_its_owner_alone_and_the_certificate_for_all(shop: Shop) -> None:
    shop("tls", "self-signed")
    pem, crt = paths(shop)
    assert stat.S_IMODE(os.stat(pem).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(crt).st_mode) == 0o644
    assert "PRIVATE KEY" in pem.read_text()
    assert "PRIVATE KEY" not in crt.read_text()


def test_its_fingerprint_can_be_compared(shop: Shop) -> None:
    done = shop("tls", "self-signed")
    der = ssl.PEM_cert_to_DER_cert(paths(shop)[1].read_text())
    mark = sha256(der).hexdigest().upper()
    assert mark in done.out.replace(":", "")


def test_one_that_is_there_stays_unless_told_otherwise(shop: Shop) -> None:
    shop("tls", "self-signed")
    pem, _ = paths(shop)
    before = pem.read_bytes()
    refused = shop("tls", "self-signed")
    assert (refused.status, "--replace" in refused.err) == (78, True)
    assert pem.read_bytes() == before
    assert shop("tls", "self-signed", "--replace").status == 0
    assert pem.read_bytes() != before


def test_a_dry_run_writes_nothing(shop: Shop) -> None:
    out = shop.home / "there" / "x.pem"
    done = shop(
        "tls", "self-signed", "a.example.org", "--days", "9", "--out", str(out), "--dry-run"
    )
    assert done.out == f"would make a certificate for a.example.org, 9 days, in {out}\n"
    assert not out.parent.exists()


@pytest.mark.parametrize(
    "name", ["a" * 80 + "\u00e4.example.org", "my home", "home:995", "https://home", "", "home.."]
)
def test_what_is_no_name_is_refused(shop: Shop, name: str) -> None:
    done = shop("tls", "self-signed", name)
    assert done.status == 78
    assert "neither a host name nor an address" in done.err
    assert not paths(shop)[0].exists()


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from mailflow.cli.tls import _signed

    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"needs cryptography: pip install 'mailflow\[gateway\]'"):
        _signed(("localhost",), 9)
