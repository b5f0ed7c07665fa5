"""The language as Python operators: `(field.seen == False) & (field.size < 6000)`.

Rule of the file: an operator writes the expression and parses it, so that Python and
text cannot differ in what they allow or mean.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from mailflow.query import Query, parse
from mailflow.query.tree import FIELDS, Test, quoted


class FieldName:
    """One field; comparing it gives a Query. A flag is compared with True or False, what may
    be absent with None."""

    __hash__ = None  # type: ignore[assignment]  # `==` makes a Query

    def __init__(self, name: str, argument: str | None = None) -> None:
        self._name = name
        self._words = name if argument is None else f"{name} {quoted(argument)}"

    def __eq__(self, value: object) -> Query:  # type: ignore[override]
        if isinstance(value, bool):
            return parse(self._words if value else f"not {self._words}")
        if value is None:
            return ~self._known()
        return self._compared("is", value)

    def __bool__(self) -> bool:
        """Raises TypeError: `not field.seen` would ask for nothing, which is all there is."""
        raise TypeError(f"`{self._words}` is a field and no query; compare it, by == or contains()")

    def __ne__(self, value: object) -> Query:  # type: ignore[override]
        return ~(self == value)

    def __lt__(self, value: object) -> Query:
        return self._compared("<", value)

    def __le__(self, value: object) -> Query:
        return self._compared("<=", value)

    def __gt__(self, value: object) -> Query:
        return self._compared(">", value)

    def __ge__(self, value: object) -> Query:
        return self._compared(">=", value)

    def contains(self, text: str) -> Query:
        return self._compared("contains", text)

    def starts_with(self, text: str) -> Query:
        return self._compared("starts with", text)

    def ends_with(self, text: str) -> Query:
        return self._compared("ends with", text)

    def matches(self, pattern: str) -> Query:
        return self._compared("matches", pattern)

    def exists(self) -> Query:
        return parse(f"{self._words} exists")

    def belongs(self, values: Collection[object]) -> Query:
        """Whether it is one of `values`; of none, it never is."""
        if not values:
            return ~Query.always
        return self._parsed(f"in ({', '.join(self._literal(each) for each in values)})")

    def _known(self) -> Query:
        """Whether there is any value: a message always has a UID and a size."""
        return Query.always if self._name in ("uid", "size") else self.exists()

    def _compared(self, verb: str, value: object) -> Query:
        return self._parsed(f"{verb} {self._literal(value)}")

    def _parsed(self, comparison: str) -> Query:
        """One test; a value such as "2MB or seen" does not become two."""
        query = parse(f"{self._words} {comparison}")
        if not isinstance(query.tree, Test):
            raise ValueError(f"expected one value; found {comparison!r}")
        return query

    def _literal(self, value: object) -> str:
        """A span may be in seconds; a moment may be a datetime.date."""
        kind = FIELDS[self._name].type
        if isinstance(value, datetime):
            raise ValueError(f"`{self._name}` is compared with days; found {value}")
        if isinstance(value, date):
            return f"{value:%Y-%m-%d}"
        if kind == "span" and isinstance(value, int | float):
            return f"{value:.3f}s"
        if isinstance(value, str) and kind not in ("span", "moment", "size"):
            return quoted(value)
        return str(value)


class Fields:
    """Every field by its name; `header` and `note` are called with theirs; `from` is `from_`."""

    def __getattr__(self, name: str) -> FieldName:
        word = "error.temporary" if name == "error_temporary" else name.rstrip("_")
        if word not in FIELDS or FIELDS[word].argument:
            raise AttributeError(f"there is no field {name!r}")
        return FieldName(word)

    def header(self, name: str) -> FieldName:
        return FieldName("header", name)

    def note(self, name: str) -> FieldName:
        return FieldName("note", name)


field = Fields()
