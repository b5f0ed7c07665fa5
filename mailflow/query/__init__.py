"""The query language: one way to say which mail is meant, in files and in Python.

    parse('not seen and size < 6000').matches(MailFacts(mail))

Rule of the package: what is not known is neither true nor false, so that a listing
alone may decide, and only what is still open has to be read.
"""

from __future__ import annotations

from mailflow.query.tree import ALWAYS, And, Node, Or, final, joined, negated, show, tests
from mailflow.query.tree import reach as _reach
from mailflow.typed import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mailflow.query.facts import Facts, ItemFacts, MailFacts, TroubleFacts
    from mailflow.query.fields import field
    from mailflow.query.grammar import QueryError
    from mailflow.query.narrowing import Narrowing

__all__ = [
    "ItemFacts",
    "MailFacts",
    "Narrowing",
    "Query",
    "QueryError",
    "TroubleFacts",
    "field",
    "parse",
]

_HOMES = {
    "ItemFacts": "facts",
    "MailFacts": "facts",
    "TroubleFacts": "facts",
    "Narrowing": "narrowing",
    "QueryError": "grammar",
    "field": "fields",
}


def __getattr__(name: str) -> object:
    """The names that a pipeline without a `when` never needs are imported when asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"mailflow.query.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


class Query:
    """An expression, of text or of a tree. Immutable; two that print alike are equal.

    `text` is as it was written, `str()` its one normal form. Raises QueryError, a
    ValueError that knows the column.
    """

    __slots__ = ("text", "tree")

    tree: Node
    text: str

    always: ClassVar[Query]
    """Matches everything: a `where` that was not given."""

    def __init__(self, expression: str | Node) -> None:
        if isinstance(expression, str):
            from mailflow.query.grammar import parse_tree

            self.tree = parse_tree(expression)
            self.text = expression
        else:
            self.tree = expression
            self.text = show(expression)

    def decide(self, facts: Facts) -> bool | None:
        """True or False, or None where it hangs on what `facts` do not know (yet)."""
        if self.tree == ALWAYS:
            return True
        from mailflow.query.match import decide

        return decide(self.tree, facts)

    def matches(self, facts: Facts) -> bool:
        """Whether it holds: what cannot be known does not match, nor does its opposite."""
        return self.decide(facts) is True

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields it asks for."""
        return frozenset(test.field for test in tests(self.tree))

    @property
    def reach(self) -> str:
        """What must be had to decide it: listing, header, body, mail or trouble."""
        return _reach(self.tree)

    @property
    def final(self) -> bool:
        """Whether a message that does not match now never will: no flag, no span to wait for."""
        return final(self.tree)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that stand for its normal form, the same in every run."""
        from mailflow.digests import blake2b

        return blake2b(str(self).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def __and__(self, other: Query) -> Query:
        return Query(joined(And, (self.tree, other.tree)))

    def __or__(self, other: Query) -> Query:
        return Query(joined(Or, (self.tree, other.tree)))

    def __invert__(self) -> Query:
        return Query(negated(self.tree))

    def __bool__(self) -> bool:
        """Raises TypeError: `and`, `or`, `not` and `a < b < c` would silently lose a part."""
        raise TypeError("a query is neither true nor false; join queries by &, | and ~")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Query) and self.tree == other.tree

    def __hash__(self) -> int:
        return hash(self.tree)

    def __str__(self) -> str:
        return show(self.tree)

    def __repr__(self) -> str:
        return f"Query({str(self)!r})"


Query.always = Query(ALWAYS)


def parse(text: str) -> Query:
    """The Query that `text` says. Raises QueryError."""
    return Query(text)
