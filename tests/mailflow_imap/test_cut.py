"""A pipeline from IMAP whose connection breaks, or whose server lies: nothing is lost, and nothing
comes twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mailflow
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import NO_FAULTS, Faults

POSTS = [
    b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n%b\r\n" % (n, n, b"x" * size)
    for n, size in enumerate((10, 300, 400_000, 0, 20))
]
"""The third is longer than what a literal may have in memory."""

CUTS = 25

Visit = Callable[..., int]


@pytest.fixture
def server() -> Iterator[ImapServer]:
    with ImapServer({"ann": "secret"}, {"ann": POSTS}) as running:
        yield running


@pytest.fixture
def visit(server: ImapServer, tmp_path: Path) -> Visit:
    """One run of a pipeline from there into a Maildir; gives its exit status."""

    def run(number: int = 0, on_done: str = "delete") -> int:
        home = tmp_path / str(number)
        home.mkdir(exist_ok=True)
        pipeline = {
            "pipeline": {"name": "ann", "journal": str(home / "journal.db")},
            "fetch": [
                {
                    "use": "imap", "host": server.host, "port": server.port, "user": "ann",
                    "password": "secret", "timeout": "2s", "keep": "0d", "batch": 300,
                    "on_done": on_done,
                }
            ],
            "distribute": [{"use": "maildir", "path": str(home / "Mail")}],
        }  # fmt: skip
        return mailflow.run(pipeline, now=True)

    return run


def arrived(tmp_path: Path, number: int = 0) -> list[bytes]:
    files = (tmp_path / str(number) / "Mail").glob("new/*")
    return sorted(file.read_bytes().replace(b"\n", b"\r\n") for file in files)


def test_pml_13_mail_is_fetched_over_imap_and_handed_on_once(
    server: ImapServer, visit: Visit, tmp_path: Path
) -> None:
    for _ in range(2):
        assert visit(on_done="keep") == 0
        assert arrived(tmp_path) == sorted(POSTS)
    assert server.messages("ann") == POSTS


@pytest.mark.parametrize(("reset", "on_done"), [(False, "delete"), (True, "move Done")])
def test_f1_cut_at_any_octet_each_message_comes_once_and_whole(
    server: ImapServer, visit: Visit, tmp_path: Path, reset: bool, on_done: str
) -> None:
    """Each time also in the middle of a literal, and before the answer to what was settled."""
    server.sent = 0
    assert visit(0, on_done) == 0
    total = server.sent
    early = total - 1500 - len(POSTS[2])
    places = [*range(5, early, max(1, early // 10)), *range(early, total - 1500, 50_000)]
    places += range(total - 1500, total, 1500 // CUTS)
    for number, place in enumerate(places, 1):
        server.folder("ann").messages.clear()
        server.folder("ann", "Done").messages.clear()
        for post in POSTS:
            server.deliver("ann", post)
        server.faults = Faults(cut_at=place, reset=reset)
        visit(number, on_done)
        server.faults = NO_FAULTS
        assert visit(number, on_done) == 0, place
        assert arrived(tmp_path, number) == sorted(POSTS), place
        assert server.messages("ann") == [], place
        if on_done != "delete":
            assert sorted(server.messages("ann", "Done")) == sorted(POSTS), place


@pytest.mark.parametrize("change", [-1, 1, 100, 10**9, 2**32, 10**30])
def test_f15_a_literal_of_another_length_brings_no_other_mail(
    server: ImapServer, visit: Visit, tmp_path: Path, change: int
) -> None:
    """Octets of what follows are no part of a message, and what is not whole is none."""
    size = len(POSTS[1])
    lie = {"UID FETCH 2 ": lambda right: right.replace(b"{%d}" % size, b"{%d}" % (size + change))}
    server.faults = Faults(answers=lie)
    assert visit() != 0
    assert set(arrived(tmp_path)) <= set(POSTS)
    server.faults = NO_FAULTS
    assert visit() == 0
    assert arrived(tmp_path) == sorted(POSTS)
    assert server.messages("ann") == []


@pytest.mark.parametrize(
    "said",
    [
        b"* 1 EXPUNGE\r\n",
        b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n",
        b"* 77 EXISTS\r\n* 3 RECENT\r\n",
        b"* 2 FETCH (FLAGS (\\Seen \\Deleted))\r\n",
        b"* 2 FETCH (UID 2 FLAGS (\\Seen \\Deleted))\r\n",
        b"* OK [ALERT] rain\r\n* OK still here\r\n",
    ],
)
def test_f16_what_nobody_asked_for_changes_nothing(
    server: ImapServer, visit: Visit, tmp_path: Path, said: bytes
) -> None:
    server.faults = Faults(
        before=dict.fromkeys(("EXAMINE", "SELECT", "UID FETCH", "UID STORE", "UID EXPUNGE"), said)
    )
    visit()
    server.faults = NO_FAULTS
    assert visit() == 0
    assert arrived(tmp_path) == sorted(POSTS)
    assert server.messages("ann") == []


@pytest.mark.parametrize("command", ["EXAMINE", "UID FETCH 1:", "UID FETCH 3 ", "UID EXPUNGE"])
def test_f16_bye_ends_the_session_and_the_next_goes_on(
    server: ImapServer, visit: Visit, tmp_path: Path, command: str
) -> None:
    server.faults = Faults(before={command: b"* BYE shutting down\r\n"}, cut_before=[])
    visit()
    server.faults = NO_FAULTS
    assert visit() == 0
    assert arrived(tmp_path) == sorted(POSTS)
    assert server.messages("ann") == []


def test_f13_what_was_settled_and_not_confirmed_is_settled_again(
    server: ImapServer, visit: Visit, tmp_path: Path
) -> None:
    server.faults = Faults(cut_before=["UID EXPUNGE"])
    assert visit() == 75
    assert arrived(tmp_path) == sorted(POSTS)
    assert len(server.messages("ann")) > 0
    server.faults = NO_FAULTS
    assert visit() == 0
    assert arrived(tmp_path) == sorted(POSTS)
    assert server.messages("ann") == []
