"""Lines for the log: structlog behind a proxy that imports it at the first line emitted.

    log = get_logger(pipeline="red")
    log.bind(step="pop3").warning("source failed", error=error)

Rule of the file: a line is one line, control characters are escaped, and what is
registered as secret is masked, wherever it stands. Logging never raises.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping

from mailflow.typed import Any

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MASK = "********"

_ALONE = 4
"""A secret shorter than this is masked only where it stands as a word of its own."""


RECENT = 8
"""So many secrets of one source are masked: a token that has been renewed so often since is
worth nothing, and each one makes every line cost more."""


LONGEST = 1 << 16
"""Octets of what a server said that are looked at: more than those of any secret."""


class _State:
    """What `configure`, `write_over` and `register_secret` set, for the whole process;
    `secrets` by where they are from, the newest last."""

    level = LEVELS["warning"]
    json = False
    erase = ""
    logger: Any = None
    secrets: dict[str, tuple[str, ...]] = {}
    pattern: re.Pattern[str] | None = None
    lock = threading.RLock()


class Logger:
    """Says events with facts, one line each; `bind` gives a logger that knows more."""

    __slots__ = ("facts",)

    def __init__(self, facts: Mapping[str, object] | None = None) -> None:
        self.facts: Mapping[str, object] = facts or {}

    def bind(self, **facts: object) -> Logger:
        """A logger that adds these facts to every line."""
        return Logger({**self.facts, **facts})

    def debug(self, event: str, /, **facts: object) -> None:
        self._say("debug", event, facts)

    def info(self, event: str, /, **facts: object) -> None:
        self._say("info", event, facts)

    def notice(self, event: str, /, **facts: object) -> None:
        """As `info`, and said to whoever sits at a terminal, too: of use to a person who waits
        for something to happen, and no news to cron."""
        if tells_person():
            _emit("info", event, {**self.facts, **facts})

    def warning(self, event: str, /, **facts: object) -> None:
        self._say("warning", event, facts)

    def error(self, event: str, /, **facts: object) -> None:
        self._say("error", event, facts)

    def _say(self, level: str, event: str, facts: Mapping[str, object]) -> None:
        if LEVELS[level] >= _State.level:
            _emit(level, event, {**self.facts, **facts})

    def __repr__(self) -> str:
        return f"Logger({', '.join(self.facts)})"


def get_logger(**facts: object) -> Logger:
    """A logger whose every line says these facts."""
    return Logger(facts)


def configure(*, level: str = "warning", json: bool = False) -> None:
    """Set the lowest level that is written, and the form: text, or a JSON object a line."""
    if level not in LEVELS:
        raise ValueError(f"expected a level of {', '.join(LEVELS)}; found {level!r}")
    with _State.lock:
        _State.level, _State.json, _State.logger = LEVELS[level], json, None


def write_over(erase: str) -> None:
    """Write `erase` before each line: what takes away a line that is drawn on the terminal."""
    _State.erase = erase


def configured() -> dict[str, object]:
    """What `configure` was called with, for a process of ours that is to log alike."""
    level = next(name for name, number in LEVELS.items() if number == _State.level)
    return {"level": level, "json": _State.json}


def tells(level: str) -> bool:
    """Whether lines of this level are written: to spare what a line would cost."""
    return LEVELS[level] >= _State.level


def tells_person() -> bool:
    """Whether `notice` writes a line."""
    return tells("info") or (sys.stderr is not None and sys.stderr.isatty())


def register_secret(text: str, source: str = "") -> None:
    """Mask `text`, and the forms it takes on the wire, in every line from now on; or, where a
    `source` is named that has another one now and then, until it has had RECENT newer ones."""
    if not text or text in _State.secrets.get(source, ())[-1 if source else 0 :]:
        return
    with _State.lock:
        others = [each for each in _State.secrets.get(source, ()) if each != text]
        kept = (*others, text)[-RECENT if source else 0 :]
        _State.secrets = {**_State.secrets, source: kept}
        secrets = {each for texts in _State.secrets.values() for each in texts}
        forms = sorted({f for s in secrets for f in _forms(s)}, key=len, reverse=True)
        _State.pattern = re.compile("|".join(_as_pattern(form) for form in forms))


def mask(text: str) -> str:
    """`text` with every registered secret replaced."""
    pattern = _State.pattern
    return text if pattern is None else pattern.sub(MASK, text)


def clean(text: str) -> str:
    """`text` masked, on one line, with nothing in it that a terminal would obey."""
    return re.sub(_OBEYED, _escaped, mask(text))


def printable(text: bytes, limit: int = 200) -> str:
    """At most `limit` letters of what a server said, on one line. No part of a secret is left
    where a long one is cut."""
    shown = text[:LONGEST].decode("utf-8", "replace")
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else "?" for c in shown)
    return shown.strip() if len(shown) <= limit else mask(shown)[:limit].strip() + "..."


# C0, DEL and C1 controls; soft hyphen; marks, overrides and isolates that turn the
# direction; zero-width characters; line and paragraph separators; lone surrogates.
_OBEYED = "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escaped(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _forms(secret: str) -> set[str]:
    """The secret as it may stand in a line: plain, in a repr, in a URL, in base64.

    Base64 hides it at three alignments (SASL PLAIN puts a user before it); the
    characters that depend on its neighbours are left out.
    """
    octets = secret.encode("utf-8", "surrogateescape")
    forms = {secret, repr(secret)[1:-1], repr(octets)[2:-1]}
    if len(octets) < _ALONE:
        return forms
    from binascii import b2a_base64

    quoted = "".join(chr(each) if each in _UNRESERVED else f"%{each:02X}" for each in octets)
    forms |= {quoted, quoted.replace("%20", "+")}
    for shift in range(3):
        code = b2a_base64(bytes(shift) + octets).decode().rstrip("=\n")
        first = (shift * 8 + 5) // 6
        last = (shift + len(octets)) * 8 // 6
        forms.add(code[first:last])
    return {form for form in forms if len(form) >= _ALONE}


_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
"""What stands for itself in a URL (RFC 3986, 2.3). urllib.parse would take 3 ms to load."""


def _as_pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _ALONE else rf"(?<!\w){escaped}(?!\w)"


def _emit(level: str, event: str, facts: Mapping[str, object]) -> None:
    """Write one line; a closed or full stderr loses the line and nothing else."""
    try:
        fields = {_key(name): _value(value) for name, value in facts.items()}
        error = next((v for v in facts.values() if isinstance(v, BaseException)), None)
        if error is not None and _State.level <= LEVELS["debug"]:
            fields["exception"] = _traceback(error)
        said = clean(event)
        if not _State.json:
            said = _readable(said, fields)
        with _State.lock:
            try:
                logger = _State.logger or _build()
            except (ImportError, OSError) as missing:
                _Stderr().write(f"[{level}] {said} {fields} ({missing})\n")
            else:
                getattr(logger, level)(said, **fields)
    except Exception:  # noqa: BLE001, S110  # a log that cannot be written stops no mail
        pass


_WORDS = ("error", "text", "reason", "why")


def _readable(event: str, fields: dict[str, object]) -> str:
    """The event with what was said about it, which is taken out of `fields`: cron mails
    these lines to people."""
    name = next((each for each in _WORDS if fields.get(each)), None)
    if name is None:
        return event
    said = f"{event}: {fields.pop(name)}"
    return f"{said} |" if fields else said


def _key(name: str) -> str:
    """structlog's own words are not for facts."""
    own = ("event", "level", "timestamp", "exception", "exc_info", "stack_info", "stack")
    return f"{name}_" if name in own else name


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, BaseException):
        value = str(value) or type(value).__name__
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(str(_value(each)) for each in value)
    return clean(str(value))


def _traceback(error: BaseException) -> str:
    """Where it came from, without local variables: they hold passwords."""
    from traceback import format_exception

    lines = "".join(format_exception(error)).splitlines()
    return "\n".join("    " + clean(line) for line in lines)


class _Stderr:
    """Writes to whatever stderr is at that moment."""

    def write(self, text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(_State.erase + text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


def _build() -> Any:
    """The structlog logger; called under the lock."""
    structlog = _import_structlog()
    processors: list[Callable[..., Any]] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if _State.json:
        processors.append(structlog.processors.JSONRenderer(sort_keys=False))
    else:
        colors = sys.stderr is not None and sys.stderr.isatty()
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=colors, pad_event_to=0, pad_level=False, sort_keys=False,
                exception_formatter=structlog.dev.plain_traceback,
            )
        )  # fmt: skip
    _State.logger = structlog.wrap_logger(
        structlog.WriteLogger(_Stderr()),
        processors=processors,
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return _State.logger


def _import_structlog() -> Any:
    """structlog without rich, which it would load for tracebacks we do not print."""
    hidden = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import structlog
        import structlog.dev
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
    return structlog
