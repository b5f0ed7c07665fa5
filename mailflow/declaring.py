"""How a component declares its options, and how a table of TOML is read by them.

Rule of the file: `convert` of an option gives the value or raises ValueError saying what was
expected; it never looks at other options. What an option may be is in `mailflow.options`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mailflow.errors import ConfigError
from mailflow.record import NamedTuple
from mailflow.secret_value import SecretValue
from mailflow.typed import Any, ClassVar, Generic, NoReturn, Self, TypeVar, cast, overload
from mailflow.values import nearest

T = TypeVar("T")


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Any = _Required()


class ElementsError(ValueError):
    """What is wrong inside an array or table: `faults` says where, and each error."""

    def __init__(self, faults: Sequence[tuple[tuple[str | int, ...], ValueError]]) -> None:
        super().__init__("; ".join(str(error) for _, error in faults))
        self.faults = faults


class Fault(NamedTuple):
    """One thing that is wrong: `path` leads to it, `detail` is more lines to show."""

    path: tuple[str | int, ...]
    text: str
    detail: str = ""


class Option(Generic[T]):
    """One option: its meaning, default, and how TOML becomes its value."""

    expected = "a value"
    json_type: Mapping[str, object] = {}
    hidden = False
    """Whether its value must not be shown."""

    def __init__(self, doc: str, *, default: T = REQUIRED) -> None:
        self.doc = doc
        self.default = default
        self.name = ""

    @classmethod
    def optional(cls, doc: str, *args: Any, **kwargs: Any) -> Option[T | None]:
        """The same, but None where the file does not say it."""
        return cast("Option[T | None]", cls(doc, *args, default=cast("T", None), **kwargs))

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
        value = instance.__dict__.get(self.name, self.default)
        if value is REQUIRED:
            raise AttributeError(f"required option `{self.name}` was not given")
        return cast("T", value)

    def __set__(self, instance: object, value: T) -> NoReturn:
        raise AttributeError(f"option `{self.name}` cannot be set")

    def convert(self, value: object, base: str) -> T:
        """The option's value; `base` is the directory relative paths start from."""
        return cast("T", value)

    def schema(self) -> dict[str, object]:
        """The plain JSON Schema that TOML editors read."""
        return {**self.json_type, "description": self.doc}

    def shown(self, value: object) -> object:
        """What a file says, for somebody to read: nothing secret is in it."""
        from mailflow.log import MASK

        return MASK if self.hidden and isinstance(value, str) else value

    def reject(self) -> ValueError:
        return ValueError(f"expected {self.expected}")


def dotted(path: Sequence[str | int]) -> str:
    """("distribute", 1, "host") as a user counts: distribute[2].host."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Options:
    """The base of every component's options. Nothing may be set after it is made.

    `examples` are values, as a file has them, for a step to copy: of options whose name
    alone does not say what stands there.
    """

    examples: ClassVar[Mapping[str, object]] = {}

    def __init__(self, values: Mapping[str, object] = {}) -> None:
        """`values` are converted already; those not given have their defaults."""
        unknown = values.keys() - self.declared().keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no option {', '.join(sorted(unknown))}")
        self.__dict__.update(values)

    @classmethod
    def declared(cls) -> dict[str, Option[Any]]:
        """Every option by name, in the order of declaration, bases first.

        `list_` in Python is `list` in TOML, and so with every word that Python has taken. What
        a subclass has settled, by a value in the place of an option, is none any more.
        """
        found: dict[str, Option[Any]] = {}
        for owner in reversed(cls.__mro__):
            for attribute, value in vars(owner).items():
                if isinstance(value, Option):
                    found[value.name] = value
                else:
                    found.pop(attribute, None)
        return found

    @classmethod
    def read(cls, table: Mapping[str, object], base: str = ".") -> Self:
        """Made from a TOML table. Raises ConfigError that says all that is wrong."""
        declared = cls.declared()
        values, faults = convert(declared, table, base)
        for name in table.keys() - declared.keys():
            faults.append(Fault((name,), f"unknown option{nearest(name, declared)}"))
        if not faults:
            options = cls(values)
            faults = [Fault((name,), text) for name, text in options.faults()]
            if not faults:
                return options
        raise ConfigError("; ".join(f"{dotted(f.path)}: {f.text}" for f in faults))

    def faults(self) -> Iterator[tuple[str, str]]:
        """(option, what is wrong) for rules that join several options."""
        return iter(())

    def look(self) -> Iterator[tuple[str, str]]:
        """(option, what is wrong) with the files and directories that the options name.

        Asked by `mailflow check` alone; it changes nothing, and connects to nobody.
        """
        return iter(())

    def watched(self) -> Iterator[str]:
        """The files that a human mends where a source cannot be read, passwords first of all:
        one that was changed since the failure ends its rest."""
        for value in vars(self).values():
            if isinstance(value, SecretValue) and value.watched is not None:
                yield value.watched


def convert(
    declared: Mapping[str, Option[Any]], table: Mapping[str, object], base: str
) -> tuple[dict[str, object], list[Fault]]:
    """The values of the options that `table` gives, and what is wrong with others.

    Keys that are not declared are left alone; a required one must be given.
    """
    values: dict[str, object] = {}
    faults: list[Fault] = []
    for name, option in declared.items():
        if name in table:
            try:
                values[name] = option.convert(table[name], base)
            except ValueError as error:
                faults += _told(error, (name,), table[name], option)
        elif option.required:
            faults.append(Fault((), f"`{name}` is missing: {option.doc}"))
    return values, faults


def _told(
    error: ValueError, where: tuple[str | int, ...], value: Any, option: Option[Any]
) -> Iterator[Fault]:
    """An error as faults, each where it belongs, with what was found there."""
    if isinstance(error, ElementsError):
        for inner, each in error.faults:
            found = _at(value, inner)
            yield from _told(each, where + inner, found, option)
        return
    text = str(error)
    if text.startswith("expected") and "found" not in text and not option.hidden:
        text += f"; found {_found(value)}"
    yield Fault(where, text, getattr(error, "caret", ""))


def _at(value: Any, where: Sequence[Any]) -> object:
    """What stands there; an element that stands alone needs no array around it."""
    for part in where:
        if isinstance(value, list if isinstance(part, int) else dict):
            value = value[part]
    return value


def _found(value: object) -> str:
    """A value as a TOML file would say it, in short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "an array"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
