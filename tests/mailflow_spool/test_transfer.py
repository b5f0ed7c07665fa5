"""A drop goes out and comes in, and clients know their mail by the names that it had."""

from __future__ import annotations

import mailbox
import os
import poplib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.errors import ConfigError, MailflowError
from mailflow.lines import to_crlf, to_lf
from mailflow.testing.corpus import AWKWARD
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.pop3 import Pop3Server
from mailflow_spool import shelf, transfer

from .conftest import LARGE, Spool, text

LETTERS = [text(1), text(2, 3000), b"Subject: dots\r\n\r\n.\r\nFrom here\r\n>From there\r\n", LARGE]


def export(spool: Spool, path: Path, *, mbox: bool = False) -> int:
    store = spool.store
    (drop,) = store.drops()
    messages = shelf.messages(store, drop.id)
    if mbox:
        return transfer.export_mbox(messages, str(path))
    return transfer.export_maildir(messages, drop.validity, str(path))


def bring(spool: Spool, source: object, uidls: Path | None = None) -> list[transfer.Imported]:
    given = None if uidls is None else str(uidls)
    return list(transfer.import_from(spool.store, "ann", str(source), given))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "other")
    yield spool
    spool.close()


def test_pwm_32_a_maildir_carries_the_messages_and_their_uidls(
    spool: Spool, other: Spool, tmp_path: Path
) -> None:
    spool.fill(*LETTERS)
    spool.delete(spool.uidls()[0])
    assert export(spool, tmp_path / "out") == 3
    assert all(each.kept for each in bring(other, tmp_path / "out"))
    assert other.uidls() == spool.uidls()
    assert other.messages() == spool.messages()
    assert other.damage() == []


def test_pwm_32_a_spool_can_be_carried_elsewhere_as_it_is(spool: Spool, tmp_path: Path) -> None:
    """Messages, and what was deleted and must not come again."""
    spool.fill(*LETTERS)
    spool.deliver(text(9), keys=["k-9"], finish=False)
    keys = spool.uidls()
    spool.delete(keys[0], keys[4])
    shutil.copytree(spool.path, tmp_path / "elsewhere")
    shutil.rmtree(spool.path)
    moved = Spool(tmp_path / "elsewhere")
    assert moved.uidls() == keys[1:4]
    moved.deliver(text(9), keys=["k-9"])
    assert moved.messages() == LETTERS[1:]
    moved.close()


def test_other_programs_read_the_maildir(spool: Spool, tmp_path: Path) -> None:
    spool.fill(*(sample.stored for sample in AWKWARD))
    export(spool, tmp_path / "out")
    box = mailbox.Maildir(tmp_path / "out", create=False)
    found = sorted(to_crlf(box.get_bytes(key)) for key in box.keys())  # noqa: SIM118
    wanted = spool.messages()
    assert found == sorted(to_crlf(to_lf(each)) for each in wanted)
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_an_mbox_carries_the_messages(spool: Spool, other: Spool, tmp_path: Path) -> None:
    spool.fill(*LETTERS)
    assert export(spool, tmp_path / "out.mbox", mbox=True) == 4
    assert len(mailbox.mbox(tmp_path / "out.mbox")) == 4
    bring(other, tmp_path / "out.mbox")
    assert other.messages() == LETTERS


def test_nothing_is_written_over(spool: Spool, tmp_path: Path) -> None:
    spool.fill(text(1))
    (tmp_path / "there").mkdir()
    for mbox in (False, True):
        with pytest.raises(ConfigError, match="there is something at"):
            export(spool, tmp_path / "there", mbox=mbox)


def test_what_cannot_be_exported_whole_leaves_nothing(spool: Spool, tmp_path: Path) -> None:
    spool.fill(text(1))
    spool.fill(LARGE)
    spool.bodies()[0].unlink()
    before = set(tmp_path.iterdir())
    for mbox in (False, True):
        with pytest.raises(MailflowError):
            export(spool, tmp_path / "out", mbox=mbox)
    assert set(tmp_path.iterdir()) == before


def test_what_was_imported_is_not_imported_again(spool: Spool, tmp_path: Path) -> None:
    spool.fill(*LETTERS, text(1))
    export(spool, tmp_path / "out")
    spool.delete()
    assert [each.known for each in bring(spool, tmp_path / "out")] == [False] * 5
    keys = spool.uidls()
    spool.delete(keys[0])
    assert [each.known for each in bring(spool, tmp_path / "out")] == [True] * 5
    assert spool.uidls() == keys[1:]


def test_a_uidl_that_another_message_has_here_is_not_given_twice(
    spool: Spool, tmp_path: Path
) -> None:
    spool.fill(text(1))
    export(spool, tmp_path / "out")
    (uidl,) = spool.uidls()
    (found,) = bring(spool, tmp_path / "out")
    assert not found.kept
    assert found.uidl != uidl
    assert spool.uidls() == [uidl, found.uidl]


def test_a_server_of_pop3_gives_its_uidls_with_its_mail(spool: Spool) -> None:
    with Pop3Server({"ann": "secret"}) as server:
        for number in range(3):
            server.deliver("ann", text(number), f"old<{number}>")
        os.environ["SPOOL_PASSWORD"] = "secret"
        try:
            url = f"pop3://ann@127.0.0.1:{server.port}?tls=none&password_env=SPOOL_PASSWORD"
            assert len(bring(spool, url)) == 3
        finally:
            del os.environ["SPOOL_PASSWORD"]
        assert len(server.messages("ann")) == 3
    assert spool.uidls() == ["old<0>", "old<1>", "old<2>"]
    assert spool.messages() == [text(number) for number in range(3)]
    spool.fill(text(4))
    assert len(set(spool.uidls())) == 4


def test_a_list_of_uidls_names_messages_by_number(
    spool: Spool, other: Spool, tmp_path: Path
) -> None:
    other.fill(*LETTERS)
    export(other, tmp_path / "out.mbox", mbox=True)
    uidls = tmp_path / "uidls"
    uidls.write_text("+OK 4 messages\r\n1 one\r\n2 two\r\n3 three\r\n4 four\r\n.\r\n")
    assert all(each.kept for each in bring(spool, tmp_path / "out.mbox", uidls))
    assert spool.uidls() == ["one", "two", "three", "four"]


def test_a_list_of_uidls_names_messages_by_file(spool: Spool, tmp_path: Path) -> None:
    box = tmp_path / "Maildir"
    for folder in ("tmp", "new", "cur"):
        (box / folder).mkdir(parents=True)
    (box / "cur" / "1.x.host:2,S").write_bytes(b"Subject: 1\n\n1\n")
    (box / "new" / "2.x.host").write_bytes(b"Subject: 2\n\n2\n")
    uidls = tmp_path / "uidls"
    uidls.write_text("# of the old server\n2.x.host two\n1.x.host one\n")
    bring(spool, box, uidls)
    assert dict(zip(spool.uidls(), spool.messages(), strict=True)) == {
        "one": b"Subject: 1\r\n\r\n1\r\n", "two": b"Subject: 2\r\n\r\n2\r\n",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("1 one\n2 two\n3 three\n", "3 messages, and 1 of them is not there"),
        ("1 one two\n", "line 1"),
        ("1 one\n1 two\n", "line 2"),
        ("1 one\n2 one\n", "several messages"),
        ("1 \x01\n", "line 1"),
        (f"1 {'x' * 71}\n", "line 1"),
    ],
)
def test_a_list_of_uidls_that_does_not_fit_imports_nothing(
    spool: Spool, other: Spool, tmp_path: Path, lines: str, said: str
) -> None:
    other.fill(text(1), text(2))
    export(other, tmp_path / "out.mbox", mbox=True)
    uidls = tmp_path / "uidls"
    uidls.write_text(lines)
    with pytest.raises(ConfigError, match=said):
        bring(spool, tmp_path / "out.mbox", uidls)
    assert spool.messages() == []


def test_what_is_no_mailbox_is_said(spool: Spool, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Maildir, no mbox file and no URL"):
        bring(spool, tmp_path)
    with pytest.raises(ConfigError, match="nothing is not there"):
        bring(spool, tmp_path / "nothing")


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot")) as dovecot:
        yield dovecot


def uidls_of(dovecot: Dovecot, user: str) -> list[str]:
    session = poplib.POP3(dovecot.host, dovecot.pop3_port, timeout=30)
    session.user(user)
    session.pass_("secret")
    found = [line.decode().split(" ")[1] for line in session.uidl()[1]]
    session.quit()
    return found


@pytest.mark.interop
def test_a_maildir_of_dovecot_keeps_the_uidls_that_dovecot_gave(
    spool: Spool, dovecot: Dovecot
) -> None:
    dovecot.add_user("from", "secret")
    dovecot.deliver("from", *LETTERS)
    before = uidls_of(dovecot, "from")
    assert all(each.kept for each in bring(spool, dovecot.maildir("from")))
    assert spool.uidls() == before
    assert spool.messages() == LETTERS


@pytest.mark.interop
def test_dovecot_serves_what_was_exported_under_the_same_uidls(
    spool: Spool, dovecot: Dovecot, tmp_path: Path
) -> None:
    spool.fill(*LETTERS)
    export(spool, tmp_path / "out")
    dovecot.add_user("to", "secret")
    maildir = Path(dovecot.maildir("to"))
    owner = maildir.stat()
    shutil.rmtree(maildir)
    shutil.move(tmp_path / "out", maildir)
    for path in (maildir, *maildir.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    assert uidls_of(dovecot, "to") == spool.uidls()
