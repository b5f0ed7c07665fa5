"""Rows that are not about how long a program runs: figures with names, and goals for them.

Rule of the file: a table shows medians with the least and the most; a goal is reckoned with
the medians, and holds for each maildrop of ours by itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """`unit` is "" for a plain number, "MB/s", "s" or "octets"."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Goal:
    """Our figure is to be at least (`more`) or at most `bound`: times the best of the
    programs `of`, or as it stands where none is named. `aim` is what would be better still."""

    figure: str
    bound: float
    of: tuple[str, ...] = ()
    more: bool = False
    aim: float | None = None


@dataclass(frozen=True)
class Goals:
    """What a row measures, and what is to be reached. With an `axis`, the figures are named by
    the numbers along it, and drawn as lines."""

    figures: tuple[Figure, ...]
    goals: tuple[Goal, ...]
    axis: str = ""


@dataclass
class Measured:
    """The figures of one contender, one value for each run."""

    name: str
    values: dict[str, list[float]] = field(default_factory=dict)
    fault: str = ""

    def add(self, **figures: float) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def median(self, figure: str) -> float:
        return statistics.median(self.values[figure])


def entry(measured: Measured, role: str, version: str) -> Record:
    """One contender as it stands in the JSON file."""
    values = {name: [round(v, 6) for v in found] for name, found in measured.values.items()}
    return {
        "name": measured.name,
        "role": role,
        "version": version,
        "void": measured.fault,
        "figures": values,
    }


def verdict(target: Goals, measured: Sequence[Measured], roles: dict[str, str]) -> Record:
    """The goals, what was reached, and whether all are met."""
    ours = [each for each in measured if roles[each.name] == "ours"]
    units = {figure.name: figure.unit for figure in target.figures}
    texts, reached, met = [], [], True
    for goal in target.goals:
        texts.append(_goal_text(goal, units[goal.figure]))
        rivals = [each for each in measured if each.name in goal.of and not each.fault]
        for each in ours:
            if each.fault or (goal.of and not rivals):
                reached.append(f"{each.name} void")
                met = False
                continue
            value = each.median(goal.figure)
            if rivals:
                best = (max if goal.more else min)(rival.median(goal.figure) for rival in rivals)
                value /= best
                said = f"{value:.2f} x"
            else:
                said = shown(value, units[goal.figure])
            reached.append(f"{goal.figure} {said} ({each.name})")
            met = met and (value >= goal.bound if goal.more else value <= goal.bound)
    return {
        "target": "; ".join(texts),
        "reached": "; ".join(reached),
        "met": met,
        "units": units,
        "axis": target.axis,
    }


def _goal_text(goal: Goal, unit: str) -> str:
    word = "at least" if goal.more else "at most"
    aim = f", better {goal.aim:g}" if goal.aim else ""
    if goal.of:
        return f"{goal.figure} {word} {goal.bound:g} x {' and '.join(goal.of)}{aim}"
    return f"{goal.figure} {word} {shown(goal.bound, unit)}{aim}"


def shown(value: float, unit: str) -> str:
    """A figure as people read it."""
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"
    if unit == "octets":
        return f"{value / (1 << 20):.1f} MiB" if value >= 1 << 20 else f"{value / 1024:.1f} KiB"
    return f"{value:,.0f} {unit}".rstrip()


def head(found: Record) -> tuple[str, ...]:
    return ("program", *found["verdict"]["units"], "runs")


def cells(found: Record) -> Iterator[tuple[str, ...]]:
    """The table of a row, without its head."""
    units: dict[str, str] = found["verdict"]["units"]
    for each in found["contenders"]:
        name = f"{each['name']} {each['version']}".strip()
        if each["void"]:
            yield (name, "void", *[""] * len(units))
            continue
        line = [name]
        for figure, unit in units.items():
            values = each["figures"].get(figure, [])
            line.append(_span(values, unit) if values else "")
        yield (*line, str(max(len(values) for values in each["figures"].values())))


def _span(values: Sequence[float], unit: str) -> str:
    middle = shown(statistics.median(values), unit)
    if len(values) == 1:
        return middle
    return f"{middle} ({shown(min(values), unit)} to {shown(max(values), unit)})"
