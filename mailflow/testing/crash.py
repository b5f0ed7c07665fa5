"""Kill a session of the program at every step, or at any time, and see what became of the mail.

    class Flight(Trip):
        def prepare(self):
            self.loft = Loft(self.home / "loft", messages())
            return f'[[fetch]]\nuse = "pigeon"\nloft = "{self.loft.path}"\n ...'

        def left(self): ...         # what is still at the source
        def arrived(self): ...      # what is at the destination

    assert killed_before_each_step(Flight, tmp_path) == []

Rule of the file: each blow is struck in a home of its own, once; then whoever starts the
program (cron, here) starts it again until it is content, and only what lies at the source
and at the destination counts.
"""

from __future__ import annotations

import os
import random
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from mailflow.testing import kill

if TYPE_CHECKING:
    from mailflow.testing.kill import Outcome, Step
    from mailflow.testing.power import Disk

PATIENCE = 8
"""So often the program is started again before its mail is called lost."""

MORE = 5
"""Steps more than the control had: threads do not take turns twice in the same order."""


class Strike:
    """One blow: before step `number` of the session, `seconds` into its run `run`, or, with
    neither, right after the exit of that run; no blow at all with `run` -1.

    `blow` is called as the program is killed, or has just ended (cut the power there),
    `mend` once it is gone. `answer` may have steps fail, or be pretended.
    """

    def __init__(
        self,
        number: int | None = None,
        *,
        run: int = -1,
        seconds: float | None = None,
        blow: Callable[[], None] = lambda: None,
        mend: Callable[[], None] = lambda: None,
        answer: Callable[[Step], int | None] = lambda step: None,
    ) -> None:
        self.number, self.run, self.seconds = number, run, seconds
        self.blow, self.mend, self.answer = blow, mend, answer
        self.struck = False
        self.where = ""
        self._steps = 0

    def decide(self, step: Step) -> int | None:
        """The answer to a step, for kill.watch."""
        hit = self._steps == self.number
        self._steps += 1
        return kill.KILL if hit else self.answer(step)

    def strike(self) -> None:
        self.struck = True
        self.blow()

    def fell(self, where: str) -> None:
        """The program is gone; `where` says in words where it was."""
        self.where = where
        self.mend()


class Session(ABC):
    """A session of the program in a home of its own, and the runs that it takes.

    `outcomes` are the runs so far. `environment` is all that the program gets; of that of
    the tests it has PATH and PYTHONPATH.
    """

    program: ClassVar[list[str]] = [sys.executable, "-m", "mailflow"]

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        self.outcomes: list[Outcome] = []

    @abstractmethod
    def session(self, strike: Strike) -> None:
        """The session, struck once and then brought to its end by whoever starts it."""

    @abstractmethod
    def complaints(self) -> list[str]:
        """What is wrong now that everything has settled."""

    def fallen(self) -> None:  # noqa: B027  # most want to know nothing of it
        """Called once the program was struck, before it is started again."""

    def close(self) -> None:  # noqa: B027  # most have nothing open
        """End what has been started for the session."""

    @property
    def runs(self) -> list[float]:
        """How long each run of an undisturbed session took, from its first step on."""
        return [outcome.seconds for outcome in self.outcomes]

    @property
    def first_steps(self) -> list[Step]:
        """The steps of a session up to the exit that tells its starter: it is done."""
        return self.outcomes[0].steps

    def start(self, strike: Strike | None, *arguments: str, stdin: bytes = b"") -> Outcome:
        """Run the program once; under `strike` until it has struck."""
        command = [*self.program, *arguments]
        number = len(self.outcomes)
        if strike is None or strike.where:
            outcome = kill.watch(command, env=self.environment, stdin=stdin)
            self.outcomes.append(outcome)
            return outcome
        mine = strike.run == number
        outcome = kill.watch(
            command, strike.decide, env=self.environment, stdin=stdin,
            after=strike.seconds if mine else None, before_kill=strike.strike,
        )  # fmt: skip
        self.outcomes.append(outcome)
        if strike.struck:  # without its disks it may have ended by itself before SIGKILL
            strike.fell(f"run {number}, {outcome.seconds:.4f} s, {outcome.last}")
            self.fallen()
        elif mine and strike.seconds is None:
            strike.blow()
            strike.fell(f"after the exit of run {number} with status {outcome.status}")
        return outcome


class Trip(Session):
    """`mailflow run` on a pipeline, as cron starts it, from a source to a destination.

    `copies` is how many of one message a crash may leave at most: 2 where the destination
    is not repeatable, since one may be in doubt.
    """

    copies = 1

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.file = home / "trip.toml"
        text = self.prepare()
        self.file.write_text(f'[pipeline]\njournal = "{home}/journal.db"\n{text}')

    @abstractmethod
    def prepare(self) -> str:
        """Put mail at the source, in `home`; gives the steps of the pipeline as TOML."""

    @abstractmethod
    def left(self) -> Sequence[bytes]:
        """What is still at the source; nothing, once all is well."""

    @abstractmethod
    def arrived(self) -> Sequence[bytes]:
        """What is at the destination."""

    @abstractmethod
    def expected(self) -> Sequence[bytes]:
        """What must be there in the end, each message once."""

    def session(self, strike: Strike) -> None:
        arguments = ("run", "--now", str(self.file))
        self.start(strike, *arguments)
        for _ in range(PATIENCE):
            if self.start(None, *arguments).status == 0:
                break

    def complaints(self) -> list[str]:
        said = [f"left at the source: {octets[:60]!r}" for octets in self.left()]
        wanted, found = Counter(self.expected()), Counter(self.arrived())
        said += [f"lost: {octets[:60]!r}" for octets in (wanted - found).elements()]
        for octets, count in found.items():
            if octets not in wanted:
                said.append(f"not as it was: {octets[:60]!r}")
            elif count > self.copies * wanted[octets]:
                said.append(f"there {count} times: {octets[:60]!r}")
        return said


S = TypeVar("S", bound=Session)
Open = Callable[[Path], S]
"""Makes a session in a directory: a class of yours will do."""

Told = Callable[[Strike, list[str]], None]
"""Hears of a blow, and what is wrong after it."""


def undisturbed(make: Open[S], directory: Path) -> S:
    """A session that nobody disturbs: the control of every blow. Raises AssertionError
    where something is wrong without any."""
    with closing(make(directory)) as session:
        session.session(Strike())
        found = session.complaints()
        found += {f"status {o.status}: {o.stderr}": 0 for o in session.outcomes if o.status}
        if found:
            raise AssertionError("\n".join(["undisturbed, it is wrong already:", *found]))
        return session


def kill_points(steps: Sequence[Step], *, thorough: bool = False) -> list[int]:
    """The steps to kill before, by their number; with `thorough` all of them.

    Otherwise, of writes in a row to one file all but the first and the last are left out:
    they are parts of one SQLite commit, which its last frame makes valid.
    """
    wanted = set(range(len(steps) + MORE))
    kinds = [(step.call, step.target) for step in steps]
    if not thorough:
        for number in range(1, len(steps) - 1):
            if kinds[number - 1] == kinds[number] == kinds[number + 1]:
                wanted.discard(number)
    return sorted(wanted)


def killed_before_each_step(
    make: Open[S],
    directory: Path,
    *,
    thorough: bool = False,
    share: tuple[int, int] = (0, 1),
    disk: Disk | None = None,
) -> list[str]:
    """What is wrong after a kill before each step that a session takes; [] is what you want.

    `share` (i, n) tries every n-th step from the i-th on, so that tests can be run side by
    side. With `disk`, the power of that disk is cut with each kill, and once more when all is
    done: what is on it and was not flushed is gone. Put the destination there and nothing
    else, since any later flush of the same file system saves what was forgotten before it.
    Raises AssertionError where a session is wrong without a kill.
    """
    steps = undisturbed(make, directory / "undisturbed").first_steps
    points = kill_points(steps, thorough=thorough)[share[0] :: share[1]]
    strikes = [_strike(disk, number) for number in points]
    found = _struck(make, directory, strikes, disk)
    hits = sum(bool(strike.where) for strike in strikes)
    if hits < 0.8 * (len(points) - MORE):
        raise AssertionError(f"of {len(points)} kills {hits} hit: {make} is not twice the same")
    return found


def killed_at_random(
    make: Open[S],
    directory: Path,
    *,
    times: int,
    seed: object,
    disk: Disk | None = None,
    told: Told = lambda strike, found: None,
) -> list[str]:
    """What is wrong after kills at `times` moments that `seed` draws; [] is what you want.

    With `disk` as in `killed_before_each_step`. `told` hears of each blow and what it did.
    """
    rng = random.Random(f"{seed}")  # to be drawn again
    (seconds, *_) = undisturbed(make, directory / "undisturbed").runs
    moments = [rng.uniform(0, seconds * 1.1) for _ in range(times)]
    strikes = [_strike(disk, run=0, seconds=moment) for moment in moments]
    return _struck(make, directory, strikes, disk, told)


def _strike(
    disk: Disk | None, number: int | None = None, *, run: int = -1, seconds: float | None = None
) -> Strike:
    if disk is None:
        return Strike(number, run=run, seconds=seconds)
    return Strike(number, run=run, seconds=seconds, blow=disk.off, mend=disk.on)


def _struck(
    make: Open[S],
    directory: Path,
    strikes: Iterable[Strike],
    disk: Disk | None,
    told: Told = lambda strike, found: None,
) -> list[str]:
    found = []
    for number, strike in enumerate(strikes):
        with closing(make(directory / f"struck-{number}")) as session:
            if disk:
                os.sync()  # what the session begins with has long been there
            session.session(strike)
            if disk:
                disk.cut()
            complaints = session.complaints()
            told(strike, complaints)
            found += [f"killed in {strike.where}: {text}" for text in complaints]
    return found


__all__ = [
    "Session", "Strike", "Trip", "kill_points", "killed_at_random", "killed_before_each_step",
    "undisturbed",
]  # fmt: skip
