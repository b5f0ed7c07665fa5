"""`mailflow journal`: is it whole, a backup of it, and the backup put back."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailflow.engine.journal import Database
from mailflow.engine.journal.schema import MIGRATIONS

from .command import HOOK, MAIL, Done, Shop

HOLD = '[[process]]\nuse = "filter.hold"\nreason = "for olga"\n'
LARGE = MAIL + b"a line of sixty octets, so that a body becomes a file of its\n" * 6000
NEVER = (1 << 20) - 1


def held(shop: Shop, *messages: bytes) -> None:
    """A journal in which these mails are held."""
    file = shop.write(HOLD + HOOK)
    for message in messages or (MAIL,):
        assert shop("hook", file, stdin=message).status == 0


def check(shop: Shop, *arguments: str) -> Done:
    return shop("journal", "check", *(arguments or (shop.file,)))


def files(shop: Shop) -> list[Path]:
    """The files of bodies."""
    return [path for path in shop.home.glob("journal.db.d/*/*") if path.name != "lock"]


@contextmanager
def at_work(shop: Shop) -> Iterator[Database]:
    """Another process's hold on the journal, as far as its files show."""
    journal = Database(str(shop.journal))
    try:
        yield journal
    finally:
        journal.close()


def contents(path: Path) -> list[tuple[object, ...]]:
    """Every mail, and every row that goes with it."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(
            "SELECT m.id, m.state, c.state, c.reason, b.size FROM mail m"
            " LEFT JOIN copy c ON c.mail = m.id LEFT JOIN body b ON b.mail = m.id ORDER BY m.id"
        ).fetchall()
    finally:
        connection.close()


class TestCheck:
    def test_a_sound_journal_is_told_what_is_in_it(self, shop: Shop) -> None:
        held(shop, MAIL, LARGE)
        done = check(shop)
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith(
            f"{shop.journal}: sound: mails planned: 2, copies waiting or held: 2, "
        )

    def test_every_journal_that_was_used_here_without_a_file(self, shop: Shop) -> None:
        held(shop)
        assert shop("journal", "check").out == check(shop).out

    def test_a_journal_may_be_named_itself(self, shop: Shop) -> None:
        held(shop)
        assert check(shop, str(shop.journal)).out == check(shop).out

    def test_nothing_was_ever_run_here(self, shop: Shop) -> None:
        assert shop("journal", "check") == (0, "", "")
        assert not (shop.home / "state").exists()

    def test_a_pipeline_that_never_ran_has_none(self, shop: Shop) -> None:
        shop.write(HOOK)
        done = check(shop)
        assert (done.status, done.out) == (74, f"{shop.journal} is not there\n")
        assert not shop.journal.exists()

    def test_it_changes_not_an_octet(self, shop: Shop) -> None:
        held(shop, LARGE)
        before = shop.journal.read_bytes(), files(shop), os.stat(shop.journal).st_mtime_ns
        assert check(shop).status == 0
        assert before == (shop.journal.read_bytes(), files(shop), os.stat(shop.journal).st_mtime_ns)

    def test_a_journal_on_a_read_only_file_system_can_be_looked_at(self, shop: Shop) -> None:
        held(shop)
        shop.change("PRAGMA journal_mode = DELETE")
        shop.home.chmod(0o500)
        try:
            assert check(shop, str(shop.journal)).status == 0
        finally:
            shop.home.chmod(0o700)

    def test_what_a_run_has_in_its_hands_is_no_fault(self, shop: Shop) -> None:
        held(shop)
        with at_work(shop) as journal:
            Path(journal.owner.directory, "half").write_bytes(b"a body on its way")
            journal.commit(lambda tx: tx.execute("UPDATE mail SET working = 1"))
            done = check(shop)
        assert (done.status, len(done.out.splitlines())) == (0, 1)

    @pytest.mark.parametrize("at", [0, 16, 4096, -4096])
    def test_flipped_octets_are_found_and_nothing_is_written_over(
        self, shop: Shop, at: int
    ) -> None:
        """C-level: the header, the page size, a table's root page, the last page."""
        held(shop)
        shop.change("PRAGMA wal_checkpoint(TRUNCATE)")
        octets = bytearray(shop.journal.read_bytes())
        at %= len(octets)
        octets[at : at + 64] = bytes(each ^ 0xFF for each in octets[at : at + 64])
        shop.journal.write_bytes(octets)
        for command in (
            ("journal", "check", shop.file),
            ("journal", "backup", shop.file, "copy"),
            ("run", shop.file),
        ):
            done = shop(*command)
            if command[0] == "journal" or at < 4096:  # a run looks at no page it does not need
                assert done.status == 74
                assert f"{shop.journal} is damaged" in done.out + done.err
        assert not (shop.home / "copy").exists()
        assert shop.journal.read_bytes()[at : at + 64] == octets[at : at + 64]

    def test_another_program_s_database_is_none(self, shop: Shop) -> None:
        connection = sqlite3.connect(shop.journal)
        connection.execute("CREATE TABLE x (y)")
        connection.close()
        shop.write(HOOK)
        done = check(shop)
        assert (done.status, "is another program's database" in done.out) == (74, True)

    def test_one_of_a_newer_mailflow_is_not_judged(self, shop: Shop) -> None:
        held(shop)
        shop.change(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        done = check(shop)
        assert (done.status, "written by a newer mailflow" in done.out) == (74, True)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("DELETE FROM body", "waits or is held, and its body is gone"),
            ("DELETE FROM mail", "has rows of no mail that is there in `copy`: 1"),
            ("UPDATE mail SET state = 'accepted'; DELETE FROM body", "accepted and has no body"),
            ("UPDATE body SET data = x'00'", "a body of another length than it was stored with"),
            ("DROP TABLE memory", "has no table `memory`"),
            (
                (
                    "INSERT INTO delivery (mail, copy, step, recipient, state, due, at)"
                    " SELECT id, 7, 'maildir', '', 'due', 0, 0 FROM mail"
                ),
                "has deliveries of a copy that is gone",
            ),
        ],
    )
    def test_what_is_missing_is_a_line_each(self, shop: Shop, change: str, said: str) -> None:
        held(shop)
        for statement in change.split("; "):
            shop.change(statement)
        done = check(shop)
        assert done.status == 74
        assert any(said in line for line in done.out.splitlines()), done.out

    def test_a_body_s_file_that_is_gone_or_too_short_is_named(self, shop: Shop) -> None:
        held(shop, LARGE, LARGE)
        gone, short = files(shop)
        gone.unlink()
        short.write_bytes(b"x")
        done = check(shop)
        assert done.status == 74
        assert f"{gone}, the body of mail" in done.out
        assert "is gone\n" in done.out
        assert f"has 1 octets, not {len(LARGE.splitlines()) + len(LARGE)}" in done.out

    def test_what_the_next_run_puts_right_is_no_fault(self, shop: Shop) -> None:
        held(shop, LARGE)
        (files(shop)[0].parent / "orphan").write_bytes(b"x")
        (shop.home / "journal.db.part-0a1b2c3d").write_bytes(b"half")
        shop.journal.chmod(0o644)
        done = check(shop)
        assert done.status == 0
        assert "has journal.db.part-0a1b2c3d beside it, of a restore that was cut" in done.out
        assert "which the next run removes: 1\n" in done.out
        assert "can be read by other users" in done.out

    def test_json(self, shop: Shop) -> None:
        held(shop)
        shop.change("DELETE FROM body")
        (found,) = json.loads(check(shop, shop.file, "--json").out)
        assert (found["path"], found["sound"]) == (str(shop.journal), False)
        assert found["findings"][0]["fault"] is True
        assert found["counts"]["mails planned"] == 1


class TestBackup:
    def test_it_is_one_file_with_all_in_it_that_nobody_else_can_read(self, shop: Shop) -> None:
        held(shop, MAIL, LARGE)
        done = shop("journal", "backup", shop.file, "copy")
        copy = shop.home / "copy"
        assert (done.status, done.err) == (0, "")
        assert done.out == f"{copy}: {copy.stat().st_size} octets\n"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert [path.name for path in shop.home.glob("copy*")] == ["copy"]
        assert contents(copy) == contents(shop.journal)
        assert check(shop, str(copy)).status == 0
        assert files(shop)[0].read_bytes() in [
            row[0] for row in sqlite3.connect(copy).execute("SELECT data FROM body")
        ]

    def test_what_is_there_is_not_written_over(self, shop: Shop) -> None:
        held(shop)
        (shop.home / "copy").write_text("mine")
        done = shop("journal", "backup", shop.file, "copy")
        assert (done.status, done.out) == (74, "")
        assert (shop.home / "copy").read_text() == "mine"

    def test_dry_run_writes_nothing(self, shop: Shop) -> None:
        held(shop)
        done = shop("journal", "backup", "--dry-run", shop.file, "copy")
        assert done.out.startswith(f"would write {shop.home / 'copy'}: mails planned: 1")
        assert not (shop.home / "copy").exists()
        (shop.home / "copy").write_text("mine")
        assert shop("journal", "backup", "--dry-run", shop.file, "copy").status == 74

    def test_it_is_of_one_moment_while_a_run_is_at_work(self, shop: Shop) -> None:
        held(shop, LARGE)
        with at_work(shop) as journal:
            assert shop("journal", "backup", shop.file, "copy").status == 0
            journal.commit(lambda tx: tx.execute("DELETE FROM mail"))
        assert len(contents(shop.home / "copy")) == 1

    def test_a_place_that_cannot_be_written_is_one_line(self, shop: Shop) -> None:
        held(shop)
        done = shop("journal", "backup", shop.file, "no/such/copy")
        assert (done.status, len(done.err.splitlines())) == (75, 1)
        assert str(shop.home / "no/such/copy") in done.err

    def test_it_leaves_nothing_beside_the_journal(self, shop: Shop) -> None:
        held(shop, LARGE)
        before = sorted(shop.home.rglob("journal.db.d/**/*"))
        shop("journal", "backup", shop.file, "copy")
        assert sorted(shop.home.rglob("journal.db.d/**/*")) == before


class TestRestore:
    def backed_up(self, shop: Shop, *messages: bytes) -> None:
        held(shop, *messages)
        assert shop("journal", "backup", shop.file, "copy").status == 0

    def restore(self, shop: Shop, *arguments: str) -> Done:
        return shop("journal", "restore", *arguments, shop.file, "copy")

    def test_the_mail_of_the_backup_is_there_and_goes_on(self, shop: Shop) -> None:
        self.backed_up(shop, MAIL, LARGE)
        shop("queue", "drop", "--yes", *(str(row[0]) for row in contents(shop.journal)))
        done = self.restore(shop)
        assert (done.status, done.err) == (0, "")
        assert check(shop).status == 0
        assert (
            shop("queue", "release", *(str(row[0]) for row in contents(shop.journal))).status == 0
        )
        assert shop("run", shop.file).status == 0
        assert sorted(map(len, shop.maildir)) == sorted(map(len, (MAIL, LARGE)))

    def test_the_journal_that_was_there_is_kept_with_its_bodies(self, shop: Shop) -> None:
        self.backed_up(shop)
        held(shop, LARGE)
        before = contents(shop.journal)
        done = self.restore(shop)
        (kept,) = (p for p in shop.home.glob("journal.db.replaced-*") if p.suffix != ".d")
        assert f"is kept: {kept}\n" in done.out
        assert contents(kept) == before
        assert shop("run", shop.file).status == 0  # sweeps what the new one does not name
        assert check(shop, str(kept)).status == 0

    def test_a_damaged_journal_can_be_replaced(self, shop: Shop) -> None:
        self.backed_up(shop)
        shop.journal.write_bytes(b"no journal at all" * 1000)
        assert self.restore(shop).status == 0
        assert len(contents(shop.journal)) == 1

    def test_one_that_is_gone_is_made(self, shop: Shop) -> None:
        self.backed_up(shop)
        shop.journal.unlink()
        done = self.restore(shop)
        assert (done.status, "is kept" in done.out) == (0, False)
        assert len(contents(shop.journal)) == 1

    def test_never_over_a_journal_in_use(self, shop: Shop) -> None:
        self.backed_up(shop)
        before = shop.journal.stat().st_ino
        with at_work(shop):
            for arguments in ((), ("--dry-run",)):
                done = self.restore(shop, *arguments)
                assert (done.status, "a process works on the journal" in done.err) == (75, True)
        assert shop.journal.stat().st_ino == before

    @pytest.mark.parametrize("state", ["due", "sending", "doubt"])
    def test_what_waits_in_it_is_held_since_it_may_have_been_sent(
        self, shop: Shop, state: str
    ) -> None:
        held(shop)
        shop.change("UPDATE copy SET state = 'planned'")
        shop.change(
            "INSERT INTO delivery (mail, copy, step, recipient, state, due, at)"
            f" SELECT id, 0, 'maildir', '', '{state}', 0, 0 FROM mail"
        )
        assert shop("journal", "backup", shop.file, "copy").status == 0
        out = self.restore(shop).out
        assert "is fetched again\n" in out
        assert "what waits in it (mails: 1) is held: see `mailflow queue list --held`" in out
        assert shop("run", shop.file).status in (0, 75)
        assert shop.maildir == []
        assert "restored from a backup of" in shop("queue", "list", "--held").out
        assert shop("queue", "release", "--all").status == 0
        assert shop("run", shop.file).status == 0
        assert len(shop.maildir) == 1

    def test_a_mail_that_has_met_no_step_yet_is_held_too(self, shop: Shop) -> None:
        held(shop)
        shop.change("DELETE FROM copy")
        shop.change("UPDATE mail SET state = 'accepted'")
        assert shop("journal", "backup", shop.file, "copy").status == 0
        self.restore(shop)
        assert shop.rows("SELECT state FROM copy") == [("held",)]

    def test_with_resume_it_goes_on(self, shop: Shop) -> None:
        held(shop)
        shop.change("DELETE FROM copy")
        shop.change("UPDATE mail SET state = 'accepted'")
        assert shop("journal", "backup", shop.file, "copy").status == 0
        out = self.restore(shop, "--resume").out
        assert "what waits in it (mails: 1) goes on at the next run; what was sent of it" in out
        assert shop.rows("SELECT state FROM mail") == [("accepted",)]

    def test_dry_run_says_the_same_and_changes_nothing(self, shop: Shop) -> None:
        self.backed_up(shop)
        before = sorted(shop.home.iterdir()), shop.journal.read_bytes()
        out = self.restore(shop, "--dry-run").out
        assert out.startswith(f"{shop.journal}: would be restored\n")
        assert "would be kept: " in out
        assert sorted(p for p in shop.home.iterdir() if p.suffix not in (".db-wal", ".db-shm")) == [
            p for p in before[0] if p.suffix not in (".db-wal", ".db-shm")
        ]
        assert shop.journal.read_bytes() == before[1]

    def test_what_is_no_backup_is_refused(self, shop: Shop) -> None:
        held(shop)
        (shop.home / "copy").write_text("x" * NEVER)
        done = self.restore(shop)
        assert done.status == 74
        assert "copy is damaged or no journal: " in done.err
        assert done.err.endswith("; name another backup\n")
        assert len(contents(shop.journal)) == 1
        (shop.home / "copy").unlink()
        assert self.restore(shop).err == f"mailflow: {shop.home}/copy is not there\n"
        (shop.home / "copy").mkdir()
        assert self.restore(shop).err == f"mailflow: {shop.home}/copy is no regular file\n"

    def test_a_process_that_was_about_to_open_the_old_one_is_told(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its mail would go into the file that is kept aside."""
        from mailflow.engine.journal import database
        from mailflow.errors import InUseError

        held(shop)
        connect = database._connect

        def slow(path: str, checkpoint: int) -> sqlite3.Connection:
            opened = connect(path, checkpoint)
            os.rename(path, path + ".old")
            connect(path, checkpoint).close()
            return opened

        monkeypatch.setattr(database, "_connect", slow)
        with pytest.raises(InUseError, match="was replaced just now; try again"):
            Database(str(shop.journal))
