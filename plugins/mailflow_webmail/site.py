"""What there is to know of a webmail: TOML, ours and the user's, and no code.

A site is one webmail *software*; where it is installed is the option `url` of who uses it.
Rule of the file: it only says what may stand in a definition; what it means for a page is in
`found.py`, what is done with it in `session.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mailflow.directories import SYSTEM, settings_directory
from mailflow.errors import ConfigError
from mailflow.options import (
    Choice,
    ElementsError,
    Fault,
    Flag,
    Integer,
    ListOf,
    Option,
    Options,
    TableOf,
    Text,
    convert,
    dotted,
    nearest,
)

SHIPPED = os.path.join(os.path.dirname(__file__), "sites")

FORMAT = 1
"""The version of the language; a definition says for which one it was written."""

OptionsT = TypeVar("OptionsT", bound=Options)

STEPS = (
    "login", "folders", "list", "raw", "seen", "delete", "trash",
    "compose", "write", "attach", "send", "sent", "logout",
)  # fmt: skip

KINDS = ("denied", "expired", "throttled", "challenge", "transient", "missing", "refused", "layout")
"""What a page can tell other than what was asked for."""


class Table(Option[OptionsT]):
    """A table with keys of its own."""

    def __init__(self, doc: str, options: type[OptionsT], **default: Any) -> None:
        super().__init__(doc, **default)
        self.options = options
        self.expected = "a table"

    def convert(self, value: object, base: str) -> OptionsT:
        if not isinstance(value, dict):
            raise self.reject()
        declared = self.options.declared()
        values, faults = convert(declared, value, base)
        for name in value.keys() - declared.keys():
            faults.append(Fault((name,), f"unknown key{nearest(name, declared)}"))
        if not faults:
            made = self.options(values)
            faults = [Fault((name,) if name else (), text) for name, text in made.faults()]
            if not faults:
                return made
        raise ElementsError([(fault.path, ValueError(fault.text)) for fault in faults])


class Regex(Option[str]):
    """A regular expression of Python; what its first group matches is the value."""

    expected = "a regular expression"
    json_type = {"type": "string", "format": "regex"}

    def convert(self, value: object, base: str) -> str:
        import re

        if not isinstance(value, str):
            raise self.reject()
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"expected a regular expression: {error}") from None
        return value


class Selector(Option[str]):
    """A CSS selector."""

    expected = "a CSS selector"
    json_type = {"type": "string"}

    def convert(self, value: object, base: str) -> str:
        import soupsieve

        if not isinstance(value, str):
            raise self.reject()
        try:
            soupsieve.compile(value)
        except soupsieve.SelectorSyntaxError as error:
            raise ValueError(f"expected a CSS selector: {str(error).splitlines()[0]}") from None
        return value


class Finder(Options):
    """Where a value stands in a page: one source, made narrower by what follows it."""

    css = Selector.optional("The elements that match; their text, or `attr`.")
    attr = Text.optional("The attribute of those elements.")
    json = Text.optional('A dotted path into the JSON of the answer, such as "env.messagecount".')
    url = Regex.optional("The address of the page, after all redirects, where it matches.")
    text = Regex.optional("What a reader of the page sees, where it matches.")
    param = Text.optional("The parameter of that name in a link.")
    regex = Regex.optional(
        "What its first group matches, or all of it; without a source, in the page as it came."
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        sources = [name for name in ("css", "json", "url", "text") if getattr(self, name)]
        for name in sources[1:]:
            yield name, f"`{sources[0]}` is given too; expected one of them"


class Condition(Finder):
    """What a page must have; all that is said must hold."""

    status = Integer.optional("The status of HTTP.", least=100, most=599)
    type_ = Text.optional("What Content-Type begins with.")
    header = TableOf("Headers, each with a pattern it must match.", Regex(""), default={})


class Signal(Condition):
    """A page that tells of something else than what was asked for."""

    at = ListOf("The steps it can come at; all by default.", Choice("", *STEPS), default=())
    raise_ = Choice("What it tells.", *KINDS)


class Rows(Options):
    """The rows of a list: elements, lines that match, or objects in JSON."""

    css = Selector.optional("Each element that matches is a row.")
    json = Text.optional(
        "A dotted path to text for `regex`, or to an array whose elements are rows."
    )
    regex = Regex.optional("Each match is a row; its named groups are fields.")
    fields = TableOf("What a row says; `id` at least.", Table("", Finder), default={})
    skip = TableOf("Rows to leave out, by a field that matches.", Regex(""), default={})

    def faults(self) -> Iterator[tuple[str, str]]:
        import re

        names = {*self.fields, *(re.compile(self.regex).groupindex if self.regex else ())}
        if "id" not in names:
            yield "fields", "expected an `id`: what a message is known by as long as it lies there"
        for name in self.skip.keys() - names:
            yield "skip", f"there is no field {name!r}{nearest(name, sorted(names))}"


class Step(Options):
    """One request, and what its answer must be."""

    get = Text.optional("The address, from the webmail's own; {names} are filled in.")
    post = Text.optional("The same, where the request is a POST.")
    query = TableOf("Parameters of the address.", Text(""), default={})
    data = TableOf("Fields that are posted.", Text(""), default={})
    headers = TableOf("Headers that are sent.", Text(""), default={})
    form = Selector.optional("The form on that page that is filled in and sent.")
    fill = TableOf("Its fields, by name; hidden ones are sent as they came.", Text(""), default={})
    click = Text.optional("The name of the button; by default none is sent.")
    expect = ListOf(
        "What the answer must have, else the layout has changed.", Table("", Condition), default=()
    )
    capture = TableOf("Values of the answer that later steps name.", Table("", Finder), default={})
    before = ListOf("Steps that are done first.", Choice("", *STEPS), default=())


class FoldersStep(Step):
    rows = Table("A row for each folder: its `id`, and `name` as its user sees it.", Rows)
    follow = Table.optional("Links to pages with more folders.", Finder)


class Next(Options):
    """How the next page is asked for; always ends where a page brings no id that is new."""

    css = Selector.optional("A link to it.")
    from_ = Integer.optional("{n} counts from here.")
    step = Integer("By this much.", default=1, least=1)
    last = Table.optional("Where the number of the last page stands.", Finder)


class ListStep(Step):
    rows = Table("A row for each message.", Rows)
    total = ListOf(
        "Where the number of messages stands; one of them must be right.",
        Table("", Finder),
        default=(),
    )
    empty = Table.optional("What shows that a folder is empty.", Condition)
    next_ = Table.optional("How the next page is asked for.", Next)
    volatile = Flag("Whether places of rows shift as mail comes and goes.", default=False)


class RawStep(Step):
    pre = Selector.optional("The element whose text is the source, where it is shown in a page.")
    recode = ListOf(
        "The encoding that was applied once too often, and what it was applied to.",
        Text(""),
        default=(),
    )


class AttachStep(Step):
    """How one file is added: by a form of the page that is open, or by a request of its own;
    without either the form of `send` takes them all."""

    file = Text("The name of the field that takes the file.", least=1)


class SentStep(Step):
    """Where it is looked up whether a mail has gone; once its answer was lost."""

    folder = Text("The folder where the webmail keeps what it has sent.", least=1)
    rows = Table("A row for each mail found; `id` at least.", Rows)


class Site(Options):
    """One webmail software."""

    format_ = Integer("The version of the language.", least=1, most=FORMAT)
    name = Text("What it is called.", least=1)
    signal = ListOf(
        "Pages that tell something else, in the order they are tried.",
        Table("", Signal),
        default=(),
    )
    login = Table("How one logs in.", Step)
    folders = Table("Where the folders are.", FoldersStep)
    list_ = Table("Where the messages of a folder are.", ListStep)
    raw = Table("Where the source of a message is.", RawStep)
    seen = Table.optional("How a message is marked as read.", Step)
    delete = Table.optional("How messages are removed for good.", Step)
    trash = Table.optional("How messages are moved to the trash.", Step)
    compose = Table.optional("The page where mail is written.", Step)
    write = Table.optional(
        "A form there that leads on to the page where files are added and mail is sent.", Step
    )
    attach = Table.optional("How a file is added.", AttachStep)
    send = Table.optional("The form that sends; `expect` is what shows that it has gone.", Step)
    sent = Table.optional("Where to see whether a mail has gone.", SentStep)
    logout = Table.optional("How one logs out.", Step)

    def step(self, name: str) -> Step:
        """Raises ConfigError where the definition does not say how that is done."""
        step: Step | None = getattr(self, {"list": "list_"}.get(name, name))
        if step is None:
            raise ConfigError(f"the site {self.name} has no `{name}`")
        return step


def directories() -> tuple[str, ...]:
    """Where definitions are, the one that counts first."""
    return (
        os.path.join(settings_directory(), "sites"),
        os.path.join(SYSTEM, "sites"),
        SHIPPED,
    )


def site(name: str) -> Site:
    """A site. Raises ValueError where there is none of that name, or its file is wrong."""
    for directory in directories():
        path = os.path.join(directory, f"{name}.toml")
        if os.path.isfile(path):
            return read(path)
    raise ValueError(f"there is no site {name!a}")


def read(path: str) -> Site:
    """The site that a file describes. Raises ValueError."""
    import tomli

    with open(path, "rb") as file:
        data: Mapping[str, object] = tomli.load(file)
    try:
        return Table("", Site).convert(data, os.path.dirname(path))
    except ElementsError as error:
        told = "; ".join(f"{dotted(where)}: {each}" for where, each in error.faults)
        raise ValueError(f"{path}: {told}") from None
