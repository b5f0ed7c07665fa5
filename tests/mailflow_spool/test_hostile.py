"""What somebody else may have put into the spool is not followed, and is said (G6)."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.errors import MailflowError
from mailflow.mail import read
from mailflow.verdicts import LATER, SENT
from mailflow_spool import tidy
from mailflow_spool.distributor import SpoolOptions
from mailflow_spool.maildrop import MaildropOptions

from .conftest import LARGE, Spool, text

SECRET = b"+OK\r\nthe secret of somebody else\r\n" + b"x" * 200_000


def link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path, 0o600)


def unix_socket(path: Path, secret: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()


def device(path: Path, secret: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero


def setuid(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    path.chmod(0o4600)


def of_another(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    os.chown(path, 65534, 65534)


def writable(path: Path, secret: Path) -> None:
    path.write_bytes(secret.read_bytes())
    path.chmod(0o666)


TRAPS = (link, hard_link, fifo, unix_socket, directory, device, setuid, of_another, writable)


def laid(trap: Callable[[Path, Path], None], path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    if trap in (device, of_another) and os.geteuid():
        pytest.skip("only root can lay it")
    trap(path, secret)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_g06_what_stands_in_the_place_of_a_file_is_not_read_and_is_said(
    spool: Spool, tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    spool.fill(LARGE, LARGE)
    spool.fill(text(1))
    (path,) = spool.bodies()
    path.unlink()
    laid(trap, path, tmp_path)
    drop = spool.login()
    for item in list(drop.items())[:2]:
        for ask in (drop.wire, drop.read):
            with pytest.raises(MailflowError, match=re.escape(str(path))):
                ask(item.key)
    assert read(drop.read(drop.items()[2].key)) == text(1)
    drop.close()
    said = spool.damage()
    assert any(str(path) in each for each in said), said
    assert not any("secret of somebody" in each for each in said)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_g06_what_lies_beside_the_files_is_said_and_stays(
    spool: Spool, tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    spool.fill(LARGE)
    path = spool.path / "bodies" / "0000000000abcd"
    laid(trap, path, tmp_path)
    assert any(str(path) in each for each in spool.damage())
    tidy.sweep(spool.store)
    assert os.path.lexists(path)
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert spool.messages() == [LARGE]


@pytest.mark.parametrize("name", ["index.db", "index.db-wal", "index.db-shm"])
def test_g06_an_index_that_is_a_link_is_not_opened(spool: Spool, tmp_path: Path, name: str) -> None:
    spool.fill(text(1))
    spool.store.close()
    target = tmp_path / "elsewhere"
    target.write_bytes(b"")
    path = spool.path / name
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    (report,) = spool.deliver(text(2))
    assert report.outcome is LATER
    assert str(path) in report.text
    assert target.read_bytes() == b""


def test_g06_a_spool_into_which_others_can_write_is_not_used(spool: Spool) -> None:
    spool.path.mkdir()
    spool.path.chmod(0o777)
    (report,) = spool.deliver(text(1))
    assert report.outcome is LATER
    assert f"chmod 700 {spool.path}" in report.text
    for options in (SpoolOptions, MaildropOptions):
        table = {"path": str(spool.path), "drop": "ann"}
        ((where, said),) = options.read(table).look()
        assert (where, said) == ("path", report.text)
    spool.path.chmod(0o700)
    assert list(SpoolOptions.read(table).look()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_g06_a_spool_of_another_user_is_not_used(spool: Spool) -> None:
    spool.path.mkdir(mode=0o700)
    os.chown(spool.path, 65534, 65534)
    (report,) = spool.deliver(text(1))
    assert report.outcome is LATER
    assert "belongs to another user" in report.text


def test_g06_a_lock_that_is_a_link_or_a_fifo_harms_nobody(spool: Spool, tmp_path: Path) -> None:
    spool.fill(text(1))
    target = tmp_path / "target"
    lock = spool.path / "locks" / "1"
    lock.unlink(missing_ok=True)
    lock.symlink_to(target)
    with pytest.raises(MailflowError, match=re.escape(str(lock))):
        spool.login()
    assert not target.exists()
    lock.unlink()
    os.mkfifo(lock)
    with pytest.raises(MailflowError, match=re.escape(str(lock))):
        spool.login()
    lock.unlink()
    assert spool.messages() == [text(1)]
    assert spool.deliver(text(2))[0].outcome is SENT
