"""What stands behind a key of a definition beside plain text: tables, patterns, selectors.

Rule of the file: as in `mailflow.options`, `convert` gives the value or raises ValueError
that says what was expected; what joins several keys is told by the table they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from mailflow.options import ElementsError, Fault, Option, Options, convert, nearest
from mailflow_webmail.definition.decoding import is_charset
from mailflow_webmail.definition.patterns import compiled


class Section(Options):
    """The keys of one table; what it finds wrong may lie in tables below it. `kind` is what
    the reference calls such a table."""

    kind = ""

    def wrong(self) -> Iterator[Fault]:
        """What is wrong with several keys together; paths begin at this table."""
        return iter(())


SectionT = TypeVar("SectionT", bound=Section)


class Table(Option[SectionT]):
    """A table with keys of its own."""

    def __init__(self, doc: str, options: type[SectionT], **default: Any) -> None:
        super().__init__(doc, **default)
        self.options = options
        self.expected = f"a table ({options.kind})" if options.kind else "a table"

    def convert(self, value: object, base: str) -> SectionT:
        if not isinstance(value, dict):
            raise self.reject()
        declared = self.options.declared()
        values, faults = convert(declared, value, base)
        for name in value.keys() - declared.keys():
            faults.append(Fault((name,), f"unknown key{nearest(name, declared)}"))
        if not faults:
            made = self.options(values)
            faults = list(made.wrong())
            if not faults:
                return made
        raise ElementsError([(fault.path, ValueError(fault.text)) for fault in faults])

    def schema(self) -> dict[str, object]:
        declared = self.options.declared()
        return {
            "type": "object", "description": self.doc, "additionalProperties": False,
            "properties": {name: option.schema() for name, option in declared.items()},
            "required": [name for name, option in declared.items() if option.required],
        }  # fmt: skip


class Regex(Option[str]):
    """A regular expression of Python."""

    expected = "a regular expression"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.reject()
        compiled(value)
        return value


class Selector(Option[str]):
    """A CSS selector."""

    expected = "a CSS selector"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        import soupsieve

        if not isinstance(value, str) or not value.strip():
            raise self.reject()
        try:
            soupsieve.compile(value)
        except soupsieve.SelectorSyntaxError as error:
            raise ValueError(f"expected a CSS selector: {str(error).splitlines()[0]}") from None
        except NotImplementedError as error:  # a pseudo-element, an at-rule
            raise ValueError(f"a selector that no page is searched for: {error}") from None
        return value


class Stride(Option[int]):
    """How far a counter goes from page to page; 0 stands for "rows"."""

    expected = 'a whole number from 1, or "rows"'
    json_type = {"type": ["integer", "string"], "minimum": 1, "pattern": "^rows$"}

    def convert(self, value: object, base: str) -> int:
        if value == "rows":
            return 0
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.reject()
        return value


class Header(Option[str]):
    """The value of a header."""

    expected = "text in letters of Latin-1, which are all that a header has"
    json_type = {"type": "string", "pattern": "^[ -~\u00a0-\u00ff]*$"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or not re.fullmatch("[ -~\xa0-\xff]*", value):
            raise self.reject()
        return value


class FileName(Option[str]):
    """The name of a file beside the one that says it."""

    expected = 'the name of a file beside this one, such as "example.py"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        if not isinstance(value, str) or not value.endswith(".py") or "/" in value:
            raise self.reject()
        return value


class Version(Option[int]):
    """The version of the language, of which `newest` is known."""

    json_type = {"type": "integer", "minimum": 1}

    def __init__(self, doc: str, newest: int) -> None:
        super().__init__(doc)
        self.newest = newest
        self.expected = "1" if newest == 1 else f"a whole number from 1 to {newest}"

    def convert(self, value: object, base: str) -> int:
        if isinstance(value, int) and value > self.newest:
            raise ValueError(f"it is for a newer mailflow; this one knows format {self.newest}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.reject()
        return value


class Codec(Option[str]):
    """The name of an encoding that Python knows."""

    expected = 'the name of an encoding, such as "utf-8" or "latin-1"'
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        import codecs

        if not isinstance(value, str) or not is_charset(value):
            raise self.reject()
        return codecs.lookup(value).name


def one_of(table: Options, names: Sequence[str]) -> Iterator[Fault]:
    """What is said beside the first of names of which one at most may be."""
    given = [name for name in names if getattr(table, name) not in (None, False)]
    for name in given[1:]:
        text = f"`{given[0].rstrip('_')}` is given too; expected one of them"
        yield Fault((name.rstrip("_"),), text)
