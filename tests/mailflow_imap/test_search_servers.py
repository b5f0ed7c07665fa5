"""The same expression means the same messages at real servers and here."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable, Iterable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mailflow
from mailflow.halt import Halt
from mailflow.kinds import Item, Runtime
from mailflow.log import get_logger
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.net import Wire
from mailflow.options import SecretValue
from mailflow.query import MailFacts, Query
from mailflow.query.tree import ALWAYS, And, Node, Or, joined, negated
from mailflow.query.tree import Test as Leaf
from mailflow.testing.cyrus import Cyrus
from mailflow.testing.dovecot import Dovecot
from mailflow_imap.answers import Bodies, Body
from mailflow_imap.finding import Finding
from mailflow_imap.login import connect, enter
from mailflow_imap.search import compiled, trusted
from mailflow_imap.session import Session
from mailflow_imap.settings import ImapOptions

NOW = 1.7e9  # not to come: Dovecot lets nothing arrive later than now
DAY = 86400

WORDS = ("gumby", "Gumby", "GUMBY", "straße", "STRASSE", "Grüße", "GRÜSSE", "Привет", "ПРИВЕТ",
         "会議", "sales", "ﬁnd", "find", "a b", "K", "K", "\u017fo", "Ÿ", "<b>", "list.example.org",
         'say "x"', "back\\slash", "100%", "test", "e", "s", "=?", "utf-8", "(", "{5}")  # fmt: skip
ADDRESSES = ("ann@example.org", "Sales@Example.ORG", "bob.s@example.com", "ss@straße.example")


def encoded(text: str, draw: random.Random) -> bytes:
    """A text as some mailer writes it in a header."""
    utf8 = text.encode()
    ways = [
        utf8,
        b"=?utf-8?b?" + base64.b64encode(utf8) + b"?=",
        b"=?UTF-8?Q?" + b"".join(b"=%02X" % octet for octet in utf8) + b"?=",
    ]
    if text.isascii() or "ü" in text:
        latin = text.encode("latin-1", "replace")
        ways.append(b"=?iso-8859-1?b?" + base64.b64encode(latin) + b"?=")
    if len(text) > 1:
        parts = [text[: len(text) // 2], text[len(text) // 2 :]]
        ways.append(b"\r\n ".join(
            b"=?utf-8?b?" + base64.b64encode(part.encode()) + b"?=" for part in parts
        ))  # fmt: skip
    return draw.choice(ways)


def message(number: int) -> bytes:
    """One of a thousand messages, the same each time."""
    draw = random.Random(number)

    def phrase() -> str:
        return draw.choice((" ", "  ", "")).join(draw.choices(WORDS, k=draw.randint(1, 3)))

    def field(name: bytes, value: bytes) -> bytes:
        return name + b": " + value + b"\r\n"

    def mailbox() -> bytes:
        address = draw.choice(ADDRESSES).encode()
        name = encoded(draw.choice(WORDS).replace('"', ""), draw)
        return draw.choice((address, b"<%b>" % address, b"%b <%b>" % (name, address)))

    head = [field(b"From", mailbox())] if draw.random() < 0.9 else []
    for name in (b"To", b"Cc", b"Bcc"):
        if draw.random() < 0.6:
            between = draw.choice((b", ", b",\r\n\t"))
            head.append(field(name, between.join(mailbox() for _ in range(draw.randint(1, 3)))))
    for _ in range(draw.choice((0, 1, 1, 1, 2))):
        head.append(field(b"Subject", encoded(phrase(), draw)))
    if draw.random() < 0.3:
        head.append(field(b"List-Id", b"The list <list.example.org>"))
    if draw.random() < 0.3:
        head.append(field(draw.choice((b"X-Loop", b"X-LOOP")), encoded(phrase(), draw)))
    head.append(field(b"Date", formatdate(NOW - number * DAY).encode()))
    draw.shuffle(head)
    return b"".join(head) + body(phrase, draw)


def body(phrase: Callable[[], str], draw: random.Random) -> bytes:
    """The rest of the header, and what follows it."""
    text = f"{phrase()}\r\n{phrase()}\r\n"
    utf8 = text.encode()
    plain = b"Content-Type: text/plain; charset=utf-8\r\n"
    coded = plain + b"Content-Transfer-Encoding: base64\r\n\r\n"
    coded += base64.encodebytes(utf8).replace(b"\n", b"\r\n")
    name = encoded("find", draw)
    attached = b"Content-Disposition: attachment; filename=find\r\n"
    inner = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" + coded
    parts = b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n%b\r\n--x\r\n%b\r\n%b'
    quoted = quopri.encodestring(utf8.replace(b"\r", b"")).replace(b"\n", b"\r\n")
    return draw.choice((
        b"\r\n",
        b"\r\n" + utf8,
        plain + b"\r\n" + utf8,
        plain.replace(b"plain", b"PLAIN") + b"\r\n" + utf8,
        plain.replace(b"plain", b"html") + b"\r\n<p title='test'>" + utf8,
        plain.replace(b"utf-8", b"x-none") + b"\r\n" + utf8,
        plain.replace(b"utf-8", b'"iso-8859-1"') + b"\r\n" + text.encode("latin-1", "replace"),
        plain.replace(b"utf-8", b"iso-2022-jp") + b"\r\n" + "\u4f1a\u8b70".encode("iso-2022-jp"),
        plain + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted,
        b'Content-Type: text/plain;\r\n name="%b"\r\n\r\n' % name + utf8,
        coded,
        parts % (coded, attached + plain + b"\r\n" + utf8, b"--x--\r\n"),
        parts % (inner, plain + b"\r\n" + utf8, b"--x--\r\n"),
        parts % (coded, plain + b"\r\n" + utf8, b""),
    ))  # fmt: skip


class Shelf:
    """A folder at a server, and what is in it."""

    def __init__(
        self, port: int, session: Session, facts: dict[int, MailFacts], texts: bool
    ) -> None:
        self.port = port
        self.session = session
        self.facts = facts
        self.texts = texts

    def asks(self, query: Query, texts: bool, *, charset: bool = True) -> tuple[set[int], Query]:
        """What the server finds for it, and what is left to ask of that."""
        asked = compiled(query, folder="INBOX", texts=texts, charset=charset, now=NOW)
        if asked is None:
            return set(), Query.always
        return set(self.session.search(*asked.words).wait()), (
            Query.always if asked.rest is None else asked.rest
        )

    def meant(self, query: Query) -> set[int]:
        return {uid for uid, facts in self.facts.items() if query.matches(facts)}


COUNT = 80
FLAGS = ("\\Answered", "\\Deleted", "\\Draft", "\\Flagged", "\\Seen")


def filled(port: int, scratch: str) -> Shelf:
    halt = Halt()
    session = Session.open(
        lambda: Wire.connect("127.0.0.1", port, timeout=30, halt=halt), get_logger(), scratch,
        context=None, name="", implicit=False,
    )  # fmt: skip
    session.command("LOGIN", "ann", "secret").wait()
    draw = random.Random(7)
    for number in range(COUNT):
        flags = [flag for flag in FLAGS if draw.random() < 0.4]
        date = NOW - draw.choice((0, 3600, DAY, 2 * DAY, 30 * DAY)) - draw.randint(-5, 5) * 3600
        session.append("INBOX", Octets(message(number)), flags=flags, date=date).wait()
    session.select("INBOX").wait()
    some = session.search(b"ALL").wait()[::7]
    session.store(some, ["\\Deleted"]).wait()
    session.expunge(some).wait()
    mails = {
        each.uid: each.content
        for each in session.bodies(session.search(b"ALL").wait())
        if isinstance(each, Body)
    }
    facts = {
        fact.uid: MailFacts(
            Mail("m", Envelope(None), Octets(read(mails[fact.uid]))),
            Item("k", fact.size, fact.date, fact.flags, "INBOX", fact.uid), now=NOW,
        )
        for fact in session.facts("1:*")
    }  # fmt: skip
    texts = trusted(session, Query('subject is "x"'))
    return Shelf(port, session, facts, texts)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("dovecot", marks=pytest.mark.interop("dovecot-imapd")),
        pytest.param("cyrus", marks=pytest.mark.interop("cyrus-imapd")),
    ],
)
def shelf(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    directory = tmp_path_factory.mktemp("server")
    server = Dovecot(directory, imap=True) if request.param == "dovecot" else Cyrus(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")  # as far from everybody else as it can be
        with server:
            patch.undo()
            server.add_user("ann", "secret")
            shelf = filled(server.imap_port, str(directory))
            yield shelf
            shelf.session.close()


TEXTS = (*WORDS, *ADDRESSES, "", " ", "gum", "ann@", "example", "s s", "rüß", "text", "?q?", "y g")
texts = st.sampled_from(TEXTS)
spans = st.sampled_from((0, 3600, DAY, 2 * DAY, 29 * DAY, 31 * DAY, 1e10)).map(float)
moments = st.sampled_from(
    (
        "today",
        "yesterday",
        "2d",
        "30d",
        "12h",
        "2023-11-13",
        "2023-11-14",
        "1970-01-01",
        "8000-12-31",
    )
)
numbers = st.integers(0, 90) | st.sampled_from((1 << 32, (1 << 32) - 1, 10**12))


FIELDS = ("from", "to", "cc", "bcc", "subject", "mime", "list", "header", "content")


@st.composite
def leaves(draw: st.DrawFn) -> Leaf:
    kind = draw(st.sampled_from(("flag", "uid", "size", "moment", "age", "folder", "text", "text")))
    if kind == "flag":
        return Leaf(draw(st.sampled_from(("answered", "deleted", "draft", "flagged", "seen"))))
    order = draw(st.sampled_from(("<", "<=", ">", ">=")))
    if kind == "size":
        return Leaf("size", order, draw(numbers.map(lambda number: number * 9)))
    if kind == "moment":
        return Leaf("created", draw(st.sampled_from((order, "is"))), draw(moments))
    if kind == "age":
        return Leaf("age", order, draw(spans))
    if kind == "uid":
        if draw(st.booleans()):
            return Leaf("uid", "in", tuple(draw(st.lists(numbers, min_size=1))))
        return Leaf("uid", draw(st.sampled_from((order, "is"))), draw(numbers))
    if kind == "folder":
        return Leaf("folder", "is", draw(st.sampled_from(("inbox", "Sent"))))
    name = draw(st.sampled_from((*FIELDS, "attachment", "sender")))
    argument = draw(st.sampled_from(("X-Loop", "Date", 'X-"'))) if name == "header" else None
    verbs = ("is", "contains", "contains", "starts with", "ends with", "in", "exists")
    verb = draw(st.sampled_from(verbs))
    value: object = draw(texts)
    if verb == "in":
        value = tuple(draw(st.lists(texts, min_size=1, max_size=3)))
    return Leaf(name, verb, None if verb == "exists" else value, argument)  # type: ignore[arg-type]


def combined(terms: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(terms, min_size=2, max_size=4).map(tuple)
    return (
        terms.map(negated)
        | several.map(lambda some: joined(And, some))
        | several.map(lambda some: joined(Or, some))
    )


trees: st.SearchStrategy[Node] = st.recursive(leaves() | st.just(ALWAYS), combined, max_leaves=10)


def test_dovecot_is_trusted_with_texts_and_cyrus_is_not(
    shelf: Shelf, request: pytest.FixtureRequest
) -> None:
    assert shelf.texts == ("dovecot" in request.node.name.partition("[")[2])


def test_a_server_that_the_user_believes_is_asked_for_texts(shelf: Shelf, runtime: Runtime) -> None:
    secret = SecretValue(lambda: "secret", "the test")
    options = ImapOptions({
        "host": "127.0.0.1", "port": shelf.port, "user": "ann", "password": secret,
        "search": "server",
    })  # fmt: skip
    session = connect(options, runtime)
    enter(options, session)
    assert trusted(session, Query('subject is "x"'))
    assert not trusted(session, Query("seen"))
    session.close()


@pytest.mark.parametrize("verb", ["contains", "starts with", "ends with", "is"])
def test_no_text_that_is_there_is_missed(shelf: Shelf, verb: str) -> None:
    for name in FIELDS:
        for text in TEXTS if shelf.texts else ():
            query = Query(Leaf(name, verb, text, "X-Loop" if name == "header" else None))
            found, rest = shelf.asks(query, True)
            meant = shelf.meant(query)
            assert meant <= found, query
            assert {uid for uid in found if rest.matches(shelf.facts[uid])} == meant


@settings(max_examples=200)
@given(tree=trees, trusted=st.booleans(), charset=st.booleans())
def test_a_server_and_what_is_left_to_ask_find_what_is_meant(
    shelf: Shelf, tree: Node, trusted: bool, charset: bool
) -> None:
    query = Query(tree)
    found, rest = shelf.asks(query, shelf.texts and trusted, charset=charset)
    meant = shelf.meant(query)
    assert meant <= found
    assert {uid for uid in found if rest.matches(shelf.facts[uid])} == meant


@settings(max_examples=60)
@given(tree=trees)
def test_what_is_found_for_a_query_and_not_for_its_opposite_is_meant(
    shelf: Shelf, tree: Node
) -> None:
    query = Query(tree)
    found, _ = shelf.asks(query, shelf.texts)
    opposite, _ = shelf.asks(~query, shelf.texts)
    assert found - opposite <= shelf.meant(query)


@settings(max_examples=60)
@given(tree=trees)
def test_the_mailbox_finds_what_is_meant(shelf: Shelf, tree: Node) -> None:
    query = Query(tree)
    assert Finding(shelf.session, NOW).uids(query) == sorted(shelf.meant(query))


def test_what_cannot_be_otherwise_is_not_read(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[int] = set()
    bodies = Session.bodies

    def reading(session: Session, uids: Iterable[int], section: bytes = b"") -> Bodies:
        read.update(uids)
        return bodies(session, uids, section)

    monkeypatch.setattr(Session, "bodies", reading)
    query = Query('not subject contains "gumby"')
    assert Finding(shelf.session, NOW).uids(query) == sorted(shelf.meant(query))
    missed = set(shelf.facts) - shelf.meant(query)
    assert missed <= read
    assert (len(read) < len(shelf.facts)) == shelf.texts


@pytest.mark.parametrize(
    "where",
    ['subject contains "gumby"', "not seen and size > 300", 'folder is "Sent" or uid > 40',
     'before 2024-01-01 and not subject contains "gumby"', 'content contains "straße" or flagged'],
)  # fmt: skip
def test_a_pipeline_fetches_what_is_meant(
    shelf: Shelf, where: str, home: Path, tmp_path: Path
) -> None:
    source = {
        "use": "imap", "host": "127.0.0.1", "port": shelf.port, "tls": "none", "user": "ann",
        "password": "secret", "where": where, "on_done": "keep",
    }  # fmt: skip
    there = {"use": "maildir", "path": str(tmp_path / "there")}
    journal = {"journal": str(tmp_path / "journal")}
    for _ in range(2):
        assert mailflow.run({"pipeline": journal, "fetch": [source], "distribute": [there]}) == 0
        found = list((tmp_path / "there/new").iterdir())
        assert len(found) == len(shelf.meant(Query(where)))
