"""Where the tokens of one login are kept: a file of mode 0600, or the keyring.

Rule of the file: they are replaced whole and durably or not at all; whoever changes them
holds the lock, and reads what others have written first.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mailflow.directories import state_directory
from mailflow.durable import flush_directory, make_directory, replace
from mailflow.errors import ConfigError, MailflowError, UnavailableError, from_os
from mailflow.log import register_secret
from mailflow.record import NamedTuple
from mailflow.secrets import of_keyring
from mailflow.typed import Any

SUFFIX = ".tokens"
LIMIT = 1 << 20
"""Octets of such a file."""

ROOM = 1 << 16
"""Octets that must be there before a provider is asked: a refresh token that it replaces and
that cannot be kept would be lost."""

LOCK_SECONDS = 60.0
"""How long another process may take over a refresh, its own time-out included."""

SERVICE = "mailflow oauth2"
"""What the keyring calls it."""


class Tokens(NamedTuple):
    """What a login has given; times are seconds since the epoch, 0.0 where not known.

    `expires` is the end of the access token; `consented`, when the user said yes; `used`, when
    the refresh token was last of use; `ends`, when the provider said that it ends. `refused` is
    why the provider gives no more, which `refused_as` (a digest of what was asked with) knows
    it for; `retry_at`, when to ask again after `failures` in a row, the last being `failure`.
    """

    client_id: str = ""
    access_token: str = ""
    obtained: float = 0.0
    expires: float = 0.0
    refresh_token: str = ""
    scope: str = ""
    consented: float = 0.0
    used: float = 0.0
    ends: float = 0.0
    refused: str = ""
    refused_as: str = ""
    failure: str = ""
    failures: int = 0
    retry_at: float = 0.0

    def __repr__(self) -> str:
        return f"<tokens of {self.client_id}>"


class Store:
    """The tokens of one user at one provider. Any thread, any process.

    Errors: ConfigError (others can read the file, it is none of ours), UnavailableError (it
    cannot be read or written, the keyring is closed, another process keeps it locked).
    """

    def __init__(self, provider: str, user: str, *, keyring: bool = False) -> None:
        self.name = f"{provider}/{user}"
        self.path = os.path.join(directory(), _file_name(provider, user))
        self._keyring = keyring

    def load(self) -> Tokens | None:
        """What is there; None where nobody has logged in."""
        table = self._in_file()
        if table is None:
            return None
        if table.get("store") == "keyring":
            table = _table(_from_keyring(self.name).encode(), f"the keyring's {SERVICE}")
        tokens = _tokens(table)
        register_secret(tokens.access_token, f"{self.path} access")
        register_secret(tokens.refresh_token, f"{self.path} refresh")
        return tokens

    def save(self, tokens: Tokens) -> None:
        """Keep them; durable when it returns. The lock is held."""
        leaves = not self._keyring and self._in_keyring()
        provider, _, user = self.name.partition("/")
        table: dict[str, object] = {"provider": provider, "user": user, **tokens._asdict()}
        if self._keyring:
            _into_keyring(self.name, json.dumps(table))
            table = {"provider": provider, "user": user, "store": "keyring"}
        try:
            replace(self.path, json.dumps(table, indent=1).encode() + b"\n")
        except OSError as error:
            raise from_os(error, f"write tokens file {self.path}") from None
        if leaves:
            _out_of_keyring(self.name)

    def reserve(self) -> None:
        """Raise UnavailableError where what comes could not be kept. The lock is held."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(f"{self.path}.new", flags, 0o600)  # which takes its place then
            try:
                os.posix_fallocate(descriptor, 0, ROOM)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise from_os(error, f"write tokens file {self.path}") from None

    def forget(self) -> bool:
        """Remove them; whether there were any. The lock is held."""
        if self._keyring or self._in_keyring():
            _out_of_keyring(self.name)
        try:
            for path in (f"{self.path}.new", self.path):
                there = os.path.lexists(path)
                with suppress(FileNotFoundError):
                    os.unlink(path)
            flush_directory(os.path.dirname(self.path))
        except OSError as error:
            raise from_os(error, f"remove tokens file {self.path}") from None
        return there

    def _in_file(self) -> dict[str, Any] | None:
        """What the file says; None where there is none."""
        try:
            return _table(_read(self.path), self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, f"read tokens file {self.path}") from None

    def _in_keyring(self) -> bool:
        """Whether that says so; nothing is known of one that cannot be read."""
        table = None
        with suppress(MailflowError):
            table = self._in_file()
        return table is not None and table.get("store") == "keyring"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For one thread of one process at a time."""
        try:
            make_directory(os.path.dirname(self.path))
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(f"{self.path}.lock", flags, 0o600)
        except OSError as error:
            raise from_os(error, f"lock tokens file {self.path}") from None
        try:
            until = time.monotonic() + LOCK_SECONDS
            while not _lock(descriptor):
                if time.monotonic() > until:
                    raise UnavailableError(f"another process keeps {self.path} locked")
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def directory() -> str:
    """Where all tokens are. Raises ConfigError."""
    return os.path.join(state_directory(), "oauth2")


def logins() -> list[tuple[str, str]]:
    """(provider, user) of all that have logged in, sorted."""
    found = []
    try:
        names = os.listdir(directory())
    except OSError:
        return []
    for name in names:
        if name.endswith(SUFFIX):
            with suppress(OSError, MailflowError):
                table = _table(_read(os.path.join(directory(), name)), name)
                found.append((str(table.get("provider", "")), str(table.get("user", ""))))
    return sorted(found)


def _file_name(provider: str, user: str) -> str:
    """A name that tells a reader whose it is, and that no other login has."""
    from hashlib import sha256

    plain = "".join(c if (c.isalnum() and c.isascii()) or c in "@.-_" else "_" for c in user)
    digest = sha256(f"{provider}/{user}".encode()).hexdigest()[:8]
    return f"{provider}-{plain[:100].lstrip('.')}-{digest}{SUFFIX}"


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: str) -> bytes:
    """Raises OSError; ConfigError where others can read it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(descriptor, "rb") as reader:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"tokens file {path} is not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"tokens file {path} belongs to another user (uid {status.st_uid})")
        if status.st_mode & 0o077:
            from shlex import quote

            raise ConfigError(
                f"tokens file {path} can be read by others (mode {status.st_mode & 0o777:04o});"
                f" run: chmod 600 {quote(path)}, and log in again if somebody may have"
            )
        return reader.read(LIMIT)


def _table(data: bytes, where: str) -> dict[str, Any]:
    try:
        table = json.loads(data)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is damaged; run: mailflow auth login")
    return table


def _tokens(table: dict[str, Any]) -> Tokens:
    """What is not there, or of another type, is not known."""
    empty = Tokens()._asdict()
    kinds: dict[type, Any] = {str: str, int: int, float: (int, float)}
    return Tokens(**{
        name: table[name] if isinstance(table.get(name), kinds[type(default)]) else default
        for name, default in empty.items()
    })  # fmt: skip


def _keyring_module() -> Any:
    try:
        import keyring
    except ImportError:
        raise ConfigError("tokens in the keyring need: pip install 'mailflow[keyring]'") from None
    return keyring


def _from_keyring(name: str) -> str:
    keyring = _keyring_module()
    try:
        found: str | None = keyring.get_password(SERVICE, name)
    except keyring.errors.KeyringError as error:
        raise of_keyring(error) from None
    if not found:
        raise ConfigError(f"the keyring has no {SERVICE}/{name}; run: mailflow auth login")
    return found


def _into_keyring(name: str, text: str) -> None:
    keyring = _keyring_module()
    try:
        keyring.set_password(SERVICE, name, text)
    except keyring.errors.KeyringError as error:
        raise of_keyring(error) from None


def _out_of_keyring(name: str) -> None:
    keyring = _keyring_module()
    with suppress(keyring.errors.PasswordDeleteError):
        try:
            keyring.delete_password(SERVICE, name)
        except keyring.errors.KeyringError as error:
            if not isinstance(error, keyring.errors.PasswordDeleteError):
                raise of_keyring(error) from None


__all__ = ["Store", "Tokens", "directory", "logins"]
