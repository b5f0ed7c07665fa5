"""TLS on the side of a server: a context whose certificate is read anew when it changes.

Rule of the file: TLS 1.2 or newer (RFC 8314, 4.1; RFC 8997), and no choice to be less; what
was good goes on where what came after it is not.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from mailflow.errors import ConfigError
from mailflow.log import Logger, get_logger
from mailflow.typed import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import ssl

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secrecy and authenticated encryption, as all of TLS 1.3 have them."""

DAY = 86400.0

SOON = 14 * DAY
"""So long before a certificate ends, the log says so once a day."""

Stamp = tuple[tuple[int, int, int, int], ...]


class ServerTls:
    """A certificate and its key, PEM files, for as long as a service runs.

    Where there is no `key_file`, the key is in `cert_file`. Raises ConfigError where they
    cannot be used. Used by many threads.
    """

    def __init__(
        self, cert_file: str, key_file: str | None = None, log: Logger | None = None
    ) -> None:
        self.cert_file = cert_file
        self.key_file = key_file or cert_file
        self._log = log or get_logger()
        self._guard = threading.Lock()
        self._stamp = self._stamped()
        self._context = _made(self.cert_file, self.key_file)
        self._look()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake: ask for each client. Where the files have
        changed, a new one; where the new ones cannot be used, the old one, and a line in the
        log."""
        now = self._stamped()
        if now != self._stamp:
            with self._guard:
                if now != self._stamp:
                    self._stamp = now
                    self._renew()
        if time.time() >= self._warn_at:
            self._warn()
        return self._context

    def _renew(self) -> None:
        try:
            self._context = _made(self.cert_file, self.key_file)
        except ConfigError as error:
            self._log.error(f"{error.text}; the one from before still counts")
            return
        self._log.info(f"read certificate {self.cert_file} anew")
        self._look()

    def _look(self) -> None:
        self._ends, self._fault = _examined(self._context, self.cert_file)
        self._warn_at = 0.0 if self._fault else self._ends - SOON

    def _warn(self) -> None:
        """Once a day: clients refuse it, or will."""
        self._warn_at = time.time() + DAY
        self._log.warning(f"certificate {self.cert_file} {_told(self._ends, self._fault)}")

    def _stamped(self) -> Stamp:
        """What changes whenever one of the files does."""
        found = []
        for path in (self.cert_file, self.key_file):
            try:
                status = os.stat(path)
            except OSError:
                found.append((0, 0, 0, 0))
            else:
                found.append(
                    (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
                )
        return tuple(found)


def certificate_faults(cert_file: str, key_file: str | None = None) -> Iterator[str]:
    """What is wrong with a certificate and its key, for `mailflow check`."""
    try:
        context = _made(cert_file, key_file or cert_file)
    except ConfigError as error:
        yield error.text
        return
    ends, fault = _examined(context, cert_file)
    if fault or ends < time.time():
        yield f"certificate {cert_file} {_told(ends, fault)}"


def _told(ends: float, fault: str) -> str:
    if fault:
        return f"is refused by clients: {fault}"
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(ends))
    return f"ends on {day}; renew it"


def _made(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Raises ConfigError that says which file, and what to do."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    _readable("certificate", cert_file)
    _readable("key", key_file)

    def ask() -> NoReturn:
        raise ConfigError(f"key {key_file} is encrypted; store it without a pass phrase, mode 0600")

    try:
        context.load_cert_chain(cert_file, key_file, ask)
    except ssl.SSLError as error:
        said = str(error).upper().replace(" ", "_")
        known = (words for name, words in _REASONS.items() if name in said)
        reason = next(known, error.reason or str(error))
        raise ConfigError(f"cannot use certificate {cert_file} with {key_file}: {reason}") from None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"cannot read {cert_file} and {key_file}: {reason}") from None
    return context


LARGEST = 1 << 20
"""Octets of a key's file that are looked at."""

_REASONS = {
    "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
    "PEM_LIB": "there is no certificate in it, or no key, as PEM",
    "EE_KEY_TOO_SMALL": "the key is too short",
}
"""What OpenSSL says, in words."""


def _readable(what: str, path: str) -> None:
    """Raise ConfigError where a file cannot be read, or a key can by strangers."""
    try:
        with open(path, "rb") as reader:
            mode = os.fstat(reader.fileno()).st_mode
            keyless = b"PRIVATE KEY-----" not in reader.read(LARGEST)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if what == "certificate" and isinstance(error, FileNotFoundError):
            reason += f"; `mailflow tls self-signed --out {path} NAME` makes one"
        raise ConfigError(f"cannot read {what} {path}: {reason}") from None
    if what == "key" and keyless:
        raise ConfigError(f"there is no key in {path}; `key` says which file has it, as PEM")
    if what == "key" and mode & 0o007:
        from shlex import quote

        raise ConfigError(
            f"key {path} can be read by others (mode {mode & 0o777:04o});"
            f" run: chmod 600 {quote(path)}"
        )


def _examined(context: ssl.SSLContext, cert_file: str) -> tuple[float, str]:
    """(when the certificate ends, as seconds since the epoch; why clients will refuse it),
    from a handshake with ourselves as one who trusts it."""
    import ssl

    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cert_file)
        there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = context.wrap_bio(there, here, server_side=True)
        theirs = client.wrap_bio(here, there)
        for _ in range(10):
            for side in (theirs, ours):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
            found = theirs.getpeercert() if theirs.version() else None
            if found:
                return float(ssl.cert_time_to_seconds(str(found["notAfter"]))), ""
    except ssl.SSLCertVerificationError as error:
        return 0.0, error.verify_message
    except ssl.SSLError as error:
        return 0.0, error.reason or str(error)
    return 0.0, "no handshake succeeds with it"
