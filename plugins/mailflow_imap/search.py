"""A query as one SEARCH of IMAP, and what of it is left to ask here (RFC 9051, 6.4.4).

    asked = compiled(parse('not seen and subject contains "gumby"'), texts=True)
    asked.words   # UNSEEN HEADER Subject "gumby"
    asked.rest    # subject contains "gumby"

Rule of the file: the server may only narrow. Every key finds at least what the test finds
here, also what cannot be known here; what it may find besides is asked here. So of the
messages found for `where` and for `~where`, those found only once need no look at all.

    uid, flags, size   the server's answer is the listing's: nothing is left to ask
    dates              a day more on each side, for nobody knows the server's time zone
    texts              the words that no way of folding case, space or encoding changes
    anything else      asked here
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable

from mailflow.kinds import Item
from mailflow.query import ItemFacts, Narrowing, Query
from mailflow.query.match import decide, plain
from mailflow.query.tree import And, Node, Not, Test, joined, moment, negated, quoted
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_imap import uids
from mailflow_imap.wire import MONTHS, Word

if TYPE_CHECKING:
    from mailflow_imap.session import Session

LINE_LIMIT = 7000
"""Octets of a SEARCH: a server may refuse a line of 8192 (RFC 7162, 4)."""

RANGE_LIMIT = 200
DEPTH_LIMIT = 20
WORD_LIMIT = 100
WORDS_LIMIT = 4

UID_LIMIT = uids.UID_LIMIT - 1
"""The last UID: there is one more (RFC 3501, 9: nz-number), which to Cyrus is "*"."""

SIZE_LIMIT = (1 << 31) - 1
"""Numbers of IMAP4rev1 have 32 bits; Cyrus ends the session over one that needs the last."""

DAY = 86400
LAST_DAY = 2145916800  # 2038-01-01: where a server's clock may have 31 bits


class Search(NamedTuple):
    """What to ask of one folder. `words` follow UID SEARCH, in the form that the codec quotes;
    `charset` is theirs, "" for ASCII. `rest` is what must still hold of each message found,
    None where the server's answer is the answer."""

    words: tuple[Word, ...]
    charset: str = ""
    rest: Query | None = None

    def __str__(self) -> str:
        charset = f"CHARSET {self.charset} " if self.charset else ""
        return f"UID SEARCH {charset}{' '.join(map(_shown, self.words))}"


def compiled(
    where: Query,
    *,
    folder: str | None = None,
    texts: bool = False,
    charset: bool = True,
    now: float | None = None,
) -> Search | None:
    """The SEARCH for `where` in `folder`; None where no message there can be meant.

    `texts`: the server is asked for texts too; see `trusted`. Without `charset` only in ASCII:
    after BADCHARSET.
    """
    at = time.time() if now is None else now
    bound = _Compiler(folder, texts, charset, at).bound(where.tree, True)
    if bound.keys is None:
        return None
    keys, rest = _short(bound.keys), bound.rest
    if keys != bound.keys:
        rest = where.tree
    words = _flat(keys) or (b"ALL",)
    name = "" if all(text.isascii() for text in _strings(words)) else "UTF-8"
    return Search(words, name, None if rest is None else Query(rest))


def trust(capabilities: Collection[str], name: str = "") -> bool:
    """Whether a server that has these capabilities and calls itself `name` (ID, RFC 2971) finds
    every text that is there.

    SEARCH shall find any part of a text (RFC 9051, 6.4.4). Gmail and most who keep an index,
    which Dovecot tells by SEARCH=FUZZY, find whole words only; Cyrus looks at the last of
    several Subjects and not at the tags of HTML. Only who is known to find enough is asked.
    """
    return name.lower().startswith("dovecot") and "SEARCH=FUZZY" not in capabilities


def trusted(session: Session, where: Query) -> bool:
    """`trust` of the server of a session, which is asked for its name if that matters; one
    that the user believes is trusted."""
    if where.fields.isdisjoint(_TEXTS):
        return False
    return session.believed or trust(session.capabilities, session.name)


def explained(where: Query) -> Iterable[Narrowing]:
    """What the servers are asked that can be told apart here."""
    believed, other = (compiled(where, texts=texts) for texts in (True, False))
    answers = {"Dovecot": believed, "any other server": other}
    if believed == other:
        answers = {"any server": other}
    for server, asked in answers.items():
        if asked is None:
            yield Narrowing(server, "", None)
        else:
            yield Narrowing(server, str(asked), asked.rest)


Keys = tuple[tuple[Word, ...], ...]
"""Search keys, each of several words; all of them must hold. None at all: ALL."""


class _Bound(NamedTuple):
    """What is found at most: `keys`, None for nothing. `rest` is what they leave open."""

    keys: Keys | None = ()
    rest: Node | None = None


_ALL = _Bound()
_NONE = _Bound(None)


class _Compiler:
    """`bound(node, wanted)` is what finds every message of which `node` is not `not wanted`."""

    def __init__(self, folder: str | None, texts: bool, charset: bool, now: float) -> None:
        self._folder = folder
        self._texts = texts
        self._charset = charset
        self._now = now
        self._depth = 0

    def bound(self, node: Node, wanted: bool) -> _Bound:
        if isinstance(node, Test):
            found = self._test(node, wanted)
            return found or _open(node, wanted)
        if isinstance(node, Not):
            return self.bound(node.term, not wanted)
        if self._depth == DEPTH_LIMIT:
            return _open(node, wanted)
        self._depth += 1
        bounds = [self.bound(term, wanted) for term in node.terms]
        self._depth -= 1
        if isinstance(node, And) is wanted:
            return _every(bounds)
        return _either(bounds, node if wanted else negated(node))

    def _test(self, test: Test, wanted: bool) -> _Bound | None:
        """None where it can only be asked here."""
        if test.field in _FLAGS:
            return _Bound(((_FLAGS[test.field][not wanted],),))
        if test.field in ("uid", "size", "folder"):
            return self._fact(test, wanted)
        if test.field in ("created", "age"):
            return _Bound(self._days(test, wanted), _rest(test, wanted))
        if test.field not in _HEADERS and test.field != "content":
            return None
        keys = self._text(test) if wanted and self._texts else None
        return None if keys is None else _Bound(keys, test)

    def _fact(self, test: Test, wanted: bool) -> _Bound | None:
        if test.field == "uid":
            return _uid(test, wanted)
        if test.field == "size":
            return _size(test, wanted)
        if self._folder is None:
            return None
        facts = ItemFacts(Item("", folder=self._folder), now=self._now)
        return _ALL if decide(test, facts) is wanted else _NONE

    def _days(self, test: Test, wanted: bool) -> Keys:
        """What arrived in the days around those that are meant."""
        value: Any = test.value
        if test.field == "age":  # older is before
            begin = end = self._now - value
            verb = _TURNED[test.verb]
        else:
            begin, end = moment(value, self._now)
            verb = test.verb
        if verb == "is":
            return (*_since(begin), *_before(end)) if wanted else ()
        edge = end if verb in (">", "<=") else begin
        return _since(edge) if (verb in (">", ">=")) is wanted else _before(edge)

    def _text(self, test: Test) -> Keys | None:
        values = () if test.verb in ("exists", "matches") else test.value
        literals: Iterable[Any] = values if isinstance(values, tuple) else (values,)
        head: tuple[Word, ...] = (b"HEADER", test.argument or _HEADERS.get(test.field, b""))
        if test.field == "content":
            head = (b"BODY",)
        found = [self._having(head, test.verb, literal) for literal in literals or ("",)]
        if test.field == "content" and () in found:
            return None
        return _either([_Bound(keys) for keys in found], test).keys

    def _having(self, head: tuple[Word, ...], verb: str, literal: str) -> Keys:
        """What has the words of `literal`; without any, what has the field at all."""
        words = _words(plain(literal), verb, self._charset)
        if words:
            return tuple((*head, word) for word in words)
        return ((*head, ""),) if head[0] == b"HEADER" else ()


_FLAGS = {
    "answered": (b"ANSWERED", b"UNANSWERED"),
    "deleted": (b"DELETED", b"UNDELETED"),
    "draft": (b"DRAFT", b"UNDRAFT"),
    "flagged": (b"FLAGGED", b"UNFLAGGED"),
    "recent": (b"RECENT", b"OLD"),
    "seen": (b"SEEN", b"UNSEEN"),
}

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}

_HEADERS = {
    "from": b"From", "to": b"To", "cc": b"Cc", "bcc": b"Bcc", "subject": b"Subject",
    "mime": b"Content-Type", "list": b"List-Id", "header": b"",
}  # fmt: skip
"""Not FROM, TO or SUBJECT, which may look at the first of several fields, and at the envelope
instead of what is written."""


_TEXTS = frozenset((*_HEADERS, "content"))


def _rest(node: Node, wanted: bool) -> Node:
    return node if wanted else negated(node)


def _open(node: Node, wanted: bool) -> _Bound:
    """Any message may fit."""
    return _Bound((), _rest(node, wanted))


def _every(bounds: Iterable[_Bound]) -> _Bound:
    """What fits all of them."""
    keys: dict[tuple[Word, ...], None] = {}
    rest: list[Node] = []
    for bound in bounds:
        if bound.keys is None:
            return _NONE
        keys.update(dict.fromkeys(bound.keys))
        if bound.rest is not None:
            rest.append(bound.rest)
    return _Bound(tuple(keys), joined(And, tuple(rest)) if rest else None)


def _either(bounds: Iterable[_Bound], node: Node) -> _Bound:
    """What fits one of them, which is what `node` says."""
    some = [bound for bound in bounds if bound.keys is not None]
    if _ALL in some:
        return _ALL
    if not some:
        return _NONE
    rest = node if any(bound.rest is not None for bound in some) else None
    alternatives = list(dict.fromkeys(bound.keys for bound in some if bound.keys is not None))
    if () in alternatives:
        return _Bound((), rest)
    if len(alternatives) == 1:
        return _Bound(alternatives[0], rest)
    return _Bound((_or([_one(keys) for keys in alternatives]),), rest)


def _or(alternatives: list[tuple[Word, ...]]) -> tuple[Word, ...]:
    """OR takes two keys: of several, halves of halves, so that it does not nest deeply."""
    if len(alternatives) == 1:
        return alternatives[0]
    middle = len(alternatives) // 2
    return (b"OR", *_or(alternatives[:middle]), *_or(alternatives[middle:]))


def _one(keys: Keys) -> tuple[Word, ...]:
    """Several keys as one."""
    return keys[0] if len(keys) == 1 else (_flat(keys),)


def _flat(keys: Keys) -> tuple[Word, ...]:
    return tuple(word for key in keys for word in key)


def _short(keys: Keys) -> Keys:
    """As many of the keys as fit in a line, the shortest first."""
    left = LINE_LIMIT
    kept = set()
    for key in sorted(keys, key=_octets):
        left -= _octets(key)
        if left >= 0:
            kept.add(key)
    return tuple(key for key in keys if key in kept)


def _octets(word: object) -> int:
    """How long it is on the wire, at most: a literal takes its head."""
    if isinstance(word, tuple):
        return sum(map(_octets, word)) + 2
    return 2 * len(word.encode()) + 12 if isinstance(word, str) else len(str(word))


def _shown(word: object) -> str:
    """As it would stand in a command if strings could have any letters."""
    if isinstance(word, tuple):
        return f"({' '.join(map(_shown, word))})"
    if isinstance(word, bytes):
        return word.decode("ascii")
    return quoted(word) if isinstance(word, str) else str(word)


def _strings(word: object) -> Iterable[str]:
    if isinstance(word, str):
        yield word
    elif isinstance(word, tuple):
        for each in word:
            yield from _strings(each)


def _size(test: Test, wanted: bool) -> _Bound | None:
    """SMALLER and LARGER exclude the number itself, and must not be too large."""
    number: Any = test.value
    edge = number + (test.verb in ("<=", ">"))  # the least size on the far side
    if (test.verb in ("<", "<=")) is wanted:
        if edge > SIZE_LIMIT:
            return None
        return _Bound(((b"SMALLER", edge),)) if edge else _NONE
    if edge > SIZE_LIMIT:
        return _Bound(((b"LARGER", SIZE_LIMIT - 1),), _rest(test, wanted))
    return _Bound(((b"LARGER", edge - 1),)) if edge else _ALL


def _uid(test: Test, wanted: bool) -> _Bound:
    value: Any = test.value
    if test.verb in ("is", "in"):
        values = value if isinstance(value, tuple) else (value,)
        ranges = list(uids.ranges(uid for uid in values if 0 < uid <= UID_LIMIT))
    else:
        edge = value + (test.verb in ("<=", ">"))
        ranges = [(1, edge - 1)] if test.verb in ("<", "<=") else [(edge, UID_LIMIT)]
    ranges = _within(ranges if wanted else _others(ranges))
    few = _merged(ranges)
    rest = None if few == ranges else _rest(test, wanted)
    if not few:
        return _NONE
    if few[-1][1] < UID_LIMIT:
        return _Bound(((b"UID", _set(few)),), rest)
    # Not N:*, which is the last message where N is behind it.
    others = _within(_others(few))
    return _Bound(((b"NOT", b"UID", _set(others)),) if others else (), rest)


def _set(ranges: list[tuple[int, int]]) -> bytes:
    return ",".join(uids.spelled(low, high) for low, high in ranges).encode()


def _others(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Everything between them, before and behind."""
    ends = [0, *(high for _, high in ranges)]
    begins = [*(low for low, _ in ranges), UID_LIMIT + 1]
    return [(end + 1, begin - 1) for end, begin in zip(ends, begins, strict=True)]


def _within(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the numbers that are UIDs."""
    cut = [(max(low, 1), min(high, UID_LIMIT)) for low, high in ranges]
    return [(low, high) for low, high in cut if low <= high]


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most RANGE_LIMIT, with the smallest gaps closed."""
    if len(ranges) <= RANGE_LIMIT:
        return ranges
    gaps = range(1, len(ranges))
    widest = sorted(gaps, key=lambda at: ranges[at][0] - ranges[at - 1][1])[1 - RANGE_LIMIT :]
    starts = [0, *sorted(widest)]
    ends = [*(at - 1 for at in starts[1:]), len(ranges) - 1]
    return [(ranges[a][0], ranges[b][1]) for a, b in zip(starts, ends, strict=True)]


def _since(at: float) -> Keys:
    """What arrived at `at` or later has a date of the day before it, or a later one."""
    at = min(at - DAY, LAST_DAY)
    return () if at < 0 else ((b"SINCE", _date(at)),)


def _before(at: float) -> Keys:
    """What arrived before `at` or then has a date of the day behind it, or an earlier one."""
    at = max(at, 0) + 2 * DAY - 1
    return () if at > LAST_DAY else ((b"BEFORE", _date(at)),)


def _date(at: float) -> bytes:
    year, month, day = time.gmtime(at)[:3]
    return f"{day}-{MONTHS[month - 1]}-{year}".encode()


def _words(text: str, verb: str, charset: bool) -> list[str]:
    """Some words of a folded text that stand in whatever folds to it, whoever folds."""
    # An s may be half of a sharp s, which is one letter to others: within, and at an end that
    # need not be the end of what is looked at.
    text = _SHARP.sub(" ", text)
    if verb in ("contains", "ends with"):
        text = text.removeprefix("s")
    if verb in ("contains", "starts with"):
        text = text.removesuffix("s")
    if "=?" in text or "?=" in text:  # may be decoded there, and not here
        return []
    found = _PLAIN.findall(text)
    if charset and max(map(len, found), default=0) < _ENOUGH:
        found = _LETTERS.findall(text)
    longest = sorted(dict.fromkeys(found), key=len, reverse=True)[:WORDS_LIMIT]
    return [word[:WORD_LIMIT] for word in longest]


_ENOUGH = 3
"""With so many letters of ASCII beside each other, no others are asked for."""

_SHARP = re.compile("s{2,}")
_PLAIN = re.compile(r"[-0-9a-z@._+]+")
_LETTERS = re.compile(
    "[-0-9a-z@._+"
    "\u00e0-\u00f6\u00f8-\u012f\u0131-\u0148\u014a-\u017e"  # Latin with a mark
    "\u0430-\u045f"  # Cyrillic
    "\u05d0-\u05ea\u0621-\u064a"  # Hebrew, Arabic
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"  # Japanese, Chinese, Korean
    "]+"
)
"""Letters whose case, if they have any, every server knows that knows UTF-8 at all."""
