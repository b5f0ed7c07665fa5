"""What a definition must say where mail is sent by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow_webmail.definition.site import find, read


def told(directory: Path, *changes: tuple[str, str], site: str = "testbed") -> str:
    """The faults of a shipped definition that was changed."""
    text = Path(find(site)).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = directory / "other.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(str(path))
    return str(caught.value)


@pytest.mark.parametrize("name", ["from", "to", "subject", "text"])
def test_what_every_mail_has_must_be_filled_in(tmp_path: Path, name: str) -> None:
    text = told(tmp_path, (f' {name} = "{{{name}}}",', ""))
    assert f"send.fill: nothing is filled in with {{{name}}}" in text


def test_the_form_must_be_named(tmp_path: Path) -> None:
    last = """form = 'form:has(input[name="uploadfile"])'\nclick = "sendmsg"\n"""
    assert "send.form: is missing" in told(tmp_path, (last, ""), site="sqwebmail")


@pytest.mark.parametrize("name", ["compose", "send"])
def test_a_step_that_sending_needs_must_be_there(tmp_path: Path, name: str) -> None:
    whole = Path(find("testbed")).read_text()
    begin = whole.index(f"[{name}]")
    section = whole[begin : whole.index("\n[", begin) + 1]
    assert f"{name}: is missing" in told(tmp_path, (section, ""))
