"""What a definition says of one answer: where values stand in it, its rows, what it tells.

Rule of the file: it says what may be written, and what of it fits together within one
table; what it means for a page is in `page.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailflow.options import Choice, Duration, Fault, Flag, Integer, ListOf, TableOf, Text, nearest
from mailflow_webmail.definition.decoding import DECODINGS
from mailflow_webmail.definition.patterns import compiled
from mailflow_webmail.definition.wording import Regex, Section, Selector, Stride, Table, one_of

STEPS = (
    "login", "folders", "list", "raw", "seen", "delete", "trash",
    "compose", "write", "attach", "send", "sent", "logout",
)  # fmt: skip

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

    kind = "finder"

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
    """A finder whose value is kept: a field of a row, or what is captured."""

    otherwise = Text.optional(
        "The value where nothing is found; without it a field is empty then, and what is to be"
        " captured is an error.",
        least=1,
    )


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

    kind = "condition"

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

    kind = "signal"

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

    kind = "rows"

    css = Selector.optional("Each element that matches is a row.")
    json = Text.optional(
        "A dotted path to an array whose elements are rows, or to text for `regex`.", least=1
    )
    regex = Regex.optional(
        "Each match is a row, in the text at `json` or in the whole answer; its named groups,"
        " (?P<id>...), are fields."
    )
    fields = TableOf(
        "What else a row says, found within it. `id` is needed, here or as a group. Of a message,"
        " `size` is used where it is its octets, and `seen`, which is there when it was read; of a"
        " folder `name`. Others are handles for your own templates.",
        Table("", Fact),
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


class Next(Section):
    """How the next page is asked for: by a link, by a counter, or by an offset on the page.

    It always ends where a page brings no `id` that is new.
    """

    kind = "next"

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
