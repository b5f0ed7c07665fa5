"""What Dovecot has told its clients of a Maildir is what the gateway tells them."""

from __future__ import annotations

import os
import poplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.halt import Halt
from mailflow.kinds import Credentials, Runtime
from mailflow.log import Logger
from mailflow.mail import read
from mailflow.testing.corpus import AWKWARD, stored
from mailflow.testing.dovecot import Dovecot
from mailflow_maildir.maildrop import MaildirDrop, MaildirDropOptions

pytestmark = pytest.mark.interop("dovecot-pop3d")

FORMATS = ("%08Xu%08Xv", "%f", "%v-%u", "%Mf", "%5Xv.%u", "%u")

Told = list[tuple[str, int]]


def by_dovecot(dovecot: Dovecot) -> Told:
    """UIDL and size of each message, in the order in which Dovecot numbers them."""
    client = poplib.POP3(dovecot.host, dovecot.pop3_port, timeout=20)
    client.user("red")
    client.pass_("secret")
    keys = [line.split(b" ", 1)[1].decode() for line in client.uidl()[1]]
    sizes = [int(line.split()[1]) for line in client.list()[1]]
    client.quit()
    return list(zip(keys, sizes, strict=True))


def by_us(path: str, uidl: str = FORMATS[0]) -> tuple[Told, list[bytes]]:
    halt = Halt()
    options = MaildirDropOptions.read({"path": path, "uidl": uidl})
    runtime = Runtime("drop", "test", halt, Logger(), "/nonexistent")
    drop = MaildirDrop(options, runtime).login(Credentials("red", checked=True))
    items = drop.items()
    octets = [read(drop.read(item.key)) for item in items]
    drop.close()
    halt.close()
    return [(item.key, item.size or 0) for item in items], octets


@pytest.fixture(params=FORMATS[:1])
def dovecot(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    """With mail of several programs: sizes in the names, or not."""
    settings = f"pop3_uidl_format = {request.param}"
    with Dovecot(tmp_path / "dovecot", settings=settings) as dovecot:
        dovecot.add_user("red", "secret")
        dovecot.deliver("red", *(sample.octets for sample in AWKWARD))
        for number in range(5):
            put(dovecot, f"169000000{number}.M1P2.host", b"Subject: x\n\n%d\n" % number)
        yield dovecot


def put(dovecot: Dovecot, name: str, octets: bytes) -> None:
    maildir = Path(dovecot.maildir("red"))
    (maildir / "new" / name).write_bytes(octets)
    give(maildir, maildir / "new" / name)


def give(maildir: Path, file: Path) -> None:
    """To Dovecot's user."""
    owner = maildir.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


@pytest.mark.parametrize("dovecot", FORMATS, indirect=True)
def test_071_p3s_12_uidls_sizes_and_order_are_those_of_dovecot(
    dovecot: Dovecot, request: pytest.FixtureRequest
) -> None:
    """But for a last line without an end: Dovecot sends two octets more than it says."""
    uidl = request.node.callspec.params["dovecot"]
    theirs = by_dovecot(dovecot)
    ours, octets = by_us(dovecot.maildir("red"), uidl)
    assert [key for key, _ in ours] == [key for key, _ in theirs]
    for (key, told), (_, said), each in zip(ours, theirs, octets, strict=True):
        assert len(each) == told, key
        ended = [sample for sample in AWKWARD if stored(sample.octets) in (each, each[:-2])]
        lacks = 2 if ended and stored(ended[0].octets) != each else 0
        assert told - lacks == said, (key, each[:200])


def test_what_came_between_keeps_its_uidl_whoever_serves_next(dovecot: Dovecot) -> None:
    """Dovecot, then we, then both at once: no client fetches anything twice from us."""
    first = by_dovecot(dovecot)
    put(dovecot, "1800000000.M1P2.host", b"Subject: between\n\nx\n")
    ours, _ = by_us(dovecot.maildir("red"))
    assert ours[: len(first)] == [(key, ours[number][1]) for number, (key, _) in enumerate(first)]
    assert ours[len(first)][0] == "1800000000.M1P2.host"
    by_dovecot(dovecot)
    assert by_us(dovecot.maildir("red"))[0] == ours


def test_a_new_list_of_dovecot_changes_no_uidl(dovecot: Dovecot) -> None:
    by_dovecot(dovecot)
    ours, _ = by_us(dovecot.maildir("red"))
    for file in Path(dovecot.maildir("red")).glob("dovecot*"):
        file.unlink()
    by_dovecot(dovecot)
    assert by_us(dovecot.maildir("red"))[0] == ours


def test_uidls_that_dovecot_took_over_from_another_server_are_told_too(dovecot: Dovecot) -> None:
    by_dovecot(dovecot)
    dovecot.stop()
    maildir = Path(dovecot.maildir("red"))
    uidlist = maildir / "dovecot-uidlist"
    lines = uidlist.read_text(errors="surrogateescape").split("\n")
    lines[3] = lines[3].replace(" :", " Pcourier-4711 :", 1)
    uidlist.write_text("\n".join(lines), errors="surrogateescape")
    give(maildir, uidlist)
    for index in maildir.glob("dovecot.index*"):
        index.unlink()
    dovecot.start()
    theirs = by_dovecot(dovecot)
    assert theirs[2][0] == "courier-4711"
    assert [key for key, _ in by_us(str(maildir))[0]] == [key for key, _ in theirs]


def test_dovecot_is_not_disturbed(dovecot: Dovecot) -> None:
    """It serves what we left, and says nothing of our file in its log."""
    by_dovecot(dovecot)
    halt = Halt()
    options = MaildirDropOptions.read({"path": dovecot.maildir("red")})
    runtime = Runtime("drop", "test", halt, Logger(), "/nonexistent")
    drop = MaildirDrop(options, runtime).login(Credentials("red", checked=True))
    keys = [item.key for item in drop.items()]
    drop.close(keys[::2])
    halt.close()
    assert [key for key, _ in by_dovecot(dovecot)] == keys[1::2]
    assert "rror" not in dovecot.log, dovecot.log
