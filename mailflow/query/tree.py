"""What an expression is: four nodes, and the fields they may name.

Rule of the file: a tree is plain data. Its printed form parses back to the same
tree; `match` decides about it here, an IMAP SEARCH may be made of it elsewhere.
"""

from __future__ import annotations

import time

from mailflow.record import NamedTuple

Value = str | int | float | bool | tuple[str, ...] | tuple[int, ...] | None
"""What a test compares with: text, a number, seconds, or a tuple of them for `in`."""


class Test(NamedTuple):
    """A field against a value: `verb` is one of the words its type allows.

    `argument` is the name of a header field or note. A flag has the verb "" and no
    value, as have `exists`. A moment is compared as it is written ("30d", "today",
    "2026-01-01"), a span in seconds, a size in octets.
    """

    field: str
    verb: str = ""
    value: Value = None
    argument: str | None = None


class Not(NamedTuple):
    """The opposite of a term."""

    term: Node


class And(NamedTuple):
    """All terms hold; of none, always."""

    terms: tuple[Node, ...]


class Or(NamedTuple):
    """Any term holds."""

    terms: tuple[Node, ...]


Node = Test | Not | And | Or

ALWAYS = And(())


class Field(NamedTuple):
    """A word that a test may begin with.

    `type` is flag, text, address, word, number, size, span or moment. `reach` is what
    must be had to know it: listing, header, body, mail (the envelope and notes of
    a mail the engine holds) or trouble. `words` are all the values of a word.
    """

    type: str
    reach: str
    doc: str
    argument: bool = False
    words: tuple[str, ...] = ()


_FLAG = "Whether the mailbox marks it \\"

FIELDS: dict[str, Field] = {
    "uid": Field("number", "listing", "Its IMAP UID."),
    "folder": Field("text", "listing", "The folder it is listed in."),
    "answered": Field("flag", "listing", _FLAG + "Answered."),
    "deleted": Field("flag", "listing", _FLAG + "Deleted."),
    "draft": Field("flag", "listing", _FLAG + "Draft."),
    "flagged": Field("flag", "listing", _FLAG + "Flagged."),
    "recent": Field("flag", "listing", _FLAG + "Recent."),
    "seen": Field("flag", "listing", _FLAG + "Seen."),
    "size": Field("size", "listing", "Octets of the whole message."),
    "created": Field(
        "moment", "header", "When it arrived: as the mailbox says, else as Received, else Date."
    ),
    "age": Field("span", "header", "How long ago it arrived; in a reactor, how long it is tried."),
    "from": Field("address", "header", "The authors, in From."),
    "to": Field("address", "header", "To."),
    "cc": Field("address", "header", "Cc."),
    "bcc": Field("address", "header", "Bcc."),
    "subject": Field("text", "header", "Subject, decoded."),
    "header": Field("text", "header", "Every header field of that name, decoded.", argument=True),
    "list": Field("text", "header", "Its mailing list: note `list`, or the id in List-Id."),
    "mime": Field("text", "header", "Content-Type; `is` compares the type without parameters."),
    "auto_submitted": Field("flag", "header", "Whether a program sent it (RFC 3834)."),
    "content": Field("text", "body", "The text of the message, its text parts decoded."),
    "attachment": Field("text", "body", "The file names of its attachments."),
    "sender": Field("address", "mail", "The envelope's reverse-path."),
    "recipient": Field("address", "mail", "The forward-paths; in a reactor, those in trouble."),
    "source": Field("text", "mail", "The name of the [[fetch]] that it came by."),
    "note": Field("text", "mail", "What an earlier step noted under that name.", argument=True),
    "stage": Field(
        "word", "trouble", "Where it went wrong.",
        words=("fetch", "process", "verdict", "unrouted", "distribute", "alarm"),
    ),
    "step": Field("text", "trouble", "The name of the step that it happened in."),
    "attempt": Field("number", "trouble", "How often it was tried."),
    "verdict": Field(
        "word", "trouble", "At stage verdict, which.", words=("discard", "reject", "hold")
    ),
    "error": Field("text", "trouble", "What the error says."),
    "error.temporary": Field("flag", "trouble", "Whether trying again may help."),
}  # fmt: skip

VERBS: dict[str, tuple[str, ...]] = {
    "flag": ("",),
    "text": ("is", "contains", "starts with", "ends with", "matches", "in", "exists"),
    "address": ("is", "contains", "starts with", "ends with", "matches", "in", "exists"),
    "word": ("is", "in"),
    "number": ("is", "<", "<=", ">", ">=", "in"),
    "size": ("<", "<=", ">", ">="),
    "span": ("<", "<=", ">", ">="),
    "moment": ("is", "<", "<=", ">", ">="),
}

LISTING_ONLY = frozenset(
    ("uid", "folder", "answered", "deleted", "draft", "flagged", "recent", "seen")
)
"""What only some mailboxes say, and nothing says once the engine holds the mail."""

_REACHES = ("listing", "header", "body", "mail", "trouble")


def reach(tree: Node) -> str:
    """The furthest reach of its fields."""
    found = [FIELDS[test.field].reach for test in tests(tree)]
    return max(found, key=_REACHES.index, default="listing")


def final(tree: Node, wanted: bool = False) -> bool:
    """Whether a message that does not match now never will, the message being the same.

    Time makes `since 30d` false and `older than 3d` true, never the other way round; a
    flag may change either way. `wanted` is the answer asked about, False for "refused".
    """
    if isinstance(tree, Not):
        return final(tree.term, not wanted)
    if not isinstance(tree, Test):
        return all(final(term, wanted) for term in tree.terms)
    if tree.field in LISTING_ONLY:
        return False
    if tree.field == "age":
        return (tree.verb in ("<", "<=")) is not wanted
    if tree.field == "created" and "-" not in str(tree.value):
        return tree.verb != "is" and (tree.verb in (">", ">=")) is not wanted
    return True


def tests(tree: Node) -> list[Test]:
    """Every test in it, in order."""
    if isinstance(tree, Test):
        return [tree]
    terms = (tree.term,) if isinstance(tree, Not) else tree.terms
    return [test for term in terms for test in tests(term)]


def negated(tree: Node) -> Node:
    return tree.term if isinstance(tree, Not) else Not(tree)


def joined(kind: type[And] | type[Or], terms: tuple[Node, ...]) -> Node:
    """One node of several terms: those of the same kind are taken in, one stands alone."""
    flat: list[Node] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, kind) else (term,))
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def show(tree: Node) -> str:
    """The one way to write it."""
    if isinstance(tree, Test):
        return _show_test(tree)
    if isinstance(tree, Not):
        return f"not {_within(tree.term, (And, Or))}"
    if tree == ALWAYS:
        return "all"
    if isinstance(tree, And):
        return " and ".join(_within(term, (And, Or)) for term in tree.terms)
    return " or ".join(_within(term, (Or,)) for term in tree.terms)


def _within(tree: Node, kinds: tuple[type, ...]) -> str:
    several = isinstance(tree, kinds) and tree != ALWAYS
    return f"({show(tree)})" if several else show(tree)


def _show_test(test: Test) -> str:
    words = [test.field]
    if test.argument is not None:
        words.append(quoted(test.argument))
    if test.verb:
        words.append(test.verb)
    if test.value is not None:
        words.append(_show_value(FIELDS[test.field].type, test.value))
    return " ".join(words)


def _show_value(kind: str, value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_show_value(kind, each) for each in value)})"
    if isinstance(value, str):
        return value if kind == "moment" else quoted(value)
    if kind == "span" and isinstance(value, int | float):
        return show_span(value)
    return str(value)


def quoted(text: str) -> str:
    """The text in quotes, with `\\` before a quote and before itself."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


SPANS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


def show_span(seconds: float) -> str:
    """The largest unit that gives a whole number: 259200 is 3d."""
    for unit, length in SPANS.items():
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:.3f}s"


def moment(text: str, now: float) -> tuple[float, float]:
    """When it begins and ends, in seconds since the epoch.

    "30d" is that long before now; "today", "yesterday" and "2026-01-01" are days here,
    in local time, from midnight to midnight. Raises ValueError.
    """
    if text[-1] in SPANS and text[0].isdigit():
        from mailflow.values import duration

        at = now - duration(text)
        return at, at
    if text in ("today", "yesterday"):
        year, month, day = time.localtime(now)[:3]
        day -= text == "yesterday"
    else:
        year, month, day = (int(part) for part in text.split("-"))
    return midnight(year, month, day), midnight(year, month, day + 1)


def midnight(year: int, month: int, day: int) -> float:
    """The begin of a day here; day 0 and day 32 are days of the months around."""
    return time.mktime((year, month, day, 0, 0, 0, 0, 0, -1))
