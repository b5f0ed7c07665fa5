"""The tables of docs/pop3.rst, made of the points, of dovecot.toml and of two servers' answers.

    python -m pytest tests/mailflow_pop3/server/test_docs.py --write-tables

Rule of the file: what the tests do not show does not stand in the tables.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import tomli

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs"
POINTS_FILE = DOCS / "pop3-points.csv"
ANSWERS_FILE = DOCS / "pop3-answers.csv"

POINTS = tomli.loads((HERE / "points.toml").read_text(encoding="utf-8"))
DOVECOT = tomli.loads((HERE / "dovecot.toml").read_text(encoding="utf-8"))
NOTES: dict[str, str] = DOVECOT.pop("notes")
ELSEWHERE = {"server", "store", "shelves"}
"""Fixtures that stand for another server, too."""

KINDS = {"R": "must", "S": "should", "Q": "safety"}

BEFORE = [
    "NOOP", "XYZZY", "STAT", "PASS x", "USER nobody", "PASS wrong", "APOP ann 0123", "AUTH FOO",
    "AUTH PLAIN =", "UTF8", "LANG", "STLS x", "QUIT",
]  # fmt: skip
AFTER = [
    "STAT", "LIST 1", "LIST 3", "LIST 0", "UIDL 9", "RETR x", "RETR 01", "TOP 1", "TOP 1 -1",
    "DELE 2", "DELE 2", "RETR 2", "RSET", "USER x", "STLS", "LAST", "QUIT",
]  # fmt: skip


def points_table() -> str:
    """Number, what is asked, and what Dovecot does."""
    asked = set(_numbers_asked_elsewhere())
    rows = [("", "what is asked", "", "Dovecot")]
    for number, point in POINTS.items():
        told = [text for name, text in DOVECOT.items() if name.startswith(f"test_{number}_")]
        found = NOTES.get(number) or ("as here" if number in asked else "not run")
        found = "; ".join(dict.fromkeys(told)) or found
        rows.append((number, _rst(point["text"]), KINDS[point["kind"]], _rst(found)))
    return _csv(rows)


def answers_table(ours: list[str], theirs: list[str]) -> str:
    """What each says to the same lines, before and after the log-in."""
    lines = [*((each, "before") for each in BEFORE), *((each, "after") for each in AFTER)]
    rows = [("sent", "log-in", "mailflow", "Dovecot")]
    for (sent, state), one, other in zip(lines, ours, theirs, strict=True):
        rows.append((f"``{sent}``", state, f"``{one.strip()}``", f"``{other.strip()}``"))
    return _csv(rows)


def _csv(rows: list[tuple[str, ...]]) -> str:
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerows(rows)
    return made.getvalue()


def _rst(text: str) -> str:
    """`word` as rst has it, whatever stands behind it; an asterisk means nothing there."""
    parts = re.split(r"`([^`]+)`", text)
    made = re.sub(r"([*|_\\])", r"\\\1", parts[0])
    for literal, after in zip(parts[1::2], parts[2::2], strict=True):
        glue = "\\ " if after[:1].isalnum() else ""
        made += f"``{literal.strip()}``{glue}" + re.sub(r"([*|_\\])", r"\\\1", after)
    return made


def _numbers_asked_elsewhere() -> Iterator[str]:
    """The points with a test that runs against another server, too."""
    for path in HERE.glob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        wanted = set(ELSEWHERE)
        for _ in functions:  # a fixture of the file may lean on one above it
            for node in functions:
                if wanted & {argument.arg for argument in node.args.args}:
                    wanted.add(node.name)
        for node in functions:
            found = re.match(r"test_(\d{3})_", node.name)
            if found and node.name in wanted:
                yield found[1]
