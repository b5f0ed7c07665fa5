"""Typed options of a component: one declaration gives checks, docs and schema.

    class PigeonOptions(Options):
        loft = Text("The loft it flies to.")
        speed = Integer("Metres a second.", default=20, least=1)
        home = Path.optional("Where it sleeps.")

`PigeonOptions.read({"loft": "York"})` makes one of a TOML table, as the engine does;
attributes are the converted values. Rule of the file: the kinds that plugins declare with, and
with them all that a plugin needs of `mailflow.declaring`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mailflow.declaring import (
    REQUIRED,
    ElementsError,
    Fault,
    Option,
    Options,
    convert,
    dotted,
)
from mailflow.errors import ConfigError, MailflowError
from mailflow.pattern import Pattern
from mailflow.secret_value import SecretValue
from mailflow.typed import TYPE_CHECKING, Any, TypeVar, cast
from mailflow.values import FOREVER, Mailbox, duration, instead, mailbox, nearest, path, size

if TYPE_CHECKING:
    from mailflow.oauth2 import Access
    from mailflow.query import Query as CompiledQuery

T = TypeVar("T")


class Text(Option[str]):
    """A string without control characters, of `least` characters or more."""

    json_type = {"type": "string"}

    def __init__(self, doc: str, *, default: str = REQUIRED, least: int = 0) -> None:
        super().__init__(doc, default=default)
        self.least = least
        self.expected = "a string that is not empty" if least else "a string"

    def schema(self) -> dict[str, object]:
        return {**super().schema(), **({"minLength": self.least} if self.least else {})}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or len(value) < self.least:
            raise self.reject()
        if not value.isprintable() and any(ord(each) < 32 or ord(each) == 127 for each in value):
            raise ValueError("expected a string on one line, without control characters")
        return value


class Via(Text):
    """The name of a [[distribute]] step by which a step sends notices.

    That there is one, or, where none is named, any that sends, is told at check.
    """


class Host(Text):
    """A server's name or address, or a path; its port stands elsewhere."""

    def convert(self, value: object, base: str) -> str:
        text = super().convert(value, base)
        if "://" in text:
            raise ValueError(f"expected a server's name alone, no URL; found {text!r}")
        name, colon, port = text.partition(":")
        if colon and port.isdecimal() and "/" not in name:
            raise ValueError(f'expected a name alone: write host = "{name}" and port = {port}')
        return text


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


class Duration(Option[float]):
    """Seconds, written "90s", "10m", "2h", "14d", "1w" or "forever"."""

    expected = 'a duration such as "90s", "10m", "2h", "14d" or "forever"'
    json_type = {"type": ["string", "number"], "minimum": 0, "maximum": 0, "pattern": (
        r"^(forever|\s*[0-9.]+\s*([mM]?[sS]|[mMhHdDwW])\s*|\s*0(\.0*)?\s*)$"
    )}  # fmt: skip

    def convert(self, value: object, base: str) -> float:
        return duration(value)


class Size(Option[int]):
    """Octets, written 4096, "64k", "2MB" or "1GiB"."""

    expected = 'a size such as 4096, "64k", "2MB" or "1GiB"'
    json_type = {"type": ["string", "number"], "minimum": 0, "pattern": (
        r"^\s*[0-9.]+\s*([bB]|[kKmMgG]([iI]?[bB])?)?\s*$"
    )}  # fmt: skip

    def convert(self, value: object, base: str) -> int:
        return size(value)


class Path(Option[str]):
    """A path; "~" is the home directory, a relative one starts at the file's directory."""

    expected = "a path"
    json_type = {"type": "string", "minLength": 1}

    def convert(self, value: object, base: str) -> str:
        return path(value, base)


class Address(Option[Mailbox]):
    """A mailbox: "Red <red@example.org>" or "red@example.org"."""

    expected = 'an address such as "red@example.org" or "Red <red@example.org>"'
    json_type = {"type": "string", "pattern": "@"}

    def convert(self, value: object, base: str) -> Mailbox:
        return mailbox(value)


class Query(Option["CompiledQuery"]):
    """An expression of the query language."""

    expected = 'an expression such as "size < 2MB"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> CompiledQuery:
        from mailflow.query import parse

        if not isinstance(value, str):
            raise self.reject()
        return parse(value)


class ListOf(Option[tuple[T, ...]]):
    """An array whose elements are of one type; a single element may stand alone."""

    def __init__(self, doc: str, element: Option[T], *, default: Sequence[T] = REQUIRED) -> None:
        given = default is not REQUIRED and default is not None
        super().__init__(doc, default=tuple(default) if given else cast("tuple[T, ...]", default))
        self.element = element
        self.expected = f"an array, each element {element.expected}"

    def convert(self, value: object, base: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            return (self.element.convert(value, base),)
        return tuple(_each(self.element, enumerate(value), base).values())

    def schema(self) -> dict[str, object]:
        element = dict(self.element.schema())
        element.pop("description", None)
        either = [element, {"type": "array", "items": element}]
        return {"anyOf": either, "description": self.doc}


def _each(
    element: Option[T],
    values: Iterable[tuple[Any, object]],
    base: str,
    keys: Sequence[str] | None = None,
) -> dict[Any, T]:
    """Every element converted. Raises ElementsError with all that are wrong."""
    converted: dict[Any, T] = {}
    faults: list[tuple[tuple[str | int, ...], ValueError]] = []
    for key, value in values:
        try:
            if keys is not None and key not in keys:
                hint = instead(key, keys)
                raise ValueError(f"unknown key{hint}")
            converted[key] = element.convert(value, base)
        except ElementsError as error:
            faults += [((key, *where), each) for where, each in error.faults]
        except ValueError as error:
            faults.append(((key,), error))
    if faults:
        raise ElementsError(faults)
    return converted


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
        return _each(self.element, value.items(), base, self.keys)

    def schema(self) -> dict[str, object]:
        element = dict(self.element.schema())
        element.pop("description", None)
        if self.keys is None:
            return {"type": "object", "additionalProperties": element, "description": self.doc}
        known = dict.fromkeys(self.keys, element)
        return {"type": "object", "properties": known, "additionalProperties": False,
                "description": self.doc}  # fmt: skip


class Secret(Option[SecretValue]):
    """A password or token: { file | env | command | netrc | keyring = ... }, or the text."""

    hidden = True

    expected = 'a secret such as { file = "~/.config/mailflow/x.secret" }'

    def schema(self) -> dict[str, object]:
        from mailflow.secrets import SOURCES

        return {
            "type": ["object", "string"], "description": self.doc, "minLength": 1,
            "properties": {key: {"type": "string"} for key in SOURCES} | {
                "command": {
                    "anyOf": [
                        {"type": "string"}, {"type": "array", "items": {"type": "string"}},
                    ]
                }
            },
            "additionalProperties": False, "minProperties": 1, "maxProperties": 1,
        }  # fmt: skip

    def convert(self, value: object, base: str) -> SecretValue:
        from mailflow.secrets import secret

        return secret(value, base)


class OAuth2(Option["Access"]):
    """Where access tokens come from: a provider's name, or a table that says more."""

    hidden = True
    expected = (
        'the name of a provider, such as "google", or a table such as'
        ' { provider = "google", client_id = "..." }'
    )

    def shown(self, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("client_secret"), str):
            from mailflow.log import MASK

            return {**value, "client_secret": MASK}
        return value

    def schema(self) -> dict[str, object]:
        from mailflow.oauth2.access import schema

        return {"description": self.doc, **schema()}

    def convert(self, value: object, base: str) -> Access:
        from mailflow.oauth2 import access

        return access(value, base)


class Template(Option["Pattern"]):
    """Text with placeholders that are filled in for each mail.

    {note:NAME} {header:NAME} {sender} {recipient} {id} stand for what the mail says; what
    is not set is an error unless a default follows: {note:folder|.Lists}.
    """

    expected = "a string; {note:NAME}, {header:NAME}, {sender}, {recipient}, {id} may stand in it"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> Pattern:
        if not isinstance(value, str):
            raise self.reject()
        return Pattern(value)


class ServerOptions(Options):
    """What every component that logs in to a server has, under the same words."""

    host = Host("The server's name or address.", least=1)
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
    token = Secret.optional(
        "An access token of OAuth2, instead of a password, such as what"
        ' { command = ["oauth-token", "work"] } prints.'
    )
    oauth2 = OAuth2.optional(
        'The provider that gives access tokens, instead of a password: "google",'
        ' "microsoft", one of your own, or a table such as'
        ' { provider = "google", client_id = "..." }. See `mailflow auth login`.'
    )
    timeout = Duration("How long to wait for the other side each time.", default=60.0)

    @property
    def secret(self) -> SecretValue | None:
        """What to log in with: the password, or an access token."""
        if self.oauth2 is not None:
            return self.oauth2.token(self.user or "")
        return self.password if self.token is None else self.token

    @property
    def by_token(self) -> bool:
        """Whether `secret` is an access token."""
        return self.token is not None or self.oauth2 is not None

    def faults_of_login(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the ways to log in, of which there is one at most."""
        given = [
            name for name in ("password", "token", "oauth2") if getattr(self, name) is not None
        ]
        if given and self.user is None:
            yield "user", f"expected the login name that the {given[0]} is for"
        if self.user is not None and not given:
            yield "password", f"expected a password for user {self.user!r}, a `token` or `oauth2`"
        for name in given[1:]:
            yield name, f"a `{given[0]}` is given too; expected one of them"

    def watched(self) -> Iterator[str]:
        yield from super().watched()
        if self.oauth2 is not None and self.user is not None:
            yield self.oauth2.store(self.user).path  # a new login ends the rest

    def look(self) -> Iterator[tuple[str, str]]:
        if self.oauth2 is not None:
            try:
                self.oauth2.check(self.user)
            except MailflowError as error:
                yield "oauth2", error.text
        if self.ca_file is not None:
            from mailflow.net import tls_context

            try:
                tls_context(self.ca_file)
            except ConfigError as error:
                yield "ca_file", error.text


__all__ = [
    "FOREVER", "REQUIRED", "Address", "Choice", "Duration", "ElementsError", "Fault", "Flag",
    "Integer", "ListOf", "Mailbox", "OAuth2", "Option", "Options", "Path", "Pattern", "Query",
    "Secret", "SecretValue", "ServerOptions", "Size", "TableOf", "Template", "Text", "Via",
    "convert", "dotted", "duration", "mailbox", "nearest", "path", "size",
]  # fmt: skip
