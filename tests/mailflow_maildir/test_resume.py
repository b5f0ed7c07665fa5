"""A delivery tried again leaves one copy, wherever the first attempt was cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mailflow.mail import Mail
from mailflow.verdicts import SENT, Report

if TYPE_CHECKING:
    from .conftest import Maildir

Make = Callable[..., Mail]
OCTETS = b"Subject: one\n\nHello\n"


def everything(maildir: Maildir) -> list[bytes]:
    """All mail that a reader would find, in any folder."""
    return [
        file.read_bytes()
        for place in ("new", "cur")
        for file in [*maildir.path.glob(f"{place}/*"), *maildir.path.glob(f".*/{place}/*")]
    ]


def again(maildir: Maildir, mail: Mail, resumed: bool = True) -> None:
    assert maildir.deliver(mail, resumed=resumed) == [Report("", SENT)]


def test_cut_before_anything_was_written(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    assert everything(maildir) == [OCTETS]


@pytest.mark.parametrize("resumed", [True, False])
@pytest.mark.parametrize("written", [0, 7, len(OCTETS)])
def test_cut_while_writing(maildir: Maildir, mail: Make, written: int, resumed: bool) -> None:
    again(maildir, mail())
    [file] = maildir.files("new")
    file.unlink()
    [left] = maildir.files("tmp")
    left.write_bytes(OCTETS[:written])
    again(maildir, mail(), resumed)
    assert everything(maildir) == [OCTETS]


@pytest.mark.parametrize("resumed", [True, False])
def test_cut_after_the_link(maildir: Maildir, mail: Make, resumed: bool) -> None:
    again(maildir, mail())
    again(maildir, mail(), resumed)
    assert everything(maildir) == [OCTETS]


@pytest.mark.parametrize("flags", ["", ":2,", ":2,FS", ";2,S", "!2,"])
def test_a_reader_has_moved_it_to_cur(maildir: Maildir, mail: Make, flags: str) -> None:
    again(maildir, mail())
    [file] = maildir.files("new")
    file.rename(maildir.path / "cur" / (file.name + flags))
    for left in maildir.files("tmp"):
        left.unlink()  # as where there are no hard links
    again(maildir, mail())
    assert everything(maildir) == [OCTETS]


def test_a_longer_name_in_cur_is_another_mail(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    [file] = maildir.files("new")
    file.rename(maildir.path / "cur" / (file.name + "0:2,S"))
    for left in maildir.files("tmp"):
        left.unlink()
    again(maildir, mail())
    assert everything(maildir) == [OCTETS, OCTETS]


def test_a_reader_has_moved_it_to_another_folder(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    folder = maildir.path / ".Archive" / "cur"
    folder.mkdir(parents=True)
    [file] = maildir.files("new")
    file.rename(folder / "1.renamed:2,S")
    again(maildir, mail())
    assert everything(maildir) == [OCTETS]


def test_a_reader_has_deleted_it_within_the_delivery(maildir: Maildir, mail: Make) -> None:
    """The one case in which a mail comes again."""
    again(maildir, mail())
    [file] = maildir.files("new")
    file.unlink()
    again(maildir, mail())
    assert everything(maildir) == [OCTETS]


def test_the_ticket_was_final_and_is_handed_in_once_more(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    for left in maildir.files("tmp"):
        left.unlink()
    again(maildir, mail(), resumed=False)
    assert everything(maildir) == [OCTETS]


def test_the_same_key_in_another_folder_is_another_delivery(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    assert maildir.deliver(mail(), folder="Copy", resumed=True) == [Report("", SENT)]
    assert everything(maildir) == [OCTETS, OCTETS]


def test_each_of_a_group_is_recognised_or_delivered(maildir: Maildir, mail: Make) -> None:
    mails = [mail(number, b"%d\r\n" % number) for number in range(40)]
    maildir.deliver(*mails[::3])
    for number, file in enumerate(maildir.files("new")):
        if number % 2:
            file.rename(maildir.path / "cur" / f"{file.name}:2,S")
    assert maildir.deliver(*mails, resumed=True) == [Report("", SENT)] * 40
    assert sorted(everything(maildir)) == sorted(b"%d\n" % number for number in range(40))


def test_a_maildir_that_is_gone_is_made_again(maildir: Maildir, mail: Make) -> None:
    again(maildir, mail())
    shutil.rmtree(maildir.path)
    again(maildir, mail())
    assert everything(maildir) == [OCTETS]
