"""`mailflow man`: pages that the tools of roff have nothing to say against."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mailflow.cli.man import pages, plain
from mailflow.cli.root import COMMANDS

from .command import Shop

PAGES = pages()

LINTERS = {
    "mandoc": ["mandoc", "-T", "lint", "-W", "warning"],
    "groff": ["groff", "-ww", "-man", "-z"],
    "man": ["man", "--warnings=w", "-E", "UTF-8", "-l"],
}


PACKAGES = {"mandoc": "mandoc", "groff": "groff-base", "man": "man-db"}


def shown(page: str, tmp_path: Path) -> str:
    """A page as a terminal shows it, its lines joined."""
    (tmp_path / "page").write_text(page)
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-cbou", tmp_path / "page"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return " ".join(done.stdout.split())


def test_there_is_a_page_for_the_program_each_command_and_the_file() -> None:
    names = {f"mailflow-{name}.1" for name in COMMANDS}
    assert {*names, "mailflow.1", "mailflow.toml.5"} <= PAGES.keys()


@pytest.mark.parametrize(
    "linter", [pytest.param(name, marks=pytest.mark.interop(PACKAGES[name])) for name in LINTERS]
)
def test_no_tool_warns_of_any_page(linter: str, tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
        done = subprocess.run(
            [*LINTERS[linter], tmp_path / name],
            check=False, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        said = done.stderr + (done.stdout if linter == "mandoc" else "")
        assert (done.returncode, said) == (0, ""), name


@pytest.mark.interop("groff-base")
def test_a_page_says_what_the_help_says(tmp_path: Path) -> None:
    page = shown(PAGES["mailflow-journal.1"], tmp_path)
    assert "mailflow journal backup [OPTIONS] FILE BACKUP" in page
    assert "--dry-run Say what would be done, and change nothing." in page
    assert "75 try again later" in page


@pytest.mark.interop("groff-base")
def test_the_hook_s_own_help_is_there(tmp_path: Path) -> None:
    page = shown(PAGES["mailflow-hook.1"], tmp_path)
    assert "mailflow hook FILE [ADDRESS...]" in page
    assert "77 when it is rejected" in page


@pytest.mark.interop("groff-base")
def test_the_file_s_page_has_each_key_and_component(tmp_path: Path) -> None:
    page = shown(PAGES["mailflow.toml.5"], tmp_path)
    assert "if_in_doubt After a crash" in page
    assert "list.post Makes what members write" in page
    assert 'default ["1m", "5m", "30m", "2h"]' in page


@pytest.mark.parametrize(
    "text", [".TH x", "a\\b", "'quoted'", "~/x^2", "--dry-run", "`name` and `", "``"]
)
def test_any_text_is_shown_as_it_is(text: str, tmp_path: Path) -> None:
    page = shown(f".TH x 1 2026-01-01\n.SH NAME\nx \\- y\n.SH Z\n{plain(text)}\n", tmp_path)
    assert re.sub(r"`(\w+)`", r"\1", text) in page.partition(" Z ")[2]


def test_pages_are_written_into_the_directory_of_their_section(shop: Shop) -> None:
    for _ in range(2):
        done = shop("man", "man")
        assert (done.status, done.err) == (0, "")
        assert {str(path.relative_to(shop.home)) for path in shop.home.rglob("man/*/*")} == {
            f"man/man{name[-1]}/{name}" for name in PAGES
        }
    assert (shop.home / "man/man1/mailflow-run.1").read_text().startswith(".TH ")


def test_dry_run_writes_nothing(shop: Shop) -> None:
    done = shop("man", "--dry-run", "man")
    assert "would write man/man1/mailflow.1\n" in done.out
    assert not (shop.home / "man").exists()


def test_a_directory_that_cannot_be_made_is_one_line(shop: Shop) -> None:
    (shop.home / "man").write_text("mine")
    done = shop("man", "man")
    assert done.status in (64, 75)
    assert (shop.home / "man").read_text() == "mine"


def test_a_hyphen_can_be_copied_from_the_page() -> None:
    """Debian's groff sets "-" as it is; elsewhere only "\\-" is the one of the keyboard."""
    assert plain("--dry-run") == "\\-\\-dry\\-run"
