"""Real procmail calls the hook, by the recipes of the tutorial: its exit status is the truth."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.testing.documents import blocks

pytestmark = pytest.mark.interop("procmail")

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial-hook.rst"
COMMAND = Path(sys.executable).parent / "mailflow"
POST = (
    b"From: Ann <ann@example.org>\nTo: ben@example.org\nSubject: hello\n"
    b"Message-ID: <1@example.org>\n\nText with a dot:\n.\nand \xe4 and no end"
)
LIST_POST = b"List-Id: <red.example.org>\n" + POST

Procmail = Callable[..., int]


@pytest.fixture
def procmail(home: Path) -> Procmail:
    """Hand one message to procmail as an MTA does; its exit status."""
    for block in blocks(TUTORIAL):
        if block.file:
            path = Path(block.file.replace("~", str(home)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    bin_directory = home / "mailflow" / "bin"
    bin_directory.mkdir(parents=True)
    (bin_directory / "mailflow").symlink_to(COMMAND)

    def run(message: bytes, rc: str = ".procmailrc") -> int:
        told = {  # procmail takes nothing from the environment, and HOME from /etc/passwd
            "HOME": home,
            "DEFAULT": home / "system-mailbox",
            "XDG_STATE_HOME": home / ".local" / "state",
        }
        settings = [f"{name}={value}" for name, value in told.items()]
        done = subprocess.run(
            ["/usr/bin/procmail", "-f", "ann@example.org", *settings, str(home / rc)],
            input=message,
            cwd=home,
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert not (home / "system-mailbox").exists(), done.stderr
        return done.returncode

    return run


def delivered(home: Path, folder: str = "") -> list[bytes]:
    return [path.read_bytes() for path in (home / "Maildir" / folder / "new").glob("*")]


def queued() -> str:
    """The id of the one mail that waits."""
    listed = subprocess.run([COMMAND, "queue", "list", "--json"], check=True, capture_output=True)
    (entry,) = json.loads(listed.stdout)
    identifier: str = entry["mail"]
    return identifier


def test_the_message_is_in_the_maildir_octet_for_octet(procmail: Procmail, home: Path) -> None:
    assert procmail(POST) == 0
    # procmail itself ends the last line; it writes the "From " line that mailflow takes away
    assert delivered(home) == [POST + b"\n"]


def test_a_step_sorts_it_into_a_folder(procmail: Procmail, home: Path) -> None:
    assert procmail(LIST_POST) == 0
    assert delivered(home, ".Lists") == [LIST_POST + b"\n"]


def test_where_the_maildir_cannot_be_had_the_journal_keeps_it(
    procmail: Procmail, home: Path
) -> None:
    (home / "Maildir").write_text("a file in its place")
    assert procmail(POST) == 0
    (home / "Maildir").unlink()
    subprocess.run([COMMAND, "queue", "retry", queued()], check=True, capture_output=True)
    subprocess.run([COMMAND, "run", home / ".config/mailflow/hook.toml"], check=True)
    assert delivered(home) == [POST + b"\n"]


def test_where_nothing_can_be_written_it_stays_in_the_queue(procmail: Procmail, home: Path) -> None:
    (home / "Maildir").write_text("a file in its place")
    (home / ".local").write_text("and one in the journal's")
    assert procmail(POST) == 75
    (home / "Maildir").unlink()
    (home / ".local").unlink()
    assert procmail(POST) == 0
    assert delivered(home) == [POST + b"\n"]


def test_a_fault_in_the_file_leaves_it_in_the_queue(procmail: Procmail, home: Path) -> None:
    with (home / ".config/mailflow/hook.toml").open("a") as file:
        file.write("colour = 'red'\n")
    assert procmail(POST) == 75


def test_a_command_that_is_not_there_leaves_it_in_the_queue(procmail: Procmail, home: Path) -> None:
    shutil.rmtree(home / "mailflow")
    assert procmail(POST) == 75
    assert procmail(POST, ".procmailrc-reject") == 75


@pytest.mark.parametrize("rc", [".procmailrc", ".procmailrc-reject"])
def test_one_whose_python_has_gone_leaves_it_in_the_queue(
    procmail: Procmail, home: Path, rc: str
) -> None:
    """procmail then tries `sh mailflow`, which is a directory here, and dash says 0 of that."""
    command = home / "mailflow" / "bin" / "mailflow"
    command.unlink()
    command.write_text("#!/nonexistent/python3\n")
    command.chmod(0o755)
    assert procmail(POST, rc) == 75


def test_a_reject_reaches_the_mail_server(procmail: Procmail, home: Path) -> None:
    file = home / ".config/mailflow/hook.toml"
    step = '[[process]]\nuse = "filter.reject"\nwhen = \'subject is "hello"\'\n'
    file.write_text(file.read_text().replace("[[distribute]]", step + "\n[[distribute]]"))
    assert procmail(POST, ".procmailrc-reject") == 77
    assert procmail(POST.replace(b"hello", b"other"), ".procmailrc-reject") == 0
