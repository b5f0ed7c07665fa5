"""The page of the query language says what the language is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailflow.query import parse
from mailflow.query.grammar import __doc__ as grammar
from mailflow.query.tree import FIELDS
from mailflow.testing.documents import blocks

PAGE = Path(__file__).parents[2] / "docs" / "query.rst"
RULE = re.compile(r"^=[= ]+=$", re.MULTILINE)


def expressions() -> list[str]:
    found = blocks(PAGE)
    at = next(number for number, block in enumerate(found) if block.text == "expressions")
    return found[at + 1].text.splitlines()


@pytest.mark.parametrize("expression", expressions())
def test_every_expression_of_the_page_is_understood(expression: str) -> None:
    assert parse(expression).fields


def test_the_table_of_fields_is_the_language_s() -> None:
    fields = PAGE.read_text().partition("\nFields\n------\n")[2]
    _, _, table, *_ = RULE.split(fields)
    rows: list[list[str]] = []
    for line in table.strip("\n").splitlines():
        cells = [cell.strip() for cell in (line[:21], line[21:32], line[32:44], line[44:])]
        if cells[0]:
            rows.append(cells)
        else:
            rows[-1][3] += f" {cells[3]}"
    expected = []
    for name, field in FIELDS.items():
        doc = field.doc.replace("\\", r"\\").replace("`", "``")
        if field.words:
            doc = f"{doc.rstrip('.')}: {', '.join(field.words)}."
        shown = f'``{name} "NAME"``' if field.argument else f"``{name}``"
        expected.append([shown, field.type, field.reach, doc])
    assert rows == expected


def test_the_grammar_of_the_page_is_the_parser_s() -> None:
    assert grammar
    lines = re.findall(r"^    .+$", grammar, re.MULTILINE)
    assert blocks(PAGE)[-1].text == "".join(f"{line[4:]}\n" for line in lines)
