"""Whatever the system refuses, once or from then on, costs no mail and doubles none."""

from __future__ import annotations

import errno
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mailflow.testing.kill import Step

from .conftest import KILLS, Disks, Open
from .ways import PATIENCE, Strike, Way

pytestmark = [
    pytest.mark.crash,
    pytest.mark.interop("dovecot-pop3d"),
    pytest.mark.timeout(600),
]

SHARDS = 2

ERRORS = {
    "open": ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM"),
    "write": ("ENOSPC", "EDQUOT", "EIO", "EFBIG"),
    "sync": ("EIO", "ENOSPC", "EDQUOT"),
    "link": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "rename": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "unlink": ("EIO", "EROFS"),
    "rmdir": ("EIO", "EROFS"),
    "mkdir": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "truncate": ("EIO", "EFBIG"),
}
"""What each family of calls may answer; see the page of each in section 2 of the manual."""

NEEDS_ROOM = ("open", "pwrite", "write", "link", "mkdir", "rename", "sync")


def on_disk(step: Step) -> bool:
    """Whether it concerns a file: what goes over a socket or a pipe is not this page's."""
    return step.target.startswith("/") and not step.call.startswith("send")


def family(call: str) -> str:
    """open, link and mkdir for openat, linkat and mkdirat; write for pwrite64 ..."""
    if "unlink" in call:
        return "unlink"
    return next(name for name in ERRORS if name in call)


Kind = tuple[str, str]
"""A call, and to which kind of file."""


def kind_of(step: Step, home: Path) -> Kind:
    return step.call, re.sub(r"\w*\d[\w.,=]*", "N", step.target.replace(str(home), ""))


def attempts(steps: list[Step], home: Path) -> Iterator[tuple[Kind, int, int]]:
    """(kind, which of that kind, errno) to try: the first or the last of each kind, with one
    errno after the other, and each kind of flush with EIO in any case (D3); `make crash`
    tries the first, a middle one and the last with each errno."""
    counts = Counter(kind_of(step, home) for step in steps if on_disk(step))
    for turn, (kind, count) in enumerate(counts.items()):
        names = ERRORS[family(kind[0])]
        if KILLS >= 100:
            for which in {0, count // 2, count - 1}:
                yield from ((kind, which, getattr(errno, name)) for name in names)
        else:
            last = (count - 1) * (turn % 2)
            if names is ERRORS["sync"]:
                yield kind, count - 1 - last, errno.EIO
            yield kind, last, getattr(errno, names[turn % len(names)])


class Once:
    """Has one step of a session fail. Threads do not take turns twice in the same order:
    so it is the n-th of its kind, and not of all."""

    def __init__(self, home: Path, kind: Kind, which: int, error: int) -> None:
        self.home, self.kind, self.which, self.error = home, kind, which, error
        self.hit: Step | None = None

    def __call__(self, step: Step) -> int | None:
        if self.hit or kind_of(step, self.home) != self.kind:
            return None
        self.which -= 1
        if self.which >= 0:
            return None
        self.hit = step
        return self.error


def struck(way: Way, answer: Callable[[Step], int | None], what: str) -> list[str]:
    """Run the session, its first run under `answer`, and look at everything."""

    def after() -> None:
        way.doubts = way.look()

    way.session(Strike(run=0, blow=after, answer=answer))
    first = way.outcomes[0]
    found = way.complaints()
    if "Traceback" in first.stderr or "internal error" in first.stderr:
        found.append(f"says: {first.stderr}")
    if first.status not in (0, 74, 75):
        found.append(f"exits {first.status}: {first.stderr}")
    if first.status and not first.stderr.strip():
        found.append(f"exits {first.status} without a word")
    return [f"{way.name}, {what}: {text}" for text in found]


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", ["deliver-first", "hook", "common", "hook-smtp"])
def test_d01_d03_a_call_that_fails_once_loses_and_doubles_nothing(
    open_way: Open, control: Callable[[str], Way], name: str, shard: int
) -> None:
    """The journal's calls and the destination's, each with the errors it may give."""
    way = control(name)
    complaints: list[str] = []
    hits = []
    tries = list(attempts(way.outcomes[0].steps, way.home))[shard::SHARDS]
    for kind, which, error in tries:
        fresh = open_way(name)
        answer = Once(fresh.home, kind, which, error)
        found = struck(fresh, answer, errno.errorcode[error])
        complaints += [f"{text} ({answer.hit})" for text in found]
        hits.append(answer.hit is not None)
    assert not complaints, "\n".join(complaints)
    assert sum(hits) >= 0.8 * len(tries)


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
        complaints += struck(way, answer, f"{error} from step {start} on")
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
