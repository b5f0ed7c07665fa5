"""What may stand in a site's definition: each table is a class, each key an option of it.

Rule of the file: it says what may be written, and what of it fits together within one
table; what the steps need of each other is told by `names.py`, what a table means for a page
is in `page.py`, what is done with it in `session.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mailflow.errors import ConfigError
from mailflow.options import Choice, Duration, Fault, Flag, Integer, ListOf, TableOf, Text, nearest
from mailflow_webmail.decoding import DECODINGS
from mailflow_webmail.patterns import compiled
from mailflow_webmail.wording import (
    Codec,
    FileName,
    Regex,
    Section,
    Selector,
    Stride,
    Table,
    Version,
    one_of,
)

if TYPE_CHECKING:
    from mailflow_webmail.hook import Loaded

FORMAT = 1
"""The version of the language; a definition says for which one it was written."""

STEPS = (
    "login", "folders", "list", "raw", "seen", "delete", "trash",
    "compose", "write", "attach", "send", "sent", "logout",
)  # fmt: skip

SENDING = ("compose", "write", "attach", "send", "sent")
"""Steps that are about a mail that is sent, in their order; each knows what those before it
have captured."""

KINDS = ("denied", "expired", "throttled", "challenge", "transient", "missing", "refused", "layout")
"""What a page can tell other than what was asked for."""

RESERVED = ("folder", "n", "password", "user")
"""Facts that are no fields of a row."""

_DIGITS = re.compile(r"\^?(?:\\d|\[0-9\])[+*]?\$?")


class Finder(Section):
    """Where a value stands in an answer: a source, made narrower by what follows it.

    Without `css`, `json`, `url` and `text` the source is the row, where one is looked at, or
    else the whole answer as it came.
    """

    css = Selector.optional("The elements that match: their text, or their `attr`.")
    attr = Text.optional("The attribute of those elements, or of the row.", least=1)
    json = Text.optional(
        'A dotted path into JSON, such as "env.messagecount" or "rows.0.id"; "." is all of it.',
        least=1,
    )
    url = Regex.optional("The address of the page, after all redirects, where it matches.")
    text = Regex.optional("What a reader of the page or row sees, where it matches.")
    param = Text.optional("The parameter of that name in a link.", least=1)
    regex = Regex.optional("Of that, what the first group matches, or all where there is none.")
    decode = ListOf(
        "How that was written for a program, undone in this order: names of IMAP's folders,"
        " links, strings of scripts, markup.",
        Choice("", *DECODINGS),
        default=(),
    )

    def wrong(self) -> Iterator[Fault]:
        yield from one_of(self, ("css", "json", "url", "text"))
        if self.attr is not None and (self.json or self.url or self.text):
            yield Fault(("attr",), "only elements have attributes; expected `css` beside it")

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name in ("css", "json", "url", "text") if getattr(self, name))


class Fact(Finder):
    """A finder whose value is kept, for templates to name."""

    otherwise = Text.optional("The value where nothing is found; without it, that is an error.")


class Number(Finder):
    """A finder whose value is a number, with or without marks between groups of three."""

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        for name in ("url", "text", "regex"):
            pattern = getattr(self, name)
            last = name == "regex" or self.regex is None
            if pattern and last and not compiled(pattern).groups and not _DIGITS.fullmatch(pattern):
                yield Fault((name,), "needs a group, ( ), around the number")


class Total(Number):
    """Where the number of messages in a folder stands."""

    field = Text.optional("A field of the folder's row, where the folders' page says it.", least=1)

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        yield from one_of(self, ("field", "css", "json", "url", "text"))


class Condition(Finder):
    """What an answer must have: all that is said here, and a source that is there."""

    status = Integer.optional("The status of HTTP.", least=100, most=599)
    type_ = Text.optional("What Content-Type begins with.", least=1)
    header = TableOf("Headers, each with a pattern that it matches.", Regex(""), default={})
    nonempty = Flag(
        "That there is more than white space: in the source, or without one in the answer.",
        default=False,
    )

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        if not self.of_head and not self.looks_inside:
            yield Fault((), "it says nothing; expected a source, `status`, `type` or `header`")

    @property
    def of_head(self) -> bool:
        """Whether something is said of what stands before the body."""
        return self.status is not None or self.type_ is not None or bool(self.header)

    @property
    def looks_inside(self) -> bool:
        """Whether it must be read to be known."""
        return bool(self.sources or self.regex or self.nonempty)


class Signal(Condition):
    """An answer that tells of something else than what was asked for."""

    at = ListOf("The steps it can come at; all by default.", Choice("", *STEPS), default=())
    raise_ = Choice("What it tells.", *KINDS)
    wait = Duration.optional("With `throttled`: how long not to ask again.")

    def wrong(self) -> Iterator[Fault]:
        yield from super().wrong()
        if self.wait is not None and self.raise_ != "throttled":
            yield Fault(("wait",), 'only a page that is raised as "throttled" says when to come')
        before_mail = bool(self.at) and set(self.at) <= {"login", "logout"}
        for name in ("text", "regex"):
            pattern = getattr(self, name)
            loose = pattern and not re.match(r"(?:\(\?[a-zA-Z]+\))?(?:\^|\\A)", pattern)
            if loose and not before_mail and not self.css and not self.url:
                text = "a mail on the page could say that; begin the pattern with ^, or use `css`"
                yield Fault((name,), text)


class Rows(Section):
    """The rows of a list: elements, lines that match, or objects in JSON."""

    css = Selector.optional("Each element that matches is a row.")
    json = Text.optional(
        "A dotted path to an array whose elements are rows, or to text for `regex`.", least=1
    )
    regex = Regex.optional(
        "Each match is a row, in the text at `json` or in the whole answer; its named groups,"
        " (?P<id>...), are fields."
    )
    fields = TableOf(
        "What else a row says, found within it. `id` is needed, here or as a group; `size`"
        " (octets), `date`, `seen` (there when it was read), `from`, `subject`, and for folders"
        " `name`, mean the same on every site; others are handles for your own templates.",
        Table("", Finder),
        default={},
    )
    skip = TableOf("Rows to leave out: fields, each with a pattern.", Regex(""), default={})

    @property
    def names(self) -> tuple[str, ...]:
        groups = compiled(self.regex).groupindex if self.regex else ()
        return tuple(dict.fromkeys((*groups, *self.fields)))

    def wrong(self) -> Iterator[Fault]:
        yield from one_of(self, ("css", "json"))
        if self.css and self.regex:
            yield Fault(("regex",), "`css` is given too; expected one of them")
        if not (self.css or self.json or self.regex):
            yield Fault((), "needs `css`, `json` or `regex`: what a row is")
        if "id" not in self.names:
            yield Fault(
                (),
                "needs an `id` among the fields: what stays the same as long as it lies there;"
                " a webmail that has none cannot be read",
            )
        for name in self.skip.keys() - set(self.names):
            yield Fault(("skip", name), f"there is no such field{nearest(name, self.names)}")
        yield from self._wrong_fields()

    def _wrong_fields(self) -> Iterator[Fault]:
        groups = compiled(self.regex).groupindex if self.regex else ()
        within, usable = (
            ("an element", ("css", "text")) if self.css
            else ("a match of `regex`", ()) if self.regex
            else ("an object of JSON", ("json",))
        )  # fmt: skip
        for name, finder in self.fields.items():
            if name in RESERVED:
                yield Fault(("fields", name), f"{{{name}}} is taken; expected another name")
            elif not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                yield Fault(("fields", name), "takes a name of small letters, digits and _")
            if name in groups:
                yield Fault(("fields", name), "`regex` has a group of that name")
            for source in (*finder.sources, *(("attr",) if finder.attr else ())):
                if source not in usable and not (source == "attr" and self.css):
                    yield Fault(("fields", name, source), f"the row is {within}")


class Step(Section):
    """One request, and what its answer must be.

    In `get`, `post`, `query`, `data`, `headers` and `fill`, {names} stand for facts.
    """

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
    headers = TableOf("Headers that are sent.", Text(""), default={})
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


class Next(Section):
    """How the next page is asked for: by a link, by a counter, or by an offset on the page.

    It always ends where a page brings no `id` that is new.
    """

    css = Selector.optional("The link to it.")
    label = Regex.optional(
        "The whole text of that link, where signs tell it from others; no words, which a user's"
        " language changes."
    )
    from_ = Integer.optional("{n} counts from here.")
    step = Stride(
        'How much {n} grows from page to page; "rows" is by as many rows as the page had.',
        default=1,
    )
    last = Table.optional("Where the last {n} stands; not needed.", Number)
    offset = Table.optional(
        "Where a page, its scripts too, says what {n} is for the next one; it is 0 for the first.",
        Number,
    )

    def wrong(self) -> Iterator[Fault]:
        yield from one_of(self, ("css", "from_", "offset"))
        if self.css is None and self.from_ is None and self.offset is None:
            yield Fault((), "needs `css` (a link), `from` (a counter) or `offset`")
        if self.label is not None:
            if self.css is None:
                yield Fault(("label",), "needs `css`: which links to look at")
            if re.search(r"[^\W\d_]{2}", re.sub(r"\\.|\(\?[^)]*[):]", "", self.label)):
                yield Fault(("label",), "it has words, which a user's language changes")
        for name in ("last", "step"):
            if name in vars(self) and self.from_ is None:
                yield Fault((name,), "only a counter has it; expected `from`")

    @property
    def counts(self) -> bool:
        """Whether {n} says which page is asked for."""
        return self.css is None

    @property
    def first(self) -> int:
        """The {n} of the first page."""
        return self.from_ or 0


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
    signal = ListOf(
        "Answers that tell something else, in the order they are tried.",
        Table("", Signal),
        default=(),
    )
    login = Table("How one logs in.", SureStep)
    folders = Table("Where the folders are.", FoldersStep)
    list_ = Table("Where the messages of a folder are.", ListStep)
    raw = Table(
        "where the source of a message is. A webmail that shows none cannot be read: a message is"
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
        from mailflow_webmail.names import unprovided

        yield from unprovided(self)

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
            raise ConfigError(f"the site {self.name} does not say how to `{name}`")
        return step

    def _step(self, name: str) -> Step | None:
        found: Step | None = getattr(self, "list_" if name == "list" else name)
        return found
