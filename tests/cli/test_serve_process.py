"""`mailflow serve` as one process among others: its number, its user, its control socket."""

from __future__ import annotations

import json
import os
import pty
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ..engine.standing import eventually
from . import parrot
from .command import Shop
from .serving import BOX, SERVE, Begin, drop, open_python, told


class TestProcess:
    def test_p3s_15_the_pid_file_holds_its_number_as_long_as_it_runs(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        path = shop.root / "mailflow.pid"
        serving = begin("--pid-file", str(path), shop.write(BOX))
        eventually(lambda: shop.maildir)
        assert path.read_text() == f"{serving.child.pid}\n"
        second = begin("--pid-file", str(path), shop.file).ended()
        assert second.status == 75
        assert "belongs to an installation that runs" in second.err
        assert path.read_text() == f"{serving.child.pid}\n"
        assert serving.end().status == 0
        assert not path.exists()

    def test_a_pid_file_that_a_crash_has_left_is_used_again(self, shop: Shop, begin: Begin) -> None:
        drop(shop)
        path = shop.root / "mailflow.pid"
        path.write_text("99999999\n")
        serving = begin("--pid-file", str(path), shop.write(BOX))
        eventually(lambda: shop.maildir)
        assert path.read_text() == f"{serving.child.pid}\n"

    def test_in_a_terminal_it_says_that_it_runs_and_ends_with_it(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        ours, theirs = pty.openpty()
        serving = begin(shop.write(BOX), stdin=theirs, stderr=theirs)
        os.close(theirs)
        said = b""
        while b"`mailflow status` says how it fares" not in said:
            said += os.read(ours, 4096)
        eventually(lambda: shop.maildir)
        serving.signal(signal.SIGHUP)  # it is still there: the files are read anew
        assert shop("poke", "maildir") == (0, "", "")
        os.close(ours)
        serving.signal(signal.SIGHUP)  # as the kernel says it to what runs in a terminal
        assert serving.ended().status == 0

    def test_a_file_that_is_no_pid_file_is_left_as_it_is(self, shop: Shop, begin: Begin) -> None:
        path = shop.root / "precious"
        path.write_text("my thesis\n")
        done = begin("--pid-file", str(path), shop.write(BOX)).ended()
        assert done.status == 78
        assert path.read_text() == "my thesis\n"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.skipif(
        open_python() is None, reason="there is no Python, or no mailflow, but root's own"
    )
    def test_p3s_15_root_binds_and_becomes_the_user_for_good(
        self, shop: Shop, begin: Begin
    ) -> None:
        shop.plugin("parrot", parrot.PLUGIN)
        port = next(each for each in range(700, 1000) if _is_free(each))
        nobody = pwd.getpwnam("nobody")
        with tempfile.TemporaryDirectory() as place:
            os.chown(place, nobody.pw_uid, nobody.pw_gid)
            shop.path.write_text(
                f'[pipeline]\njournal = "{place}/j.db"\n' + SERVE.replace("{port}", str(port))
            )
            modules = os.pathsep.join([str(shop.site), *filter(None, sys.path)])
            env = {"RUNTIME_DIRECTORY": place, "PYTHONPATH": modules}
            serving = begin("--user", "nobody", shop.file, env=env, python=open_python())
            uid = parrot.ask(port, "uid")
            status = Path(f"/proc/{serving.child.pid}/status").read_text()
            assert list(Path(place).glob("*.control"))
            done = serving.end()
        assert (uid, done.status) == (str(nobody.pw_uid), 0)
        for name, number in (("Uid", nobody.pw_uid), ("Gid", nobody.pw_gid)):
            (line,) = [each for each in status.splitlines() if each.startswith(f"{name}:")]
            assert line.split()[1:] == [str(number)] * 4
        assert f"Groups:\t{nobody.pw_gid} " in status

    def test_a_user_that_is_not_there_is_a_fault(self, shop: Shop, begin: Begin) -> None:
        done = begin("--user", "no-such-user", shop.write(BOX)).ended()
        assert done.status == 78
        assert "there is no user 'no-such-user'" in done.err


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


class TestControl:
    @pytest.fixture
    def control(self, shop: Shop, begin: Begin) -> Path:
        drop(shop)
        begin(shop.write(BOX))
        eventually(lambda: shop.maildir)
        (path,) = (shop.home / "state/mailflow/run").iterdir()
        return path

    def test_the_socket_is_the_users_alone(self, control: Path) -> None:
        assert control.stat().st_mode & 0o777 == 0o600
        assert control.parent.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize(
        "request_",
        [b"", b"\n", b"{", b"[]\n", b"7\n", b'{"do": "nonsense"}\n', b'{"do": ["x"]}\n',
         b"x" * 100_000, b'{"do": "poke"}\n', b"\xff\xfe\n"],
    )  # fmt: skip
    def test_whatever_is_sent_harms_nobody(
        self, shop: Shop, control: Path, request_: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(control.parent)  # its whole path may be too long for an address
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(control.name)
            try:
                sock.sendall(request_)
                sock.shutdown(socket.SHUT_WR)
                assert b'"ok"' not in sock.recv(1000)
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert told(shop)["state"] == "running"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
    def test_another_user_is_not_answered_even_where_the_socket_is_open(
        self, shop: Shop, control: Path
    ) -> None:
        control.chmod(0o666)
        for path in (control.parent, *control.parent.parents):
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            's.sendall(b\'{"do": "status"}\\n\'); print(len(s.recv(10)))'
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", script, control.name], user="nobody", capture_output=True,
            text=True, timeout=30, cwd=control.parent,
        )  # fmt: skip
        assert "PermissionError" not in done.stderr
        assert done.stdout == "0\n" or "ConnectionResetError" in done.stderr

    def test_a_directory_of_somebody_else_is_not_used(
        self, shop: Shop, begin: Begin, tmp_path: Path
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can make one")
        session = tmp_path / "session"
        (session / "mailflow").mkdir(parents=True)
        os.chown(session / "mailflow", 65534, 65534)
        drop(shop)
        begin(shop.write(BOX), env={"XDG_RUNTIME_DIR": str(session)})
        eventually(lambda: shop.maildir)
        assert not list((session / "mailflow").iterdir())
        assert list((shop.home / "state/mailflow/run").iterdir())

    def test_the_directory_of_the_session_comes_first(
        self, shop: Shop, begin: Begin, tmp_path: Path
    ) -> None:
        session = tmp_path / "session"
        session.mkdir()
        env = {"XDG_RUNTIME_DIR": str(session)}
        drop(shop)
        begin(shop.write(BOX), env=env)
        eventually(lambda: shop.maildir)
        assert list((session / "mailflow").iterdir())
        found = json.loads(shop("status", "--json", env=env).out)
        assert len(found["installations"]) == 1

    def test_a_path_too_long_for_a_socket_is_reached_all_the_same(
        self, shop: Shop, begin: Begin
    ) -> None:
        env = {"XDG_STATE_HOME": str(shop.home / ("long" * 30))}
        drop(shop)
        begin(shop.write(BOX), env=env)
        eventually(lambda: shop.maildir)
        found = json.loads(shop("status", "--json", env=env).out)
        assert len(found["installations"]) == 1

    def test_the_socket_of_a_process_that_was_killed_is_no_installation(
        self, shop: Shop, begin: Begin
    ) -> None:
        drop(shop)
        serving = begin(shop.write(BOX))
        eventually(lambda: shop.maildir)
        serving.child.kill()
        serving.child.wait()
        assert list((shop.home / "state/mailflow/run").iterdir())
        assert json.loads(shop("status", "--json").out)["installations"] == []
        assert shop("reload").status == 75
