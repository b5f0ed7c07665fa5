"""What a pipeline file may say, as every paper tells it: words, defaults, examples.

`mailflow plugins`, the reference of the documentation, mailflow.toml(5) and the JSON
Schema are made of it. Rule of the file: whatever is told stands in a declaration; of the
options nothing is written down twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping

from mailflow.engine.pipeline import ENGINE, NAMED, PipelineOptions, StepOptions
from mailflow.options import (
    Address,
    Choice,
    Duration,
    ListOf,
    Options,
    Path,
    Query,
    Secret,
    Size,
    TableOf,
    Template,
    convert,
)
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.engine.registry import Entry
    from mailflow.options import Option

EXAMPLES: Mapping[str, object] = {
    "address": "Red <red@example.org>",
    "from": "Mail delivery <mailer-daemon@example.org>",
    "host": "mail.example.org",
    "password": {"file": "~/.config/mailflow/ann.secret"},
    "path": "~/Maildir",
    "to": "owner@example.org",
    "user": "ann",
}
"""What stands in an example for words that mean one thing wherever they stand; options
have `examples` of their own for others."""

SHOWN = ("user", "password", "address", "members")
"""What an example has although it could be left out."""


class Told(NamedTuple):
    """One option, in words. `default` is as the file would say it, "" where it is only
    left out."""

    name: str
    expected: str
    required: bool
    default: str
    doc: str

    @property
    def need(self) -> str:
        if self.required:
            return "required"
        return f"default {self.default}" if self.default else "optional"


def told(options: type[Options], *, without: Iterable[str] = ()) -> list[Told]:
    """Every option of a class, in the order of declaration."""
    return [
        Told(name, option.expected, option.required, default(option), option.doc)
        for name, option in options.declared().items()
        if name not in without
    ]


def engine_tables() -> Iterator[tuple[str, str, type[Options], tuple[str, ...]]]:
    """(title, meaning, options, those told elsewhere) of each table that is the engine's."""
    yield "In every step", "keys that any step may have", StepOptions, ()
    for table, (options, _) in ENGINE.items():
        yield title(table), MEANING[table], options, tuple(StepOptions.declared())
    yield "[pipeline]", "about the whole", PipelineOptions, ()


def title(table: str, name: str = "NAME") -> str:
    """How a file says a step of a table: "[[fetch]]", "[maildrop.NAME]"."""
    return f"[[{table}]]" if table in ENGINE and table not in NAMED else f"[{table}.{name}]"


MEANING = {
    "fetch": "where mail comes from",
    "process": "what becomes of it",
    "distribute": "where it goes",
    "react": "what happens when something fails",
    "maildrop": "mail that is served, by login name",
    "serve": "how it is served",
    "account": "one login, for steps that name it and for `mailflow mail`",
}


def default(option: Option[Any]) -> str:
    """Its default as TOML, "" where there is none worth saying."""
    if option.required:
        return ""
    value = written(option, option.default)
    return "" if value in (None, "", [], {}) else toml(value)


def written(option: Option[Any], value: Any) -> Any:
    """A converted value as a file would give it: strings, numbers, arrays, tables; None
    where no file can."""
    if value is None or isinstance(option, Query | Secret):
        return None
    if isinstance(option, ListOf):
        return [written(option.element, each) for each in value]
    if isinstance(option, TableOf):
        return {key: written(option.element, each) for key, each in value.items()}
    if isinstance(option, Duration):
        return span(value)
    if isinstance(option, Size):
        return octets(value)
    if isinstance(option, Template):
        return value.text
    if isinstance(option, Address):
        return str(value)
    if isinstance(value, tuple):
        return [each for each in value if isinstance(each, str | int)]
    return value if isinstance(value, str | int | float) else None


def span(seconds: float) -> str:
    """Seconds as a file says them, in the largest unit that divides them: "5d"."""
    if math.isinf(seconds):
        return "forever"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size:g}{unit}"
    return f"{seconds:g}s"


def octets(size: int) -> str | int:
    """Octets as a file says them, in the largest unit that divides them: "1GiB"."""
    units = (("GiB", 1 << 30), ("GB", 10**9), ("MiB", 1 << 20), ("MB", 10**6), ("KiB", 1 << 10))
    for unit, each in units:
        if size and size % each == 0:
            return f"{size // each}{unit}"
    return size


def toml(value: Any) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        inside = ", ".join(f"{toml_key(key)} = {toml(each)}" for key, each in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(toml(each) for each in value)}]"
    text = json.dumps(value, ensure_ascii=False)  # of scalars, JSON is TOML, but for DEL
    return text.replace("\x7f", "\\u007f")


def toml_key(key: str) -> str:
    """A key as it may stand in TOML: bare, or quoted where it must be."""
    return key if key.isascii() and key.replace("-", "").replace("_", "").isalnum() else toml(key)


def example(table: str, use: str, options: type[Options]) -> str:
    """A step that can be copied: what it needs, then, as comments, what it may also say."""
    declared = options.declared()
    live = {
        name: _sample(options, name, option)
        for name, option in declared.items()
        if option.required or name in SHOWN
    }
    while missing := _asked_for(options, live):
        live[missing] = _sample(options, missing, declared[missing])
    lines = [title(table, "ann"), f"use = {toml(use)}"]
    lines += [f"{name} = {toml(value)}" for name, value in live.items()]
    for name, option in declared.items():
        said = "" if name in live else default(option)
        lines += [f"# {name} = {said}"] if said else []
    return "\n".join(lines) + "\n"


def _asked_for(options: type[Options], table: Mapping[str, object]) -> str:
    """An option that has a default and yet is missed, "" where there is none."""
    values, wrong = convert(options.declared(), table, "/")
    if wrong:
        return ""
    names = (name for name, _ in options(values).faults())
    return next((name for name in names if name not in table), "")


def _sample(options: type[Options], name: str, option: Option[Any]) -> object:
    """A value that the option takes."""
    for examples in (options.examples, EXAMPLES):
        if name in examples and _fits(option, examples[name]):
            return examples[name]
    if isinstance(option, Choice):
        return option.words[0]
    paths: tuple[object, ...] = (f"~/{name}",) if isinstance(option, Path) else ()
    samples = (
        *paths,
        "...",
        1,
        ["..."],
        "ann@example.org",
        "1d",
        {"X-Example": "yes"},
        {"name": "..."},
        True,
    )
    return next((each for each in samples if _fits(option, each)), "...")


def _fits(option: Option[Any], value: object) -> bool:
    try:
        option.convert(value, "/")
    except ValueError:
        return False
    return True


def summary(entry: Entry) -> str:
    """What a component does: the first sentence of its docstring."""
    first = " ".join((entry.component.__doc__ or "").partition("\n\n")[0].split())
    return f"{first.partition('. ')[0].rstrip('.')}." if first else ""
