"""Deciding: a tree against facts, with what is not known as neither true nor false.

Rule of the file: text is compared without regard to case and to how it was folded, as
IMAP SEARCH does (RFC 9051, 6.4.4). `contains` and `matches` look at an address field
as a human reads it, `is`, `in`, `starts with` and `ends with` at its addr-specs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import ge, gt, le, lt

from mailflow.query.facts import UNKNOWN, addresses
from mailflow.query.tree import FIELDS, And, Node, Not, Test, moment
from mailflow.typed import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mailflow.query.facts import Facts

NO_RE2 = "`matches` needs google-re2: pip install 'mailflow[filters]'"


def decide(tree: Node, facts: Facts) -> bool | None:
    """True, False, or None for not known (Kleene's three values)."""
    if isinstance(tree, Test):
        return _test(tree, facts)
    if isinstance(tree, Not):
        inner = decide(tree.term, facts)
        return None if inner is None else not inner
    settles = not isinstance(tree, And)
    result: bool | None = not settles
    for term in tree.terms:
        found = decide(term, facts)
        if found is settles:
            return found
        if found is None:
            result = None
    return result


def _test(test: Test, facts: Facts) -> bool | None:
    fact: Any = facts.find(test.field, test.argument)
    if fact is UNKNOWN:
        return None
    kind = FIELDS[test.field].type
    if kind == "flag":
        return bool(fact)
    return _moment(test, fact, facts.now) if kind == "moment" else _DECIDERS[kind](test, fact)


def _text(test: Test, fact: Any) -> bool:
    """Whether any of the values in `fact` fits."""
    if test.verb == "exists":
        return bool(fact)
    if test.verb == "matches":
        search = compiled(cast("str", test.value)).search
        # re2 takes no lone surrogates, which stand for octets that are no UTF-8
        return any(search(text.encode("utf-8", "replace").decode()) for text in fact)
    wanted = test.value if isinstance(test.value, tuple) else (test.value,)
    literals = [plain(cast("str", value)) for value in wanted]
    fits = _FITS[test.verb]
    return any(fits(plain(text).strip(), literal) for text in fact for literal in literals)


_FITS: dict[str, Callable[[str, str], bool]] = {
    "is": str.__eq__,
    "in": str.__eq__,
    "contains": str.__contains__,
    "starts with": str.startswith,
    "ends with": str.endswith,
}


def plain(text: str) -> str:
    """Without the difference that case and folding make.

    A sharp s is two. The few other letters that Unicode folds to ASCII are no letters of
    ASCII to a mail server, and so none here.
    """
    text = re.sub(r"[ \t\r\n]+", " ", text)
    if text.isascii():
        return text.lower()
    parts = _STRANGE.split(text)
    parts[::2] = map(str.casefold, parts[::2])
    return "".join(parts)


_STRANGE = re.compile("([\u0130\u0149\u017f\u01f0\u1e96-\u1e9a\u212a\ufb00-\ufb06])")
"""Turkish dotted I, 'n, long s, j, h, t, w, y and a with odd marks, Kelvin, ligatures."""


def _address(test: Test, fact: Any) -> bool:
    if FIELDS[test.field].reach == "header":
        if test.verb in ("contains", "matches", "exists"):
            from mailflow.mail import decode_words

            fact = [decode_words(value) for value in fact]
        else:
            fact = [spec for value in fact for spec in addresses(value)]
    return _text(test, fact)


def _word(test: Test, fact: Any) -> bool:
    return fact in test.value if isinstance(test.value, tuple) else fact == test.value


def _number(test: Test, fact: Any) -> bool:
    if test.verb in ("is", "in"):
        return _word(test, fact)
    return fact is not None and _ORDERS[test.verb](fact, test.value)


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def _moment(test: Test, fact: float | None, now: float) -> bool:
    """A day is from midnight to midnight: after it is `>`, in it or after it `>=`."""
    if fact is None:
        return False
    begin, end = moment(cast("str", test.value), now)
    if test.verb == "is":
        return bool(begin <= fact < max(end, begin + 1))
    if test.verb in ("<", ">="):
        return _ORDERS[test.verb](fact, begin)
    return bool(fact < end) if test.verb == "<=" else bool(fact >= end)


_DECIDERS: dict[str, Callable[[Test, Any], bool]] = {
    "text": _text,
    "address": _address,
    "word": _word,
    "number": _number,
    "size": _number,
    "span": _number,
}

_patterns: dict[str, Any] = {}


def compiled(pattern: str) -> Any:
    """The regular expression, in linear time whoever wrote it. Raises ValueError."""
    if pattern in _patterns:
        return _patterns[pattern]
    from importlib import import_module

    try:
        re2 = import_module("re2")
    except ImportError:
        raise ValueError(NO_RE2) from None
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    try:
        _patterns[pattern] = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it is malformed"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"this is no regular expression: {text}") from None
    return _patterns[pattern]
