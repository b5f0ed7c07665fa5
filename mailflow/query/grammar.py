"""From text to tree: recursive descent, one method for each rule of the grammar.

    query      = either
    either     = both *("or" both)
    both       = single *("and" single)
    single     = "not" single / "(" either ")" / "all" / test
    test       = "has" field / "since" moment / "before" moment / "on" moment
               / ("older" / "newer") "than" span
               / field [["not"] comparison]
    comparison = "is" ["not"] value / "contains" text / ("starts" / "ends") "with" text
               / "matches" text / ("<" / "<=" / ">" / ">=") value / "exists"
               / "in" "(" value *("," value) ")"

Rule of the file: every error points at the word it is about and says what would be
right there.
"""

from __future__ import annotations

import re

from mailflow.query.tree import (
    ALWAYS,
    FIELDS,
    VERBS,
    And,
    Field,
    Node,
    Or,
    Test,
    Value,
    joined,
    negated,
)
from mailflow.record import NamedTuple
from mailflow.typed import NoReturn, cast
from mailflow.values import duration, listed, nearest, size

DEPTH = 100
"""Parentheses and `not` may be nested this deep."""


class QueryError(ValueError):
    """An expression that cannot be understood; str() is one line.

    `column` counts characters from 1; `caret` is the text with a mark below it.
    """

    def __init__(self, reason: str, text: str, column: int, width: int = 1) -> None:
        reason = "".join(each if each.isprintable() else repr(each)[1:-1] for each in reason)
        super().__init__(f"{reason} (at column {column} of {text!r})")
        self.reason = reason
        self.column = column
        line = "".join(each if each.isprintable() else " " for each in text)
        self.caret = f"{line}\n{' ' * (column - 1)}{'^' * max(1, width)}"


class Token(NamedTuple):
    """`kind` is word, text, number, date, sign or end; `column` counts from 1."""

    kind: str
    raw: str
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"`{self.raw}`"


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<date>[0-9]{4}-[0-9]+-[0-9]+)
  | (?P<number>[0-9]+(?:\.[0-9]+)?[A-Za-z]*)
  | (?P<word>[A-Za-z_][A-Za-z0-9_.-]*)
  | (?P<sign><=|>=|<>|==|!=|&&|\|\||[<>=(),!~&|])
  | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = ("and", "or", "not", "all", "has", "since", "before", "on", "older", "newer")
_UNITS = {
    "octet": "", "octets": "", "second": "s", "seconds": "s", "minute": "m", "minutes": "m",
    "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w",
}  # fmt: skip
_SIGNS = {"=": "is", "==": "is", "!=": "is not", "<>": "is not", "!": "not", "~": "not",
          "&": "and", "&&": "and", "|": "or", "||": "or"}  # fmt: skip


def parse_tree(text: str) -> Node:
    """The tree of an expression. Raises QueryError."""
    return _Parser(text).query()


def tokens(text: str) -> list[Token]:
    """The words of an expression, and the end."""
    found: list[Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            opens = text[at] in "\"'"
            reason = "this quote is not closed" if opens else f"no expression has {text[at]!r} here"
            raise QueryError(reason, text, at + 1)
        kind = cast("str", match.lastgroup)
        found.append(Token(kind, match[kind], match.start(kind) + 1))
        at = match.end()
    return found


class _Parser:
    """Reads the tokens from left to right, never back."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0
        self._depth = 0

    def query(self) -> Node:
        if self._next.kind == "end":
            self._fail("expected an expression, such as `size < 2MB`")
        tree = self._either()
        if self._next.kind != "end":
            if self._next.raw == ")":
                self._fail("this `)` closes nothing")
            self._fail("expected `and`, `or` or the end")
        return tree

    def _either(self) -> Node:
        terms = [self._both()]
        while self._accept("or"):
            terms.append(self._both())
        return joined(Or, tuple(terms))

    def _both(self) -> Node:
        terms = [self._single()]
        while self._accept("and"):
            terms.append(self._single())
        return joined(And, tuple(terms))

    def _single(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH:
            self._fail(f"nested deeper than {DEPTH}")
        opening = self._next
        if self._accept("not"):
            tree = negated(self._single())
        elif self._accept("("):
            tree = self._either()
            if not self._accept(")"):
                if self._next.kind == "end":
                    self._fail("this `(` is not closed", opening)
                self._fail("expected `and`, `or` or `)`")
        elif self._accept("all"):
            tree = ALWAYS
        else:
            tree = self._test()
        self._depth -= 1
        return tree

    def _test(self) -> Node:
        if self._accept("has"):
            return self._exists(*self._field())
        for word, verb in (("since", ">="), ("before", "<"), ("on", "is")):
            if self._accept(word):
                return self._compared("created", verb)
        for word, verb in (("older", ">"), ("newer", "<")):
            if self._accept(word):
                self._expect("than")
                return self._compared("age", verb)
        name, argument = self._field()
        negative = self._accept("not")
        test = self._comparison(name, argument, negative)
        return negated(test) if negative else test

    def _field(self) -> tuple[str, str | None]:
        """A field's name and its argument."""
        token = self._take()
        name = token.raw.lower()
        if token.kind != "word" or name in ("and", "or"):
            self._fail("expected a field, such as `subject`", token)
        if name not in FIELDS:
            self._fail(f"there is no field `{token.raw}`{_meant(token.raw)}", token, found=False)
        if not FIELDS[name].argument:
            return name, None
        if self._next.kind != "text":
            self._fail(f'expected the name of the {name} in quotes, as in `{name} "X-Loop"`')
        argument = self._take()
        return name, self._header_name(argument) if name == "header" else _unquoted(argument.raw)

    def _header_name(self, token: Token) -> str:
        name = _unquoted(token.raw)
        if not name or not all("!" <= character <= "~" and character != ":" for character in name):
            self._fail("this is no name of a header field", token, found=False)
        return name

    def _comparison(self, name: str, argument: str | None, negative: bool) -> Node:
        field, token = FIELDS[name], self._next
        verb = self._verb()
        if verb not in VERBS[field.type]:
            self._wrong_verb(name, field, token)
        if field.type == "flag":
            if negative:
                self._fail(f"`not` stands before: `not {name}`", token)
            return Test(name)
        if verb == "exists":
            return self._exists(name, argument)
        if verb == "is" and self._accept("not"):
            return negated(self._compared(name, verb, argument))
        return self._compared(name, verb, argument)

    def _verb(self) -> str:
        """The verb that stands here, "" if none does."""
        token = self._next
        word = token.raw.lower()
        if word in ("starts", "ends"):
            self._take()
            self._expect("with")
            return f"{word} with"
        if word in ("is", "contains", "matches", "in", "exists", "<", "<=", ">", ">="):
            self._take()
            return word
        return ""

    def _wrong_verb(self, name: str, field: Field, token: Token) -> NoReturn:
        if field.type == "flag":
            self._fail(f"`{name}` stands alone: `{name}` or `not {name}`", token, found=False)
        verbs = [f"`{verb}`" for verb in VERBS[field.type]]
        if token.raw in _SIGNS:
            self._fail(f"`{token.raw}` is written `{_SIGNS[token.raw]}`", token, found=False)
        either = f"{', '.join(verbs[:-1])} or {verbs[-1]}"
        hint = nearest(token.raw, VERBS[field.type]) if token.kind == "word" else ""
        self._fail(f"expected {either} after `{name}`", token, hint=hint)

    def _exists(self, name: str, argument: str | None) -> Node:
        field = FIELDS[name]
        if "exists" not in VERBS[field.type]:
            self._wrong_verb(name, field, self._last)
        return Test(name, "exists", None, argument)

    def _compared(self, name: str, verb: str, argument: str | None = None) -> Test:
        field = FIELDS[name]
        if verb != "in":
            value = self._value(name, field)
            if verb == "matches":
                self._check_pattern(cast("str", value))
            return Test(name, verb, value, argument)
        if not self._accept("("):
            self._fail("expected `(` and values with commas between")
        values = [self._value(name, field)]
        while self._accept(","):
            values.append(self._value(name, field))
        if not self._accept(")"):
            self._fail("expected `,` or `)`")
        return Test(name, verb, cast("Value", tuple(values)), argument)

    def _value(self, name: str, field: Field) -> str | int | float:
        token = self._take()
        if field.type in ("text", "address", "word"):
            if token.kind != "text":
                kind = "word" if token.kind in ("word", "number", "date") else token.kind
                hint = f'; write "{token.raw}"' if kind == "word" else ""
                self._fail("expected text in quotes", token, hint=hint)
            return self._text_value(name, field, token)
        if field.type == "number":
            if token.kind != "number" or not token.raw.isdigit():
                self._fail("expected a whole number", token)
            return int(token.raw)
        if field.type == "moment" and token.kind != "number":
            return self._day(token)
        return self._quantity(field.type, token)

    def _text_value(self, name: str, field: Field, token: Token) -> str:
        value = _unquoted(token.raw)
        if field.words and value not in field.words:
            hint = nearest(value, field.words) or f"; it is one of {', '.join(field.words)}"
            self._fail(f'`{name}` is never "{value}"{hint}', token, found=False)
        return value

    def _day(self, token: Token) -> str:
        expected = "expected a date such as 2026-01-31, `today`, `yesterday` or a span such as 30d"
        if token.kind == "word" and token.raw.lower() in ("today", "yesterday"):
            return token.raw.lower()
        if token.kind != "date":
            self._fail(expected, token)
        from datetime import date

        try:
            day = date(*(int(part) for part in token.raw.split("-")))
        except (ValueError, OverflowError):
            self._fail(f"there is no day {token.raw}", token, found=False)
        if not 1970 <= day.year <= 9000:
            self._fail("expected a year from 1970 to 9000", token)
        return day.isoformat()

    def _quantity(self, kind: str, token: Token) -> str | int | float:
        """A size in octets, a span in seconds, or a span as a moment is written."""
        raw = token.raw
        if token.kind != "number":
            example = "2MB" if kind == "size" else "30d"
            self._fail(f"expected a number with a unit, such as {example}", token)
        following = self._next.raw.lower()
        if raw[-1].isdigit() and self._next.kind == "word" and following not in ("and", "or"):
            raw += _UNITS.get(following, following)
            self._take()
        try:
            if kind == "size":
                return size(raw)
            seconds = round(duration(raw), 3)
        except ValueError as error:
            self._fail(str(error), token, found=False)
        if not seconds < 1e11:
            self._fail("expected a span that a mail can live", token, found=False)
        if kind == "moment":
            from mailflow.query.tree import show_span

            return show_span(seconds)
        return seconds

    def _check_pattern(self, pattern: str) -> None:
        from mailflow.query.match import compiled

        try:
            compiled(pattern)
        except ValueError as error:
            self._fail(str(error), self._last, found=False)

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    @property
    def _last(self) -> Token:
        return self._tokens[max(0, self._at - 1)]

    def _take(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._at += 1
        return token

    def _accept(self, word: str) -> bool:
        token = self._next
        found = token.kind in ("word", "sign") and token.raw.lower() == word
        if found:
            self._at += 1
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            self._fail(f"expected `{word}`")

    def _fail(
        self, reason: str, token: Token | None = None, *, found: bool = True, hint: str = ""
    ) -> NoReturn:
        token = token or self._next
        if found and not reason.startswith("this"):
            sign = _SIGNS.get(token.raw) if token.kind == "sign" else None
            reason += f"; found {token}" + (f", which is written `{sign}`" if sign else "")
        raise QueryError(reason + hint, self._text, token.column, len(token.raw))


_OTHER_WORDS = {
    "author": "from", "date": "created", "arrived": "created", "received": "created",
    "body": "content", "text": "content", "filename": "attachment", "type": "mime",
    "content-type": "mime", "return-path": "sender", "mailbox": "folder", "read": "seen",
    "unread": "not seen", "unseen": "not seen", "list-id": "list", "id": "uid",
    "attachments": "attachment", "email": "content", "encoding": "mime", "charset": "mime",
    "unanswered": "not answered", "undeleted": "not deleted", "unflagged": "not flagged",
}  # fmt: skip
"""What others call our fields."""


def _meant(word: str) -> str:
    """What somebody who wrote `word` for a field may have meant."""
    other = _OTHER_WORDS.get(word.lower())
    if other:
        return f"; did you mean `{other}`?"
    if "-" in word and word.lower().replace("-", "_") not in FIELDS:
        return f'; did you mean `header "{word}"`?'
    return nearest(word.lower(), (*FIELDS, *_KEYWORDS)) or listed(tuple(FIELDS))


def _unquoted(raw: str) -> str:
    r"""The text between the quotes; only `\"`, `\'` and `\\` lose their backslash."""
    return re.sub(r"\\([\"'\\])", r"\1", raw[1:-1])
