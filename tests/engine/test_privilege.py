"""What root gives up, and the file that says who runs."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from mailflow.engine.privilege import Identity, PidFile
from mailflow.errors import ConfigError, InUseError, UnavailableError

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def become(code: str) -> list[str]:
    """What a process says that has become nobody."""
    script = f"""
import os, threading
from mailflow.engine.privilege import Identity
identity = Identity("nobody")
identity.settle_in()
gate, held = threading.Event(), []
def look():
    gate.wait()
    held.append(open("/proc/thread-self/status").read())
thread = threading.Thread(target=look)
thread.start()
identity._give_up()
gate.set()
thread.join()
{code}
"""
    env = {**os.environ, "XDG_STATE_HOME": "/another/state", "XDG_RUNTIME_DIR": "/another/run"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, env=env,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@root
def test_every_right_is_gone_for_every_thread() -> None:
    nobody = pwd.getpwnam("nobody")
    said = become("print(os.getresuid(), os.getresgid(), os.getgroups()); print(held[0])")
    uid, gid = nobody.pw_uid, nobody.pw_gid
    assert said[0] == f"{(uid,) * 3} {(gid,) * 3} {[gid]}"
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in said
    assert "CapEff:\t0000000000000000" in said
    assert "CapPrm:\t0000000000000000" in said


@root
def test_it_cannot_be_had_again() -> None:
    code = "try:\n    os.setuid(0)\nexcept OSError as error:\n    print(error.strerror)"
    assert become(code) == ["Operation not permitted"]


@root
def test_the_home_is_the_users_and_roots_directories_are_not_meant() -> None:
    code = (
        "kept = [name for name in os.environ if name.startswith('XDG_')]\n"
        "print(os.environ['HOME'], os.environ['USER'], kept)"
    )
    home = pwd.getpwnam("nobody").pw_dir
    assert become(code) == [f"{home} nobody []"]


@root
def test_modules_that_the_user_cannot_read_are_named(tmp_path: Path) -> None:
    """What is imported later would fail, and whatever says so."""
    tmp_path.chmod(0o700)
    code = """
import sys
from mailflow.engine.privilege import Identity
from mailflow.errors import ConfigError
identity = Identity("nobody")
sys.path[:] = [sys.argv[1], sys.argv[1] + "/not-there"]
try:
    identity.become()
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"nobody cannot read {tmp_path}, where modules of this program")


def test_a_directory_that_lacks_nothing_need_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the working directory, which `python -m` looks into first."""
    monkeypatch.setattr(Identity, "_give_up", lambda _: None)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(os, "access", lambda path, _: path != str(tmp_path))
    Identity("nobody").become()


def test_who_runs_it_already_may_be_named() -> None:
    identity = Identity(pwd.getpwuid(os.geteuid()).pw_name)
    identity.become()
    assert Identity(str(os.geteuid())) is not None


def test_a_user_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(ConfigError, match="there is no user 'nobody-at-all'"):
        Identity("nobody-at-all")


def test_who_is_not_root_becomes_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match=r"only root can become root; start it as root$"):
        Identity("root")


def test_rights_that_did_not_go_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = Identity("nobody")
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for name in ("initgroups", "setresgid", "setresuid", "setuid"):
        monkeypatch.setattr(os, name, lambda *words: None)
    with pytest.raises(UnavailableError, match="could not be given up"):
        identity.become()


class TestPidFile:
    def test_it_is_one_mans_at_a_time(self, tmp_path: Path) -> None:
        path = str(tmp_path / "x.pid")
        first = PidFile(path)
        with pytest.raises(InUseError, match="belongs to an installation that runs"):
            PidFile(path)
        first.close()
        PidFile(path).close()
        assert not os.path.exists(path)

    def test_one_that_is_removed_just_now_is_made_anew(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x.pid"
        import fcntl

        real, times = fcntl.flock, []

        def flock(file: int, how: int) -> None:
            if not times:
                path.unlink()  # whoever had it ends between our open and our lock
            times.append(how)
            real(file, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        held = PidFile(str(path))
        assert len(times) == 2
        assert path.read_text() == f"{os.getpid()}\n"
        held.close()

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        target = tmp_path / "target"
        target.touch()
        (tmp_path / "x.pid").symlink_to(target)
        with pytest.raises(UnavailableError, match="cannot write"):
            PidFile(str(tmp_path / "x.pid"))
        assert target.read_text() == ""
