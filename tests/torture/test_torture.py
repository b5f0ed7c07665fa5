"""What is made to break programs goes through every pipeline, and comes out as it went in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mailflow.testing.corpus import Sample
from mailflow.testing.smtp import SmtpSink
from mailflow.testing.torture import main, torture

from ..cli.command import Shop
from ..contracts.test_mbox import Mbox
from ..contracts.test_spool import Drop
from .sources import ORIGINS, Origin, put

pytestmark = pytest.mark.timeout(300)

SAMPLES: Sequence[Sample] = tuple(torture())

TO = '[[process]]\nuse = "filter.recipients"\nset = ["bob@example.org"]\n'

FILTERS = """
[[process]]
use = "filter.discard"
when = 'header "X-Nobody-Has-This" is "x"'
[[process]]
use = "filter.command"
command = ["/bin/cat"]
"""

LIST = """
[[process]]
use = "list.post"
address = "Red <red@example.org>"
members = ["bob@example.org"]
posting = { others = "accept" }
"""


END = b"\r\n\r\n"

HEADER = re.compile(rb"(?:[!-9;-~]{1,998}:.*(?:\r\n[ \t].*)*(?:\r\n|\Z))+")
"""Of nothing but fields: what is wrong in a header belongs to the body for a list."""


def lf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n")


def wire(octets: bytes) -> bytes:
    """SMTP knows CRLF and no other line end (RFC 5321, 2.3.8), and text ends with one."""
    mended = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    return mended if mended.endswith(b"\r\n") else mended + b"\r\n"


def with_end(octets: bytes) -> bytes:
    return octets if octets.endswith(b"\n") else octets + b"\n"


class Ends:
    """Every kind of destination at once, in one home."""

    def __init__(self, shop: Shop, sink: SmtpSink) -> None:
        self.sink = sink
        self.maildir = shop.home / "Maildir"
        self.mbox = Mbox(shop.home / "mbox")
        self.drop = Drop(shop.home / "spool")
        self.steps = {
            "maildir": f'use = "maildir"\npath = "{self.maildir}"\n',
            "mbox": f'use = "mbox"\npath = "{self.mbox.path}"\n',
            "spool": f'use = "spool"\npath = "{self.drop.path}"\ndrop = "ann"\n',
            "smtp": f'use = "smtp"\nhost = "{sink.host}"\nport = {sink.port}\ntls = "none"\n'
            'sender = "ann@example.org"\n',
        }

    def text(self, *kinds: str) -> str:
        return "".join(f"[[distribute]]\n{self.steps[kind]}" for kind in kinds or self.steps)

    def taken(self, kind: str) -> list[bytes]:
        """Every message that is there."""
        if kind == "maildir":
            return [path.read_bytes() for path in self.maildir.glob("new/*")]
        if kind == "smtp":
            return [message.data for message in self.sink.messages]
        return [each.octets for each in (self.mbox if kind == "mbox" else self.drop).taken()]


KEPT: dict[str, Callable[[bytes], bytes]] = {
    "maildir": lf,
    "mbox": lambda octets: with_end(lf(octets)),
    "spool": lambda octets: octets if octets.endswith(b"\r\n") else octets + b"\r\n",
    "smtp": wire,
}
"""How octets that mailflow holds are kept at a destination of that kind."""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def ends(shop: Shop) -> Iterator[Ends]:
    with SmtpSink() as sink:
        yield Ends(shop, sink)
        assert sink.violations == []


def fit(origin: type[Origin], shop: Shop) -> list[Sample]:
    return [sample for sample in SAMPLES if origin(shop).holds(sample.octets)]


def differences(wanted: Sequence[tuple[str, bytes]], found: list[bytes]) -> list[str]:
    """Which samples are missing, or there too often, and what is there that is none."""
    counts = Counter(found)
    counts.subtract(octets for _, octets in wanted)
    names = {octets: name for name, octets in wanted}
    return [
        f"{names.get(octets, octets[:80])}: {count:+}" for octets, count in counts.items() if count
    ]


@pytest.mark.parametrize("kind", ORIGINS)
def test_it_comes_out_of_every_pipeline_octet_for_octet(shop: Shop, ends: Ends, kind: str) -> None:
    samples = fit(ORIGINS[kind], shop)
    kinds = ["maildir"] if kind == "stdin" else list(KEPT)  # a process for each is slow enough
    steps = TO + ends.text(*kinds)
    with closing(put(shop, kind, [s.octets for s in samples], steps)) as origin:
        origin.run()
        for end in kinds:
            wanted = [(s.name, KEPT[end](origin.expected(s.octets))) for s in samples]
            assert differences(wanted, ends.taken(end)) == [], end


@pytest.mark.parametrize(("kind", "end"), [("maildir", "maildir"), ("mbox", "mbox")])
def test_it_comes_out_where_the_journal_holds_no_copy(
    shop: Shop, ends: Ends, kind: str, end: str
) -> None:
    messages = [sample.octets for sample in SAMPLES]
    with closing(put(shop, kind, messages, ends.text(end))) as origin:
        origin.run()
        wanted = [(s.name, KEPT[end](origin.expected(s.octets))) for s in SAMPLES]
        assert differences(wanted, ends.taken(end)) == []


def test_it_comes_out_of_filters_that_change_nothing(shop: Shop, ends: Ends) -> None:
    messages = [sample.octets for sample in SAMPLES]
    with closing(put(shop, "maildir", messages, FILTERS + ends.text("maildir"))) as origin:
        origin.run()
        wanted = [(s.name, lf(origin.expected(s.octets))) for s in SAMPLES]
        assert differences(wanted, ends.taken("maildir")) == []


def test_a_list_sends_every_body_on_as_it_came(shop: Shop, ends: Ends) -> None:
    """But for what no list sends on: what a program wrote, and what it has sent itself."""
    samples = [sample for sample in SAMPLES if HEADER.fullmatch(sample.stored.partition(END)[0])]
    steps = TO.replace("bob@", "red@") + LIST + ends.text("spool")
    with closing(put(shop, "maildir", [each.octets for each in samples], steps)) as origin:
        shop("run", "--now", shop.file)
        found = Counter(each.partition(END)[2] for each in ends.taken("spool"))
        kept = [KEPT["spool"](origin.expected(each.octets)) for each in samples]
    assert found <= Counter(each.partition(END)[2] for each in kept)
    assert found.total() > 0.8 * len(samples) > 80


def test_the_corpus_can_be_had_as_files(tmp_path: Path) -> None:
    main(str(tmp_path))
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [
        sample.octets for sample in SAMPLES
    ]
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES)
