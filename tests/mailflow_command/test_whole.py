"""Programs in a whole pipeline: what the engine makes of their answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import mailflow

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A pipeline from a Maildir with one mail to a program, run once more at each call."""
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / folder).mkdir(parents=True)
    (tmp_path / "Maildir" / "new" / "1").write_text("Subject: one\nTo: a@x.org\n\nx\n")

    def once(script: str, **more: object) -> int:
        step = {"use": "command", "command": ["sh", "-c", f"cd {tmp_path}; {script}"], **more}
        return mailflow.run(
            {
                "pipeline": {"journal": str(tmp_path / "journal.db")},
                "fetch": [{"use": "maildir", "path": str(tmp_path / "Maildir"), "keep": "0d"}],
                "process": [
                    {"use": "filter.command", "command": ["sed", "s/one/two/"]},
                    {"use": "filter.recipients", "set": ["b@x.org"]},
                ],
                "distribute": [step],
                "react": [{"use": "react.retry", "after": ["1ms"]}],
            }
        )

    return once


def started(tmp_path: Path) -> int:
    return (tmp_path / "started").read_text().count("x")


def test_a_mail_goes_through_one_program_to_another(run: Run, tmp_path: Path) -> None:
    assert run("cat > got; echo $RECIPIENT >> got") == 0
    assert (tmp_path / "got").read_text() == "Subject: two\nTo: a@x.org\n\nx\nb@x.org\n"
    assert list((tmp_path / "Maildir" / "new").iterdir()) == []


def test_c03_a_mail_in_doubt_is_held_where_the_file_says_so(run: Run, tmp_path: Path) -> None:
    script = "printf x >> started; sleep 60"
    for _ in range(2):
        run(script, timeout="300ms", if_in_doubt="hold")
        assert started(tmp_path) == 1


def test_c05_a_mail_that_its_program_cannot_take_now_is_handed_to_it_again(
    run: Run, tmp_path: Path
) -> None:
    for _ in range(2):
        run("printf x >> started; test $(wc -c < started) -eq 2 || exit 75; cat > got")
    assert started(tmp_path) == 2
    assert (tmp_path / "got").read_text().startswith("Subject: two\n")
