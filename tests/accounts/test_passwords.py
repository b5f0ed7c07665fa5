"""A file of passwords: read anew when it has changed, written whole or not at all."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from mailflow.accounts import passwords
from mailflow.accounts.passwords import PasswordFile, add, contents, default_path, parsed, remove
from mailflow.errors import ConfigError, UnavailableError

from .parts import Log


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "there" / "maildrops")


def write(path, text, mode=0o600):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def opened(path, optional=False):
    log, changes = Log(), []
    return PasswordFile(path, log, lambda: changes.append(1), optional=optional), log, changes


class TestForm:
    def test_it_is_dovecots(self):
        table = parsed(
            b"# the family\n\nann:{SSHA256}xyz\r\n"
            b"bob:{PLAIN}x:1000:1000:Bob:/home/bob:/bin/sh:userdb_mail=maildir:~/Mail"
            b" allow_nets=192.0.2.0/24,2001:db8::/32,local\n"
            b"cat:{PLAIN}y::::::nologin\n"
        )
        assert table.faults == ()
        assert [each[:3] for each in table.entries.values()] == [
            ("ann", "{SSHA256}xyz", 3), ("bob", "{PLAIN}x", 4), ("cat", "{PLAIN}y", 5),
        ]  # fmt: skip
        assert table.entries["bob"].networks == ("192.0.2.0/24", "2001:db8::/32", "local")
        assert [each.closed for each in table.entries.values()] == [False, False, True]

    def test_a_line_that_is_wrong_harms_no_other(self):
        table = parsed(b"ann:x\nno colon\n:empty\nb\xff:x\nbad\x07:x\nann:y\nbob:z\n")
        assert {name: each.secret for name, each in table.entries.items()} == {
            "ann": "y", "bob": "z",
        }  # fmt: skip
        assert [line for line, _ in table.faults] == [2, 3, 4, 5, 6]


class TestReading:
    def test_a_change_counts_at_the_next_login(self, path):
        write(path, "ann:one\n")
        file, _, changes = opened(path)
        assert file.lock("ann").verifier.fits("one")
        write(path, "ann:two!\n")
        assert file.lock("ann").verifier.fits("two!")
        os.rename(path, f"{path}.away")
        write(path, "bob:x\n")
        assert file.lock("ann").verifier is None
        assert len(changes) == 3

    def test_it_is_read_once_as_long_as_it_stays(self, path, monkeypatch):
        write(path, "ann:one\n")
        file, _, changes = opened(path)
        for _ in range(5):
            file.lock("ann")
        assert changes == [1]

    def test_what_cannot_be_read_any_more_leaves_what_was_there(self, path):
        write(path, "ann:one\n")
        file, log, _ = opened(path)
        file.lock("ann")
        os.chmod(path, 0o644)
        assert file.lock("ann").verifier.fits("one")
        [(level, event, _)] = log.lines
        assert level == "error"
        assert "is open to others (mode 0644); run: chmod 600" in event
        assert "still counts" in event

    @pytest.mark.parametrize("mode", [0o604, 0o620, 0o602])
    def test_one_that_strangers_can_read_or_write_lets_nobody_in(self, path, mode):
        write(path, "ann:one\n", mode)
        file, log, _ = opened(path)
        with pytest.raises(UnavailableError, match="no password can be checked now"):
            file.lock("ann")
        os.chmod(path, 0o640)
        assert file.lock("ann").verifier.fits("one")
        assert len(log.lines) == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
    def test_g06_one_that_belongs_to_somebody_else_is_not_read(self, path):
        write(path, "ann:one\n")
        os.chown(path, 4711, 4711)
        with pytest.raises(ConfigError, match=r"belongs to another user \(uid 4711\)"):
            contents(path)

    def test_g06_one_that_is_no_file_is_not_read(self, path):
        os.makedirs(os.path.dirname(path))
        os.mkfifo(path, 0o600)
        with pytest.raises(ConfigError, match="is not a regular file"):
            contents(path)

    def test_the_users_own_need_not_be_there(self, path):
        file, log, _ = opened(path, optional=True)
        assert file.lock("ann").verifier is None
        assert log.lines == []
        write(path, "ann:one\n")
        assert file.lock("ann").verifier.fits("one")

    def test_one_that_is_named_must_be_there(self, path):
        file, log, _ = opened(path)
        with pytest.raises(UnavailableError):
            file.lock("ann")
        assert "mailflow maildrop add" in log.lines[0][1]

    def test_a_secret_that_is_none_is_logged_once_with_its_line_and_not_itself(self, path):
        write(path, "ann:one\nbob:{SSHA256}canary\n")
        file, log, _ = opened(path)
        for _ in range(3):
            assert file.lock("bob").verifier is None
        [(_, event, _)] = log.lines
        assert event.startswith(f"{path}:2: 'bob': {{SSHA256}} is not base64")
        assert "canary" not in event

    def test_a_large_one_is_for_a_thread_as_long_as_it_was_not_read(self, path):
        write(path, "".join(f"user{number}:{'x' * 50}\n" for number in range(6000)))
        file, _, _ = opened(path)
        assert not file.quick()
        file.lock("user1")
        assert file.quick()


class TestWriting:
    def test_it_is_made_for_its_owner_alone(self, path, monkeypatch):
        monkeypatch.setattr(os, "umask", lambda mask: mask)
        add(path, "ann", "{PLAIN}x")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        assert contents(path) == b"ann:{PLAIN}x\n"

    def test_a_name_that_is_there_is_replaced_only_when_that_is_said(self, path):
        write(path, "# mine\nann:x:1:2:::/home:allow_nets=::1\nbob:y")
        with pytest.raises(ConfigError, match="ann is there already"):
            add(path, "ann", "z")
        add(path, "ann", "z", replace=True)
        assert contents(path) == b"# mine\nann:z:1:2:::/home:allow_nets=::1\nbob:y\n"

    def test_of_a_name_that_is_there_twice_one_is_left(self, path):
        write(path, "ann:x\nbob:y\nann:z\n")
        add(path, "ann", "w", replace=True)
        assert contents(path) == b"bob:y\nann:w\n"

    def test_who_is_removed_is_gone_and_nobody_else(self, path):
        write(path, "ann:x\nanna:y\nann:z\n", 0o640)
        remove(path, "ann")
        assert contents(path) == b"anna:y\n"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        with pytest.raises(ConfigError, match="there is no ann in"):
            remove(path, "ann")

    @pytest.mark.parametrize("login", ["", "a:b", "#a", "a\nb:x", "a\x00", "\u202eann"])
    def test_a_name_that_would_be_something_else_is_none(self, path, login):
        with pytest.raises(ConfigError):
            add(path, login, "x")
        assert not os.path.exists(path)

    @pytest.mark.parametrize("secret", ["a:b", "a\nroot:x"])
    def test_so_is_a_secret(self, path, secret):
        with pytest.raises(ConfigError):
            add(path, "ann", secret)

    def test_those_who_write_at_a_time_lose_nothing_of_each_other(self, path):
        threads = [
            threading.Thread(target=add, args=(path, f"user{number}", "x")) for number in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(parsed(contents(path)).entries) == {f"user{number}" for number in range(20)}

    @pytest.mark.parametrize("step", ["fsync", "rename", "fchmod"])
    def test_d01_a_disk_that_fails_leaves_the_file_as_it_was(self, path, step, monkeypatch):
        write(path, "ann:x\n")

        def broken(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(passwords.os, step, broken)
        with pytest.raises(UnavailableError, match="No space left on device"):
            add(path, "bob", "y")
        assert contents(path) == b"ann:x\n"
        assert os.listdir(os.path.dirname(path)) == ["maildrops"]

    def test_d05_it_is_on_the_disk_before_it_has_its_name_and_so_is_the_name(
        self, path, monkeypatch
    ):
        write(path, "ann:x\n")
        steps = []
        fsync, rename = os.fsync, os.rename

        def flushed(descriptor):
            kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
            steps.append(kind)
            fsync(descriptor)

        def renamed(source, target):
            steps.append("name")
            rename(source, target)

        monkeypatch.setattr(passwords.os, "fsync", flushed)
        monkeypatch.setattr(passwords.os, "rename", renamed)
        add(path, "bob", "y")
        assert steps == ["file", "name", "directory"]

    def test_d04_what_a_crash_left_behind_is_in_nobodys_way(self, path):
        write(path, "ann:x\n")
        write(f"{path}.new", "half of it")
        add(path, "bob", "y")
        assert contents(path) == b"ann:x\nbob:y\n"
        assert os.listdir(os.path.dirname(path)) == ["maildrops"]

    def test_a_link_stays_one(self, path, tmp_path):
        write(path, "ann:x\n")
        link = str(tmp_path / "link")
        os.symlink(path, link)
        add(link, "bob", "y")
        assert os.path.islink(link)
        assert contents(path) == b"ann:x\nbob:y\n"

    def test_there_is_nothing_to_remove_from_where_no_file_is(self, path):
        os.makedirs(os.path.dirname(path))
        with pytest.raises(ConfigError, match="there is no file"):
            remove(path, "ann")


def test_the_users_own_is_among_the_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == str(tmp_path / "mailflow" / "maildrops")
