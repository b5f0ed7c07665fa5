"""`mailflow webmail sites`: which webmails are described, by which file, and how far."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailflow_webmail.commands.sites import sites

from .test_site import GOOD, places

__all__ = ["places"]


def rows(output: str) -> dict[str, list[str]]:
    """The table, by name; cells are two spaces apart."""
    lines = [[cell for cell in line.split("  ") if cell] for line in output.splitlines()]
    return {cells[0]: [cell.strip() for cell in cells[1:]] for cells in lines}


def run(*words: str, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(sites, words, standalone_mode=False)
    assert (result.exception, result.return_value) == (None, status)
    return result.stdout, result.stderr


def test_pwm_04_each_is_listed_with_what_it_can_and_where_it_is_from(
    places: dict[str, Path],
) -> None:
    (places["user"] / "own.toml").write_text(GOOD)
    table = rows(run()[0])
    assert table["NAME"] == ["TITLE", "FORMAT", "CAN", "FROM"]
    assert table["own"] == ["Example 3", "1", "fetch, delete", str(places["user"] / "own.toml")]
    assert table["roundcube"] == [
        "Roundcube 1.6", "1", "fetch, delete, trash, seen, send", "mailflow",
    ]  # fmt: skip


def test_pwm_04_a_file_that_stands_before_another_is_said_to(places: dict[str, Path]) -> None:
    (places["user"] / "roundcube.toml").write_text(GOOD)
    (places["system"] / "roundcube.toml").write_text(GOOD)
    assert rows(run()[0])["roundcube"][3] == (
        f"{places['user']}/roundcube.toml instead of {places['system']}/roundcube.toml and"
        " mailflow's"
    )


def test_one_with_faults_is_listed_with_them_and_ends_with_78(places: dict[str, Path]) -> None:
    file = places["user"] / "own.toml"
    file.write_text(GOOD.replace("[raw]", "[row]"))
    shown, told = run(status=78)
    assert rows(shown)["own"] == ["2 faults, see below", str(file)]
    assert f"mailflow: {file}:1: `raw` is missing" in told
    assert f"mailflow: {file}:19: row: unknown key; did you mean `raw`?" in told


def test_json_has_the_same(places: dict[str, Path]) -> None:
    file = places["user"] / "roundcube.toml"
    file.write_text(GOOD)
    (places["user"] / "bad.toml").write_text("format = 1\n")
    found = {each["name"]: each for each in json.loads(run("--json", status=78)[0])}
    assert found["roundcube"] | {"instead_of": []} == {
        "name": "roundcube", "title": "Example 3", "format": 1, "can": ["fetch", "delete"],
        "file": str(file), "shipped": False, "instead_of": [], "faults": [],
    }  # fmt: skip
    assert len(found["roundcube"]["instead_of"]) == 1
    assert found["bad"]["title"] is None
    assert found["bad"]["faults"]


def test_the_schema_knows_every_table_that_a_file_may_have() -> None:
    schema = json.loads(run("--schema")[0])
    assert schema["required"] == ["format", "name", "login", "folders", "list", "raw"]
    step = schema["properties"]["list"]
    assert step["properties"]["rows"]["properties"]["fields"]["additionalProperties"]["properties"]
    assert step["additionalProperties"] is False


@pytest.mark.parametrize("name", ["roundcube", "sqwebmail", "testbed"])
def test_pwm_37_no_shipped_definition_reads_what_a_user_s_language_changes(name: str) -> None:
    """After the login a page is in the language of its account; conditions on words are of
    what the program itself, or a server behind it, says in English to everybody."""
    from mailflow_webmail.definition.site import site

    found = site(name)
    for step in (found.login, found.folders, found.list_, found.raw):
        for each in step.expect:
            assert each.text is None
    assert found.list_.empty is None or found.list_.empty.text is None
    assert all(each.text is None for each in found.signal)
