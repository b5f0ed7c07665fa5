"""What `mailflow check --connect` says of real IMAP servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailflow.cli.root import root as command
from mailflow.testing.dovecot import Dovecot

from .imap_servers import PASSWORD, Account, message

TOML = """
[[fetch]]
use = "imap"
host = "localhost"
port = {port}
tls = "starttls"
ca_file = "{ca_file}"
user = "{user}"
password = {{ file = "ann.secret" }}
folders = {folders}
on_done = '{on_done}'

[[distribute]]
use = "maildir"
path = "Maildir"
"""


def said(account: Account, *folders: str, on_done: str = "delete", status: int = 0) -> list[str]:
    """The lines about the server."""
    secret = account.home / "ann.secret"
    secret.write_text(f"{PASSWORD}\n")
    secret.chmod(0o600)
    file = account.home / "ann.toml"
    names = ", ".join(f"'{folder}'" for folder in folders)
    file.write_text(
        TOML.format(
            port=account.server.imap_port, ca_file=account.server.ca_file, user=account.user,
            folders=f"[{names}]", on_done=on_done,
        )
    )  # fmt: skip
    words = ["check", "--connect", str(file)]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert (done.exception, done.return_value) == (None, status), done.output
    lines = (line.strip().partition(" imap: ") for line in done.output.splitlines())
    return [fact for _, of, fact in lines if of]


def test_everything_worth_knowing_is_a_line(account: Account) -> None:
    account.deliver(message("one"), message("two"))
    lines = said(account, "INBOX")
    offered = next(line for line in lines if f":{account.server.imap_port} offers: " in line)
    assert "UIDPLUS" in offered
    assert any(line.startswith("TLS: TLSv1.3, certificate of localhost") for line in lines)
    (folder,) = (line for line in lines if line.startswith("folder INBOX: "))
    assert folder.startswith("folder INBOX: 2 messages, UIDVALIDITY ")
    assert "on_done: delete, one by one (UIDPLUS)" in lines
    assert any(line.startswith("new mail: IDLE") for line in lines)


def test_folders_are_told_by_what_they_are_for(account: Account) -> None:
    sent, archive = account.server.folder("Sent"), account.server.folder("Archive")
    lines = said(account, "\\Sent", on_done="move \\Archive")
    assert any(f"\\Sent is {sent}" in line for line in lines)
    assert any(line.startswith(f"folder {sent}: 0 messages") for line in lines)
    assert f"on_done: move to {archive} (MOVE)" in lines


def test_a_folder_that_is_not_there_yet_is_told(account: Account) -> None:
    target = account.server.folder("Erledigt")
    lines = said(account, "INBOX", "Nowhere", on_done=f"move {target}")
    assert any(line.startswith("folder Nowhere: ") for line in lines)
    assert f"on_done: move to {target}, which will be made (MOVE)" in lines


def test_the_names_are_shown_as_they_are_written_in_the_file(account: Account) -> None:
    box = account.server.folder("Sent")
    (names,) = (line for line in said(account, "INBOX") if line.startswith("folders are called: "))
    assert {"INBOX", box} <= set(names.partition(": ")[2].split(", "))


def test_a_pattern_or_a_use_for_which_there_is_no_folder_is_told(account: Account) -> None:
    lines = said(account, "INBOX", "\\All", "Listen/*", "!\\Important")
    assert "folders: there is none like \\All" in lines
    assert "folders: there is none like Listen/*" in lines
    assert not any("Important" in line for line in lines)


def test_where_no_folder_would_be_read_the_check_fails_as_a_run_does(account: Account) -> None:
    lines = said(account, "Listen/*", status=69)
    assert "folders: there is none like Listen/*" in lines


def test_nothing_is_changed(account: Account) -> None:
    account.deliver(message("one"))
    said(account, "INBOX", "Sent*", on_done="move Made")
    assert account.flags() == [set()]
    with account.program() as session:
        names = [bytes(line) for line in session.list()[1] if isinstance(line, bytes)]
    assert not any(name.endswith(b"Made") for name in names)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    directory = tmp_path_factory.mktemp("dovecot")
    with Dovecot(directory, imap=True, without=["UIDPLUS", "MOVE", "IDLE"]) as dovecot:
        yield dovecot


@pytest.mark.interop("dovecot-imapd")
def test_what_a_server_lacks_is_told(bare: Dovecot, tmp_path: Path) -> None:
    account = Account(bare, tmp_path)
    lines = said(account, "INBOX")
    assert any(line.startswith("on_done: no UIDPLUS") for line in lines)
    assert "new mail: no IDLE; `serve` asks as often as `every` says" in lines
    lines = said(account, "INBOX", on_done="move Done")
    assert any(
        line.endswith("as a copy, the message being deleted then (no MOVE)") for line in lines
    )
