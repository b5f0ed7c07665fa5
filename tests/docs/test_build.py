"""The documentation is built without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_sphinx_has_nothing_to_warn_of(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*build, ROOT / "docs", tmp_path], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["README.rst", "CHANGELOG.rst"])
def test_what_stands_beside_the_code_is_plain_restructuredtext(name: str) -> None:
    """So that PyPI and a code forge can show it, which know nothing of sphinx."""
    docutils = pytest.importorskip("docutils.core")
    settings = {"report_level": 2, "halt_level": 2, "syntax_highlight": "none"}
    text = (ROOT / name).read_text()
    assert docutils.publish_string(text, writer="html", settings_overrides=settings)
