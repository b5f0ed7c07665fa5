"""The page about other programs: what stands on its left is what they take, and do."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow.oauth2.store import Store, Tokens
from mailflow.testing.documents import Block, blocks

PAGE = Path(__file__).parents[2] / "docs" / "migrating.rst"
BLOCKS = {block.file: block for block in blocks(PAGE) if block.file}
COMMAND = Path(sys.executable).parent / "mailflow"


def written(home: Path, name: str) -> Path:
    block = BLOCKS[name]
    assert isinstance(block, Block)
    path = home / name.removeprefix("~/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)
    path.chmod(0o600)
    return path


def ask(home: Path, *command: str | Path, octets: bytes = b"") -> str:
    environment = {
        "HOME": str(home), "PATH": os.defpath, "FETCHMAILUSER": "ann",
        "XDG_STATE_HOME": str(home / "state"),
    }  # fmt: skip
    done = subprocess.run(
        command, env=environment, input=octets, cwd=home, capture_output=True, check=False
    )
    assert done.returncode == 0, done
    return done.stdout.decode()


@pytest.mark.interop("fetchmail")
def test_fetchmail_takes_its_file(home: Path) -> None:
    said = ask(home, "fetchmail", "-f", written(home, "~/.fetchmailrc"), "--configdump")
    for fact in ("poll_interval:600", "remote:ann", "keep:TRUE", "ssl:TRUE", "sslcertck:TRUE"):
        assert fact in said.replace("'", "").replace('"', ""), said


@pytest.mark.interop("getmail6")
def test_getmail_takes_its_file(home: Path) -> None:
    file = written(home, "~/.config/getmail/getmailrc")
    (home / "Maildir/new").mkdir(parents=True)
    (home / "Maildir/cur").mkdir()
    (home / "Maildir/tmp").mkdir()
    said = ask(home, "getmail", "--dump", "--getmaildir", file.parent, "--rcfile", file)
    for fact in ("pop.example.org", "delete_after", "14", "2000000"):
        assert fact in said


@pytest.mark.interop("mpop")
def test_mpop_takes_its_file(home: Path) -> None:
    file = written(home, "~/.mpoprc")
    said = " ".join(ask(home, "mpop", "--pretend", "-C", file, "ann").split())
    for fact in ("host = pop.example.org", "keep = on", "skipsize = 2000000", "tls = on"):
        assert fact in said


@pytest.mark.interop("isync")
def test_mbsync_takes_its_file(home: Path) -> None:
    """It reads all of the file before it looks for the channel that it is to sync."""
    file = written(home, "~/.mbsyncrc")
    environment = {"HOME": str(home), "PATH": os.defpath}
    done = subprocess.run(
        ["mbsync", "-c", file, "nowhere"], env=environment, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode().strip()
    assert said.startswith("No channel or group named 'nowhere' defined."), said


MAILS = {
    "": b"Subject: hello\n\nhello\n",
    ".Junk": b"X-Spam-Flag: YES\nSubject: [red] buy\n\nhello\n",
    ".Red": b"Subject: Re: [red] hello\n\n" + b"x" * 200_000 + b"\n",
    ".Large": b"Subject: hello\n\n" + b"x" * 200_000 + b"\n",
}
"""Where each mail goes."""


def folders(home: Path) -> set[str]:
    return {path.parent.parent.name for path in home.glob("Maildir/.*/new/*")} | {
        "" for _ in home.glob("Maildir/new/*")
    }


@pytest.mark.interop("procmail")
@pytest.mark.parametrize("folder", MAILS)
def test_procmail_and_the_pipeline_beside_it_sort_alike(
    home: Path, tmp_path: Path, folder: str
) -> None:
    octets = b"From: ann@example.org\n" + MAILS[folder]
    (home / "Maildir").mkdir()
    # It looks up the home in the system's table of users, unless it is told.
    ask(home, "procmail", "-m", f"HOME={home}", written(home, "~/.procmailrc"), octets=octets)
    assert folders(home) == {folder}
    other = tmp_path / "other"
    other.mkdir()
    pipeline = written(other, "~/.config/mailflow/sort.toml")
    ask(other, COMMAND, "hook", pipeline, octets=octets)
    assert folders(other) == {folder}


@pytest.mark.interop("mlmmj")
def test_mlmmj_s_control_files_are_those_it_knows() -> None:
    manual = Path("/usr/share/doc/mlmmj/TUNABLES.gz")
    if not manual.exists():
        pytest.skip("Debian's documentation was not installed with mlmmj")
    import gzip

    known = gzip.decompress(manual.read_bytes()).decode(errors="replace")
    block = BLOCKS["/etc/aliases"].text.partition("control/\n")[2]
    names = re.findall(r"^(\w+) ", block, re.MULTILINE)
    assert len(names) == 5
    for name in names:
        assert name in known


@pytest.mark.interop("dovecot-pop3d")
def test_dovecot_takes_its_file(home: Path) -> None:
    file = written(home, "~/dovecot/dovecot.conf")
    for name in re.findall(r"</\S+", file.read_text()):
        (home / Path(name).name).write_text("certificate\n")
        file.write_text(file.read_text().replace(name, f"<{home / Path(name).name}"))
    said = ask(home, "doveconf", "-n", "-c", file)
    for fact in ("protocols = pop3", "ssl = required", "driver = passwd-file"):
        assert fact in said


def test_the_pipeline_for_a_provider_with_oauth2_is_in_order(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(home, "~/.config/mailflow/proxy.toml")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    store = Store("microsoft", "ann@example.org")
    with store.locked():
        store.save(Tokens(client_id="...", access_token="a", obtained=1.0, refresh_token="r"))
    ask(home, COMMAND, "maildrop", "add", "ann")
    assert "in order" in ask(home, COMMAND, "check", file)


def test_the_proxy_s_file_says_the_same_as_the_pipeline_beside_it(home: Path) -> None:
    proxy = configparser.ConfigParser(interpolation=None)
    proxy.read_string(BLOCKS["~/emailproxy.config"].text)
    section = proxy["POP-1110"]
    text = BLOCKS["~/.config/mailflow/proxy.toml"].text
    assert f'host = "{section["server_address"]}"' in text
    assert f'listen = ["{section["local_address"]}:1110"]' in text
    assert f'user = "{proxy.sections()[1]}"' in text
