"""The line of every key, whatever way TOML has to write it."""

from __future__ import annotations

from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from mailflow.toml_lines import Lines

TEXT = (
    '''\
# a comment = with [brackets]
title = "x" # [[fetch]]

[pipeline]
"quoted key" = """
[not.a.table]
key = \\"""
"""
"it's" = 1
'''
    """\
literal = '''
a = "''
'''
dotted.a . b = 1
date = 1979-05-27 07:32:00
numbers = [1, 2, # three
  3,
  [ "]", '[' ],
]
inline = { a = 1, b.c = [
  { d = "}" }, { "e f" = 2 } ] }

[[fetch]]
use = "x"

  [[ fetch ]]
  use = "y"
  [fetch.note]
  deep = true
  [[fetch.more]]
  a = 1
  [[fetch.more]]
  a = 2

[account."a.b"]
host = "x"
[account.c]
"""
)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("pipeline",), 4),
        (("pipeline", "quoted key"), 5),
        (("pipeline", "it's"), 9),
        (("pipeline", "literal"), 10),
        (("pipeline", "dotted"), 13),
        (("pipeline", "dotted", "a", "b"), 13),
        (("pipeline", "date"), 14),
        (("pipeline", "numbers"), 15),
        (("pipeline", "numbers", 1), 15),
        (("pipeline", "numbers", 2), 16),
        (("pipeline", "numbers", 3), 17),
        (("pipeline", "numbers", 3, 1), 17),
        (("pipeline", "inline", "b", "c"), 19),
        (("pipeline", "inline", "b", "c", 1), 20),
        (("pipeline", "inline", "b", "c", 1, "e f"), 20),
        (("fetch",), 22),
        (("fetch", 0, "use"), 23),
        (("fetch", 1), 25),
        (("fetch", 1, "use"), 26),
        (("fetch", 1, "note", "deep"), 28),
        (("fetch", 1, "more", 1, "a"), 32),
        (("account", "a.b", "host"), 35),
        (("account", "c"), 36),
        (("fetch", 1, "missing", "deeper"), 25),
        (("nowhere",), 1),
        ((), 1),
    ],
)
def test_it_finds(path: tuple[str | int, ...], line: int) -> None:
    tomli.loads(TEXT)
    assert Lines(TEXT).line(path) == line


def test_line_ends_may_be_crlf() -> None:
    assert Lines(TEXT.replace("\n", "\r\n")).line(("fetch", 1, "use")) == 26


scalars = st.one_of(
    st.integers(-9, 99).map(str), st.sampled_from(("true", "1.5", "1979-05-27", "'[a'", '"]#\\""')),
    st.sampled_from(('"""\n\n"""', "'''\n=\n'''")),
)  # fmt: skip
keys = st.sampled_from(("a", "b-1", '"c d"', "'#'", '"[["'))


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    gaps = st.sampled_from((", ", ",\n\n", ", # ]\n"))
    lists = st.tuples(gaps, st.lists(values, max_size=3)).map(lambda p: f"[{p[0].join(p[1])}\n]")
    pairs = st.lists(st.tuples(keys, values), max_size=3, unique_by=lambda pair: pair[0])
    return lists | pairs.map(lambda some: f"{{{', '.join(f'{k} = {v}' for k, v in some)}}}")


values = st.recursive(scalars, arrays, max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[tuple[Any, ...], int]]:
    """A document, and the lines of the keys of its tables."""
    text = ""
    lines: dict[tuple[Any, ...], int] = {}
    count = 0
    for number in range(draw(st.integers(1, 4))):
        array = draw(st.booleans())
        if array:
            path: tuple[Any, ...] = ("steps", count)
            count += 1
        else:
            path = (f"table{number}",)
        text += draw(st.sampled_from(("", "\n", "# [[x]]\n", "  ")))
        lines[path] = text.count("\n") + 1
        text += "[[steps]]\n" if array else f"[{path[0]}]\n"
        for key in draw(st.lists(keys, max_size=3, unique=True)):
            lines[(*path, key.strip("\"'"))] = text.count("\n") + 1
            text += f"{key} = {draw(values)} # x\n"
    return text, lines


@given(documents())
def test_every_key_of_any_document_has_its_line(
    document: tuple[str, dict[tuple[Any, ...], int]],
) -> None:
    text, lines = document
    tomli.loads(text)
    found = Lines(text)
    assert {path: found.line(path) for path in lines} == lines
