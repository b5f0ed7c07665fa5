"""Pictures of what was measured: bars for a row, lines for what grows, as SVG.

Rule of the file: made from the record alone, with no library; the colours are of a middle
brightness and the ground is clear, so that they are read on white and on black.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from bench import figures

Record = dict[str, Any]

TEXT = "#767676"
COLOURS = {"ours": "#2a7de1", "gauge": "#c2702e", "floor": "#5a9e6f", "context": "#8c8c8c"}
WIDTH, LABEL, BAR, STEP = 640, 210, 300, 24
"""Pixels: of the whole, of the names, of the longest bar, from one bar to the next."""


class Picture(NamedTuple):
    """One file beside the page. `told` is for those who do not see it."""

    name: str
    told: str
    svg: str


class Bar(NamedTuple):
    name: str
    role: str
    value: float
    shown: str


class Line(NamedTuple):
    """`points` are (x, y), both above zero."""

    name: str
    role: str
    dashed: bool
    points: Sequence[tuple[float, float]]


def of(entry: Record) -> list[Picture]:
    """The pictures of one row; none where nothing in it stands."""
    axis = entry["verdict"].get("axis")
    if axis:
        return list(_growth(entry, axis))
    bars = list(_bars(entry))
    if not bars:
        return []
    told = "; ".join(f"{bar.name} {bar.shown}" for bar in bars)
    return [Picture(entry["row"], told, drawn_bars(bars))]


def _bars(entry: Record) -> Iterator[Bar]:
    """One for each program that stands: by its time, its memory, or the first figure."""
    units: dict[str, str] = entry["verdict"].get("units", {})
    for each in entry["contenders"]:
        if each["void"]:
            continue
        if entry["metric"] == "figures":
            figure, unit = next(iter(units.items()))
            value = statistics.median(each["figures"].get(figure, [0.0]))
        elif entry["metric"] == "memory":
            value, unit = each["peak"], "octets"
        else:
            value, unit = statistics.median(each["seconds"]), "s"
        yield Bar(each["name"], each["role"], value, figures.shown(value, unit))


def drawn_bars(bars: Sequence[Bar]) -> str:
    """Under each other, the longest as long as there is room."""
    most = max(bar.value for bar in bars) or 1.0
    parts = []
    for number, bar in enumerate(bars):
        y, length = number * STEP + 4, max(1.0, bar.value / most * BAR)
        shape = f'x="{LABEL}" y="{y}" width="{length:.1f}" height="16" rx="2"'
        parts += [
            _text(LABEL - 8, y + 12, "end", bar.name),
            f'<rect {shape} fill="{COLOURS[bar.role]}"/>',
            _text(LABEL + length + 6, y + 12, "start", bar.shown),
        ]
    return _svg(WIDTH, len(bars) * STEP + 4, parts)


LEFT, TOP, WIDE, HIGH = 70, 12, 330, 220
"""Pixels: of a chart, where its field begins and how large that is."""


def _growth(entry: Record, axis: str) -> Iterator[Picture]:
    """A chart for each unit; figures are named by a number and, but for times, what it is of."""
    units: dict[str, str] = entry["verdict"]["units"]
    for kind, unit, mark, each in (("time", "s", "s", 1), ("memory", "octets", "MiB", 1 << 20)):
        lines, told = [], []
        for one in entry["contenders"]:
            found = {} if one["void"] else one["figures"]
            names = [name for name, its in units.items() if its == unit and name in found]
            values = [statistics.median(found[name]) for name in names]
            if values:
                xs = [float(name.split()[0].replace(",", "")) for name in names]
                points = list(zip(xs, [value / each for value in values], strict=True))
                lines.append(Line(one["name"], one["role"], "later" in one["name"], points))
                said = ", ".join(figures.shown(value, unit) for value in values)
                told.append(f"{one['name']} {said}")
        if lines:
            svg = drawn_lines(lines, axis, mark)
            yield Picture(f"{entry['row']}-{kind}", f"{kind}: {'; '.join(told)}", svg)


def drawn_lines(lines: Sequence[Line], axis: str, unit: str) -> str:
    """Both axes are logarithmic, and end at powers of ten; `unit` is that of the upright one."""
    left, right = _ends([x for line in lines for x, _ in line.points])
    low, high = _ends([y for line in lines for _, y in line.points])

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - left) / (right - left)
        up = (math.log10(y) - low) / (high - low)
        return LEFT + along * WIDE, TOP + HIGH - up * HIGH

    bottom = TOP + HIGH
    parts = [_text(LEFT + WIDE / 2, bottom + 36, "middle", axis)]
    for power in range(left, right + 1):
        x, _ = place(10.0**power, 10.0**low)
        parts += [_rule(x, TOP, x, bottom), _text(x, bottom + 18, "middle", f"{10**power:,}")]
    for power in range(low, high + 1):
        _, y = place(10.0**left, 10.0**power)
        parts.append(_rule(LEFT, y, LEFT + WIDE, y))
        parts.append(_text(LEFT - 6, y + 4, "end", f"{10.0**power:g} {unit}"))
    for number, line in enumerate(lines):
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        stroke = f'stroke="{COLOURS[line.role]}" stroke-width="2" fill="none"{dash}'
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line.points)
        y = TOP + 14 + number * 20
        parts.append(f'<polyline points="{path}" {stroke}/>')
        parts.append(f'<path d="M{LEFT + WIDE + 16},{y} h24" {stroke}/>')
        parts.append(_text(LEFT + WIDE + 46, y + 4, "start", line.name))
    return _svg(WIDTH, bottom + 44, parts)


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ends(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around them, at least one apart."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    return low, max(low + 1, math.ceil(math.log10(max(values)) - 1e-9))


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return (
        f'<path d="M{x:.1f},{y:.1f} L{to_x:.1f},{to_y:.1f}" stroke="{TEXT}"'
        ' stroke-opacity="0.35" fill="none"/>'
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif" font-size="12" fill="{TEXT}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
