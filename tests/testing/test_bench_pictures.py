"""The pictures of the bench: what is drawn, how long, and what is left out."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from bench import pictures

SVG = "{http://www.w3.org/2000/svg}"


def timed(*programs: tuple[str, str, float]) -> dict[str, Any]:
    contenders = [
        {"name": name, "role": role, "void": "", "seconds": [seconds], "peak": 1 << 20}
        for name, role, seconds in programs
    ]
    return {"row": "a-row", "metric": "seconds", "contenders": contenders, "verdict": {}}


def grown(values: dict[str, list[float]], units: dict[str, str]) -> dict[str, Any]:
    one = {"name": "mailflow, later visit", "role": "ours", "void": "", "figures": values}
    return {
        "row": "growth", "metric": "figures", "contenders": [one],
        "verdict": {"units": units, "axis": "messages"},
    }  # fmt: skip


def shapes(svg: str, kind: str) -> list[dict[str, str]]:
    return [each.attrib for each in ElementTree.fromstring(svg).iter(f"{SVG}{kind}")]


def words(svg: str) -> list[str | None]:
    return [each.text for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_bars_are_as_long_as_the_times_and_tell_them() -> None:
    (picture,) = pictures.of(timed(("mailflow", "ours", 0.5), ("a <peer>", "gauge", 2.0)))
    lengths = [float(each["width"]) for each in shapes(picture.svg, "rect")]
    assert lengths == [pictures.BAR / 4, pictures.BAR]
    assert words(picture.svg) == ["mailflow", "500.0 ms", "a <peer>", "2.00 s"]
    assert picture.told == "mailflow 500.0 ms; a <peer> 2.00 s"


def test_a_row_of_memory_is_drawn_by_memory() -> None:
    entry = timed(("mailflow", "ours", 0.5)) | {"metric": "memory"}
    assert words(pictures.of(entry)[0].svg) == ["mailflow", "1.0 MiB"]


def test_what_is_void_has_no_bar() -> None:
    entry = timed(("mailflow", "ours", 0.5), ("peer", "gauge", 2.0))
    entry["contenders"][1]["void"] = "lost one"
    assert words(pictures.of(entry)[0].svg) == ["mailflow", "500.0 ms"]
    entry["contenders"][0]["void"] = "lost two"
    assert pictures.of(entry) == []


def test_growth_has_a_chart_of_time_and_one_of_memory_on_logarithmic_axes() -> None:
    values = {"100": [0.1], "1,000": [1.0], "10,000": [10.0], "100 peak": [2 << 20]}
    units = {name: "octets" if "peak" in name else "s" for name in values}
    time, memory = pictures.of(grown(values, units))
    assert (time.name, memory.name) == ("growth-time", "growth-memory")
    (line,) = shapes(time.svg, "polyline")
    xs, ys = zip(*(map(float, point.split(",")) for point in line["points"].split()), strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)
    assert ys[0] > ys[2]
    assert "stroke-dasharray" in line
    assert {"100", "1,000", "10,000", "messages", "0.1 s", "10 s"} <= set(words(time.svg))
    assert {"1 MiB", "10 MiB"} <= set(words(memory.svg))
