"""What the system refuses costs the mail it refused it for, and only for now."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailflow.mail import Mail, OctetFile
from mailflow.testing import kill
from mailflow.verdicts import LATER, SENT, Report

if TYPE_CHECKING:
    from .conftest import Maildir

Make = Callable[..., Mail]

PROGRAM = """
import json, os, sys
from mailflow.kinds import Runtime, Ticket
from mailflow.log import Logger
from mailflow.mail import Envelope, Mail, Octets
from mailflow.net import Halt
from mailflow_maildir.distributor import MaildirDistributor, MaildirOptions

options = MaildirOptions({"path": sys.argv[1]})
with MaildirDistributor(options, Runtime("maildir", "test", Halt(), Logger(), "")) as distributor:
    jobs = [
        (Mail(f"m{n}", Envelope(), Octets(b"%d\\r\\n" % n)), Ticket(f"m{n}", ()))
        for n in range(int(sys.argv[2]))
    ]
    for ticket, report in distributor.distribute_many(jobs):
        print(json.dumps([ticket.key, report.outcome.value, report.code, report.text]), flush=True)
"""
"""Delivers so many mails in one group, as a program of its own that can be watched."""


def deliver(
    path: Path, decide: Callable[[kill.Step], int | None] = lambda step: None, count: int = 3
) -> list[list[str]]:
    outcome = kill.watch([sys.executable, "-c", PROGRAM, str(path), str(count)], decide)
    assert outcome.status == 0, outcome.stderr
    return sorted(json.loads(line) for line in outcome.stdout.splitlines())


def once(call: str, part: str, error: int) -> Callable[[kill.Step], int | None]:
    """Fail the first such call on such a path."""
    hits: list[kill.Step] = []

    def decide(step: kill.Step) -> int | None:
        if step.call.startswith(call) and part in step.target and not hits:
            hits.append(step)
            return error
        return None

    return decide


def files(path: Path, place: str = "new") -> list[bytes]:
    return sorted(file.read_bytes() for file in (path / place).iterdir())


FILE = "tmp/m1.mailflow"


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        ("open", errno.ENOSPC, "4.3.1"),
        ("open", errno.EDQUOT, "4.2.2"),
        ("open", errno.EACCES, "4.3.0"),
        ("open", errno.EROFS, "4.3.0"),
        ("open", errno.ENOMEM, "4.3.0"),
        ("write", errno.ENOSPC, "4.3.1"),
        ("write", errno.EDQUOT, "4.2.2"),
        ("write", errno.EIO, "4.3.0"),
        ("write", errno.EFBIG, "4.3.0"),
        ("fsync", errno.EIO, "4.3.0"),
        ("fsync", errno.ENOSPC, "4.3.1"),
        ("link", errno.EIO, "4.3.0"),
        ("link", errno.ENOSPC, "4.3.1"),
        ("link", errno.EROFS, "4.3.0"),
    ],
)
def test_d01_d03_a_call_that_fails_costs_its_mail_for_now(
    tmp_path: Path, call: str, error: int, code: str
) -> None:
    path = tmp_path / "Maildir"
    text = f"cannot deliver into {path}: {os.strerror(error)}"
    assert deliver(path, once(call, FILE, error)) == [
        ["m0", "sent", "", ""],
        ["m1", "later", code, text],
        ["m2", "sent", "", ""],
    ]
    assert files(path) == [b"0\n", b"2\n"]
    assert files(path, "tmp") == [b"0\n", b"2\n"]
    assert [outcome for _, outcome, _, _ in deliver(path)] == ["sent"] * 3
    assert files(path) == [b"0\n", b"1\n", b"2\n"]


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE])
def test_d01_too_many_open_files_only_make_the_group_smaller(tmp_path: Path, error: int) -> None:
    path = tmp_path / "Maildir"
    assert [line[1] for line in deliver(path, once("open", FILE, error))] == ["sent"] * 3
    assert files(path) == [b"0\n", b"1\n", b"2\n"]


def test_d01_a_low_limit_of_open_files_is_no_trouble(maildir: Maildir, mail: Make) -> None:
    mails = [mail(number, folder=f"f{number % 50}") for number in range(100)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 30, hard)
    )
    try:
        reports = maildir.deliver(*mails, folder="{note:folder}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reports == [Report("", SENT)] * 100


@pytest.mark.parametrize("part", ["Maildir", "Maildir/tmp", "Maildir/cur", "Maildir/new"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_d01_a_maildir_that_cannot_be_made_is_made_later(
    tmp_path: Path, part: str, error: int
) -> None:
    path = tmp_path / "Maildir"

    def decide(step: kill.Step) -> int | None:
        hit = step.call.startswith("mkdir") and step.target == str(tmp_path / part)
        return error if hit else None

    for _, outcome, _, text in deliver(path, decide):
        assert (outcome, text) == ("later", f"cannot deliver into {path}: {os.strerror(error)}")
    assert [outcome for _, outcome, _, _ in deliver(path)] == ["sent"] * 3


@pytest.mark.parametrize("directory", ["", "Maildir", "Maildir/new"])
def test_d01_a_directory_that_cannot_be_flushed_means_not_delivered(
    tmp_path: Path, directory: str
) -> None:
    path = tmp_path / "Maildir"
    target = str(tmp_path / directory)

    def decide(step: kill.Step) -> int | None:
        return errno.EIO if step.call == "fsync" and step.target == target.rstrip("/") else None

    assert [outcome for _, outcome, _, _ in deliver(path, decide)] == ["later"] * 3
    assert [outcome for _, outcome, _, _ in deliver(path)] == ["sent"] * 3
    assert files(path) == [b"0\n", b"1\n", b"2\n"]


def test_d07_a_file_system_that_flushes_no_directories_is_flushed_whole(tmp_path: Path) -> None:
    path = tmp_path / "Maildir"
    syncs: list[kill.Step] = []

    def decide(step: kill.Step) -> int | None:
        if step.call == "sync":
            syncs.append(step)
        return errno.EINVAL if step.call == "fsync" and step.target == f"{path}/new" else None

    assert [outcome for _, outcome, _, _ in deliver(path, decide)] == ["sent"] * 3
    assert len(syncs) == 1


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_d07_without_hard_links_the_file_is_renamed_and_never_over_another(
    tmp_path: Path, error: int
) -> None:
    path = tmp_path / "Maildir"

    def decide(step: kill.Step) -> int | None:
        return error if step.call.startswith("link") else None

    for _ in range(2):
        assert [outcome for _, outcome, _, _ in deliver(path, decide)] == ["sent"] * 3
        assert files(path) == [b"0\n", b"1\n", b"2\n"]


def test_d07_tmp_and_new_on_two_disks_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "Maildir"

    def decide(step: kill.Step) -> int | None:
        return errno.EXDEV if step.call.startswith("link") else None

    for _, outcome, _, text in deliver(path, decide):
        assert outcome == "later"
        assert text == (
            f"tmp/ and new/ of {path} are on different file systems: a Maildir must be on one"
        )
    assert files(path, "tmp") == []


def test_d07_a_large_cur_is_listed_once_for_a_group(
    maildir: Maildir, mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir.deliver(mail(0))
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), real(path))[1])
    maildir.deliver(*[mail(number) for number in range(1, 100)], resumed=True)
    assert listed.count(f"{maildir.path}/cur") == 1


@pytest.mark.parametrize("threads", [1, 40])
def test_d02_short_writes_go_on_until_all_is_written(
    maildir: Maildir, mail: Make, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    data = bytes(range(256)) * 20
    maildir.deliver(*[mail(number, data) for number in range(threads)])
    assert maildir.octets() == [data.replace(b"\r\n", b"\n")] * threads


def test_d02_a_file_size_limit_leaves_a_whole_file_or_none(
    maildir: Maildir, mail: Make, tmp_path: Path
) -> None:
    source = tmp_path / "content"
    source.write_bytes(b"x\r\n" * 600_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        reports = maildir.deliver(
            mail(1, b"y" * 100_001), mail(2), mail(3).replace(content=OctetFile(str(source)))
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [report.outcome for report in reports] == [LATER, SENT, LATER]
    assert "File too large" in reports[0].text
    assert len(maildir.files("tmp")) == len(maildir.files("new")) == 1


def test_d01_a_close_that_fails_means_not_written(
    maildir: Maildir, mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.close
    failed: list[int] = []

    def close(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        real(descriptor)
        if ".mailflow," in name and not failed:
            failed.append(descriptor)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "close", close)
    reports = maildir.deliver(mail(1, b"1\r\n"), mail(2, b"2\r\n"))
    assert [report.outcome for report in reports] == [LATER, SENT]
    assert maildir.octets("tmp") == maildir.octets() == [b"2\n"]


def test_d03_one_failed_flush_among_many_threads_costs_one_mail(
    maildir: Maildir, mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    failed = threading.Event()

    def fsync(descriptor: int) -> None:
        if not failed.is_set() and ".000017." in os.readlink(f"/proc/self/fd/{descriptor}"):
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    mails = [mail(number, b"%d\r\n" % number) for number in range(64)]
    reports = maildir.deliver(*mails)
    assert [n for n, report in enumerate(reports) if report.outcome is LATER] == [17]
    assert maildir.deliver(mails[17]) == [Report("", SENT)]
    assert maildir.octets() == sorted(b"%d\n" % number for number in range(64))


def test_content_that_cannot_be_read_costs_its_mail_only(
    maildir: Maildir, mail: Make, tmp_path: Path
) -> None:
    lost = mail(2).replace(content=OctetFile(str(tmp_path / "lost"), 5))
    reports = maildir.deliver(mail(1), lost, mail(3))
    assert [report.outcome for report in reports] == [SENT, LATER, SENT]


def test_memory_that_is_out_costs_its_mail_only(maildir: Maildir, mail: Make) -> None:
    class Greedy:
        size = 5

        def open(self) -> object:
            raise MemoryError

    reports = maildir.deliver(mail(1), mail(2).replace(content=Greedy()), mail(3))
    assert [report.outcome for report in reports] == [SENT, LATER, SENT]
    assert reports[1].text == "out of memory"


def test_d08_a_disk_that_comes_back_is_opened_anew(
    maildir: Maildir, mail: Make, tmp_path: Path
) -> None:
    """The directories a long-lived process has open may be of a disk that is gone."""
    from mailflow.kinds import Ticket

    with maildir.distributor() as distributor:
        list(distributor.distribute(mail(1), Ticket("1", ())))
        maildir.path.rename(tmp_path / "away")
        (tmp_path / "away" / "tmp").rename(tmp_path / "elsewhere")
        (tmp_path / "away" / "new").rename(tmp_path / "nowhere")
        for gone in (tmp_path / "elsewhere", tmp_path / "nowhere"):
            for file in gone.iterdir():
                file.unlink()
            gone.rmdir()
        assert [r.outcome for r in distributor.distribute(mail(2), Ticket("2", ()))] == [LATER]
        assert [r.outcome for r in distributor.distribute(mail(2), Ticket("2", ()))] == [SENT]
    assert len(maildir.files()) == 1
