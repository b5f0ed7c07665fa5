"""What an mbox holds after a delivery, and after one that did not go well."""

from __future__ import annotations

import errno
import fcntl
import mailbox
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailflow.mail import OctetFile
from mailflow.verdicts import LATER, SENT, Report
from mailflow_mbox.distributor import MboxOptions

from .conftest import LINE, Box, make


def test_a_mail_is_a_from_line_its_octets_and_a_blank_line(box: Box) -> None:
    assert box.deliver(make(1, b"A: b\r\n\r\nx\r\n")) == [Report("", SENT)]
    line, _, rest = box.path.read_bytes().partition(b"\n")
    assert line.startswith(b"From ann@x.org ")
    assert rest == b"A: b\n\nx\n\n"
    assert box.others() == []


def test_a_check_says_that_nothing_can_be_delivered(box: Box) -> None:
    def look(**table: object) -> list[tuple[str, str]]:
        return list(MboxOptions.read({"path": str(box.path / "deep" / "box"), **table}).look())

    assert look() == []
    [(key, text)] = look(create=False)
    assert key == "path"
    assert text.endswith("make it, or set create = true")
    box.path.write_bytes(b"")
    assert look() == [("path", f"{box.path} is no directory")]


def test_a_directory_that_cannot_be_made_is_no_matter_of_create(tmp_path: Path) -> None:
    box = Box(Path("/proc/none/box"))
    [report] = box.deliver(make(1), finish=False)
    assert report == Report("", LATER, "4.3.0", "no mbox at /proc/none/box: it cannot be made")


def test_lines_that_look_like_a_from_line_are_quoted(box: Box) -> None:
    box.deliver(make(1, b"A: b\r\n\r\nFrom x\r\n>From y\r\n From z\r\nFrom"))
    assert box.path.read_bytes().endswith(b"\n\n>From x\n>>From y\n From z\nFrom\n\n")


@pytest.mark.parametrize("data", [b"", b"\r\n", b"no end", b"\xff\0\r\r\n\r", b"A: b\r\n\r\n"])
def test_f11_python_reads_the_same_octets(box: Box, data: bytes) -> None:
    box.deliver(make(1, data), make(2))
    stored = data.replace(b"\r\n", b"\n")
    first, second = box.bodies()
    assert first.rstrip(b"\n") == stored.rstrip(b"\n")
    assert second == b"Subject: 2\n\n2\n"


def test_d20_the_null_sender_is_nobody(box: Box) -> None:
    box.deliver(make(1, sender=""), make(2, sender=None))
    assert box.path.read_bytes().count(b"From MAILER-DAEMON ") == 2


@pytest.mark.parametrize(
    ("end", "gap"), [(b"", b"\n\n"), (b"\n", b"\n"), (b"\n\n", b""), (b"\r\n\r\n", b"")]
)
def test_it_is_appended_behind_whatever_the_file_ends_with(
    box: Box, end: bytes, gap: bytes
) -> None:
    before = LINE + b"A: b\n\nx" + end
    box.path.write_bytes(before)
    box.deliver(make(1))
    assert box.path.read_bytes().startswith(before + gap + b"From ann@x.org ")


def test_a_group_of_any_size_is_appended_in_order(box: Box) -> None:
    assert box.deliver(*[make(number) for number in range(300)]) == [Report("", SENT)] * 300
    assert box.bodies() == [b"Subject: %d\n\n%d\n" % (n, n) for n in range(300)]


def test_f10_a_large_mail_is_streamed(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"A: b\r\n\r\n" + b"From here\r\nand on\r\n" * 200_000)
    box.deliver(make(1).replace(content=OctetFile(str(path))))
    [got] = box.bodies()
    assert got == b"A: b\n\n" + b">From here\nand on\n" * 200_000


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_c07_nobody_else_reads_the_file_whatever_the_umask(box: Box, umask: int) -> None:
    before = os.umask(umask)
    try:
        box.deliver(make(1), finish=False)
    finally:
        os.umask(before)
    for path in (box.path, box.log):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_file_keeps_its_mode(box: Box) -> None:
    box.path.touch(mode=0o660)
    box.path.chmod(0o660)
    box.deliver(make(1))
    assert stat.S_IMODE(box.path.stat().st_mode) == 0o660


def test_a_ticket_handed_in_again_leaves_one_copy(box: Box) -> None:
    for _ in range(3):
        assert box.deliver(make(1), make(2), finish=False) == [Report("", SENT)] * 2
    box.deliver(make(3), finish=False)
    box.deliver(make(1), make(3), make(4), finish=False)
    assert box.bodies() == [b"Subject: %d\n\n%d\n" % (n, n) for n in range(1, 5)]


def test_the_log_goes_when_all_tickets_are_final(box: Box) -> None:
    box.deliver(make(1), make(2), finish=False)
    assert box.others() == [".box.mailflow"]
    with box.distributor() as distributor:
        distributor.finish(["m1", "never heard of"])
        assert box.others() == [".box.mailflow"]
        assert box.deliver(make(2), finish=False) == [Report("", SENT)]
        distributor.finish(["m2"])
        distributor.finish(["m2"])
    assert box.others() == []
    assert len(box.bodies()) == 2


def test_no_file_is_made_where_none_may_be(box: Box) -> None:
    [report] = box.deliver(make(1), create=False)
    assert (report.outcome, report.text) == (
        LATER, f"no mbox at {box.path}: make it, or set create = true",
    )  # fmt: skip
    assert not box.path.exists()


def test_a_directory_that_is_missing_is_made_durably(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )
    deep = Box(box.path.parent / "a" / "b" / "box")
    assert deep.deliver(make(1)) == [Report("", SENT)]
    assert flushed[:2] == [str(box.path.parent), str(box.path.parent / "a")]
    assert stat.S_IMODE(deep.path.parent.stat().st_mode) == 0o700
    deep.halt.close()


def test_d07_a_directory_that_may_not_be_made_may_come_back(box: Box) -> None:
    box.path.parent.rmdir()
    box.path.parent.touch()
    [report] = box.deliver(make(1))
    assert report.outcome is LATER
    assert report.text.startswith(f"cannot open {box.path}: Not a directory")


def test_g06_what_is_no_regular_file_is_not_written(box: Box) -> None:
    os.mkfifo(box.path)
    [report] = box.deliver(make(1))
    assert (report.outcome, report.text) == (LATER, f"{box.path} is no regular file")


def test_a_link_to_an_mbox_is_the_mbox(box: Box, tmp_path: Path) -> None:
    link = Box(tmp_path / "link")
    link.path.symlink_to(box.path)
    link.deliver(make(1), finish=False)
    assert link.path.is_symlink()
    assert box.others() == [".box.mailflow"]
    assert len(box.bodies()) == 1
    link.halt.close()


class Held:
    """Another program's lock."""

    def __init__(self, box: Box, kind: str) -> None:
        self.box, self.kind = box, kind

    def __enter__(self) -> None:
        self.box.path.touch()
        code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX)"
        if self.kind == "dot":
            code = "import sys; open(sys.argv[1] + '.lock', 'x')"
        code += "; print(flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(self.box.path)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.box.path.with_name("box.lock").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["dot", "fcntl"])
def test_another_programs_lock_is_waited_for_and_never_broken(box: Box, kind: str) -> None:
    with Held(box, kind):
        [report] = box.deliver(make(1))
        assert report == Report("", LATER, "4.3.0", f"{box.path} is locked by another program")
        assert box.path.read_bytes() == b""
    assert box.deliver(make(1)) == [Report("", SENT)]


def test_nobody_waits_for_one_lock_with_the_other_in_hand(box: Box) -> None:
    """procmail takes the lock file first, then fcntl."""
    box.path.touch()
    lock = box.path.with_name("box.lock")
    lock.write_text("0")

    def wait(seconds: float) -> bool:
        with box.path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free: this does not raise
        lock.unlink()
        return False

    box.halt.wait = wait  # type: ignore[method-assign]
    assert box.deliver(make(1)) == [Report("", SENT)]


def test_the_lock_file_of_a_process_of_ours_that_is_dead_is_broken(box: Box) -> None:
    code = (
        "import os, sys; from mailflow_mbox.lock import locked; from mailflow.halt import Halt\n"
        "with locked(sys.argv[1], write=True, create=True, timeout=9, halt=Halt()): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(box.path)], check=True)
    assert box.others() == ["box.lock"]
    assert box.deliver(make(1)) == [Report("", SENT)]
    assert box.others() == []


@pytest.mark.parametrize(("age", "outcome"), [(10, LATER), (2000, SENT)])
def test_a_lock_file_of_nobody_knows_whom_is_broken_when_it_is_old(
    box: Box, age: int, outcome: object
) -> None:
    lock = box.path.with_name("box.lock")
    lock.write_text("0")
    then = lock.stat().st_mtime - age
    os.utime(lock, (then, then))
    assert box.deliver(make(1))[0].outcome is outcome


def test_where_no_lock_file_may_be_made_fcntl_must_do(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert box.deliver(make(1)) == [Report("", SENT)]


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EISDIR])
def test_a_lock_file_is_made_where_none_can_be_made_unseen(
    box: Box, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(error, os.strerror(error), path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert box.deliver(make(1)) == [Report("", SENT)]
    with Held(box, "dot"):
        assert box.deliver(make(2))[0].outcome is LATER


def failing(
    monkeypatch: pytest.MonkeyPatch, call: str, part: str, error: int, after: int = 0
) -> None:
    """Let a system call fail on such a path, once, after so many that do not."""
    real = getattr(os, call)
    left = [after]

    def fail(first: Any, *more: Any, **named: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
        if path.endswith(part):
            left[0] -= 1
            if left[0] == -1:
                raise OSError(error, os.strerror(error))
        return real(first, *more, **named)

    monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize(
    ("call", "part", "error", "code"),
    [
        ("open", "/box", errno.EROFS, "4.3.0"),
        ("open", "/box", errno.EMFILE, "4.3.0"),
        ("open", ".mailflow.tmp", errno.ENOSPC, "4.3.1"),
        ("write", ".mailflow.tmp", errno.ENOSPC, "4.3.1"),
        ("write", ".mailflow.tmp", errno.EDQUOT, "4.2.2"),
        ("fsync", ".mailflow.tmp", errno.EIO, "4.3.0"),
        ("rename", ".mailflow.tmp", errno.EIO, "4.3.0"),
        ("fsync", "/mail", errno.EIO, "4.3.0"),
        ("pwrite", "/box", errno.ENOSPC, "4.3.1"),
        ("pwrite", "/box", errno.EFBIG, "4.3.0"),
        ("fsync", "/box", errno.EIO, "4.3.0"),
    ],
)
def test_d01_d03_a_call_that_fails_leaves_the_mbox_as_it_was_and_the_mail_for_later(
    box: Box, monkeypatch: pytest.MonkeyPatch, call: str, part: str, error: int, code: str
) -> None:
    box.deliver(make(1))
    before = box.path.read_bytes()
    with monkeypatch.context() as patch:
        failing(patch, call, part, error)
        reports = box.deliver(make(2), make(3), finish=False)
    assert LATER in {report.outcome for report in reports}
    assert reports[0].code == code
    assert os.strerror(error) in reports[0].text
    if all(report.outcome is LATER for report in reports) and (call, part) != ("fsync", "/mail"):
        assert box.path.read_bytes() == before
    assert [r.outcome for r in box.deliver(make(2), make(3))] == [SENT] * 2
    assert sorted(box.bodies()) == [b"Subject: %d\n\n%d\n" % (n, n) for n in (1, 2, 3)]
    assert box.others() == []


def test_d01_what_failed_and_never_comes_again_is_not_delivered_later(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.deliver(make(1), finish=False)
    with monkeypatch.context() as patch:
        failing(patch, "fsync", "/box", errno.EIO)
        box.deliver(make(2), finish=False)
    box.deliver(make(3), make(1), finish=False)
    assert box.bodies() == [b"Subject: 1\n\n1\n", b"Subject: 3\n\n3\n"]


def test_d02_a_file_size_limit_leaves_whole_mails_or_none(box: Box) -> None:
    box.deliver(make(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        reports = box.deliver(make(2, b"y" * 100_001), make(3), finish=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [report.outcome for report in reports] == [LATER, SENT]
    assert "File too large" in reports[0].text
    assert box.bodies() == [b"Subject: 1\n\n1\n", b"Subject: 3\n\n3\n"]


def test_d02_short_writes_go_on_until_all_is_written(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in ("write", "pwrite"):
        real = getattr(os, call)
        monkeypatch.setattr(
            os, call, lambda fd, data, *at, real=real: real(fd, bytes(data)[:7], *at)
        )
    box.deliver(make(1), make(2))
    assert box.bodies() == [b"Subject: 1\n\n1\n", b"Subject: 2\n\n2\n"]


def test_content_that_cannot_be_read_costs_its_mail_only(box: Box, tmp_path: Path) -> None:
    lost = make(2).replace(content=OctetFile(str(tmp_path / "lost"), 5))
    reports = box.deliver(make(1), lost, make(3))
    assert [report.outcome for report in reports] == [SENT, LATER, SENT]
    assert len(box.bodies()) == 2


def test_when_the_engine_stops_nothing_is_half(box: Box) -> None:
    box.halt.set()
    [report] = box.deliver(make(1))
    assert report.outcome is LATER
    assert box.path.read_bytes() == b""
    assert box.others() == []


def test_a_damaged_log_is_said_and_changes_nothing(box: Box) -> None:
    box.deliver(make(1))
    before = box.path.read_bytes()
    for octets in (b"rubbish", b"mailflow-mbox-1 ? append" + b" 0" * 3 + b" x y\n"):
        box.log.write_bytes(octets)
        [report] = box.deliver(make(2), finish=False)
        assert report.outcome is LATER
        assert report.text == f"{box.log} is damaged; look at the mbox, then remove it"
    assert box.path.read_bytes() == before


def test_python_and_we_append_in_turns(box: Box) -> None:
    for number in range(4):
        box.deliver(make(2 * number))
        other = mailbox.mbox(box.path)
        other.lock()
        other.add(b"Subject: other\n\nFrom other %d\n" % number)
        other.flush()
        other.close()
    assert len(box.bodies()) == 8


@pytest.mark.interop("procmail")
def test_real_procmail_and_we_append_at_once(box: Box, tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    rc.write_text(f"DEFAULT={box.path}\nLOCKSLEEP=1\n:0:\n{box.path}\n")
    rc.chmod(0o600)
    mail = b"Subject: procmail\n\n" + b"x\n" * 5000
    running = [
        subprocess.Popen(["procmail", "-f", "b@x.org", str(rc)], stdin=subprocess.PIPE)
        for _ in range(3)
    ]
    for each in running:
        assert each.stdin is not None
        each.stdin.write(mail)
        each.stdin.close()
    for number in range(20):
        assert box.deliver(make(number), timeout="60s") == [Report("", SENT)]
    assert [each.wait() for each in running] == [0, 0, 0]
    bodies = box.bodies()
    assert bodies.count(mail) == 3
    assert len(bodies) == 23
