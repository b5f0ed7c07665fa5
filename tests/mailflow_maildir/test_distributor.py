"""What a Maildir holds after a delivery."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailflow.kinds import Ticket
from mailflow.mail import Mail, OctetFile
from mailflow.verdicts import FAILED, LATER, SENT, Report

if TYPE_CHECKING:
    from .conftest import Maildir

Make = Callable[..., Mail]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_mail_is_one_file_in_new_with_lf_lines(maildir: Maildir, mail: Make) -> None:
    assert maildir.deliver(mail(data=b"A: b\r\n\r\nx\r\n")) == [Report("", SENT)]
    assert maildir.octets() == [b"A: b\n\nx\n"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"no header, no line end",
        b"A: \0\xff\r\n\r\nbare \r CR, \r\r\n, 8-bit \xe4\r\n",
        b"\r\r\r\n\r",
        b"Subject: UTF-16\r\n\r\n" + "h\xe4\r\n".encode("utf-16"),
        b"x" * 3_000_000 + b"\r\n",
    ],
    ids=["empty", "blank", "no-end", "odd", "crs", "utf16", "long-line"],
)
def test_f11_every_octet_but_the_line_ends_stays(maildir: Maildir, mail: Make, data: bytes) -> None:
    maildir.deliver(mail(data=data))
    assert maildir.octets() == [data.replace(b"\r\n", b"\n")]


def test_a_large_content_is_written_in_pieces_wherever_its_line_ends_fall(
    maildir: Maildir, mail: Make, tmp_path: Path
) -> None:
    data = b"".join(b"%d\r\n\r\r\n\n" % number for number in range(250_000))
    source = tmp_path / "content"
    source.write_bytes(data)
    maildir.deliver(mail().replace(content=OctetFile(str(source))))
    assert maildir.octets() == [data.replace(b"\r\n", b"\n")]


def test_the_name_tells_the_key_and_both_sizes(maildir: Maildir, mail: Make) -> None:
    maildir.deliver(mail(data=b"A: b\r\n\r\nx\r\r\ny"))
    stored = b"A: b\n\nx\r\ny"
    size, wire = len(stored), len(b"A: b\r\n\r\nx\r\ny")
    assert [file.name for file in maildir.files()] == [
        f"1763690000.000001.4f2a.mailflow,S={size},W={wire}"
    ]


def test_a_group_of_any_size_gives_each_mail_its_report(maildir: Maildir, mail: Make) -> None:
    mails = [mail(number, b"%d\r\n" % number) for number in range(300)]
    assert maildir.deliver(*mails) == [Report("", SENT)] * 300
    assert maildir.octets() == sorted(b"%d\n" % number for number in range(300))


def test_a_group_of_none_is_nothing(maildir: Maildir) -> None:
    assert maildir.deliver() == []
    assert not maildir.path.exists()


def test_distribute_is_the_group_of_one(maildir: Maildir, mail: Make) -> None:
    with maildir.distributor() as distributor:
        assert list(distributor.distribute(mail(), Ticket("1.a", ()))) == [Report("", SENT)]
    assert len(maildir.files()) == 1


def test_tmp_keeps_the_mail_until_its_ticket_is_final(maildir: Maildir, mail: Make) -> None:
    with maildir.distributor() as distributor:
        list(distributor.distribute_many([(mail(1), Ticket("a", ())), (mail(2), Ticket("b", ()))]))
        assert [file.stat().st_nlink for file in maildir.files("tmp")] == [2, 2]
        distributor.finish(["a"])
        assert [file.name[0] for file in maildir.files("tmp")] == ["b"]
        distributor.finish(["b", "never heard of"])
        assert maildir.files("tmp") == []
    assert len(maildir.files()) == 2


def test_another_process_may_finish_a_ticket(maildir: Maildir, mail: Make) -> None:
    maildir.deliver(mail(1), mail(2))
    with maildir.distributor() as distributor:
        distributor.finish([mail(1).id])
    assert [file.name[:17] for file in maildir.files("tmp")] == ["1763690000.000002"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_c07_nobody_else_reads_the_mail_whatever_the_umask(
    maildir: Maildir, mail: Make, umask: int
) -> None:
    before = os.umask(umask)
    try:
        maildir.deliver(mail(), folder="Lists.red")
    finally:
        os.umask(before)
    folder = maildir.path / ".Lists.red"
    assert [mode(file) for file in maildir.files("new", "Lists.red")] == [0o600]
    assert {mode(folder / each) for each in ("tmp", "new", "cur")} == {0o700}
    assert {mode(maildir.path), mode(folder)} == {0o700}


def test_c07_the_directory_the_process_stands_in_may_be_gone(
    maildir: Maildir, mail: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert maildir.deliver(mail()) == [Report("", SENT)]


def test_a_maildir_is_made_with_the_directories_above_it(tmp_path: Path, mail: Make) -> None:
    from .conftest import Maildir

    maildir = Maildir(tmp_path / "a" / "b" / "Maildir")
    assert maildir.deliver(mail()) == [Report("", SENT)]
    assert sorted(each.name for each in maildir.path.iterdir()) == ["cur", "new", "tmp"]


def test_what_is_missing_of_a_maildir_is_made(maildir: Maildir, mail: Make) -> None:
    (maildir.path / "cur").mkdir(parents=True)
    assert maildir.deliver(mail()) == [Report("", SENT)]


def test_without_create_a_missing_maildir_is_an_error_that_says_so(
    maildir: Maildir, mail: Make
) -> None:
    [report] = maildir.deliver(mail(), create=False)
    assert report.outcome is LATER
    assert report.text == f"no Maildir at {maildir.path}: make it, or set create = true"
    assert not maildir.path.exists()


def test_a_file_in_place_of_the_maildir_is_an_error_that_says_so(
    maildir: Maildir, mail: Make
) -> None:
    maildir.path.write_text("an mbox")
    [report] = maildir.deliver(mail())
    assert report.outcome is LATER
    assert report.text == f"cannot deliver into {maildir.path}: Not a directory"


@pytest.mark.parametrize("name", ["Lists.red", ".Lists.red"])
def test_a_folder_is_a_maildir_in_the_maildir(maildir: Maildir, mail: Make, name: str) -> None:
    maildir.deliver(mail(), folder=name)
    assert len(maildir.files("new", "Lists.red")) == 1
    assert (maildir.path / ".Lists.red" / "maildirfolder").read_bytes() == b""
    assert maildir.files("new") == []


def test_the_folder_may_come_from_the_mail(maildir: Maildir, mail: Make) -> None:
    reports = maildir.deliver(
        mail(1, folder="Lists"), mail(2, folder=""), mail(3), folder="{note:folder|}"
    )
    assert reports == [Report("", SENT)] * 3
    assert (len(maildir.files()), len(maildir.files("new", "Lists"))) == (2, 1)


@pytest.mark.parametrize(
    "name",
    ["../../etc", "..", "a..b", "a.", "a/b", "/etc", ".new/../..", "a\0b", "a\nb", "\udcff",
     "a\u202eb", "x" * 255, "\u00e4" * 130],
)  # fmt: skip
def test_d18_no_mail_can_name_a_place_outside_the_maildir(
    maildir: Maildir, mail: Make, name: str
) -> None:
    bad, good = maildir.deliver(mail(1, folder=name), mail(2), folder="{note:folder|}")
    assert (bad.outcome, good.outcome) == (FAILED, SENT)
    assert bad.text.isprintable()
    assert sorted(each.name for each in maildir.path.iterdir()) == ["cur", "new", "tmp"]
    assert sorted(each.name for each in maildir.path.parent.iterdir()) == ["Maildir"]


def test_a_mail_without_what_the_folder_is_made_of_fails_alone(
    maildir: Maildir, mail: Make
) -> None:
    bad, good = maildir.deliver(mail(1), mail(2, folder="a"), folder="{note:folder}")
    assert (bad.outcome, good.outcome) == (FAILED, SENT)
    assert "{note:folder} is not set" in bad.text


def test_more_folders_than_may_stay_open_are_served(maildir: Maildir, mail: Make) -> None:
    mails = [mail(number, folder=f"f{number}") for number in range(60)]
    assert maildir.deliver(*mails, folder="{note:folder}") == [Report("", SENT)] * 60


def test_d06_a_file_of_the_same_name_is_never_overwritten(maildir: Maildir, mail: Make) -> None:
    maildir.deliver(mail(1, b"mine\r\n"))
    [theirs] = maildir.files()
    theirs.write_bytes(b"other")
    for file in maildir.files("tmp"):
        file.unlink()
    assert maildir.deliver(mail(1, b"mine\r\n")) == [Report("", SENT)]
    assert maildir.octets() == [b"mine\n", b"other"]
    assert maildir.deliver(mail(1, b"mine\r\n"), resumed=True) == [Report("", SENT)]
    assert maildir.octets() == [b"mine\n", b"other"]


def test_two_mails_with_one_octet_between_them_are_two_files(maildir: Maildir, mail: Make) -> None:
    maildir.deliver(mail(1, b"a\r\n"), mail(2, b"a\r\n"))
    assert maildir.octets() == [b"a\n", b"a\n"]


def test_stale_files_of_ours_are_swept_and_nobody_elses(
    maildir: Maildir, mail: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir.deliver(mail(1))
    (maildir.path / "tmp" / "1.reader.example").write_text("")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 35 * 3600)
    maildir.deliver(mail(2))
    assert len(maildir.files("tmp")) == 3
    monkeypatch.setattr(time, "time", lambda: now + 37 * 3600)
    maildir.deliver(mail(3))
    assert [file.name for file in maildir.files("tmp")] == ["1.reader.example"]
    assert len(maildir.files()) == 3


def test_a_stop_ends_a_large_delivery_and_leaves_nothing(
    maildir: Maildir, mail: Make, tmp_path: Path
) -> None:
    source = tmp_path / "content"
    source.write_bytes(b"x\r\n" * 1_000_000)
    maildir.halt.set()
    small, large = maildir.deliver(mail(1), mail(2).replace(content=OctetFile(str(source))))
    assert (small.outcome, large.outcome) == (SENT, LATER)
    assert len(maildir.files("tmp")) == len(maildir.files("new")) == 1
