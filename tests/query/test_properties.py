"""What holds for every expression: it prints and reads back, and knowing more changes no answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailflow.kinds import Item
from mailflow.mail import Envelope, Mail, Octets
from mailflow.query import ItemFacts, MailFacts, Query, QueryError, parse
from mailflow.query.tree import ALWAYS, FIELDS, VERBS, And, Node, Not, Or, joined, negated, show
from mailflow.query.tree import Test as Leaf

NOW = 1.8e9

texts = st.text(max_size=12)
spans = st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000)
moments = (
    st.dates().filter(lambda day: 1970 <= day.year <= 9000).map(str)
    | st.sampled_from(("today", "yesterday", "30d", "2w", "90m", "0.500s"))
)  # fmt: skip
names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1
)


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    name = draw(st.sampled_from(sorted(FIELDS)))
    field = FIELDS[name]
    verb = draw(st.sampled_from([verb for verb in VERBS[field.type] if verb != "matches"]))
    values = {
        "text": texts, "address": texts, "word": st.sampled_from(field.words or ("x",)),
        "number": st.integers(0, 10**12), "size": st.integers(0, 10**12), "span": spans,
        "moment": moments, "flag": st.none(),
    }[field.type]  # fmt: skip
    value: object = draw(values)
    if verb == "in":
        value = tuple(draw(st.lists(values, min_size=1, max_size=3)))
    if verb == "exists":
        value = None
    argument = draw(names if name == "header" else texts) if field.argument else None
    return Leaf(name, verb, value, argument)  # type: ignore[arg-type]


def combined(terms: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(terms, min_size=1, max_size=3).map(tuple)
    return (
        terms.map(negated)
        | several.map(lambda some: joined(And, some))
        | several.map(lambda some: joined(Or, some))
    )


trees: st.SearchStrategy[Node] = st.recursive(leaves() | st.just(ALWAYS), combined, max_leaves=12)

words = st.sampled_from(
    [*FIELDS, "and", "or", "not", "(", ")", "is", "in", "contains", "<", "=", '"x"', "'y'", "3",
     "2MB", "30d", "today", "2026-01-01", "older", "than", "has", "since", ",", "$", '"']
)  # fmt: skip

items = st.builds(
    Item, key=st.just("k"), size=st.none() | st.integers(0, 9000),
    date=st.none() | st.floats(0, 2 * NOW),
    flags=st.none() | st.frozensets(st.sampled_from(("\\Seen", "\\Draft"))),
    folder=st.none() | texts, uid=st.none() | st.integers(1, 99),
)  # fmt: skip
mails = st.builds(
    lambda head, body, sender: Mail("m", Envelope(sender), Octets(head + b"\r\n" + body)),
    st.lists(
        st.sampled_from((b"Subject: x\r\n", b"From: a@b\r\n", b"To: \xff <c@d>\r\n",
                         b"Precedence: bulk\r\n", b"Date: Mon, 2 Mar 2026 10:00:00 +0000\r\n"))
    ).map(b"".join),
    st.binary(max_size=30), st.none() | texts,
)  # fmt: skip


@given(trees)
def test_it_prints_and_reads_back_as_the_same_tree(tree: Node) -> None:
    assert parse(show(tree)).tree == tree


@given(trees)
def test_its_printed_form_is_its_only_one(tree: Node) -> None:
    text = show(tree)
    assert str(parse(text)) == text
    assert parse(text).hash == Query(tree).hash


@given(st.lists(words).map(" ".join) | st.text())
def test_any_text_is_an_expression_or_a_query_error(text: str) -> None:
    fault = None
    try:
        parse(text)
    except QueryError as error:
        fault = error
    if fault is not None:
        assert len(str(fault).splitlines()) == 1
        assert 1 <= fault.column <= len(text) + 1


@given(trees, items, mails)
def test_what_the_listing_decides_the_mail_does_not_change(
    tree: Node, item: Item, mail: Mail
) -> None:
    query = Query(tree)
    early = query.decide(ItemFacts(item, now=NOW))
    if item.size is not None:  # the true size may differ from a lying LIST, and then it counts
        item = item._replace(size=mail.content.size)
        early = query.decide(ItemFacts(item, now=NOW))
    head = query.decide(MailFacts(mail, item, now=NOW, whole=False))
    late = query.decide(MailFacts(mail, item, now=NOW))
    assert early is None or early == head
    assert head is None or head == late


@given(trees, mails, st.floats(0, 1e9))
def test_what_is_refused_for_good_is_refused_later_too(
    tree: Node, mail: Mail, later: float
) -> None:
    query = Query(tree)
    if query.final and query.decide(MailFacts(mail, now=NOW)) is False:
        assert query.decide(MailFacts(mail, now=NOW + later)) is False


@given(trees, items, mails)
def test_an_answer_and_its_opposite_exclude_each_other(tree: Node, item: Item, mail: Mail) -> None:
    facts = MailFacts(mail, item, now=NOW)
    decided, opposite = Query(tree).decide(facts), Query(Not(tree)).decide(facts)
    assert opposite == (None if decided is None else not decided)
    assert Query(tree).matches(facts) == (decided is True)


@given(trees, trees, mails)
def test_the_operators_are_those_of_logic(left: Node, right: Node, mail: Mail) -> None:
    facts = MailFacts(mail, Item("k", 5, NOW, frozenset(), "x", 3), now=NOW, source="x")
    a, b = Query(left), Query(right)
    if a.decide(facts) is None or b.decide(facts) is None:
        return
    assert (a & b).matches(facts) == (a.matches(facts) and b.matches(facts))
    assert (a | b).matches(facts) == (a.matches(facts) or b.matches(facts))
    assert (~a).matches(facts) == (not a.matches(facts))
