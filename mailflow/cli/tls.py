"""mailflow tls: a certificate for a server at home."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

from mailflow.errors import ConfigError, from_os
from mailflow.tables import dry_run_option, say
from mailflow.values import counted

if TYPE_CHECKING:
    from cryptography import x509


@click.group(name="tls")
def command() -> None:
    """Make a certificate for a server of one's own."""


@command.command(name="self-signed")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False),
    help="Where it goes, with its key; by default gateway.pem among the user's settings.",
)  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, 36500), default=825, show_default=True, metavar="DAYS",
    help="How long it is good.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Put it in the place of one that is there.")
@dry_run_option
def self_signed(
    names: tuple[str, ...], out: str | None, days: int, replace: bool, dry: bool
) -> None:
    """Make a certificate that nobody else has signed, for host names and addresses.

    By default for this machine's name and localhost. FILE, which ends in .pem, holds the
    certificate and its key; beside it, .crt is the certificate alone, for the programs that
    shall trust it.
    """
    from mailflow.directories import settings_directory

    path = os.path.abspath(out or os.path.join(settings_directory(), "gateway.pem"))
    if os.path.lexists(path) and not replace:
        raise ConfigError(f"{path} is there already; see --replace")
    alone = f"{path.removesuffix('.pem')}.crt"
    wanted = names or _own_names()
    if dry:
        say(f"would make a certificate for {', '.join(wanted)}, {counted(days, 'day')}, in {path}")
        return
    certificate, key, mark = _signed(wanted, days)
    _write(path, certificate + key, 0o600)
    _write(alone, certificate, 0o644)
    say(f"certificate and key:  {path}")
    say(f"for programs:         {alone}")
    say(f"names:                {', '.join(wanted)}")
    say(f"SHA-256 fingerprint:  {mark}")


def _own_names() -> tuple[str, ...]:
    from socket import gethostname

    return tuple(dict.fromkeys((gethostname() or "localhost", "localhost", "127.0.0.1", "::1")))


def _signed(names: tuple[str, ...], days: int) -> tuple[bytes, bytes, str]:
    """(certificate, key) as PEM, and its fingerprint. Raises ConfigError."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        from mailflow.accounts.verifiers import EXTRA

        raise ConfigError(f"to make a certificate needs cryptography: {EXTRA}") from None
    from datetime import UTC, datetime, timedelta

    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([_general(each) for each in names])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    mark = made.fingerprint(hashes.SHA256()).hex(":").upper()
    return made.public_bytes(serialization.Encoding.PEM), pem, mark


def _general(name: str) -> x509.GeneralName:
    from ipaddress import ip_address

    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        pass
    try:
        ascii_ = name if name.isascii() else name.encode("idna").decode("ascii")
    except ValueError:
        ascii_ = ""
    if not re.fullmatch(r"(\*\.)?[\w-]+(\.[\w-]+)*", ascii_, re.ASCII):
        raise ConfigError(f"{name!r} is neither a host name nor an address")
    return x509.DNSName(ascii_)


def _write(path: str, data: bytes, mode: int) -> None:
    """A whole file in its place, or none. Raises UnavailableError."""
    from mailflow.durable import make_directory, replace

    try:
        make_directory(os.path.dirname(path))
        replace(path, data, mode)
    except OSError as error:
        raise from_os(error, f"write {path}") from None
