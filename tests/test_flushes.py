"""What must be on the disk before the next step, in order; and that no flush is without its test.

Rule of the file: a step is written down as it is done, and flushes are never pretended; what
a power cut does to each order is in tests/crash.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailflow import durable
from mailflow.engine.journal import Database, bodies
from mailflow.engine.journal.copies import backup, restore
from mailflow.errors import UnavailableError
from mailflow.mail import OctetFile
from mailflow.oauth2.store import Store, Tokens
from mailflow.testing import kill
from mailflow_maildir import ledger, maildrop
from mailflow_mbox import redo

from .engine.test_journal_copies import LARGE as LARGE_BODY
from .engine.test_journal_copies import accept
from .flushes import everywhere, noticed
from .mailflow_maildir.conftest import LIST, Drop, Maildir, make_mail
from .mailflow_mbox.conftest import Box, make
from .mailflow_mbox.test_recovery import ONE, THREE, TWO, settle_first
from .mailflow_spool.conftest import LARGE, Spool, text
from .mailflow_spool.test_transfer import export

ROOT = Path(__file__).parent.parent

CALLS = ("fsync", "sync", "rename", "link", "unlink", "mkdir", "ftruncate")


def name_of(what: Any) -> str:
    """The last part of a path, or of that of a descriptor."""
    path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
    return "unnamed" if path.endswith("(deleted)") else os.path.basename(path)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, such as "fsync a" or "rename a.new a", in order."""
    done: list[str] = []

    def told(call: str, real: Callable[..., object]) -> Callable[..., object]:
        def do(*args: Any, **more: Any) -> object:
            names = [name_of(each) for each in args[: 2 if call in ("rename", "link") else 1]]
            done.append(" ".join([call, *names]))
            return real(*args, **more)

        return do

    for call in CALLS:
        monkeypatch.setattr(os, call, told(call, getattr(os, call)))
    return done


def before(steps: list[str], *order: str) -> bool:
    """Whether these are among the steps, one after the other."""
    left = iter(steps)
    return all(any(step == wanted for step in left) for wanted in order)


def test_a_file_that_replaces_another_is_flushed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = os.fsync

    def flush(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    durable.replace(str(tmp_path / "a"), b"octets")
    assert sizes[0] == len(b"octets")


def test_tokens_that_are_forgotten_stay_so(home: Path, steps: list[str]) -> None:
    where = Store("mine", "ann@example.org")
    with where.locked():
        where.save(Tokens(client_id="c", access_token="a", refresh_token="r", expires=5.5))
        name = os.path.basename(where.path)
        steps.clear()
        assert where.forget()
    assert before(steps, f"unlink {name}", f"fsync {os.path.basename(os.path.dirname(where.path))}")


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "mail").mkdir()
    return Box(tmp_path / "mail" / "box")


def test_an_mbox_is_written_when_the_log_lasts_and_the_log_goes_when_the_mbox_does(
    box: Box, steps: list[str]
) -> None:
    box.deliver(make(1))
    log = ".box.mailflow"
    assert before(
        steps, f"fsync {log}.tmp", f"rename {log}.tmp {log}", "fsync mail", "fsync box",
        f"unlink {log}",
    )  # fmt: skip


def test_the_lock_of_an_mbox_has_its_mark_before_its_name(box: Box, steps: list[str]) -> None:
    box.deliver(make(1))
    marked = next(number for number, step in enumerate(steps) if step.endswith(" box.lock"))
    assert steps[marked].startswith("link")
    assert steps[marked - 1].startswith("fsync ")


def test_what_moves_up_in_an_mbox_lasts_before_the_end_is_cut_off(
    box: Box, steps: list[str]
) -> None:
    box.write(ONE, TWO, THREE)
    settle_first(box)
    assert before(steps, "fsync mail", "fsync box", "ftruncate box", "fsync box")


def test_an_mbox_that_was_emptied_stays_empty(box: Box, steps: list[str]) -> None:
    box.write(ONE)
    settle_first(box)
    assert steps[steps.index("ftruncate box") + 1] == "fsync box"


@pytest.mark.parametrize("what", ["deliver", "settle"])
def test_what_was_cut_in_an_mbox_lasts_before_it_is_called_done(
    box: Box, monkeypatch: pytest.MonkeyPatch, steps: list[str], what: str
) -> None:
    box.write(ONE, TWO, THREE)
    with monkeypatch.context() as patch:
        if what == "deliver":
            patch.setattr(redo, "DONE", redo.PENDING)  # the last word of the log is lost
            box.deliver(make(2), finish=False)
        else:
            patch.setattr(os, "ftruncate", stopped)
            with pytest.raises(StoppedError):
                settle_first(box)
    steps.clear()
    box.items()
    if what == "settle":
        assert before(steps, "fsync box", "ftruncate box", "fsync box", "unlink .box.mailflow")
    else:
        assert before(steps, "fsync box", "unlink box.lock")


class StoppedError(BaseException):
    """The process is gone."""


def stopped(*_: object) -> None:
    raise StoppedError


def test_what_is_not_to_be_delivered_later_is_said_so_lastingly(
    box: Box, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    box.deliver(make(1), finish=False)
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if name_of(descriptor) == "box":
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    steps.clear()
    monkeypatch.setattr(os, "pwrite", full)
    box.deliver(make(2), finish=False)
    assert before(steps, "fsync mail", "ftruncate box", "fsync .box.mailflow")


def test_a_maildir_that_is_made_is_there_before_mail_is_in_it(
    tmp_path: Path, steps: list[str]
) -> None:
    Maildir(tmp_path / "Maildir").deliver(make_mail())
    here = tmp_path.name
    whole = ["mkdir Maildir", f"fsync {here}", "mkdir new", "fsync Maildir"]
    assert before(steps, *whole)
    again = steps[steps.index("fsync Maildir") + 1 :]
    assert before(again, "fsync Maildir", f"fsync {here}"), "whoever made it may have died"


def test_mail_in_a_maildir_lasts_before_it_has_its_name_and_the_name_before_it_is_sent(
    tmp_path: Path, steps: list[str]
) -> None:
    maildir = Maildir(tmp_path / "Maildir")
    maildir.deliver(make_mail(1))
    steps.clear()
    maildir.deliver(make_mail(2))
    name = maildir.files()[1].name
    assert before(steps, f"fsync {name}", f"link {name} {name}", "fsync new")


@pytest.mark.parametrize("where", ["new", "cur", "elsewhere"])
def test_what_an_earlier_attempt_delivered_lasts_before_it_is_called_sent(
    tmp_path: Path, steps: list[str], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    maildir = Maildir(tmp_path / "Maildir")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", lambda *_, **__: None)  # the name in tmp/ stays
        maildir.deliver(make_mail())
    (file,) = maildir.files()
    if where != "new":
        place = tmp_path if where == "elsewhere" else maildir.path / "cur"
        file.rename(place / f"{file.name}:2,S")
    steps.clear()
    maildir.deliver(make_mail(), resumed=True)
    if where == "elsewhere":
        assert "sync " in "".join(f"{step} " for step in steps if step.startswith("sync"))
    else:
        assert before(steps, "fsync new", "fsync cur")


def test_what_a_maildir_is_rid_of_stays_away(tmp_path: Path, steps: list[str]) -> None:
    from mailflow.kinds import Runtime
    from mailflow.log import Logger
    from mailflow.net import Halt
    from mailflow.query import Query
    from mailflow.verdicts import Fate
    from mailflow_maildir.fetcher import MaildirFetcher

    drop = Drop(tmp_path / "Maildir")
    drop.add("new/a")
    options = MaildirFetcher.options.read({"path": str(drop.path)})
    with MaildirFetcher(options, Runtime("in", "test", Halt(), Logger(), ".")) as fetcher:
        (item,) = fetcher.listing(Query.always)
        fetcher.settle(item.key, Fate.DONE)
    assert before(steps, "unlink a", "fsync new")


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    drop = Drop(tmp_path / "Maildir")
    for name in "abc":
        drop.add(f"new/{name}")
    return drop


def test_what_is_deleted_of_a_maildir_is_written_down_lastingly_and_stays_away(
    drop: Drop, steps: list[str]
) -> None:
    drop.delete("a", "b")
    assert before(steps, f"fsync {LIST}", "fsync Maildir", "unlink a", "unlink b", "fsync new")


def test_what_an_earlier_session_deleted_of_a_maildir_stays_away(
    drop: Drop, steps: list[str]
) -> None:
    session = drop.enter()
    session._condemn({0: session._inode(0), 1: session._inode(1)})
    session.close()
    drop.listed()
    assert before(steps, "unlink a", "unlink b", "fsync new")


def test_what_could_not_be_deleted_of_a_maildir_is_pardoned_lastingly(
    drop: Drop, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = drop.enter()
    monkeypatch.setattr(session, "_unlink", refused)
    with pytest.raises(UnavailableError):
        session.close(["a", "b"])
    assert steps[-2:] == [f"ftruncate {LIST}", f"fsync {LIST}"]


def refused(_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_which_files_of_a_maildir_share_a_name_is_written_down_lastingly(
    drop: Drop, steps: list[str]
) -> None:
    drop.listed()
    drop.add("cur/a:2,S")
    steps.clear()
    drop.listed()
    assert f"fsync {LIST}" in steps


def test_a_list_that_is_written_anew_lasts_before_it_has_its_name(
    drop: Drop, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.listed()
    monkeypatch.setattr(ledger, "SLACK", -9)
    monkeypatch.setattr(maildrop, "SETTLED", -1.0)
    (drop.path / "new" / "a").unlink()
    drop.listed()
    new = f"{LIST}.new"
    assert before(steps, f"fsync {new}", f"rename {new} {LIST}", "fsync Maildir")


def test_the_files_of_bodies_last_before_the_journal_names_them(
    tmp_path: Path, steps: list[str]
) -> None:
    journal = Database(str(tmp_path / "state" / "journal.db"))
    accept(journal, "m1")
    taken = os.path.join(journal.owner.directory, "came")
    Path(taken).write_bytes(LARGE_BODY)
    owner, owners = os.path.basename(journal.owner.directory), os.path.basename(journal.owners)
    assert before(steps, "fsync m1", f"fsync {owner}", f"fsync {owners}")
    steps.clear()
    bodies.store(journal, OctetFile(taken), "m2")
    assert before(steps, "fsync came", "rename came m2", f"fsync {owner}", f"fsync {owners}")
    journal.close()


def test_a_journal_that_is_put_back_lasts_and_so_does_what_it_replaces(
    tmp_path: Path, steps: list[str]
) -> None:
    path = str(tmp_path / "state" / "journal.db")
    journal = Database(path)
    accept(journal, "m1")
    owner = os.path.basename(journal.owner.directory)
    backup(path, str(tmp_path / "copy"))
    assert steps[-2].startswith("unlink") or steps[-1] == f"fsync {tmp_path.name}"
    assert before(steps, f"fsync {tmp_path.name}")
    journal.close()
    steps.clear()
    kept = restore(str(tmp_path / "copy"), path).replaced
    assert kept
    aside = os.path.basename(kept)
    part = next(
        step for step in steps if step.startswith("rename ") and step.endswith(" journal.db")
    )
    assert before(
        steps, f"fsync {part.split()[1]}", f"fsync {owner}", f"fsync {aside}.d",
        f"link journal.db {aside}", "fsync state", part, "fsync state",
    )  # fmt: skip


def test_a_file_of_the_spool_and_its_name_last_before_the_index_names_it(
    tmp_path: Path, steps: list[str]
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.fill(LARGE, LARGE, LARGE)
    assert before(steps, "mkdir spool", f"fsync {tmp_path.name}")
    (first,) = spool.bodies()
    assert before(steps, f"fsync {first.name}", "fsync bodies")
    steps.clear()
    spool.delete(*spool.uidls()[:2])
    (second,) = spool.bodies()
    assert before(steps, f"fsync {second.name}", "fsync bodies", f"unlink {first.name}")
    spool.close()


@pytest.mark.parametrize("mbox", [True, False])
def test_what_is_exported_lasts_before_it_has_its_name(
    tmp_path: Path, steps: list[str], mbox: bool
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.fill(text(1))
    export(spool, tmp_path / "out", mbox=mbox)
    part = next(step for step in steps if step.startswith("rename ") and step.endswith(" out"))
    name = part.split()[1]
    inside = [step for step in steps[: steps.index(part)] if "W=" in step]
    whole = [f"fsync {name}"] if mbox else [*inside, "fsync new", f"fsync {name}"]
    assert mbox or [step.split()[0] for step in inside] == ["fsync"]
    assert before(steps, *whole, part, f"fsync {tmp_path.name}")
    spool.close()


JOURNAL = """
import sys
from mailflow import durable
from mailflow.engine.journal import Database
journal = Database(sys.argv[1])
for number in range(3):
    journal.commit(lambda tx: tx.execute("INSERT INTO story VALUES ('', 0, '', ?, '')", ("x",)))
    open(sys.argv[1] + ".told", "a").close()
"""

INDEX = """
import sys
from mailflow_spool.index import Index
index = Index(sys.argv[1])
for number in range(3):
    for lasting in (True, False):
        index.commit(
            lambda tx: tx.execute(
                "INSERT INTO drops (name, validity) VALUES (hex(randomblob(9)), 1)"
            ),
            lasting=lasting,
        )
        if lasting:
            open(sys.argv[1] + ".told", "a").close()
"""


@pytest.mark.parametrize("program", [JOURNAL, INDEX])
def test_what_a_commit_wrote_lasts_when_it_comes_back(tmp_path: Path, program: str) -> None:
    if obstacle := kill.obstacle():
        pytest.skip(obstacle)
    path = str(tmp_path / "file.db")
    done = kill.undisturbed([sys.executable, "-B", "-c", program, path])
    last, told = "", 0
    for step in done:
        if step.target == f"{path}-wal":
            last = step.call
        elif step.target == f"{path}.told":
            told += 1
            assert last == "fdatasync", f"commit {told} comes back before it lasts"
    assert told == 3


def test_a_test_is_named_for_every_flush() -> None:
    """`python tests/flushes.py` takes them out one by one."""
    found = noticed()
    assert found.keys() == {each.id for each in everywhere()}
    for entry in found.values():
        path, _, name = entry["test"].partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert f"def {name.partition('[')[0].rpartition('::')[2]}(" in source


def test_a_flush_that_is_taken_out_is_noticed() -> None:
    words = "mailflow/durable.py replace 2"
    done = subprocess.run(
        [sys.executable, "tests/flushes.py", words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"caught    {words}\n"), done.stderr
