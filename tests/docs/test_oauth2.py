"""The page about OAuth2 says what there is, and its providers can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailflow.oauth2 import access
from mailflow.oauth2.provider import FLOWS, Provider
from mailflow.testing.documents import blocks

PAGE = Path(__file__).parents[2] / "docs" / "oauth2.rst"
FILES = [block for block in blocks(PAGE) if block.file and "/providers/" in block.file]


@pytest.mark.parametrize("key", Provider.declared())
def test_every_key_of_a_provider_is_explained(key: str) -> None:
    assert f"``{key}``" in PAGE.read_text()


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_is_explained(flow: str) -> None:
    assert f"\n``{flow}``\n" in PAGE.read_text()


@pytest.mark.parametrize("number", range(2))
def test_a_providers_file_that_is_shown_is_one(
    number: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    block = FILES[number]
    path = Path(str(block.file).replace("~", str(home), 1))
    path.parent.mkdir(parents=True)
    path.write_text(block.text)
    assert access(path.stem, ".").provider.client_id
