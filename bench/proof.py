"""What was tried by hand, as tables of docs/reliability.rst.

    python -m bench.proof           write them anew

Rule of the file: each figure is counted here, from the lines that the trials wrote down.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults import Fault, faults

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reliability.rst"

BEGIN = ".. begin of the table of {}: written by `python -m bench.proof`, not by hand\n"
END = ".. end of the table of {}\n"

HALF_AN_HOUR = 1800
"""Seconds that a campaign must have had to be counted."""

Line = dict[str, Any]
Rows = list[list[str]]

WAYS = {
    "common": "POP3 through a list to SMTP and a Maildir",
    "common-hold": "the same; what is in doubt is held",
    "deliver-first": "POP3 to a Maildir",
    "hook": "stdin to a Maildir (hook)",
    "hook-smtp": "stdin to SMTP (hook)",
    "hook-smtp-hold": "the same; what is in doubt is held",
    "serve": "serve: fetching, spooling, read over POP3",
    "MboxToMboxByProgram": "mbox through a program to mbox",
    "MaildirToMbox": "Maildir to mbox",
    "Served": "serve, on the spool",
    "MboxToMaildir": "mbox to Maildir",
    "ServedMaildir": "serve, on a Maildir",
    "Gathered": "Maildir into the spool",
    "FromImap": "IMAP to a Maildir",
    "FromPage": "webmail to a Maildir",
    "Moved": "IMAP to a Maildir, moved there",
    "Hurried": "serve, fetching and serving",
    "Expired": "spool expire",
    "ByForm": "Maildir through a webmail's form",
}
"""What the page calls a way that mail takes in the trials, in its order."""


def blows(lines: Sequence[Line]) -> Rows:
    """Kills and power cuts that hit a program at work, by way and disks; and their harm."""
    kinds = ("kill", "ext4, one", "ext4, two", "xfs, one", "xfs, two", "harm")
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        if line["where"]:  # else it had ended before
            disk = line["disk"] + ("" if "," in line["disk"] else ", one")
            kind = "kill" if line["blow"] == "kill" else disk
            for way in (line["use"], ""):
                counts[way][kind] += 1
                counts[way]["harm"] += bool(line["found"])
    heads = ["at work", "killed", *(f"cut, {kind}" for kind in kinds[1:-1]), "harm"]
    named = [way for way in WAYS if way in counts]
    return [heads] + [
        [WAYS.get(way, "all"), *(f"{counts[way][kind]:,}" for kind in kinds)]
        for way in (*named, "")
    ]


def refusals(lines: Sequence[Line]) -> Rows:
    """Calls that were made to fail, by way, and how the run ended."""
    statuses = (0, 74, 75)
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for line in lines:
        for way in (line["use"], ""):
            counts[way][line["status"]] += 1
    named = sorted((way for way in counts if way), key=lambda way: -counts[way].total())
    return [["at work", "calls", *(f"exit {status}" for status in statuses)]] + [
        [
            WAYS.get(way, "all"),
            f"{counts[way].total():,}",
            *(f"{counts[way][status]:,}" for status in statuses),
        ]
        for way in (*named, "")
    ]


def campaigns(lines: Sequence[Line]) -> Rows:
    """The last campaign of each target that had its time and found nothing."""
    last = {
        line["target"]: line
        for line in lines
        if line["seconds"] >= HALF_AN_HOUR and not line["status"]
    }
    return [["parser", "inputs", "branches", "peak, MiB", "kept"]] + [
        [
            name.replace("_", " "),
            *(f"{line[key]:,}" for key in ("runs", "edges", "peak_mib", "corpus")),
        ]
        for name, line in sorted(last.items())
    ]


ABSENT = "W"
"""The series of a part that mailflow has not: a dashboard in a browser."""

CATALOGUE = (
    ".. list-table::", "   :header-rows: 1", "   :widths: 6 40 40 14", "",
    "   * - no.", "     - what goes wrong", "     - what must come of it", "     - tests",
)  # fmt: skip

TABLES = (
    ("blows", HERE / "results" / "blows.jsonl", blows),
    ("refusals", HERE / "results" / "refused.jsonl", refusals),
    ("campaigns", HERE.parent / "fuzz" / "results" / "campaigns.jsonl", campaigns),
)


def catalogue(faults: Sequence[Fault]) -> str:
    """The faults as a list-table, and how many tests each has."""
    lines = []
    for name, cause, outcome, tests in faults:
        if name.startswith(ABSENT):
            continue
        cells = (name, cause, outcome, str(len(tests)) if tests else "no such part")
        for bullet, cell in zip(("   * -", "     -", "     -", "     -"), cells, strict=True):
            lines += textwrap.wrap(
                escaped(cell), 98, initial_indent=f"{bullet} ", subsequent_indent=" " * 7,
                break_long_words=False, break_on_hyphens=False,
            ) or [bullet]  # fmt: skip
    return "\n".join([*CATALOGUE, *lines]) + "\n"


def escaped(text: str) -> str:
    """As reStructuredText that shows it; what is between backquotes is literal."""
    words = text.split("`")
    words[::2] = [re.sub(r"([*|_\\])", r"\\\1", word) for word in words[::2]]
    return "``".join(words)


def drawn(rows: Rows) -> str:
    """A simple table of reStructuredText; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    texts = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([rule, texts[0], rule, *texts[1:], rule]) + "\n"


def renewed(page: str) -> str:
    """The page with every table made anew. Raises ValueError where one has no place in it."""
    tables = {"faults": catalogue(faults())}
    for name, path, table in TABLES:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        tables[name] = drawn(table(lines))
    for name, text in tables.items():
        before, begin, rest = page.partition(BEGIN.format(name))
        _, end, after = rest.partition(END.format(name))
        if not begin or not end:
            raise ValueError(f"{PAGE} has no place for the table of {name}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def main() -> None:
    PAGE.write_text(renewed(PAGE.read_text()))


if __name__ == "__main__":
    main()
