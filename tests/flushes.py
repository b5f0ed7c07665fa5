"""Takes each flush out of the code, one at a time, and sees that the tests named for it notice.

    python tests/flushes.py [WORD...]       of those whose id has one of the words
    python tests/flushes.py --list          the ids alone

Rule of the file: the flushes are found in the code, never listed by hand; flushes.toml says by
id which test must fall. All happens in a copy.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tomli

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.mutate import copied, run  # noqa: E402  # it is run as a script, too

NAMES = {"flush_directory", "_flush", "_flush_files", "_flush_folders"}
SYSTEM = {"fsync", "fdatasync", "sync", "syncfs"}
NOT_FILES = {"sys.stdout", "sys.stderr", "sys.stdout.buffer", "stream", "self", "self.wire", "wire"}
"""What is flushed to a reader, and not to a disk."""

PRAGMA = "PRAGMA synchronous = FULL"


class Flush(NamedTuple):
    """One place: octets `start` to `stop` of the file give way to `broken`. `id` is its file,
    the function around it, and which one of that function it is."""

    id: str
    file: str
    start: int
    stop: int
    broken: str


def flushes(file: str, source: str) -> Iterator[Flush]:
    """Every flush in a module, in order."""
    lines = [0]
    for line in source.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    counts: Counter[str] = Counter()
    for inside, node, broken in _found(ast.parse(source), ""):
        counts[inside] += 1
        start = lines[node.lineno - 1] + node.col_offset
        stop = lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        yield Flush(f"{file} {inside} {counts[inside]}", file, start, stop, broken)


def _found(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.expr, str]]:
    for child in ast.iter_child_nodes(node):
        name = inside
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{inside}.{child.name}".lstrip(".")
        if isinstance(child, ast.Call) and _flushes(child):
            yield name, child, "None"
        elif isinstance(child, ast.keyword) and ast.unparse(child) == "durable=True":
            yield name, child.value, "False"
        elif isinstance(child, ast.Constant) and child.value == PRAGMA:
            yield name, child, repr(PRAGMA.replace("FULL", "NORMAL"))
        yield from _found(child, name)


def _flushes(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        receiver, name = ast.unparse(call.func.value), call.func.attr
        if receiver == "os":
            return name in SYSTEM
        if name == "flush":
            return receiver not in NOT_FILES
    else:
        name = ast.unparse(call.func)
    handed = any(isinstance(each, ast.Name) and each.id == "_flush" for each in call.args)
    return name in NAMES or handed


def everywhere() -> Iterator[Flush]:
    """Of the whole program, but for what goes to a terminal and the servers of the tests."""
    for top in ("mailflow", "plugins"):
        for path in sorted((ROOT / top).rglob("*.py")):
            file = str(path.relative_to(ROOT))
            if not any(word in file for word in ("testing/", "testbed/", "/cli/")):
                yield from flushes(file, path.read_text(encoding="utf-8"))


def noticed() -> dict[str, dict[str, str]]:
    """What flushes.toml says, by id."""
    text = (ROOT / "tests/flushes.toml").read_text(encoding="utf-8")
    return {entry["id"]: entry for entry in tomli.loads(text).get("flush", [])}


def main(words: list[str]) -> int:
    """Exit status 1 where a flush is gone and nobody notices."""
    if words == ["--list"]:
        print("\n".join(each.id for each in everywhere()))
        return 0
    survived = 0
    tests = noticed()
    with tempfile.TemporaryDirectory() as directory:
        copy = copied(Path(directory))
        for each in everywhere():
            if not words or any(word in each.id for word in words):
                word = verdict(copy, each, tests.get(each.id, {}))
                survived += word != "caught"
                print(f"{word:9} {each.id}", flush=True)
    return 1 if survived else 0


def verdict(copy: Path, flush: Flush, entry: dict[str, str]) -> str:
    """caught, survived, or not named."""
    if "test" not in entry:
        return "not named"
    file = copy / flush.file
    whole = file.read_bytes()
    file.write_bytes(whole[: flush.start] + flush.broken.encode() + whole[flush.stop :])
    try:
        return "caught" if run(copy, entry["test"]) == 1 else "survived"
    finally:
        file.write_bytes(whole)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
