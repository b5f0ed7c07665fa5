"""The accounts of an installation, and every way in.

Rule of the file: whatever a claim lacks, its answer and its cost are the same. What is
checked where nobody is known is the secret of somebody else, and the result thrown away.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import translate

from mailflow.accounts.claims import (
    Account,
    ApopClaim,
    Checked,
    Claim,
    Entered,
    PasswordClaim,
    ScramClaim,
    TokenClaim,
)
from mailflow.accounts.doors import ELSEWHERE, Door
from mailflow.accounts.locks import ABSENT, Locks, OneSecret
from mailflow.accounts.pace import AT_ONCE, Brake, Pace, Turns
from mailflow.accounts.passwords import PasswordFile, default_path
from mailflow.accounts.verifiers import ScramKeys, Verifier, app_verifier, octets, read
from mailflow.digests import blake2b
from mailflow.errors import ConfigError, LoginError, MailflowError, UnavailableError
from mailflow.kinds import Credentials
from mailflow.log import Logger, get_logger
from mailflow.record import NamedTuple
from mailflow.typed import Any
from mailflow.values import FOREVER

WRONG = "no such login name, or a wrong password"

LONGEST = 255
"""Characters of a login name; a longer one is nobody's."""

WAITING = 64
"""Slow checks that wait for their turn."""

_CALM, _SUSPECTS = Turns(AT_ONCE, WAITING), Turns(AT_ONCE, WAITING)


class _Stored(NamedTuple):
    """A verifier of each kind that there is, and whether all can do without the password."""

    kinds: tuple[Verifier, ...]
    apop: bool
    scram: bool


class Accounts:
    """The accounts of an installation. Used by many threads.

    `before` are those of before a reload: what is known of clients is taken over. Every
    secret that has no file is asked for at once; those that cannot be had are logged. Raises
    ConfigError where two have one name, or a network is none.

    A login is a claim that is checked, then a drop that is entered. Each raises LoginError,
    InUseError or UnavailableError; whatever it raises, the answer is to be kept back for
    `error.fields.get("delay", 0.0)` seconds, which does not block others. `address` is the
    client's IP address, "" for a unix socket.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        *,
        before: Accounts | None = None,
        pace: Pace | None = None,
        log: Logger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if before is not None and pace in (None, before._brake.pace):
            self._brake: Brake = before._brake
        else:
            self._brake = Brake(pace or Pace(), clock)
        self._log = log or get_logger()
        self._key = _machine_key()
        self._known: _Stored | None = None
        self._files: dict[str, PasswordFile] = {}
        self._exact: dict[str, Door] = {}
        self._globs: list[tuple[Callable[[str], object], Door]] = []
        self._doors = [Door(account, self._locks(account)) for account in accounts]
        for door in self._doors:
            self._hang(door)
        self._locked = tuple(door for door in self._doors if door.locks is not None)
        locks = {id(door.locks): door.locks for door in self._locked if door.locks is not None}
        self._sources = tuple(locks.values())
        for each in self._sources:
            with suppress(UnavailableError):  # it was logged, and is tried again at a login
                each.lock("")

    @property
    def offers_apop(self) -> bool:
        """Whether APOP works: the secret of every account is stored as plain text."""
        return self._stored().apop

    @property
    def offers_scram(self) -> bool:
        """Whether SCRAM-SHA-256 works: every secret is stored plain or as its verifier, and
        scramp is installed."""
        return self._stored().scram

    @property
    def offers_tokens(self) -> bool:
        """Whether some maildrop takes bearer tokens (OAUTHBEARER, XOAUTH2)."""
        return any(door.tokens for door in self._doors)

    @property
    def retention(self) -> float:
        """For how many seconds mail is sure to stay in whatever drop; infinity for good."""
        maildrops = {id(door.account.maildrop): door.account.maildrop for door in self._doors}
        return min((_retention(each) for each in maildrops.values()), default=FOREVER)

    def quick(self, claim: Claim) -> bool:
        """Whether `check` takes microseconds, so that an event loop may call it; else it may
        take a second (argon2id, a secret from a command) and is for a thread. For names that
        nobody has, one or the other, as for the others."""
        if not isinstance(claim, PasswordClaim):
            return True
        login, door = self._find(claim.login)
        if door is None:
            return self._decoy(self._mark(login)).quick
        if door.passthrough:
            return True
        if not door.quick():
            return False
        try:
            verifier = door.verifier(login)
        except UnavailableError:
            return True
        return (verifier or self._decoy(self._mark(login))).quick

    def check(self, claim: Claim, address: str = "") -> Checked:
        """Whose claim it is. What a back end must decide (passthrough) holds for now."""
        login, door = self._find(claim.login)
        self._admit(login, address)
        if door is not None and door.passthrough:
            return self._passed_on(claim, login, door, address)
        mark = self._mark(login)
        asked = door or self._ghost(mark)
        lock = ABSENT if asked is None else asked.lock(login, address)
        decoy = self._decoy(mark)
        tried = lock.verifier or decoy
        if door is None and tried.kind != decoy.kind:
            tried = decoy  # `quick` has said how long it takes
        elif door is not None and lock is ELSEWHERE:
            tried = door.verifier(login) or decoy  # as it has here, too
        fits = self._tried(tried, claim, login, address)
        if door is None or lock.verifier is None or not fits:
            why = ABSENT.why if door is None else lock.why or "wrong password"
            raise self._refused(login, address, why)
        self._brake.passed(login, address)
        return Checked(login, door.account, Credentials(login, checked=True, address=address))

    def enter(self, checked: Checked) -> Entered:
        """Lock and open the drop. It may wait for the disk, or for a back end."""
        who = checked.who
        try:
            drop = checked.account.maildrop.login(who)
        except LoginError as error:
            if who.checked:
                raise _without_orders(error) from None
            raise self._refused(checked.login, who.address, error.text) from None
        except MailflowError as error:
            raise _without_orders(error) from None
        if not who.checked:
            self._brake.passed(checked.login, who.address)
        return Entered(checked.login, drop)

    def password(self, login: str, password: str, address: str = "") -> Entered:
        """By name and password, in one call."""
        return self.enter(self.check(PasswordClaim(login, password), address))

    def apop(self, login: str, timestamp: str, digest: str, address: str = "") -> Entered:
        """By APOP, in one call."""
        return self.enter(self.check(ApopClaim(login, timestamp, digest), address))

    def token(self, login: str, token: str, address: str = "") -> Entered:
        """By bearer token, in one call."""
        return self.enter(self.check(TokenClaim(login, token), address))

    def scram_keys(self, login: str) -> ScramKeys:
        """What an exchange of SCRAM-SHA-256 is made with; for a name that cannot log in so,
        keys that nothing fits, the salt the same each time. Raises UnavailableError."""
        login, door = self._find(login)
        salt = self._mark(login)
        asked = door or self._ghost(salt)
        verifier = None if asked is None else asked.verifier(login)
        if door is None:
            verifier = None
        keys = (verifier or self._decoy(salt)).scram(salt)
        if keys is not None and verifier is not None:
            return keys
        iterations = 4096 if keys is None else keys.iterations
        return ScramKeys(salt, secrets.token_bytes(32), secrets.token_bytes(32), iterations)

    def _locks(self, account: Account) -> Locks | None:
        """Where the secrets of an account are; doors that name one file share it."""
        if account.login == "passthrough":
            return None
        if account.secret is not None:
            return OneSecret(account.name, account.secret, self._log, self._changed)
        try:
            path = account.passwords or default_path()
        except ConfigError:
            return None
        optional = account.passwords is None
        made = PasswordFile(path, self._log, self._changed, optional=optional)
        return self._files.setdefault(path, made)

    def _hang(self, door: Door) -> None:
        name = door.account.name
        names = [*door.account.aliases]
        if is_glob(name):
            self._globs.append((re.compile(translate(_prepared(name))).match, door))
        else:
            names.append(name)
        for each in names:
            other = self._exact.setdefault(_prepared(each), door)
            if other is not door:
                raise ConfigError(f"{each!r} is a login name of two maildrops: "
                                  f"`{other.account.name}` and `{name}`")  # fmt: skip

    def _find(self, given: str) -> tuple[str, Door | None]:
        """The login name, and the door that it leads to. The globs are gone through whoever
        it is, so that it takes as long."""
        login = _prepared(given[:LONGEST])
        there = self._exact.get(login)
        glob = next((door for match, door in self._globs if match(login)), None)
        if len(given) > LONGEST or not login.isprintable():
            return login, None
        if there is not None:
            name = there.account.name
            return (login if is_glob(name) else name), there
        return login, (None if "/" in login or login.startswith(".") else glob)

    def _passed_on(self, claim: Claim, login: str, door: Door, address: str) -> Checked:
        if not door.admits(address):
            raise self._refused(login, address, ELSEWHERE.why)
        if isinstance(claim, PasswordClaim):
            who = Credentials(login, password=claim.password, address=address)
        elif isinstance(claim, TokenClaim) and door.tokens:
            who = Credentials(login, token=claim.token, address=address)
        else:
            raise self._refused(login, address, "its back end cannot check that")
        return Checked(login, door.account, who)

    def _tried(self, verifier: Verifier, claim: Claim, login: str, address: str) -> bool:
        if isinstance(claim, PasswordClaim):
            if verifier.quick:
                return verifier.fits(claim.password)
            if not self._brake.suspects(login, address):
                with _CALM.one():
                    return verifier.fits(claim.password)
            with _SUSPECTS.one():
                self._admit(login, address)  # others may have failed in the meantime
                return verifier.fits(claim.password)
        if isinstance(claim, ApopClaim):
            plain = verifier.plain or b""
            right = hashlib.md5(octets(claim.timestamp) + plain, usedforsecurity=False)
            return hmac.compare_digest(right.hexdigest().encode(), octets(claim.digest)) and (
                verifier.plain is not None
            )
        return isinstance(claim, ScramClaim) and claim.proven

    def _admit(self, login: str, address: str) -> None:
        try:
            self._brake.admit(login, address)
        except UnavailableError as error:
            self._tell(login, address, error.text)
            raise

    def _refused(self, login: str, address: str, why: str) -> LoginError:
        delay = self._brake.failed(login, address)
        self._tell(login, address, why)
        return LoginError(WRONG, delay=delay)

    def _tell(self, login: str, address: str, why: str) -> None:
        """A line for the log, in a form that fail2ban and such rely on."""
        origin = address or "a unix socket"
        self._log.warning(f"login failed from {origin}", reason=why, login=login)

    def _ghost(self, mark: bytes) -> Door | None:
        """The door that is tried for a name that leads to none."""
        return self._locked[mark[1] % len(self._locked)] if self._locked else None

    def _decoy(self, mark: bytes) -> Verifier:
        """Somebody's verifier, the same each time, for a name that nobody has."""
        kinds = self._stored().kinds
        return kinds[mark[0] % len(kinds)]

    def _stored(self) -> _Stored:
        """What there is now, looked up when a file has changed."""
        if self._known is None:
            samples = [each for locks in self._sources for each in locks.samples()]
            by_kind = {each.kind: each for each in samples}
            kinds = tuple(by_kind[kind] for kind in sorted(by_kind))
            ours = bool(samples) and not any(door.passthrough for door in self._doors)
            self._known = _Stored(
                kinds or (read(app_verifier(secrets.token_hex(16))),),
                apop=ours and all(each.plain is not None for each in samples),
                scram=ours and _scramp_is_there() and all(_scrams(each) for each in samples),
            )
        return self._known

    def _changed(self) -> None:
        self._known = None

    def _mark(self, login: str) -> bytes:
        """16 octets that say how a name is answered where nobody has it."""
        said = login.encode("utf-8", "surrogatepass")
        return blake2b(said, digest_size=16, key=self._key).digest()


def _without_orders(error: MailflowError) -> MailflowError:
    """The same without `delay`: how long a back end wants us to stay away is not how long an
    answer is to be kept back, and what it says is not for our client."""
    if "delay" not in error.fields:
        return error
    others = {name: value for name, value in error.fields.items() if name != "delay"}
    return type(error)(error.text, **others)


def _scrams(verifier: Verifier) -> bool:
    return verifier.plain is not None or verifier.scram(b"") is not None


def _scramp_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("scramp") is not None


def is_glob(name: str) -> bool:
    """Whether the name of a maildrop stands for many login names."""
    return any(character in name for character in "*?[")


def _prepared(login: str) -> str:
    """A login name as it is compared (RFC 8265, 3.4, but for the width of letters)."""
    if login.isascii():
        return login
    import unicodedata

    return unicodedata.normalize("NFC", login)


def _machine_key() -> bytes:
    """What decides how unknown names are answered: the same after a restart, and in every
    process, as the answers to known ones are; and nobody far away knows it."""
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            with open(path, "rb") as reader:
                known = reader.read(64).strip()
        except OSError:
            continue
        if known:
            return blake2b(known, digest_size=32, person=b"mailflow").digest()
    return secrets.token_bytes(32)


def _retention(maildrop: Any) -> float:
    tell = getattr(maildrop, "retention", None)
    try:
        return FOREVER if tell is None else float(tell())
    except Exception:  # noqa: BLE001  # a plugin's own: then nothing is promised
        return 0.0
