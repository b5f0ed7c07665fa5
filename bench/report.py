"""What the runs say: a table for the terminal, JSON for the record, a page for the docs.

Rule of the file: the JSON holds every sample; the tables are made from it alone, so that
rows run on different days stand side by side, each with its own date and machine.
"""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from bench import figures, pictures
from bench.figures import Goals, Measured
from bench.measure import Series
from bench.row import Bound, Contender, Outcome, Ratio, Row, Within

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.rst"
BEGIN = ".. begin of the figures: written by `python -m bench`, not by hand\n"
PICTURES = "benchmarks"
"""The directory beside the page."""
END = ".. end of the figures\n"
MIB = 1 << 20

Record = dict[str, Any]


def record(row: Row, outcome: Outcome, machine: dict[str, str]) -> Record:
    """All that is known of one row, as it stands in its JSON file."""
    roles = {contender.name: contender for contender in outcome.contenders}
    metric = "memory" if isinstance(row.target, Bound) else "seconds"
    if isinstance(row.target, Goals):
        metric = "figures"
    said = verdict(row, outcome)
    return {
        "row": row.name,
        "title": row.title,
        "about": row.about,
        "why": "" if said["met"] else row.why,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine,
        "metric": metric,
        "contenders": [_entry(series, roles[series.name]) for series in outcome.series],
        "notes": outcome.notes,
        "verdict": said,
    }


def _entry(series: Series | Measured, contender: Contender) -> Record:
    if isinstance(series, Measured):
        return figures.entry(series, contender.role, contender.version)
    return {
        "name": series.name,
        "role": contender.role,
        "version": contender.version,
        "void": series.fault,
        "seconds": [round(sample.seconds, 5) for sample in series.samples],
        "cpu": [round(sample.cpu, 5) for sample in series.samples],
        "peak": max(sample.peak for sample in series.samples),
    }


def verdict(row: Row, outcome: Outcome) -> Record:
    """The target, what was reached, and whether that meets it."""
    roles = {contender.name: contender.role for contender in outcome.contenders}
    if isinstance(row.target, Goals):
        measured = [each for each in outcome.series if isinstance(each, Measured)]
        return figures.verdict(row.target, measured, roles)
    everyone = [series for series in outcome.series if isinstance(series, Series)]
    (ours,) = [series for series in everyone if roles[series.name] == "ours"]
    if isinstance(row.target, Bound):
        target = f"below {row.target.octets // MIB} MiB"
        if ours.fault:
            return {"target": target, "met": False, "reached": "void"}
        reached = f"{ours.peak / MIB:.1f} MiB"
        return {"target": target, "met": ours.peak < row.target.octets, "reached": reached}
    if isinstance(row.target, Within):
        target = f"below {_time(row.target.seconds)}"
        if ours.fault:
            return {"target": target, "met": False, "reached": "void"}
        return {
            "target": target,
            "met": ours.seconds < row.target.seconds,
            "reached": _time(ours.seconds),
        }
    return _against(ours, everyone, row.target)


def _against(ours: Series, everyone: Sequence[Series], target: Ratio) -> Record:
    gauges = [series for series in everyone if series.name in target.of and not series.fault]
    of = " and ".join(target.of)
    text = f"at most {target.most:g} x {'the faster of ' if len(target.of) > 1 else ''}{of}"
    if ours.fault or not gauges:
        return {"target": text, "met": False, "reached": "void"}
    best = min(gauges, key=lambda series: series.seconds)
    ratio = ours.seconds / best.seconds
    each = [a.seconds / b.seconds for a, b in zip(ours.samples, best.samples, strict=False)]
    span = f"{min(each):.2f} to {max(each):.2f}"
    if len(each) > 20:
        cut = statistics.quantiles(each, n=10)
        span = f"{cut[0]:.2f} to {cut[-1]:.2f}, nine tenths"
    reached = f"{ratio:.2f} x {best.name} (in single repetitions {span})"
    return {"target": text, "met": ratio <= target.most, "reached": reached, "ratio": ratio}


def save(entry: Record) -> None:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{entry['row']}.json"
    path.write_text(json.dumps(entry, indent=1) + "\n")


def saved(names: Sequence[str]) -> list[Record]:
    """The records of these rows, in this order, that have been run."""
    paths = [RESULTS / f"{name}.json" for name in names]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


HEAD = ("program", "median", "least", "most", "CPU", "peak", "ours / theirs", "runs")


def head(entry: Record) -> tuple[str, ...]:
    """The head of one row's table."""
    return figures.head(entry) if entry["metric"] == "figures" else HEAD


def cells(entry: Record) -> list[tuple[str, ...]]:
    """The table of one row, without its head."""
    if entry["metric"] == "figures":
        return list(figures.cells(entry))
    lines: list[tuple[str, ...]] = []
    (ours,) = [item for item in entry["contenders"] if item["role"] == "ours"]
    for item in entry["contenders"]:
        name = f"{item['name']} {item['version']}".strip()
        if item["void"]:
            lines.append((name, "void", "", "", "", "", "", ""))
            continue
        times = item["seconds"]
        median = statistics.median(times)
        ratio = "" if ours["void"] else f"{statistics.median(ours['seconds']) / median:.2f}"
        lines.append(
            (
                name,
                _time(median),
                _time(min(times)),
                _time(max(times)),
                _time(statistics.median(item["cpu"])),
                f"{item['peak'] / MIB:.0f} MiB",
                "1" if item is ours else ratio,
                str(len(times)),
            )
        )
    return lines


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def outcome_text(entry: Record) -> str:
    said = entry["verdict"]
    word = "met" if said["met"] else "missed"
    text = f"Target: {said['target']}. Reached: {said['reached']}: {word}."
    return f"{text} {entry.get('why', '')}".rstrip()


def as_text(entry: Record) -> str:
    """For the terminal."""
    table = [head(entry), *cells(entry)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [f"{entry['row']}: {entry['title']}"]
    for line in table:
        rest = "  ".join(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))
        lines.append(f"  {line[0].ljust(widths[0])}  {rest}".rstrip())
    lines.append(f"  {outcome_text(entry)}")
    lines += [f"  {note}" for note in notes(entry)]
    return "\n".join(lines) + "\n"


def notes(entry: Record) -> list[str]:
    void = [f"{c['name']} is void: {c['void']}" for c in entry["contenders"] if c["void"]]
    return [*entry["notes"], *void]


def as_rst(entry: Record) -> str:
    """One section of the page."""
    lines = [entry["title"], "~" * len(entry["title"]), "", entry["about"], ""]
    lines += [".. list-table::", "   :header-rows: 1", ""]
    for line in [head(entry), *cells(entry)]:
        for number, cell in enumerate(line):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    lines += ["", outcome_text(entry), ""]
    for picture in pictures.of(entry):
        name = f"{PICTURES}/{picture.name}.svg"
        lines += [f".. image:: {name}", f"   :alt: {picture.told}", ""]
    for note in notes(entry):
        lines += [_literal(note), ""]
    machine = "; ".join(f"{key} {value}" for key, value in entry["machine"].items())
    lines += [f"*{entry['date']}: {machine}.*", ""]
    return "\n".join(lines)


def _literal(note: str) -> str:
    """What a program said may hold anything; it is shown and not read."""
    return f"``{' '.join(note.replace('`', chr(39)).split())}``"


def summary(entries: Sequence[Record]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    lines += ["   * - what", "     - target", "     - reached", "     - "]
    for entry in entries:
        said = entry["verdict"]
        word = "met" if said["met"] else "missed"
        lines += [f"   * - {entry['title']}", f"     - {said['target']}"]
        lines += [f"     - {said['reached']}", f"     - {word}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def publish(entries: Sequence[Record], more: str = "") -> None:
    """Write the figures, and `more` behind them, into the page, between its two markers, and
    the pictures beside it."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    directory = PAGE.with_name(PICTURES)
    directory.mkdir(exist_ok=True)
    for picture in chain.from_iterable(map(pictures.of, entries)):
        (directory / f"{picture.name}.svg").write_text(picture.svg)
    body = "\n".join([summary(entries), *map(as_rst, entries), *([more] if more else [])])
    PAGE.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")
