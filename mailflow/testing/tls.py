"""A certificate authority for tests: made anew each time, trusted by nobody else.

Rule of the file: keys live in the directory given, and last as long as it does.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

NAMES = ("localhost", "127.0.0.1")


class Certificate(NamedTuple):
    """Paths of PEM files: the certificate and its private key."""

    cert_file: str
    key_file: str

    def server_context(self) -> ssl.SSLContext:
        """What a server of this certificate shakes hands with."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class Authority:
    """Signs certificates; whoever reads `ca_file` trusts them."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        self.directory = os.fspath(directory)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name.from_rfc4514_string("CN=mailflow test authority")
        self._cert = self._sign(self._name, self._key.public_key(), (), 10, authority=True)
        self.ca_file = self._write("ca.pem", self._cert)

    def issue(self, names: Sequence[str] = NAMES, days: int = 10) -> Certificate:
        """A server's certificate for host names and addresses; `days` < 0 has expired."""
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name.from_rfc4514_string("CN=mailflow test server")
        stem = f"server{len(os.listdir(self.directory))}"
        cert_file = self._write(
            f"{stem}.pem", self._sign(subject, key.public_key(), names, days, authority=False)
        )
        key_file = os.path.join(self.directory, f"{stem}.key")
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        with open(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        return Certificate(cert_file, key_file)

    def _sign(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        names: Sequence[str],
        days: int,
        *,
        authority: bool,
    ) -> x509.Certificate:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - datetime.timedelta(days=30))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names:
            general = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(general, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> str:
        from cryptography.hazmat.primitives import serialization

        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
