"""Typed options of a component: one declaration gives checks, docs and schema.

    class PigeonOptions(Options):
        loft = Text("The loft it flies to.")
        speed = Integer("Metres a second.", default=20, least=1)
        home = Path.optional("Where it sleeps.")

An instance is made from a TOML table by `mailflow.engine.config`; attributes are
the converted values. Rule of the file: `convert` gives the value or raises
ValueError saying what was expected; it never looks at other options.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast, overload

from mailflow.errors import BadMailError, ConfigError

if TYPE_CHECKING:
    from mailflow.mail import Mail
    from mailflow.query import Query as CompiledQuery

T = TypeVar("T")


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean `host`?" where a known word is like `word`, else ""."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class Option(Generic[T]):
    """One option: its meaning, default, and how TOML becomes its value."""

    expected = "a value"
    json_type: Mapping[str, object] = {}

    def __init__(self, doc: str, *, default: T = REQUIRED) -> None:
        self.doc = doc
        self.default = default
        self.name = ""

    @classmethod
    def optional(cls, doc: str, **kwargs: Any) -> Option[T | None]:
        """The same, but None where the file does not say it."""
        return cast("Option[T | None]", cls(doc, default=cast("T", None), **kwargs))

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    def __set_name__(self, owner: type, name: str) -> None:
        """A word that Python keeps for itself is declared with "_" behind it: `for_`."""
        self.name = name.removesuffix("_")

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        return cast("T", instance.__dict__.get(self.name, self.default))

    def convert(self, value: object, base: str) -> T:
        """The option's value; `base` is the directory relative paths start from."""
        raise NotImplementedError

    def schema(self) -> dict[str, object]:
        """The plain JSON Schema that TOML editors read."""
        return {**self.json_type, "description": self.doc}

    def reject(self) -> ValueError:
        return ValueError(f"expected {self.expected}")


class Options:
    """The base of every component's options. Nothing may be set after it is made."""

    def __init__(self, values: Mapping[str, object] = {}) -> None:
        """`values` are converted already; those not given have their defaults."""
        self.__dict__.update(values)

    @classmethod
    def declared(cls) -> dict[str, Option[Any]]:
        """Every option by name, in the order of declaration, bases first."""
        found: dict[str, Option[Any]] = {}
        for owner in reversed(cls.__mro__):
            for value in vars(owner).values():
                if isinstance(value, Option):
                    found[value.name] = value
        return found

    def faults(self) -> Iterator[tuple[str, str]]:
        """(option, what is wrong) for rules that join several options."""
        return iter(())


class Text(Option[str]):
    """A string without control characters."""

    expected = "a string"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str):
            raise self.reject()
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise ValueError("expected a string without control characters")
        return value


class Flag(Option[bool]):
    """true or false."""

    expected = "true or false"
    json_type = {"type": "boolean"}

    def convert(self, value: object, base: str) -> bool:
        if not isinstance(value, bool):
            raise self.reject()
        return value


class Integer(Option[int]):
    """A whole number, at least `least` and at most `most`."""

    def __init__(
        self, doc: str, *, default: int = REQUIRED, least: int = 0, most: int | None = None
    ) -> None:
        super().__init__(doc, default=default)
        self.least, self.most = least, most
        self.expected = f"a whole number from {least}" + ("" if most is None else f" to {most}")

    def convert(self, value: object, base: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < self.least:
            raise self.reject()
        if self.most is not None and value > self.most:
            raise self.reject()
        return value

    def schema(self) -> dict[str, object]:
        bounds = {"minimum": self.least} | ({} if self.most is None else {"maximum": self.most})
        return {"type": "integer", "description": self.doc, **bounds}


class Choice(Option[str]):
    """One of several words."""

    def __init__(self, doc: str, *words: str, default: str = REQUIRED) -> None:
        super().__init__(doc, default=default)
        self.words = words
        self.expected = " or ".join(f'"{word}"' for word in words)

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise self.reject()
        return value

    def schema(self) -> dict[str, object]:
        return {"type": "string", "enum": list(self.words), "description": self.doc}


DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "kb": 1000, "kib": 1024, "m": 1 << 20, "mb": 10**6,
              "mib": 1 << 20, "g": 1 << 30, "gb": 10**9, "gib": 1 << 30}  # fmt: skip
FOREVER = float("inf")


def _quantity(value: object) -> tuple[float, str] | None:
    """("10", "m") of "10m"; None if it is no number with a unit."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value), ""
    if not isinstance(value, str):
        return None
    number = value.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = value.strip()[len(number) :].strip().lower()
    try:
        return float(number), unit
    except ValueError:
        return None


def duration(value: object) -> float:
    """Seconds of "90s", "10m", "2h", "14d", "1w", "forever" or 0. Raises ValueError."""
    expected = 'expected a duration such as "30s", "10m", "2h", "14d" or "forever"'
    if value == "forever":
        return FOREVER
    quantity = _quantity(value)
    if quantity is None or not 0 <= quantity[0] < FOREVER:
        raise ValueError(expected)
    number, unit = quantity
    if number == 0 and not unit:
        return 0.0
    if unit not in DURATION_UNITS:
        raise ValueError(expected)
    return number * DURATION_UNITS[unit]


def size(value: object) -> int:
    """Octets of "2MB" (10**6), "2MiB" (2**20), "64k" (1024) or 1000. Raises ValueError."""
    quantity = _quantity(value)
    if quantity is None or not 0 <= quantity[0] < FOREVER or quantity[1] not in SIZE_UNITS:
        raise ValueError('expected a size such as 4096, "64k", "2MB" or "1GiB"')
    return int(quantity[0] * SIZE_UNITS[quantity[1]])


class Duration(Option[float]):
    """Seconds, written "90s", "10m", "2h", "14d", "1w" or "forever"."""

    expected = "a duration"
    json_type = {"type": ["string", "number"]}

    def convert(self, value: object, base: str) -> float:
        return duration(value)


class Size(Option[int]):
    """Octets, written 4096, "64k", "2MB" or "1GiB"."""

    expected = "a size"
    json_type = {"type": ["string", "integer"]}

    def convert(self, value: object, base: str) -> int:
        return size(value)


class Path(Option[str]):
    """A path; "~" is the home directory, a relative one starts at the file's directory."""

    expected = "a path"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        return path(value, base)


def path(value: object, base: str) -> str:
    """An absolute path. Raises ValueError."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path")
    expanded = os.path.expanduser(value)
    if expanded.startswith("~"):
        raise ValueError(f"no home directory is known for {value!r}")
    return os.path.normpath(os.path.join(base, expanded))


class Mailbox(NamedTuple):
    """A display name and an addr-spec (RFC 5322, 3.4)."""

    name: str
    address: str

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def __str__(self) -> str:
        if not self.name:
            return self.address
        from email.utils import formataddr

        return formataddr((self.name, self.address))


def mailbox(value: object) -> Mailbox:
    """A Mailbox of "Ann <ann@example.org>" or "ann@example.org". Raises ValueError."""
    expected = 'expected an address such as "ann@example.org" or "Ann <ann@example.org>"'
    if not isinstance(value, str):
        raise ValueError(expected)
    name, address = "", value.strip()
    if address.endswith(">"):
        name, _, address = address[:-1].rpartition("<")
        name = name.strip().strip('"').strip()
    local, at, domain = address.rpartition("@")
    if not (local and at and domain) or any(c <= " " or c in '<>(),;:"[]\x7f' for c in address):
        raise ValueError(expected)
    if any(c in name for c in "\r\n\0"):
        raise ValueError(expected)
    return Mailbox(name, address)


class Address(Option[Mailbox]):
    """A mailbox: "Red <red@example.org>" or "red@example.org"."""

    expected = "an address"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> Mailbox:
        return mailbox(value)


class Query(Option["CompiledQuery"]):
    """An expression of the query language."""

    expected = "an expression"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> CompiledQuery:
        from mailflow.query import parse

        if not isinstance(value, str):
            raise ValueError('expected an expression such as "size < 2MB"')
        return parse(value)


class ListOf(Option[tuple[T, ...]]):
    """An array whose elements are of one type; a single element may stand alone."""

    def __init__(self, doc: str, element: Option[T], *, default: Sequence[T] = REQUIRED) -> None:
        super().__init__(doc, default=default if default is REQUIRED else tuple(default))
        self.element = element
        self.expected = f"an array, each element {element.expected}"

    def convert(self, value: object, base: str) -> tuple[T, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.element.convert(each, base) for each in values)

    def schema(self) -> dict[str, object]:
        element = dict(self.element.schema())
        element.pop("description", None)
        either = [element, {"type": "array", "items": element}]
        return {"anyOf": either, "description": self.doc}


class TableOf(Option[Mapping[str, T]]):
    """A table whose values are of one type; `keys`, if given, are the only ones."""

    def __init__(
        self,
        doc: str,
        element: Option[T],
        *,
        keys: Sequence[str] | None = None,
        default: Mapping[str, T] = REQUIRED,
    ) -> None:
        super().__init__(doc, default=default)
        self.element, self.keys = element, keys
        self.expected = f"a table, each value {element.expected}"

    def convert(self, value: object, base: str) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise self.reject()
        for key in value:
            if self.keys is not None and key not in self.keys:
                raise ValueError(f"expected no key but {', '.join(self.keys)}; found {key!r}")
        return {key: self.element.convert(each, base) for key, each in value.items()}

    def schema(self) -> dict[str, object]:
        element = dict(self.element.schema())
        element.pop("description", None)
        if self.keys is None:
            return {"type": "object", "additionalProperties": element, "description": self.doc}
        known = dict.fromkeys(self.keys, element)
        return {"type": "object", "properties": known, "additionalProperties": False,
                "description": self.doc}  # fmt: skip


class Secret(Option["SecretValue"]):
    """A password or token: { file | env | command | netrc = ... }, or the text itself."""

    expected = 'a secret such as { file = "~/.config/mailflow/x.secret" }'
    json_type = {"type": ["object", "string"]}

    def convert(self, value: object, base: str) -> SecretValue:
        from mailflow.secrets import secret

        return secret(value, base)


class SecretValue:
    """Where a secret is; `reveal()` gets it. Its repr never shows it.

    `reveal` raises ConfigError or UnavailableError; what it gives is registered
    with the log, which masks it everywhere. `check` raises the same if it can be
    told beforehand that it will; `literal`: it stands in the file itself.
    """

    __slots__ = ("_check", "_reveal", "literal", "origin")

    def __init__(
        self,
        reveal: Callable[[], str],
        origin: str,
        *,
        literal: bool = False,
        check: Callable[[], object] | None = None,
    ) -> None:
        self._reveal = reveal
        self._check = check
        self.origin = origin
        self.literal = literal

    def reveal(self) -> str:
        from mailflow.log import register_secret

        text = self._reveal()
        register_secret(text)
        return text

    def check(self) -> None:
        if self._check is not None:
            self._check()

    def __repr__(self) -> str:
        return f"<secret from {self.origin}>"


class Template(Option["Pattern"]):
    """Text with placeholders that are filled in for each mail.

    {note:NAME} {header:NAME} {sender} {source} {id} {list} stand for what the mail
    says; what is not set is an error unless a default follows: {note:folder|.Lists}.
    """

    expected = "a string; {note:NAME}, {header:NAME}, {sender}, {id} may stand in it"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> Pattern:
        if not isinstance(value, str):
            raise self.reject()
        return Pattern(value)


class Pattern:
    """A parsed template: `render(mail)` gives its text for one mail."""

    NAMES = ("sender", "id", "note", "header")

    def __init__(self, text: str) -> None:
        """Raises ValueError where a brace is not closed or a name not known."""
        self.text = text
        self._parts: list[tuple[str, str, str, str | None]] = []
        rest = text
        while rest:
            literal, brace, rest = rest.partition("{")
            if literal:
                self._parts.append((literal, "", "", None))
            if not brace:
                break
            inside, closed, rest = rest.partition("}")
            if not closed:
                raise ValueError("expected } after {")
            body, bar, default = inside.partition("|")
            kind, _, argument = body.partition(":")
            if kind not in self.NAMES or (kind in ("note", "header")) != bool(argument):
                raise ValueError(
                    f"expected {{note:NAME}}, {{header:NAME}}, {{sender}} or {{id}}; "
                    f"found {{{inside}}}"
                )
            self._parts.append(("", kind, argument, default if bar else None))

    def render(self, mail: Mail) -> str:
        """The text for `mail`. Raises BadMailError where something is not set."""
        return "".join(
            literal if not kind else self._look_up(mail, kind, argument, default)
            for literal, kind, argument, default in self._parts
        )

    def _look_up(self, mail: Mail, kind: str, argument: str, default: str | None) -> str:
        value: str | None
        if kind == "id":
            value = mail.id
        elif kind == "sender":
            value = mail.envelope.sender
        elif kind == "note":
            value = mail.notes.get(argument)
        else:
            value = mail.header().decoded(argument)
        if value is None:
            value = default
        if value is None:
            name = f"{kind}:{argument}" if argument else kind
            raise BadMailError(f"{{{name}}} is not set for this mail; add a default: {{{name}|x}}")
        return value

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


class ServerOptions(Options):
    """What every component that logs in to a server has, under the same words."""

    host = Text("The server's name or address.")
    port = Integer.optional(
        "Its port; by default the one that belongs to `tls`.", least=1, most=65535
    )
    tls = Choice(
        "How the connection is protected: TLS from the first octet, after STLS or STARTTLS, or not"
        " at all, which is the default on loopback only.",
        "implicit", "starttls", "none", default="",
    )  # fmt: skip
    ca_file = Path.optional("A PEM file with the authorities to trust instead of the system's.")
    user = Text.optional("The login name.")
    password = Secret.optional("The password.")
    timeout = Duration("How long to wait for the other side each time.", default=60.0)


__all__ = [
    "FOREVER", "Address", "Choice", "ConfigError", "Duration", "Flag", "Integer", "ListOf",
    "Mailbox", "Option", "Options", "Path", "Pattern", "Query", "Secret", "SecretValue",
    "ServerOptions", "Size", "TableOf", "Template", "Text", "duration", "mailbox", "path", "size",
]  # fmt: skip
