"""Which calls of a session may fail with what, one of them made to fail, and what is said of it.

Rule of the file: a step fails once; whoever starts the program then starts it again, and
only what lies at both ends, and the exit status, count.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mailflow.testing.crash import Session
from mailflow.testing.kill import Step

from .conftest import KILLS, note
from .ways import Strike

ERRORS = {
    "open": ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM"),
    "write": ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EFBIG"),
    "sync": ("EIO", "ENOSPC", "EDQUOT", "EROFS"),
    "link": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "rename": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "unlink": ("EIO", "EROFS", "ENOSPC", "EDQUOT"),
    "rmdir": ("EIO", "EROFS", "ENOSPC", "EDQUOT"),
    "mkdir": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
    "truncate": ("EIO", "EFBIG", "EROFS", "ENOSPC", "EDQUOT"),
    "fallocate": ("ENOSPC", "EDQUOT", "EIO", "EROFS"),
}
"""What each family of calls may answer; see the page of each in section 2 of the manual. A file
system that copies what it changes needs room to remove a name, too."""


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

Try = tuple[Kind, int, int]
"""(kind, which of that kind, errno)"""


def kind_of(step: Step, home: Path) -> Kind:
    return step.call, re.sub(r"\w*\d[\w.,=]*", "N", step.target.replace(str(home), ""))


def attempts(steps: list[Step], home: Path) -> Iterator[Try]:
    """What to try: the first or the last of each kind, with one errno after the other, and each
    kind of flush with EIO in any case (D3). `make crash` has each step fail once, and the
    steps of each kind with each errno; with MAILFLOW_KILLS=1000 each step with each."""
    counts = Counter(kind_of(step, home) for step in steps if on_disk(step))
    for turn, (kind, count) in enumerate(counts.items()):
        names = ERRORS[family(kind[0])]
        if KILLS >= 1000:
            for which in range(count):
                yield from ((kind, which, getattr(errno, name)) for name in names)
        elif KILLS >= 100:
            for each in range(max(count, len(names))):
                yield kind, each % count, getattr(errno, names[(turn + each) % len(names)])
        else:
            last = (count - 1) * (turn % 2)
            if family(kind[0]) == "sync":
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


def struck(session: Session, answer: Callable[[Step], int | None], run: int = 0) -> list[str]:
    """What is wrong with a session whose run `run` was under `answer`."""
    session.session(Strike(run=run, blow=session.fallen, answer=answer))
    first = session.outcomes[run]
    found = session.complaints()
    if "Traceback" in first.stderr or "internal error" in first.stderr:
        found.append(f"says: {first.stderr}")
    if first.status not in (0, 74, 75):
        found.append(f"exits {first.status}: {first.stderr}")
    if first.status and not first.stderr.strip():
        found.append(f"exits {first.status} without a word")
    return found


def tried(
    name: str, make: Callable[[], Session], tries: Sequence[Try], run: int = 0
) -> tuple[list[str], int]:
    """What is wrong after each of them, in a session of its own; and how many steps failed:
    with another order of threads some are not there."""
    complaints: list[str] = []
    hits = 0
    for kind, which, error in tries:
        session = make()
        answer = Once(session.home, kind, which, error)
        found = struck(session, answer, run)
        if answer.hit is None:
            continue
        hits += 1
        code, status = errno.errorcode[error], session.outcomes[run].status
        note(use=name, blow=code, call=kind[0], file=kind[1], status=status, found=found)
        complaints += [f"{name}, {code}: {text} ({answer.hit})" for text in found]
        if not found:
            shutil.rmtree(session.home)
    return complaints, hits
