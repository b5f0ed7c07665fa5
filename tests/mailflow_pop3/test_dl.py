"""`mailflow pop3 dl`, run as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.tls import Authority

from .conftest import SECRET

COMMAND = os.path.join(os.path.dirname(sys.executable), "mailflow")
POSTS = [
    b"From: Ann <ann@example.org>\r\nSubject: %d\r\nMessage-ID: <%d@x>\r\n\r\n.one\r\n\xff  \r\n"
    % (n, n)
    for n in range(1, 4)
]
KEYS = ["red-000001", "red-000002", "red-000003"]


class Home:
    """A home directory in which the command runs."""

    def __init__(self, path):
        self.path = path
        self.maildir = path / "Mail"
        path.mkdir(mode=0o700)

    def netrc(self, *lines):
        file = self.path / ".netrc"
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o600)

    def begin(self, *words, **more):
        environment = {
            "HOME": str(self.path), "PATH": os.defpath, "LOGNAME": "red",
            "XDG_STATE_HOME": str(self.path / "state"),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **more,
        }  # fmt: skip
        return subprocess.Popen(
            [COMMAND, "pop3", "dl", *words, *([] if "--help" in words else ["Mail"])],
            cwd=self.path, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, *words, **more):
        process = self.begin(*words, **more)
        out, err = process.communicate(timeout=30)
        assert "Traceback" not in err
        assert SECRET not in out + err
        return process.returncode, out, err

    @property
    def mail(self):
        """What has come, as it was on the wire."""
        files = (self.maildir / "new").glob("*")
        return sorted(file.read_bytes().replace(b"\n", b"\r\n") for file in files)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def server():
    with Pop3Server({"red": SECRET}, {"red": POSTS}) as running:
        yield running


@pytest.fixture
def word(home, server):
    """The mailbox in a word; its password is in ~/.netrc."""
    home.netrc(f"machine red@127.0.0.1:{server.port} login red password {SECRET}")
    return f"tcp:127.0.0.1:{server.port}"


def received(err):
    """(number, sender, octets, key) of each line about a message."""
    form = r"received .*number=(\d+).* sender=(\S+) octets=(\d+) key=(\S+)"
    return [re.search(form, line).groups() for line in err.splitlines() if "received" in line]


class TestDownload:
    def test_csp01_what_is_there_comes_into_the_maildir_and_is_deleted(self, home, server, word):
        """CSP-01, CSP-14: the Maildir is made; CSP-20: every octet is as it was."""
        assert home(f"tcp:red@127.0.0.1:{server.port}")[0] == 0
        assert home.mail == POSTS
        assert server.messages("red") == []

    def test_csp15_there_is_a_line_for_each_message(self, home, server, word):
        """CSP-15: number, sender, octets, key."""
        err = home(f"tcp:red@127.0.0.1:{server.port}")[2]
        assert received(err) == [
            (str(n), "ann@example.org", str(len(POSTS[n - 1])), KEYS[n - 1]) for n in (1, 2, 3)
        ]

    def test_csp03_one_is_one(self, home, server, word):
        assert home("-1", f"tcp:red@127.0.0.1:{server.port}")[0] == 0
        assert home.mail == POSTS[:1]
        assert server.messages("red") == POSTS[1:]

    def test_csp03_a_limit_is_one_for_each_run(self, home, server, word):
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        assert home("--limit", "2", mailbox)[0] == 0
        assert home.mail == POSTS[:2]
        assert home("--limit", "2", mailbox)[0] == 0
        assert home.mail == POSTS

    @pytest.mark.parametrize("flag", ["-n", "--keep"])
    def test_csp03_with_n_nothing_is_deleted_and_nothing_comes_twice(
        self, home, server, word, flag
    ):
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        assert home(flag, mailbox)[0] == 0
        assert server.messages("red") == POSTS
        assert home(flag, mailbox)[0] == 0
        assert home.mail == POSTS
        assert not [line for line in server.commands if line.startswith("DELE")]

    def test_what_was_kept_is_deleted_by_a_run_that_does_not_keep(self, home, server, word):
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        home("-n", mailbox)
        asked = [line for line in server.commands if line.startswith("RETR")]
        assert home(mailbox)[0] == 0
        assert server.messages("red") == []
        assert home.mail == POSTS
        assert len(asked) == 3

    def test_csp14_the_maildir_is_not_made_where_that_is_forbidden(self, home, server, word):
        status, _, err = home("--no-create", f"tcp:red@127.0.0.1:{server.port}")
        assert status == 78
        assert f"there is no Maildir {home.maildir}" in err
        assert server.connections == 0
        assert not home.maildir.exists()

    def test_csp12_a_message_that_cannot_be_saved_is_not_deleted(self, home, server, word):
        """CSP-12: no journal, no Maildir: nothing is safe here, and all stays there."""
        (home.path / "state").write_text("a file where directories are to be made")
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        assert home(mailbox)[0] != 0
        assert server.messages("red") == POSTS
        (home.path / "state").unlink()
        assert home(mailbox)[0] == 0
        assert home.mail == POSTS

    def test_csp18_a_dropped_link_downloads_nothing_twice(self, home, server, word):
        """CSP-18: what came before the drop is known, though no DELE counted."""
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        server.faults = Faults(cut_before=["RETR 3"])
        assert home(mailbox)[0] == 75
        assert home.mail == POSTS[:2]
        assert server.messages("red") == POSTS
        server.faults = Faults()
        server.commands.clear()
        assert home(mailbox)[0] == 0
        assert home.mail == POSTS
        assert [line for line in server.commands if line.startswith("RETR")] == ["RETR 3"]
        assert server.messages("red") == []


class TestPlaces:
    def test_csp06_csp07_an_account_of_netrc_is_enough(self, home, server):
        home.netrc(f"machine tcp:127.0.0.1:{server.port} login red account work password {SECRET}")
        assert home("work")[0] == 0
        assert home.mail == POSTS

    def test_csp06_the_user_is_the_one_here_where_nothing_says_another(self, home, server):
        home.netrc(f"machine 127.0.0.1 password {SECRET}")
        assert home(f"tcp:127.0.0.1:{server.port}", LOGNAME="red")[0] == 0
        assert home.mail == POSTS

    @pytest.mark.parametrize("source", ["file", "env", "command"])
    def test_csp07_the_password_may_be_elsewhere(self, home, server, source, tmp_path):
        file = tmp_path / "secret"
        file.write_text(SECRET)
        file.chmod(0o600)
        where = {"file": str(file), "env": "PW", "command": f"cat {file}"}[source]
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        assert home("--password", f"{source}:{where}", mailbox, PW=SECRET)[0] == 0
        assert home.mail == POSTS

    @pytest.mark.parametrize("told", ["plain", "vault:x", "file:"])
    def test_a_password_is_never_an_argument(self, home, server, told):
        status, _, err = home("--password", told, f"tcp:red@127.0.0.1:{server.port}")
        assert status == 64
        assert "expected file, env, command, netrc, keyring" in err

    def test_csp05_tls_is_for_the_name_behind_the_mark(self, home, tmp_path):
        """CSP-04, CSP-05: host!name, over TLS where nothing else is said."""
        authority = Authority(tmp_path)
        certificate = authority.issue(["pop.example.org"])
        with Pop3Server({"red": SECRET}, {"red": POSTS}, tls=certificate, implicit=True) as server:
            home.netrc(f"machine red@127.0.0.1:{server.port} password {SECRET}")
            trust = {"SSL_CERT_FILE": authority.ca_file}
            status, _, err = home(f"red@127.0.0.1:{server.port}", **trust)
            assert status == 77
            assert "certificate" in err
            status, _, err = home(f"red@127.0.0.1!pop.example.org:{server.port}", **trust)
            assert status == 0, err
        assert home.mail == POSTS


class TestFailures:
    def test_csp16_a_refused_connection_is_one_line(self, home):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        home.netrc(f"machine 127.0.0.1 login red password {SECRET}")
        status, out, err = home(f"tcp:127.0.0.1:{port}")
        assert (status, out) == (75, "")
        [line] = err.splitlines()
        assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in line
        status, _, err = home(f"tcp:127.0.0.1:{port}")  # and does not rest afterwards
        assert "Connection refused" in err

    def test_a_refused_password_is_one_line(self, home, server):
        home.netrc("machine 127.0.0.1 login red password wrong")
        status, _, err = home(f"tcp:127.0.0.1:{server.port}")
        assert status == 77
        assert len(err.splitlines()) == 1
        assert "refuses the login of red" in err

    def test_no_password_is_one_line_that_says_what_to_do(self, home, server):
        status, _, err = home(f"tcp:127.0.0.1:{server.port}")
        assert status == 78
        assert f"write `machine red@127.0.0.1:{server.port} login red password" in err
        assert server.connections == 0

    def test_a_netrc_that_others_can_read_is_not_used(self, home, server, word):
        (home.path / ".netrc").chmod(0o644)
        status, _, err = home(word)
        assert status == 78
        assert "can be read by others" in err

    def test_a_word_that_is_no_mailbox_is_wrong_usage(self, home):
        status, _, err = home("ftp:x y")
        assert status == 64
        assert len(err.splitlines()) == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_csp17_an_interrupt_stops_cleanly_and_what_is_saved_stays(
        self, home, server, word, number
    ):
        """CSP-17: and the next run goes on from there."""
        mailbox = f"tcp:red@127.0.0.1:{server.port}"
        server.faults = Faults(answers={"RETR 3": b"+OK\r\nhalf of it"})
        process = home.begin(mailbox)
        deadline = time.monotonic() + 20
        while len(home.mail) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert home.mail == POSTS[:2]
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert home.mail == POSTS[:2]
        server.faults = Faults()
        assert home(mailbox)[0] == 0
        assert home.mail == POSTS
        assert server.messages("red") == []


def test_csp02_help_says_what_there_is(home):
    """CSP-02: of the program, of the plugin, of the command."""
    pop3 = subprocess.run(
        [COMMAND, "pop3", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"dl\s+Download a mailbox into a Maildir", pop3)
    status, out, _ = home("--help")
    assert status == 0
    for word in (
        "-1, --one",
        "--limit",
        "-n, --keep",
        "[{ssl,tcp,stls}:][user@]host[!name][:port]",
    ):
        assert word in out
