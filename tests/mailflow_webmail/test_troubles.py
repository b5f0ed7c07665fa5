"""What a webmail can do to us: each trouble of the test bed is met by a whole run into a Maildir.

Rule of the file: whatever goes wrong, every message lies in the Maildir or at the webmail, and
none twice in the Maildir; and once the trouble is over, all of them are in the Maildir.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import mailflow
from mailflow.errors import LoginError, MailflowError, PeerError, UnavailableError
from mailflow.halt import Halt
from mailflow.testing.webmail import TestBed
from mailflow_webmail.account.session import opened
from mailflow_webmail.errors import ChallengeError, LayoutError, ThrottledError
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.testbed.pages import WORDS
from mailflow_webmail.testbed.troubles import KNOWN

ROOT = Path(__file__).parents[2]

MESSAGES = [
    b"Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nGr\xfc\xdfe\t \xc3\xa4 %d\r\n\r\n" % (n, n, n)
    for n in range(25)
]


class Journey:
    """A pipeline from the test bed into a Maildir, which is run as often as one likes. What was
    `put` there arrives, but for what somebody else deleted, which is `gone` and may arrive."""

    def __init__(self, bed: TestBed, home: Path, errors: pytest.CaptureFixture[str]) -> None:
        self.bed = bed
        self.home = home
        self.put = MESSAGES
        self.gone: list[bytes] = []
        self._errors = errors
        bed.put("INBOX", *MESSAGES)

    def run(self, **options: object) -> tuple[int, list[str]]:
        """The exit status, and the lines with errors."""
        self._errors.readouterr()
        fetch = self.bed.source(name="page", keep="0d", **options)
        status = mailflow.run(
            {
                "pipeline": {"name": "red", "journal": str(self.home / "journal.db")},
                "fetch": [fetch],
                "distribute": [{"use": "maildir", "path": str(self.home / "Maildir")}],
            },
            now=True,
        )
        said = self._errors.readouterr().err.splitlines()
        self.nothing_is_lost()
        return status, [line for line in said if "[error]" in line]

    @property
    def maildir(self) -> list[bytes]:
        """Without what is put before each."""
        found = [path.read_bytes() for path in (self.home / "Maildir" / "new").glob("*")]
        return [text[text.index(b"Subject: ") :].replace(b"\n", b"\r\n") for text in found]

    @property
    def left(self) -> list[bytes]:
        return self.bed.messages("INBOX")

    def nothing_is_lost(self) -> None:
        counts = Counter(self.maildir)
        assert not counts - Counter(self.put), "doubled, or other octets"
        assert set(self.put) <= counts.keys() | {*self.left, *self.gone}

    def ends_well(self, **options: object) -> None:
        """As soon as the trouble is over, everything is where it should be."""
        self.bed.quiet()
        assert self.run(**options) == (0, [])
        assert Counter(self.maildir) + Counter(self.gone) >= Counter(self.put)
        assert self.left == []


@pytest.fixture
def journey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Journey]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with TestBed(page_size=10) as bed:
        yield Journey(bed, tmp_path, capfd)


class Case(NamedTuple):
    """A trouble as it is switched on, how a run ends with it, and what is there afterwards.
    `error` is what a session raises, `told` a part of its line."""

    status: int = 0
    error: type[MailflowError] | None = None
    told: str = ""
    changes: Mapping[str, Any] = {}
    options: Mapping[str, object] = {}
    stored: int = 0
    left: int = len(MESSAGES)


def _well(**changes: object) -> Case:
    return Case(changes=changes, stored=len(MESSAGES), left=0)


IMPATIENT = {"timeout": "400ms"}

CASES = {
    "expired": _well(after=20),
    "usurped": _well(),
    "layout": Case(76, LayoutError, r"testbed: list: .*css #empty"),
    "throttled": _well(after=4, seconds=1, times=1),
    "throttled-page": Case(75, ThrottledError, "list: .*left alone for a while", {"after": 4}),
    "slow": Case(75, UnavailableError, "no answer in time", {"after": 4, "seconds": 2}, IMPATIENT),
    "stalled": Case(75, UnavailableError, "no answer in time", {"seconds": 2}, IMPATIENT),
    "truncated": Case(75, UnavailableError, "broke off in the middle"),
    "error": Case(75, UnavailableError, "testbed: login: .*out of order"),
    "unavailable": Case(75, UnavailableError, "testbed: login: .*out of order"),
    "maintenance": Case(75, UnavailableError, "testbed: list: .*out of order", {"at": ("list",)}),
    "challenge": Case(77, ChallengeError, "testbed: login: .*asks for a human"),
    "interstitial": Case(76, LayoutError, r"testbed: list: .*css #empty"),
    "gzip": _well(),
    "pre": Case(76, LayoutError, "testbed: raw: .*type message/rfc822"),
    "twice": Case(76, LayoutError, "testbed: raw: .*type message/rfc822"),
    "unsized": Case(stored=len(MESSAGES)),
    "blank": Case(75, UnavailableError, "testbed: raw: the source is empty"),
    "positions": Case(76, LayoutError, "testbed: "),
    "overlap": _well(),
    "arriving": _well(),
    "leaving": _well(),
    "uncounted": Case(76, LayoutError, "testbed: list: `total` does not hold: css #count"),
    "empty": Case(76, LayoutError, r"testbed: list: .*css #empty"),
    "subject": _well(),
    "stubborn": Case(
        75, UnavailableError, "delete: 25 of 25 messages are still in", stored=len(MESSAGES)
    ),
    "dropped": Case(75, UnavailableError, "closed the connection without an answer"),
    "unanswered": Case(
        75,
        UnavailableError,
        "closed the connection without an answer",
        stored=len(MESSAGES),
        left=0,
    ),
}


def test_every_trouble_of_the_test_bed_has_a_test() -> None:
    assert CASES.keys() == KNOWN.keys()


def test_the_page_on_webmail_says_what_each_trouble_ends_with() -> None:
    with (ROOT / "docs" / "webmail-troubles.csv").open(newline="") as file:
        told = {name: (what, int(end.rpartition(", ")[2])) for name, what, end in csv.reader(file)}
    assert told == {name: (KNOWN[name].what, case.status) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_f26_a_trouble_costs_no_message_and_is_told_in_one_line(
    journey: Journey, name: str
) -> None:
    case = CASES[name]
    journey.bed.trouble(name, **case.changes)
    status, errors = journey.run(**case.options)
    assert (status, len(errors)) == (case.status, 1 if case.told else 0)
    assert re.search(case.told, "".join(errors))
    assert (len(journey.maildir), len(journey.left)) == (case.stored, case.left)
    journey.ends_well()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.error])
def test_f26_a_trouble_is_an_error_of_its_own_class(journey: Journey, name: str) -> None:
    case = CASES[name]
    journey.bed.trouble(name, **case.changes)
    given = {**journey.bed.source(), **case.options}
    del given["use"]
    with pytest.raises(MailflowError) as caught:
        _read(WebmailOptions.read(given), str(journey.home))
    assert type(caught.value) is case.error
    assert caught.value.exit_code == case.status


def _read(options: WebmailOptions, scratch: str) -> None:
    """List, load and delete all."""
    halt = Halt()
    session = opened(options, halt, scratch)
    try:
        rows = session.listing("INBOX")
        for row in rows:
            session.raw(row)
        session.remove(rows, "delete")
    finally:
        session.browser.close()
        halt.close()


def test_only_a_page_that_a_human_must_see_ends_a_pipeline_for_good() -> None:
    """Everything else is tried again by itself."""
    for name, case in CASES.items():
        if case.error is not None:
            assert case.error.temporary == (name != "challenge")
            assert issubclass(case.error, LoginError | PeerError | UnavailableError)


def test_a_page_for_humans_is_known_in_the_middle_of_a_session_too(journey: Journey) -> None:
    journey.bed.trouble("challenge", at=("list",), after=1)
    status, (error,) = journey.run()
    assert status == 77
    assert "testbed: list: the webmail asks for a human" in error
    journey.ends_well()


def test_a_webmail_that_wants_a_long_rest_is_left_to_the_engine(journey: Journey) -> None:
    journey.bed.trouble("throttled", after=4, times=0, seconds=3600)
    status, (error,) = journey.run()
    assert status == 75
    assert "left alone for 3600 seconds" in error
    journey.ends_well()


def test_a_connection_that_ended_is_no_trouble_where_asking_again_is_harmless(
    journey: Journey,
) -> None:
    journey.bed.trouble("dropped", at=("folders", "list", "source"))
    assert journey.run() == (0, [])
    assert journey.left == []
    journey.ends_well()


def test_a_deletion_whose_answer_was_lost_is_looked_up_and_not_guessed(journey: Journey) -> None:
    journey.bed.trouble("dropped", at=("change",))
    journey.run()
    assert len(journey.maildir) == len(MESSAGES)
    journey.ends_well()


def test_a_second_login_in_the_middle_ends_a_session_and_no_message_is_lost(
    journey: Journey,
) -> None:
    journey.bed.trouble("usurped")
    journey.bed.meanwhile("source", 5, journey.bed.log_out_all)
    assert journey.run() == (0, [])
    journey.ends_well()


def test_a_message_that_another_client_deletes_meanwhile_is_no_error(journey: Journey) -> None:
    journey.gone = [MESSAGES[0]]
    uid = journey.bed.uids("INBOX")[0]
    journey.bed.meanwhile("source", 2, lambda: journey.bed.delete("INBOX", uid))
    assert journey.run() == (0, [])
    journey.ends_well()


def test_a_message_that_comes_while_pages_are_turned_is_fetched_at_once_or_next_time(
    journey: Journey,
) -> None:
    new = b"Subject: new\r\n\r\nnew\r\n"
    journey.put = [*MESSAGES, new]
    journey.bed.meanwhile("list", 2, lambda: journey.bed.put("INBOX", new))
    assert journey.run() == (0, [])
    journey.ends_well()


VARIANTS = {
    "pre": {'expect = { type = "message/rfc822" }': 'pre = "pre#source"\nrecode = CODES'},
    "twice": {
        'expect = { type = "message/rfc822" }': 'expect = { type = "text/plain" }\nrecode = CODES'
    },
    "positions": {"a.src": "a.place", "\n[list]\n": "\n[list]\nvolatile = true\n"},
}
"""What a definition says where that is how a webmail is, and no trouble."""

CODES = '["utf-8", "latin-1"]'


@pytest.fixture
def variant(journey: Journey, request: pytest.FixtureRequest) -> str:
    """A site of one's own, in the user's directory."""
    name: str = request.param
    text = files("mailflow_webmail").joinpath("sites/testbed.toml").read_text()
    for old, new in VARIANTS[name].items():
        assert old in text
        text = text.replace(old, new.replace("CODES", CODES))
    directory = journey.home / "config" / "mailflow" / "sites"
    directory.mkdir(parents=True)
    (directory / f"{name}.toml").write_text(text)
    return name


@pytest.mark.parametrize("variant", VARIANTS, indirect=True)
def test_what_a_definition_says_of_a_webmail_is_no_trouble(journey: Journey, variant: str) -> None:
    journey.bed.trouble(variant)
    assert journey.run(site=variant) == (0, [])
    assert Counter(journey.maildir) == Counter(MESSAGES)
    assert journey.left == []


@pytest.mark.parametrize("variant", ["positions"], indirect=True)
def test_places_that_shift_between_list_and_source_exchange_no_message(
    journey: Journey, variant: str
) -> None:
    journey.bed.trouble("positions")
    journey.gone = [MESSAGES[20]]
    uid = journey.bed.uids("INBOX")[20]
    journey.bed.meanwhile("source", 3, lambda: journey.bed.delete("INBOX", uid))
    journey.run(site=variant)
    journey.run(site=variant)
    assert Counter(journey.maildir) + Counter(journey.gone) >= Counter(MESSAGES)
    assert journey.left == []


def test_lists_in_json_are_another_site(journey: Journey) -> None:
    journey.bed.set(json_lists=True)
    status, errors = journey.run()
    assert (status, len(errors)) == (76, 1)
    assert journey.run(site="testbed-json") == (0, [])
    assert Counter(journey.maildir) == Counter(MESSAGES)
    assert journey.left == []


@pytest.mark.parametrize("language", WORDS)
def test_pwm_37_one_definition_reads_every_language(journey: Journey, language: str) -> None:
    journey.bed.set(language=language)
    journey.bed.trouble("maintenance")
    status, (error,) = journey.run()
    assert status == 75
    assert "out of order" in error
    journey.ends_well()


@pytest.mark.parametrize("language", WORDS)
def test_pwm_37_a_wrong_password_is_known_in_every_language(
    journey: Journey, language: str
) -> None:
    journey.bed.set(language=language, password="another")
    status, errors = journey.run()
    assert (status, len(errors)) == (77, 1)
    assert len(journey.left) == len(MESSAGES)


MAIL = b"From: demo@example.org\nTo: ann@example.org\nSubject: Hello\nMessage-ID: <1@x>\n\nHi!\n"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("unanswered", {}), ("dropped", {}), ("error", {"at": ("compose",)}),
        ("error", {"at": ("compose",), "after": 1}), ("expired", {"after": 2}),
        ("challenge", {"at": ("compose",)}), ("maintenance", {"at": ("login", "compose")}),
        ("throttled-page", {"at": ("compose",)}), ("slow", {"at": ("compose",), "seconds": 2}),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_a_mail_is_sent_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    changes: dict[str, Any],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "mbox").write_bytes(b"From demo@example.org Thu Jan  1 00:00:00 2026\n" + MAIL)
    with TestBed() as bed:
        table = {**bed.source(timeout="400ms"), "name": "form"}
        pipeline = {
            "pipeline": {"name": "out", "journal": str(tmp_path / "journal.db")},
            "fetch": [{"use": "mbox", "path": str(tmp_path / "mbox")}],
            "process": [{"use": "filter.recipients", "add": ["ann@example.org"]}],
            "distribute": [table],
        }
        bed.trouble(name, **changes)
        mailflow.run(pipeline, now=True)
        assert len(bed.messages("Sent")) <= 1
        bed.quiet()
        table["timeout"] = "10s"
        assert mailflow.run(pipeline, now=True) == 0
        (sent,) = bed.messages("Sent")
        assert b"Message-ID: <1@x>\r\n" in sent
