"""What a definition says of a webmail: its steps, each a request and what its answer must be.

Rule of the file: as in `finders.py`; what the steps need of each other is told by `names.py`,
what is done with them is in `session.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailflow.errors import ConfigError
from mailflow.options import Choice, Fault, Flag, ListOf, TableOf, Text
from mailflow_webmail.definition.finders import (
    RESERVED,
    STEPS,
    Condition,
    Fact,
    Finder,
    Next,
    Rows,
    Signal,
    Total,
)
from mailflow_webmail.definition.wording import (
    Codec,
    FileName,
    Header,
    Section,
    Selector,
    Table,
    Version,
    one_of,
)

if TYPE_CHECKING:
    from mailflow_webmail.hook import Loaded

FORMAT = 1
"""The version of the language; a definition says for which one it was written."""

SENDING = ("compose", "write", "attach", "send", "sent")
"""Steps that are about a mail that is sent, in their order; each knows what those before it
have captured."""


class Step(Section):
    """One request, and what its answer must be.

    In `get`, `post`, `query`, `data`, `headers` and `fill`, {names} stand for facts.
    """

    kind = "step"

    get = Text.optional(
        "The address, relative to the webmail's own. A {name} that it begins with is an address"
        " itself; others become parts of one."
    )
    post = Text.optional("The same, where the request is a POST.")
    query = TableOf("Parameters of the address.", Text(""), default={})
    data = TableOf(
        "Fields that are posted; with `form`, besides its own: what scripts add.",
        Text(""), default={},
    )  # fmt: skip
    headers = TableOf("Headers that are sent.", Header(""), default={})
    form = Selector.optional("The form on that page, which is filled in and sent.")
    fill = TableOf("Its fields, by name; hidden ones are sent as they came.", Text(""), default={})
    click = Text.optional("The name of the button; none is pressed by default.", least=1)
    expect = ListOf(
        "What the last answer must have, all of it, or else the layout has changed.",
        Table("", Condition),
        default=(),
    )
    capture = TableOf(
        "Facts of that answer, for later: what the login captures is known to all steps, what"
        " others capture to those that have them in `before`.",
        Table("", Fact),
        default={},
    )
    before = ListOf("Steps that are done first, each time.", Choice("", *STEPS), default=())

    def wrong(self) -> Iterator[Fault]:
        yield from one_of(self, ("get", "post"))
        if self.post is not None and self.form is not None:
            yield Fault(("form",), "the page with a form is asked for with `get`")
        if self.data and self.post is None and self.form is None:
            yield Fault(("data",), "only a POST or a `form` has `data`; expected `post`")
        for name in ("fill", "click"):
            if getattr(self, name) and self.form is None:
                yield Fault((name,), "there is no `form` to fill in")
        for name in self.capture.keys() & set(RESERVED):
            yield Fault(("capture", name), f"{{{name}}} is taken; expected another name")

    @property
    def asks(self) -> bool:
        """Whether it says what is asked for."""
        return self.get is not None or self.post is not None or bool(self.query)

    def templates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Every text in which {names} may stand, and the path to it."""
        for key in ("get", "post"):
            if getattr(self, key) is not None:
                yield (key,), getattr(self, key)
        for key in ("query", "data", "headers", "fill"):
            for name, text in getattr(self, key).items():
                yield (key, name), text


class SureStep(Step):
    """A step whose answer proves nothing by itself."""

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        if not self.expect:
            yield Fault((), "needs `expect`: a webmail answers 200 to anything")


class FoldersStep(Step):
    """The page with the folders."""

    rows = Table("A row for each folder: its `id`, and `name` as its user sees it.", Rows)
    follow = Table.optional("Links to pages with more folders.", Finder)


class ListStep(Step):
    """A page of a folder's messages."""

    rows = Table("A row for each message.", Rows)
    total = ListOf(
        "Where the number of messages stands; one of several must be right.",
        Table("", Total),
        default=(),
    )
    empty = Table.optional("What shows that a folder is empty.", Condition)
    next_ = Table.optional("How the next page is asked for.", Next)
    volatile = Flag(
        "Whether handles such as places in the list shift as mail comes and goes; then a page is"
        " read once more around its downloads.",
        default=False,
    )

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        if not self.total and self.empty is None:
            text = "needs `total` or `empty`: else an outage looks like an empty folder"
            yield Fault((), text)
        if "id" in self.rows.fields and self.rows.fields["id"].otherwise is not None:
            text = "the page gives a message its id, or the message cannot be read"
            yield Fault(("rows", "fields", "id", "otherwise"), text)


class RawStep(Step):
    """The source of one message."""

    pre = Selector.optional("The element whose text is the source, where a page shows it.")
    recode = ListOf(
        "Where octets were encoded once too often: two encodings, how the answer is decoded and"
        ' how its text becomes octets again, such as ["utf-8", "latin-1"].',
        Codec(""),
        default=(),
    )

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        if self.recode and len(self.recode) != 2:
            yield Fault(("recode",), 'needs two encodings, such as ["utf-8", "latin-1"]')
        if self.pre is not None:
            return
        if not any(each.of_head for each in self.expect):
            text = "needs `type` or `header` in `expect`: what no page with an error has"
            yield Fault((), text)
        for number, each in enumerate(self.expect):
            if each.looks_inside:
                text = "a mail is not looked into; expected `status`, `type` or `header` only"
                yield Fault(("expect", number), text)


class RemovalStep(Step):
    """What is done to messages of one folder; a new list shows whether it was done."""

    joined = Text.optional(
        "Where one request may name several messages: what stands between their ids. Fields of"
        " a row are then joined so in every template.",
        least=1,
    )


class AttachStep(Step):
    """How one file is added: by a form of the page that is open, or by a request of its own;
    without either the form of `send` takes them all."""

    file = Text("The name of the field that takes the file.", least=1)
    added = Selector.optional(
        "What there is one of on the page for each file that was added; fewer is an error."
    )
    exact = Flag(
        "Whether files that look like text arrive octet for octet; otherwise those with bare LF"
        " are refused.",
        default=True,
    )


class SentStep(SureStep):
    """Where it is looked up whether a mail has gone whose answer was lost. What is found counts
    where its source has the same Message-ID and recipients."""

    folder = Text.optional("The folder where the webmail keeps what it has sent.", least=1)
    folder_at = Table.optional("Where the page of `compose` names it.", Finder)
    rows = Table("A row for each mail found; `id` at least.", Rows)

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        yield from one_of(self, ("folder", "folder_at"))
        if self.folder is None and self.folder_at is None:
            yield Fault((), "needs `folder` or `folder_at`")


class MarkStep(SureStep, RemovalStep):
    """How messages of one folder are marked; no list shows whether it was done."""


class Site(Section):
    """One webmail software."""

    format_ = Version("The version of the language: 1.", FORMAT)
    name = Text("What it is called.", least=1)
    hook = FileName.optional("A file of Python beside this one, for what cannot be said here.")
    shared = Flag(
        "Whether an account may have several sessions at once; elsewhere the next login ends the"
        " one before.",
        default=False,
    )
    guesses = ListOf(
        "Keys that `mailflow webmail record` has guessed. Whoever has looked at one takes its name"
        " out; a file with guesses is refused.",
        Text('A key, such as "list.total".', least=1),
        default=(),
    )
    signal = ListOf(
        "Answers that tell something else, in the order they are tried.",
        Table("", Signal),
        default=(),
    )
    login = Table("How one logs in.", SureStep)
    folders = Table("Where the folders are.", FoldersStep)
    list_ = Table("Where the messages of a folder are.", ListStep)
    raw = Table(
        "Where the source of a message is. A webmail that shows none cannot be read: a message is"
        " never rebuilt from its display.",
        RawStep,
    )
    seen = Table.optional("How messages are marked as read.", MarkStep)
    delete = Table.optional("How messages are removed for good.", RemovalStep)
    trash = Table.optional("How messages are moved to the trash.", RemovalStep)
    compose = Table.optional("The page where mail is written.", Step)
    write = Table.optional(
        "A form there that leads on to the page where files are added and mail is sent.", Step
    )
    attach = Table.optional("How a file is added.", AttachStep)
    send = Table.optional("The form that sends; `expect` is what shows that it has gone.", SureStep)
    sent = Table.optional("Where to see whether a mail has gone.", SentStep)
    logout = Table.optional("How one logs out.", Step)

    def wrong(self) -> Iterator[Fault]:
        from mailflow_webmail.definition.complete import incomplete
        from mailflow_webmail.definition.names import unprovided

        for number, name in enumerate(self.guesses):
            text = (
                f"`{name}` is a guess: see the remark there, and take it out here once it is right"
            )
            yield Fault(("guesses", number), text)
        yield from unprovided(self)
        yield from incomplete(self)

    code: Loaded | None = None
    """The hook, where it has one and was read from a file."""

    def has(self, name: str) -> bool:
        return self._step(name) is not None

    def lacks_request(self, name: str) -> bool:
        """Whether it has the step and does not say what is asked for. What follows on
        `compose` may go on with the form of its page."""
        step = self._step(name)
        return step is not None and not step.asks and name not in SENDING[1:]

    def step(self, name: str) -> Step:
        """Raises ConfigError where the definition does not say how that is done."""
        step = self._step(name)
        if step is None:
            instead = {"delete": "trash", "trash": "delete"}.get(name, "")
            more = f", but how to `{instead}`" if instead and self._step(instead) else ""
            raise ConfigError(f"the site {self.name} does not say how to `{name}`{more}")
        return step

    def _step(self, name: str) -> Step | None:
        found: Step | None = getattr(self, "list_" if name == "list" else name)
        return found
