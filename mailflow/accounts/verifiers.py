"""What a password is checked by, in the notation that Dovecot has: "{SSHA256}...".

    verifier = read("{SSHA256}EUsqVrNs...")     # raises ValueError
    verifier.fits("the password")
    stored = app_password_verifier(app_password())

Rule of the file: hashing is done by libraries, comparing takes the same time whatever the
password, and no text that is raised holds a secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b32encode, b64decode, b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from argon2 import PasswordHasher

EXTRA = "pip install 'mailflow[gateway]'"


class ScramKeys(NamedTuple):
    """What a SCRAM server keeps of a password (RFC 5802, 3)."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class Verifier(Protocol):
    """One stored secret. `kind` is its notation with what decides the cost of checking:
    verifiers of one kind take equally long."""

    kind: str

    @property
    def quick(self) -> bool:
        """Whether to check takes microseconds."""
        ...

    def fits(self, password: str) -> bool: ...

    @property
    def plain(self) -> bytes | None:
        """The password itself, where that is stored."""
        ...

    def scram(self, salt: bytes) -> ScramKeys | None:
        """For SCRAM-SHA-256: what is stored, or made of a plain password with `salt`. That
        takes milliseconds, each time: else names that somebody has would be quicker."""
        ...


_BRACES = re.compile(r"\{([A-Za-z0-9.-]*)\}")


def octets(password: str) -> bytes:
    """A password as it is hashed: UTF-8, in form C (RFC 8265, 4.2)."""
    if not password.isascii():
        import unicodedata

        password = unicodedata.normalize("NFC", password)
    return password.encode("utf-8", "surrogatepass")


class Digest:
    """{SHA256}, {SSHA256}, {SHA512}, {SSHA512}: base64 of the digest of password and salt,
    then the salt; and {PLAIN}, of which we keep the digest beside it."""

    quick = True

    def __init__(self, kind: str, hasher: Any, data: bytes, plain: bytes | None = None) -> None:
        size = hasher().digest_size
        self.kind = kind
        self._hasher = hasher
        self._digest, self._salt = data[:size], data[size:]
        self.plain = plain

    def fits(self, password: str) -> bool:
        found = self._hasher(octets(password) + self._salt).digest()
        return hmac.compare_digest(found, self._digest)

    def scram(self, salt: bytes) -> ScramKeys | None:
        if self.plain is None:
            return None
        return _scram_keys(self.plain.decode("utf-8", "surrogatepass"), salt)


class Scram:
    """{SCRAM-SHA-256}: iterations, salt, StoredKey and ServerKey, with commas between."""

    quick = False
    plain = None

    def __init__(self, keys: ScramKeys) -> None:
        self.kind = f"SCRAM-SHA-256 {keys.iterations}"
        self._keys = keys

    def fits(self, password: str) -> bool:
        keys = _scram_keys(password, self._keys.salt, self._keys.iterations)
        found = bytes(32) if keys is None else keys.stored_key
        return hmac.compare_digest(found, self._keys.stored_key)

    def scram(self, salt: bytes) -> ScramKeys:
        return self._keys


class Argon2:
    """{ARGON2ID} and {ARGON2I}: "$argon2id$v=19$m=65536,t=3,p=1$salt$digest"."""

    quick = False
    plain = None

    def __init__(self, stored: str) -> None:
        self.kind = _parameters(stored)
        self._stored = stored

    def fits(self, password: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        try:
            return _argon2().verify(self._stored, octets(password))
        except (Argon2Error, InvalidHashError):
            return False

    def scram(self, salt: bytes) -> None:
        return None


class Crypt:
    """What crypt(5) knows: "$2y$" (bcrypt), "$6$", "$5$", "$y$" and others."""

    quick = False
    plain = None

    def __init__(self, stored: str) -> None:
        self.kind = _parameters(stored)
        self._stored = stored.encode("ascii")

    def fits(self, password: str) -> bool:
        found = _crypt(octets(password), self._stored)
        return found is not None and hmac.compare_digest(found, self._stored)

    def scram(self, salt: bytes) -> None:
        return None


def read(stored: str) -> Verifier:
    """The verifier of what is stored. Raises ValueError that says why there is none."""
    name, value = scheme(stored)
    name, _, encoding = name.partition(".")
    make = _SCHEMES.get(name)
    if make is None:
        raise ValueError(f"{{{name}}} is no scheme that is known here; there are {_known()}")
    if not value:
        raise ValueError("the secret is empty")
    try:
        return make(name, value, encoding)
    except ValueError as error:
        raise ValueError(f"{{{name}}} {error}") from None


def scheme(stored: str) -> tuple[str, str]:
    """(scheme in capitals, the rest) of "{SCHEME}..."; without braces, of what crypt(5) or
    argon2 writes ("$...$"), else of a plain password. Raises ValueError."""
    match = _BRACES.match(stored)
    if match is not None:
        return match[1].upper(), stored[match.end() :]
    if stored.startswith("{"):
        raise ValueError("the secret begins with { but names no scheme; write {PLAIN} before it")
    if re.match(r"\$argon2id?\$", stored):
        return "ARGON2ID", stored
    crypted = re.match(r"\$(1|2[abxy]?|5|6|7|y|gy)\$", stored)
    return ("CRYPT" if crypted else "PLAIN"), stored


def sort(stored: str) -> str:
    """What decides how long it takes to check this, as far as can be told without reading it:
    the scheme, and its parameters without the salt."""
    try:
        name, value = scheme(stored)
    except ValueError:
        return ""
    if name.startswith("SCRAM"):
        return f"{name} {value.partition(',')[0]}"
    return f"{name} {_parameters(value)}" if value.startswith("$") else name


def _parameters(value: str) -> str:
    """What argon2 and crypt(5) write before the salt."""
    parts = value.split("$")
    if parts[1].startswith("argon2"):
        return "$".join(parts[1:4])
    if parts[1] in ("1", "5", "6") and not "".join(parts[2:3]).startswith("rounds="):
        return parts[1]
    return "$".join(parts[1:3])


def _known() -> str:
    return ", ".join(f"{{{name}}}" for name in _SCHEMES)


def _plain(_scheme: str, value: str, _encoding: str) -> Verifier:
    password = octets(value)
    return Digest("PLAIN", hashlib.sha256, hashlib.sha256(password).digest(), password)


def _digest(scheme: str, value: str, encoding: str) -> Verifier:
    hasher = hashlib.sha512 if scheme.endswith("512") else hashlib.sha256
    try:
        if encoding == "HEX":
            data = bytes.fromhex(value)
        elif encoding in ("", "B64", "BASE64"):
            data = b64decode(value, validate=True)
        else:
            raise ValueError
    except ValueError:
        raise ValueError("is not base64") from None
    salted = len(data) - hasher().digest_size
    if salted < 0 or (salted == 0) == scheme.startswith("SS"):
        raise ValueError("has not the length of its digest and salt")
    return Digest(scheme.removeprefix("S") if salted else scheme, hasher, data)


def _scram(_scheme: str, value: str, _encoding: str) -> Verifier:
    _need("scramp")
    try:
        iterations, *rest = value.split(",")
        salt, stored, server = (b64decode(each, validate=True) for each in rest)
        keys = ScramKeys(salt, stored, server, int(iterations))
    except ValueError:
        raise ValueError("is not iterations,salt,StoredKey,ServerKey") from None
    if len(stored) != 32 or len(server) != 32 or len(salt) < 12:
        raise ValueError("has keys or a salt of a wrong length")
    if not 4096 <= keys.iterations <= 10_000_000:
        raise ValueError("has less than 4096 iterations, or more than 10000000")
    return Scram(keys)


def _argon(_scheme: str, value: str, _encoding: str) -> Verifier:
    _need("argon2")
    from argon2 import extract_parameters
    from argon2.exceptions import InvalidHashError

    try:
        extract_parameters(value)
    except InvalidHashError:
        raise ValueError("is no digest of argon2") from None
    return Argon2(value)


def _crypted(_scheme: str, value: str, _encoding: str) -> Verifier:
    libcrypt = _libcrypt()
    ours = value.startswith("$") and value.isascii() and "\0" not in value
    if not ours or libcrypt is None or libcrypt.crypt_checksalt(value.encode("ascii")) == _BAD:
        raise ValueError("is nothing that crypt(3) knows on this machine")
    return Crypt(value)


def _need(module: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ValueError(f"needs {module}: {EXTRA}")


_SCHEMES: Mapping[str, Callable[[str, str, str], Verifier]] = {
    "PLAIN": _plain, "CLEARTEXT": _plain, "CLEAR": _plain,
    "SSHA256": _digest, "SHA256": _digest, "SSHA512": _digest, "SHA512": _digest,
    "SCRAM-SHA-256": _scram, "ARGON2ID": _argon, "ARGON2I": _argon,
    "CRYPT": _crypted, "BLF-CRYPT": _crypted, "SHA512-CRYPT": _crypted,
    "SHA256-CRYPT": _crypted, "MD5-CRYPT": _crypted,
}  # fmt: skip


def app_password() -> str:
    """A password for a program: 128 random bits, in letters that are not mistaken."""
    letters = b32encode(secrets.token_bytes(16)).decode("ascii").rstrip("=").lower()
    return "-".join(letters[start : start + 5] for start in range(0, len(letters), 5))


def app_verifier(password: str) -> str:
    """What to store of a password that nobody can guess, such as an app password."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha256(octets(password) + salt).digest()
    return "{SSHA256}" + b64encode(digest + salt).decode("ascii")


def argon2_verifier(password: str) -> str:
    """What to store of a password that a human chose. Raises ValueError without argon2."""
    _need("argon2")
    return "{ARGON2ID}" + _argon2().hash(octets(password))


def scram_verifier(password: str) -> str:
    """What SCRAM-SHA-256 needs of a password. Raises ValueError where it cannot be had."""
    _need("scramp")
    keys = _scram_keys(password, secrets.token_bytes(16))
    if keys is None:
        raise ValueError("SCRAM does not take this password: it is empty, or has odd characters")
    parts = (b64encode(each).decode("ascii") for each in keys[:3])
    return "{SCRAM-SHA-256}" + ",".join([str(keys.iterations), *parts])


def _scram_keys(password: str, salt: bytes, iterations: int = 4096) -> ScramKeys | None:
    """None for a password that SASLprep refuses (RFC 4013)."""
    from scramp import (  # type: ignore[import-untyped]
        ScramException,
        ScramMechanism,
    )

    try:
        found = ScramMechanism("SCRAM-SHA-256").make_auth_info(password, iterations, salt)
    except ScramException:
        return None
    return ScramKeys(*found)


def _argon2() -> PasswordHasher:
    """With one lane, so that libsodium, which Dovecot has, can check what we store."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)


_CRYPT_DATA = 1 << 18
"""Octets that crypt_r(3) may want for its work: glibc's took 131,232."""


def _crypt(password: bytes, stored: bytes) -> bytes | None:
    """What crypt_r(3) makes of it; None where it cannot."""
    import ctypes

    libcrypt = _libcrypt()
    if libcrypt is None or b"\0" in password:
        return None
    call = libcrypt.crypt_r
    call.restype = ctypes.c_char_p
    found: bytes | None = call(password, stored, ctypes.create_string_buffer(_CRYPT_DATA))
    return None if found is None or found.startswith(b"*") else found


_BAD = 1
"""CRYPT_SALT_INVALID."""


@cache
def _libcrypt() -> Any:
    """libxcrypt, which all of Linux has but musl; None where there is none."""
    import ctypes

    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            library.crypt_checksalt.argtypes = (ctypes.c_char_p,)
            return library
    return None
