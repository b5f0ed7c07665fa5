"""TLS of a server: real handshakes, certificates that change, and what is told of them."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow.log import Logger
from mailflow.testing.tls import Authority
from mailflow.tls import DAY, ServerTls, certificate_faults


class Log(Logger):
    __slots__ = ("lines",)

    def __init__(self):
        super().__init__()
        self.lines = []

    def _say(self, level, event, facts):
        self.lines.append((level, event))


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


@pytest.fixture
def here(tmp_path):
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def put(certificate, here):
    """As a renewal does it: new files in the place of the old."""
    for source, target in zip(certificate, here, strict=True):
        shutil.copyfile(source, f"{target}.new")
        os.chmod(f"{target}.new", 0o600)
        os.rename(f"{target}.new", target)


def shake(server, client):
    """The version and cipher of a handshake between two contexts."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(back, there, server_hostname="localhost"),
        server.wrap_bio(there, back, server_side=True),
    )
    done = set()
    for _ in range(20):
        for side in sides:
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
        if len(done) == 2:
            break
    return sides[0].version(), sides[0].cipher()[0], sides[0].getpeercert()["serialNumber"]


def client_of(authority, version=None):
    context = ssl.create_default_context(cafile=authority.ca_file)
    if version is not None:
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


class TestHandshake:
    def test_it_is_tls_1_3_where_the_client_can(self, authority):
        tls = ServerTls(*authority.issue())
        assert shake(tls.context(), client_of(authority))[0] == "TLSv1.3"

    def test_103_with_tls_1_2_it_is_a_modern_cipher(self, authority):
        tls = ServerTls(*authority.issue())
        version, cipher, _ = shake(tls.context(), client_of(authority, ssl.TLSVersion.TLSv1_2))
        assert version == "TLSv1.2"
        assert cipher.startswith("ECDHE-")
        names = {each["name"] for each in tls.context().get_ciphers()}
        assert all("GCM" in each or "CHACHA20" in each for each in names)

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_103_nothing_older_is_spoken(self, authority, version):
        context = ServerTls(*authority.issue()).context()
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            shake(context, client_of(authority, version))


class TestRenewal:
    def test_105_the_next_handshake_has_the_new_certificate(self, authority, here):
        put(authority.issue(days=29), here)
        log = Log()
        tls, client = ServerTls(*here, log), client_of(authority)
        before = tls.context()
        first = shake(before, client)[2]
        put(authority.issue(days=29), here)
        assert shake(tls.context(), client)[2] != first
        assert shake(before, client)[2] == first
        assert log.lines == [("info", f"read certificate {here[0]} anew")]

    def test_as_long_as_nothing_changes_it_is_the_same_context(self, authority, here):
        put(authority.issue(), here)
        tls = ServerTls(*here)
        assert tls.context() is tls.context()

    def test_105_a_new_one_that_cannot_be_used_leaves_the_old_one(self, authority, here):
        put(authority.issue(days=29), here)
        log = Log()
        tls = ServerTls(*here, log)
        before = tls.context()
        for text in ("half a certif", ""):
            with open(here[0], "w") as file:
                file.write(text)
            assert tls.context() is before
            assert tls.context() is before
        os.unlink(here[0])
        assert tls.context() is before
        assert [level for level, _ in log.lines] == ["error"] * 3
        assert all("the one from before still counts" in event for _, event in log.lines)

    def test_105_between_two_files_of_a_renewal_the_old_pair_goes_on(self, authority, here):
        put(authority.issue(days=29), here)
        log = Log()
        tls = ServerTls(*here, log)
        before, renewed = tls.context(), authority.issue(days=29)
        put((renewed.cert_file, here[1]), (here[0], f"{here[1]}.same"))
        assert tls.context() is before
        assert "the key belongs to another certificate" in log.lines[0][1]
        put(renewed, here)
        assert tls.context() is not before


class TestExpiry:
    def test_105_its_end_is_told_two_weeks_before_once_a_day(self, authority, monkeypatch):
        log = Log()
        tls = ServerTls(*authority.issue(days=10), log)
        tls.context()
        tls.context()
        [(level, event)] = log.lines
        assert level == "warning"
        assert "ends on 2" in event
        now = time.time() + DAY + 1
        monkeypatch.setattr("mailflow.tls.time.time", lambda: now)
        tls.context()
        assert len(log.lines) == 2

    def test_of_a_good_one_nothing_is_told_until_then(self, authority, monkeypatch):
        log = Log()
        tls = ServerTls(*authority.issue(days=29), log)
        tls.context()
        assert log.lines == []
        now = time.time() + 16 * DAY
        monkeypatch.setattr("mailflow.tls.time.time", lambda: now)
        tls.context()
        assert len(log.lines) == 1

    def test_one_that_has_ended_works_for_who_does_not_look_and_is_told(self, authority):
        log = Log()
        tls = ServerTls(*authority.issue(days=-1), log)
        tls.context()
        assert "certificate has expired" in log.lines[0][1]


class TestFaults:
    def test_a_good_pair_has_none(self, authority):
        assert list(certificate_faults(*authority.issue())) == []

    def test_one_that_has_ended_is_told(self, authority):
        [text] = certificate_faults(*authority.issue(days=-1))
        assert "is refused by clients: certificate has expired" in text

    def test_keys_that_strangers_read_that_are_encrypted_or_are_none(self, authority, tmp_path):
        one, two = authority.issue(), authority.issue()
        with pytest.raises(ConfigError, match="the key belongs to another certificate"):
            ServerTls(one.cert_file, two.key_file)
        with pytest.raises(ConfigError, match=r"certificate .*: No such file .* self-signed"):
            ServerTls(str(tmp_path / "none"))
        with pytest.raises(ConfigError, match="there is no certificate in it, or no key"):
            ServerTls(_private(tmp_path / "empty", b""), one.key_file)
        os.chmod(one.key_file, 0o644)
        with pytest.raises(ConfigError, match=r"can be read by others \(mode 0644\)"):
            ServerTls(*one)
        with pytest.raises(ConfigError, match="is encrypted; store it without a pass phrase"):
            ServerTls(two.cert_file, _private(tmp_path / "locked", _locked()))

    def test_a_certificate_that_is_given_without_its_key_asks_for_it(self, authority):
        alone = authority.issue().cert_file
        os.chmod(alone, 0o644)
        [text] = certificate_faults(alone)
        assert text == f"there is no key in {alone}; `key` says which file has it, as PEM"

    def test_one_file_may_hold_both(self, authority, tmp_path):
        pair = authority.issue()
        both = b"".join(Path(path).read_bytes() for path in pair)
        path = _private(tmp_path / "both.pem", both)
        assert shake(ServerTls(path).context(), client_of(authority))[0] == "TLSv1.3"


def _private(path, data):
    path.write_bytes(data)
    path.chmod(0o600)
    return str(path)


def _locked():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
