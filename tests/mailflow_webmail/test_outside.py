"""The program where nothing but a proxy leads out, and where a human has logged in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from tomllib import loads

import mechanicalsoup
import pytest

from mailflow.testing.webmail import TestBed

from .web import SocksProxy

NAME = "webmail.example.org"
"""It is no name that anybody could look up."""

LOGIN = "ann:canary-s3cret"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def running() -> Iterator[TestBed]:
    with TestBed() as bed:
        yield bed


@pytest.fixture
def bed(running: TestBed) -> TestBed:
    running.quiet()
    running.log_out_all()
    running.delete("INBOX", *running.uids("INBOX"))
    running.put("INBOX", b"Subject: one\r\n\r\n1\r\n", b"Subject: two\r\n\r\n2\r\n")
    running.forget()
    return running


@pytest.fixture
def run(bed: TestBed, tmp_path: Path) -> Run:
    """`mailflow COMMAND` of a pipeline into ~/Maildir."""

    def run(command: str = "run", **options: object) -> subprocess.CompletedProcess[str]:
        table = {**bed.source(), **options}
        lines = [f'{name} = "{value}"' for name, value in table.items() if value is not None]
        file = tmp_path / "page.toml"
        text = "\n".join(["[[fetch]]", *lines, "[[distribute]]", 'use = "maildir"'])
        file.write_text(f'{text}\npath = "{tmp_path}/Maildir"\n')
        assert loads(file.read_text())
        file.chmod(0o600)
        home = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
        return subprocess.run(
            [sys.executable, "-m", "mailflow", "-vv", command, str(file)],
            env={**os.environ, **home}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def arrived(tmp_path: Path) -> int:
    new = tmp_path / "Maildir" / "new"
    return len(list(new.iterdir())) if new.exists() else 0


def test_pwm_03_a_mailbox_comes_home_through_the_proxy_alone(
    bed: TestBed, run: Run, tmp_path: Path
) -> None:
    with SocksProxy({NAME: bed.port}, LOGIN) as proxy:
        place = f"{LOGIN}@127.0.0.1:{proxy.port}"
        done = run(url=f"http://{NAME}:{bed.port}/", proxy=f"socks5h://{place}")
    assert done.returncode == 0, done.stderr
    assert arrived(tmp_path) == 2
    assert {*proxy.asked} == {NAME}
    assert "canary" not in done.stdout + done.stderr


class TestLent:
    @pytest.fixture
    def cookies(self, bed: TestBed, tmp_path: Path) -> str:
        """Those of a browser that has logged in."""
        with mechanicalsoup.StatefulBrowser() as browser:
            browser.open(f"{bed.url}login", timeout=20)
            browser.select_form("form#login")
            browser["user"], browser["pass"] = bed.user, bed.password
            browser.submit_selected(timeout=20)
            jar = MozillaCookieJar(str(tmp_path / "page.cookies"))
            for cookie in browser.session.cookies:
                jar.set_cookie(cookie)
        jar.save(ignore_discard=True)
        os.chmod(jar.filename, 0o600)
        return str(jar.filename)

    def test_one_run_leaves_the_session_for_the_next(
        self, bed: TestBed, run: Run, tmp_path: Path, cookies: str
    ) -> None:
        bed.forget()
        for count in (2, 3):
            done = run(password=None, cookies=cookies)
            assert done.returncode == 0, done.stderr
            assert arrived(tmp_path) == count
            bed.put("INBOX", b"Subject: three\r\n\r\n3\r\n")
        assert {each.method for each in bed.requests} == {"GET"}
        assert bed.asked("logout") == 0

    def test_its_end_asks_a_human(self, bed: TestBed, run: Run, cookies: str) -> None:
        bed.log_out_all()
        done = run(password=None, cookies=cookies)
        assert done.returncode == 77
        assert "log in there again, and save its cookies anew" in done.stderr
        for line in Path(cookies).read_text().splitlines():
            if not line.startswith("#") and line:
                assert line.rpartition("\t")[2] not in done.stderr

    def test_a_file_that_others_can_read_is_told_before(self, run: Run, cookies: str) -> None:
        os.chmod(cookies, 0o644)
        done = run("check", password=None, cookies=cookies)
        assert done.returncode == 78
        assert "can be read by others" in done.stdout + done.stderr
