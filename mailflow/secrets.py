"""Where passwords come from: { file | env | command | netrc | keyring }, or the text itself.

Rule of the file: an error says where the secret was looked for and what to do, and
never what was found; a file that others can read is refused.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Mapping

from mailflow.errors import ConfigError, UnavailableError
from mailflow.options import SecretValue
from mailflow.typed import TYPE_CHECKING
from mailflow.values import instead, path

if TYPE_CHECKING:
    from subprocess import Popen

SOURCES = ("file", "env", "command", "netrc", "keyring")
EXPECTED = 'expected a secret such as { file = "~/.config/mailflow/x.secret" }'

_KIND = "secret file"
_ABSENT = "; it is to hold the secret in one line, with mode 600"

LIMIT = 1 << 16
"""A secret file, or what a command prints, is at most this many octets."""

COMMAND_TIMEOUT = 60.0
"""Seconds a command may take: long enough for a human to unlock an agent."""

COMMAND_FRESH = 60.0
"""Seconds for which a command is not asked again: many connections are one question, and a
token that ends is asked for anew."""

_from_environment: set[str] = set()


def secret(value: object, base: str) -> SecretValue:
    """A SecretValue of what the file says; `base` is where relative paths start.

    Raises ValueError where its form is wrong. Nothing is opened or run before
    `reveal()`; `check()` looks whether it could be had.
    """
    if isinstance(value, str):
        _only_text(value, EXPECTED)
        return SecretValue(lambda: value, "the file itself", literal=True)
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"{EXPECTED}, with one of {', '.join(SOURCES)}")
    [(source, where)] = value.items()
    if source not in SOURCES:
        hint = instead(source, SOURCES)
        raise ValueError(f"no secret comes from {source!r}{hint}")
    return _MAKERS[source](where, base)


def child_environment() -> dict[str, str]:
    """The environment for a program we start: without the secrets that came from ours."""
    return {name: text for name, text in os.environ.items() if name not in _from_environment}


def _only_text(value: object, expected: str) -> str:
    if not isinstance(value, str) or not value or any(c in value for c in "\r\n\0"):
        raise ValueError(expected)
    return value


def _file(where: object, base: str) -> SecretValue:
    full = path(where, base)

    def reveal() -> str:
        return _first_line(private_file(full, _KIND), f"{_KIND} {full}")

    return SecretValue(reveal, f"file {full}", check=reveal, watched=full)


def _env(where: object, base: str) -> SecretValue:  # noqa: ARG001  # every maker takes both
    name = _only_text(where, "expected the name of an environment variable")
    if "=" in name:
        raise ValueError("expected the name of an environment variable")
    _from_environment.add(name)

    def reveal() -> str:
        text = os.environ.get(name)
        if not text:
            state = "is not set" if text is None else "is empty"
            raise ConfigError(f"environment variable {name} {state}; export it, or use a file")
        return text

    return SecretValue(reveal, f"environment variable {name}", check=reveal)


def _netrc(where: object, base: str) -> SecretValue:
    machine = _only_text(where, "expected the machine's name in ~/.netrc")
    full = path("~/.netrc", base)

    def reveal() -> str:
        entries = _netrc_entries(full)
        entry = entries.get(machine) or entries.get("default")
        if entry is None or not entry[2]:
            raise ConfigError(f"netrc file {full} has no password for machine {machine}")
        return entry[2]

    return SecretValue(reveal, f"netrc machine {machine}", check=reveal, watched=full)


def netrc_logins() -> dict[str, tuple[str, str]]:
    """machine -> (login, account) of ~/.netrc, "" for what is not given; {} without one.

    `default` is none of them. Raises ConfigError where the file is malformed, or where
    others can read it.
    """
    full = path("~/.netrc", ".")
    if not os.path.lexists(full):
        return {}
    entries = _netrc_entries(full)
    return {
        machine: (login or "", account or "")
        for machine, (login, account, _) in entries.items()
        if machine != "default"
    }


def _netrc_entries(full: str) -> Mapping[str, tuple[str, str | None, str | None]]:
    """machine -> (login, account, password). Raises ConfigError."""
    import netrc

    os.close(_open_private(full, "netrc file"))
    try:
        return netrc.netrc(full).hosts
    except netrc.NetrcParseError as error:  # its text may quote the password
        raise ConfigError(f"netrc file {full} is malformed at line {error.lineno}") from None
    except (OSError, ValueError):
        raise ConfigError(f"netrc file {full} cannot be read as text") from None


def _command(where: object, base: str) -> SecretValue:
    expected = 'expected a command such as ["pass", "show", "mail"]'
    if isinstance(where, str):
        import shlex

        try:
            words = shlex.split(where)
        except ValueError:
            raise ValueError(f"{expected}; a quote is not closed") from None
    else:
        words = where if isinstance(where, list) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ValueError(expected)
    argv = tuple(words)
    found: list[tuple[str, float]] = []
    lock = threading.Lock()

    def reveal() -> str:
        import time

        with lock:  # run by one thread: it may prompt, or unlock an agent
            if not found or not 0 <= time.monotonic() - found[-1][1] < COMMAND_FRESH:
                text = _first_line(_run(argv, base), f"command {argv[0]}")
                found[:] = [(text, time.monotonic())]
            return found[-1][0]

    def renew(refused: str) -> str:
        with lock:
            if found and found[-1][0] == refused:
                found.clear()  # however fresh it was
        return reveal()

    def check() -> None:
        from shutil import which

        if which(argv[0]) is None:
            raise _no_command(argv[0])

    return SecretValue(reveal, f"command {argv[0]}", check=check, renewed=True, renew=renew)


def of_keyring(error: Exception) -> UnavailableError:
    """What the library of keyrings says, as one line."""
    if type(error).__name__ == "NoKeyringError":
        reason = "there is none here, as a desktop has one; keep it in a file instead"
    else:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return UnavailableError(f"the keyring cannot be used: {reason}")


def _keyring(where: object, base: str) -> SecretValue:  # noqa: ARG001  # every maker takes both
    expected = 'expected a service and a user, such as "pop.example.org/ann"'
    service, _, user = _only_text(where, expected).rpartition("/")
    if not service or not user:
        raise ValueError(expected)

    def reveal() -> str:
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            raise ConfigError(
                "secrets in the keyring need: pip install 'mailflow[keyring]'"
            ) from None
        try:
            found: str | None = keyring.get_password(service, user)
        except KeyringError as error:
            raise of_keyring(error) from None
        if not found:
            from shlex import join

            command = join(["keyring", "set", service, user])
            raise ConfigError(f"the keyring has no {service}/{user}; run: {command}")
        return found

    return SecretValue(reveal, f"keyring {service}/{user}", check=reveal, renewed=True)


_MAKERS: dict[str, Callable[[object, str], SecretValue]] = {
    "file": _file,
    "env": _env,
    "command": _command,
    "netrc": _netrc,
    "keyring": _keyring,
}


def _open_private(full: str, what: str) -> int:
    """A descriptor of a file that nobody else can read. Raises ConfigError."""
    try:
        descriptor = os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = _ABSENT if isinstance(error, FileNotFoundError) and what == _KIND else ""
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"cannot read {what} {full}: {reason}{hint}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{what} {full} is not a regular file")
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                f"{what} {full} belongs to another user (uid {status.st_uid}): run mailflow as"
                f" that user, or: chown {os.geteuid()} {_quoted(full)}"
            )
        if status.st_mode & 0o077 and not _is_credential(full, status):
            raise ConfigError(
                f"{what} {full} can be read by others (mode {status.st_mode & 0o777:04o});"
                f" run: chmod 600 {_quoted(full)}"
            )
    except ConfigError:
        os.close(descriptor)
        raise
    return descriptor


def _is_credential(full: str, status: os.stat_result) -> bool:
    """Whether systemd has put it there for this service alone (LoadCredential=): its group's
    bits are the mask of the list of those who may read it, which names our user."""
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    inside = os.path.realpath(full).startswith(os.path.realpath(given) + os.sep)
    return os.path.isabs(given) and inside and not status.st_mode & 0o007


def _quoted(full: str) -> str:
    from shlex import quote

    return quote(full)


def private_file(full: str, what: str, most: int = LIMIT) -> bytes:
    """The first octets of a file that nobody else can read, one over `most` at most; `what` is
    what it is called. Raises ConfigError."""
    descriptor = _open_private(full, what)
    try:
        with open(descriptor, "rb") as reader:
            return reader.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what} {full}: {error.strerror}") from None


def _first_line(data: bytes, origin: str) -> str:
    """The first line, without its line end. Raises ConfigError."""
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise ConfigError(f"{origin} gives an empty first line; it must hold the secret")
    if len(line) > LIMIT:
        raise ConfigError(f"{origin} gives a first line of over {LIMIT} octets")
    if b"\0" in line:
        raise ConfigError(f"{origin} gives a NUL; it must hold the secret as text")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{origin} does not give UTF-8 text") from None


def _no_command(name: str) -> ConfigError:
    return ConfigError(f"cannot run secret command {name}: no such program")


def _run(argv: tuple[str, ...], base: str) -> bytes:
    """What the command prints. Raises ConfigError or, where it fails, UnavailableError.

    It gets no stdin, which may be a message, and a session of its own, so that all
    it started can be ended.
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
                cwd=base if os.path.isdir(base) else None,
                env=child_environment(), start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise _no_command(argv[0]) from None
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise ConfigError(f"cannot run secret command {argv[0]}: {reason}") from None
        try:
            output, fault = _gather(process)
        finally:
            _end(process)
        if not fault and process.returncode:
            complaints.seek(0)
            fault = f"ended with status {process.returncode}{_complaint(complaints.read(4096))}"
    if fault:
        raise UnavailableError(f"secret command {argv[0]} {fault}")
    return output


def _gather(process: Popen[bytes]) -> tuple[bytes, str]:
    """(what it printed until it ended, "" or what was wrong)."""
    import time
    from select import POLLIN, poll

    deadline = time.monotonic() + COMMAND_TIMEOUT
    late = f"gave no answer in {COMMAND_TIMEOUT:g} s"
    output = b""
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    descriptor = process.stdout.fileno()
    printed = poll()  # select(2) ends at descriptor 1023, and a server has thousands
    printed.register(descriptor, POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not printed.poll(left * 1000):
            return b"", late
        piece = os.read(descriptor, LIMIT)
        output += piece
        if not piece:
            break
        if len(output) > LIMIT:
            return b"", f"printed more than {LIMIT} octets"
    from subprocess import TimeoutExpired

    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except TimeoutExpired:
        return b"", late
    return output, ""


def _end(process: Popen[bytes]) -> None:
    """Leave nothing of it running."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is None:
        import signal
        from contextlib import suppress

        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _complaint(data: bytes) -> str:
    """Its first line on stderr, to say why it failed."""
    line = data.decode("utf-8", "replace").strip().partition("\n")[0]
    from mailflow.log import clean

    return f": {clean(line)[:200]}" if line else ""
