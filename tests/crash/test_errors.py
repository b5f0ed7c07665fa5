"""Whatever the system refuses, once or from then on, costs no mail and doubles none."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from mailflow.testing.crash import Session, undisturbed
from mailflow.testing.kill import Step
from mailflow.testing.webmail import TestBed

from .conftest import KILLS, SEED, Disks, Open
from .refused import attempts, on_disk, struck, tried
from .served import Everything, Expired, Gathered, Served, ServedMaildir
from .test_imap import FromImap, Moved
from .test_trips import MaildirToMbox, MboxToMaildir, MboxToMboxByProgram
from .test_webmail import ByForm, FromPage
from .ways import PATIENCE, Strike, Way

pytestmark = [
    pytest.mark.crash,
    pytest.mark.interop("dovecot-pop3d"),
    pytest.mark.timeout(600 if KILLS < 100 else 36000),
]

SHARDS = 2

PARTS = 1 if KILLS >= 100 else 40
"""`make crash` has every step fail; else a run tries one in so many, others each time."""

NEEDS_ROOM = ("open", "pwrite", "write", "link", "mkdir", "rename", "sync")


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", ["deliver-first", "hook", "common", "hook-smtp"])
def test_d01_d03_a_call_that_fails_once_loses_and_doubles_nothing(
    open_way: Open, control: Callable[[str], Way], name: str, shard: int
) -> None:
    """The journal's calls and the destination's, each with the errors it may give."""
    way = control(name)
    tries = list(attempts(way.outcomes[0].steps, way.home))[shard::SHARDS]
    complaints, hits = tried(name, lambda: open_way(name), tries)
    assert not complaints, "\n".join(complaints)
    assert hits >= 0.8 * len(tries)


@pytest.fixture(scope="module")
def folders() -> Iterator[TestBed]:
    with TestBed(["INBOX", "Trash"]) as bed:
        yield bed


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    outgoing = tmp_path_factory.mktemp("out") / "outgoing"
    outgoing.touch()
    with TestBed(["Sent"], outgoing=str(outgoing)) as bed:
        yield bed


class Hurried(Everything):
    """What cannot be put into the spool is tried again in a second."""

    def text(self) -> str:
        return super().text() + '[[react]]\nuse = "react.retry"\nafter = ["1s"]\n'


OTHERS: dict[str, type[Session]] = {
    each.__name__: each
    for each in (
        MaildirToMbox, MboxToMaildir, MboxToMboxByProgram, Gathered, Served, ServedMaildir,
        Hurried, Expired, FromImap, Moved, FromPage, ByForm,
    )
}  # fmt: skip
"""What else a run or a service may be doing, by name."""


@pytest.fixture
def make(
    request: pytest.FixtureRequest, name: str, tmp_path: Path
) -> Iterator[Callable[[Path], Session]]:
    """Makes sessions of that name."""
    needs = {
        FromImap: "dovecot", Moved: "dovecot", FromPage: "folders", ByForm: "form",
    }  # fmt: skip
    kind: Callable[..., Session] = OTHERS[name]
    server = needs.get(OTHERS[name])
    given = [request.getfixturevalue(server)] if server else []
    with ExitStack() as stack:
        yield lambda home: stack.enter_context(closing(kind(home, *given)))


@pytest.mark.parametrize("name", OTHERS)
def test_d01_d03_a_call_that_fails_once_costs_nothing_whatever_is_at_work(
    make: Callable[[Path], Session], watched: None, tmp_path: Path, name: str
) -> None:
    control = undisturbed(make, tmp_path / "control")
    run = next(
        number for number, each in enumerate(control.outcomes) if each.steps is control.first_steps
    )
    whole = list(attempts(control.first_steps, control.home))
    tries = whole[SEED % PARTS :: PARTS]
    numbers = iter(range(len(tries)))
    complaints, hits = tried(name, lambda: make(tmp_path / f"{next(numbers)}"), tries, run)
    assert not complaints, f"MAILFLOW_SEED={SEED}\n" + "\n".join(complaints)
    assert hits >= 0.7 * len(tries) - 1  # few are drawn, and threads take turns as they like


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EROFS", "EIO"])
@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_d01_a_disk_that_takes_nothing_more_is_waited_for(
    open_way: Open, control: Callable[[str], Way], name: str, error: str
) -> None:
    """From a step on all calls that need the disk fail, to the end of that run."""
    steps = len(control(name).outcomes[0].steps)
    complaints: list[str] = []
    for part in range(3):
        start = steps * (2 * part + 1) // 6

        def answer(step: Step, start: int = start) -> int | None:
            needs = any(word in step.call for word in NEEDS_ROOM) and "unlink" not in step.call
            hit = step.number >= start and needs and on_disk(step)
            return getattr(errno, error) if hit else None

        way = open_way(name)
        complaints += [
            f"{name}, {error} from step {start} on: {text}" for text in struck(way, answer)
        ]
    assert not complaints, "\n".join(complaints)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.{limit}, ({soft}, resource.getrlimit(resource.{limit})[1]))
sys.argv[0] = "mailflow"
from mailflow.__main__ import main
main()
"""


MESSAGE = b"Subject: limited\nMessage-ID: <limited@example.org>\n\n" + b"x" * 79 + b"\n" * 2000


def limited(way: Way, limit: str, soft: int, statuses: Sequence[int] = (0, 74, 75)) -> list[str]:
    """Run the program once under a limit of setrlimit(2), then as ever; what is wrong then."""
    hook = way.name.startswith("hook")
    arguments = ("hook", str(way.file)) if hook else ("run", "--now", str(way.file))
    stdin = MESSAGE if hook else b""
    way.program = [sys.executable, "-c", LIMITED.format(limit=limit, soft=soft)]
    first = outcome = way.start(None, *arguments, stdin=stdin)
    del way.program
    way.doubts = way.look()
    for _ in range(PATIENCE if hook else 0):  # as an MTA does
        if outcome.status:
            outcome = way.start(None, *arguments, stdin=stdin)
    way.start(None, "queue", "retry", "--all", "--file", str(way.file))  # not in a minute
    way.session(Strike())
    found = [text for text in way.complaints() if "<limited@" not in text]
    if hook and way.stored().count(MESSAGE) != 1:
        found.append(f"the message under the limit is there {way.stored().count(MESSAGE)} times")
    if first.status not in statuses or "Traceback" in first.stderr:
        found.append(f"exits {first.status}: {first.stderr}")
    return [f"{limit} {soft}: {text}" for text in found]


@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_d01_d02_a_limit_of_the_size_of_files_leaves_whole_messages(
    open_way: Open, control: Callable[[str], Way], name: str
) -> None:
    """The kernel writes less than it was given, then says EFBIG."""
    control(name)
    complaints = []
    for octets in (0, 1000, 20_000, 100_000, 250_000):
        complaints += limited(open_way(name), "RLIMIT_FSIZE", octets)
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_d01_a_limit_of_open_files_costs_no_mail(
    open_way: Open, control: Callable[[str], Way], name: str
) -> None:
    """With the fewest not even a module of Python can be opened: 78, and 75 to an MTA."""
    control(name)
    complaints = []
    for files in (8, 12, 16, 24):
        statuses = (0, 74, 75) if name == "hook" or files > 12 else (0, 74, 75, 78)
        complaints += limited(open_way(name), "RLIMIT_NOFILE", files, statuses)
    assert not complaints, "\n".join(complaints)


class Dying:
    """Both disks die before a step, and the program lives on, each call failing with EIO."""

    def __init__(self, disks: Disks, number: int) -> None:
        self.disks, self.number = disks, number

    def __call__(self, step: Step) -> int | None:
        if step.number == self.number:
            self.disks.off()
        return None


@pytest.mark.interop("xfsprogs", "e2fsprogs")
@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_d08_disks_that_die_under_a_living_program_are_used_again_when_they_are_back(
    open_way: Open, control: Callable[[str], Way], disks: Disks, name: str
) -> None:
    steps = len(control(name).outcomes[0].steps)
    complaints: list[str] = []
    for part in range(3):
        way = open_way(name, *disks.places("two", part))

        def back(way: Way = way) -> None:
            disks.on()
            way.doubts = way.look()

        number = steps * (2 * part + 1) // 6
        way.session(Strike(run=0, blow=back, answer=Dying(disks, number)))
        first = way.outcomes[0]
        if first.status not in (0, 74, 75) or "Traceback" in first.stderr:
            complaints.append(f"exits {first.status}: {first.stderr}")
        complaints += [f"died before step {number}: {text}" for text in way.complaints()]
    assert not complaints, "\n".join(complaints)
