"""`mailflow pop3 serve`, run as a user runs it, and the options of the service."""

from __future__ import annotations

import os
import poplib
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailflow.errors import ConfigError
from mailflow.running import table_of
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import free_ports
from mailflow.testing.tls import Authority
from mailflow_pop3.gateway import GatewayOptions
from mailflow_pop3.serving import serve as command

COMMAND = os.path.join(os.path.dirname(sys.executable), "mailflow")
PATIENCE = 20.0
MAIL = b"Subject: one\n\n.one\n"


class Served:
    """The command in a process of its own, until the end of the test."""

    def __init__(self, home: Path, *words: str) -> None:
        self.log = home / "log"
        self._file = self.log.open("wb")
        self.process = subprocess.Popen(
            [COMMAND, "pop3", "serve", *words],
            cwd=home,
            env={
                "HOME": str(home), "PATH": os.defpath,
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            },
            stdin=subprocess.DEVNULL, stdout=self._file, stderr=self._file,
        )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text()

    def connected(self, port: int) -> socket.socket:
        end = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.said()
            try:
                return socket.create_connection(("127.0.0.1", port), PATIENCE)
            except ConnectionRefusedError:
                assert time.monotonic() < end, self.said()
                time.sleep(0.02)

    def ended(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._file.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Maildirs of ann and bob, and a file of their secrets."""
    for name in ("ann", "bob"):
        for folder in ("tmp", "new", "cur"):
            (tmp_path / name / folder).mkdir(parents=True)
        (tmp_path / name / "new" / "1700000000.M1P1.test").write_bytes(MAIL)
    secrets = tmp_path / "secrets"
    secrets.write_text("ann:sesame\nbob:canary\n")
    secrets.chmod(0o600)
    return tmp_path


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        dovecot.add_user("ann", "sesame")
        dovecot.deliver("ann", MAIL)
        yield dovecot


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def begin(*words: str) -> Served:
            served = Served(
                home, "--backend", f"maildir:{home}/{{login}}", "--passwords", "secrets", *words
            )
            stack.callback(served.close)
            return served

        yield begin


def test_p3s_15_a_back_end_is_served_without_a_file(serve: Callable[..., Served]) -> None:
    (port,) = free_ports(1)
    served = serve("--listen", f"127.0.0.1:{port}")
    served.connected(port).close()
    for name, password in (("ann", "sesame"), ("bob", "canary")):
        client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
        client.user(name)
        client.pass_(password)
        assert client.retr(1)[1] == MAIL.splitlines()
        client.quit()
    assert served.ended() == 0


def test_p3s_15_it_is_debugged_without_a_password_in_the_log(
    serve: Callable[..., Served], home: Path
) -> None:
    (port,) = free_ports(1)
    served = serve("-l", f"127.0.0.1:{port}", "-d", "--pid-file", str(home / "pid"))
    sock = served.connected(port)
    sock.sendall(b"USER ann\r\nPASS sesame\r\nQUIT\r\n")
    while sock.recv(4096):
        pass
    assert (home / "pid").read_text().strip() == str(served.process.pid)
    assert served.ended() == 0
    assert "C:" in served.said()
    assert "PASS ***" in served.said()
    assert "sesame" not in served.said()


@pytest.mark.parametrize("stls", [False, True])
def test_p3s_15_it_speaks_tls(serve: Callable[..., Served], home: Path, stls: bool) -> None:
    (port,) = free_ports(1)
    (home / "tls").mkdir()
    authority = Authority(home / "tls")
    certificate = authority.issue()
    words = ["--certificate", certificate.cert_file, "--key", certificate.key_file]
    served = serve("-l", f"127.0.0.1:{port}", *words, *(["--stls"] if stls else []))
    served.connected(port).close()
    context = ssl.create_default_context(cafile=authority.ca_file)
    if stls:
        client = poplib.POP3("localhost", port, timeout=PATIENCE)
        client.stls(context)
    else:
        client = poplib.POP3_SSL("localhost", port, timeout=PATIENCE, context=context)
    client.user("ann")
    client.pass_("sesame")
    assert client.stat()[0] == 1
    client.quit()


def test_stls_without_a_certificate_is_refused(home: Path) -> None:
    """It would be clear text, where TLS was asked for."""
    runner = CliRunner()
    done = runner.invoke(command, ["--backend", f"maildir:{home}/{{login}}", "--stls"])
    assert done.exit_code == 2
    assert "--stls needs a --certificate" in done.output


def test_passwords_that_nobody_would_be_asked_for_are_refused() -> None:
    """They are those of the server behind, whatever stands in a file."""
    done = CliRunner().invoke(
        command, ["--backend", "imaps://imap.example.org", "--passwords", "x"]
    )
    assert done.exit_code == 2
    assert "--passwords is not asked: the server of --backend knows its users" in done.output


def test_what_is_no_back_end_is_said(tmp_path: Path) -> None:
    for url, said in (
        ("smtp://example.org", "smtp: is a destination, and here stands the back end"),
        ("nonsense:x", "no back end has such URLs"),
    ):
        with pytest.raises(ConfigError, match=said):
            table_of(url, "maildrop")


def test_the_table_of_a_url_is_what_a_file_would_say(tmp_path: Path) -> None:
    assert table_of("maildir:/home/{login}/Maildir", "maildrop") == {
        "use": "maildir",
        "path": "/home/{login}/Maildir",
    }


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"timeout": "9m"}, "timeout: expected \"10m\" or more"),
        ({"tls": "implicit"}, "certificate: expected one"),
        ({"key": "x.pem"}, "certificate: expected one"),
        ({"socket_mode": "rw"}, "socket_mode: expected an octal number"),
        ({"socket_mode": "0688"}, "socket_mode: expected an octal number"),
        ({"banner": "Grüße"}, "banner: expected at most 200 characters of ASCII"),
        ({"banner": "x" * 201}, "banner: expected at most 200"),
        ({"banner": "<a@b>"}, 'banner: .*no "<" among them'),
        ({"listen": ["nowhere"]}, "listen.*expected an address"),
        ({"auth": ["digest-md5"]}, "auth.*expected"),
        ({"auth": []}, "auth: expected a way to log in"),
        ({"tls": "none", "listen": ["*:110"], "auth": "user"}, "plaintext: nobody could log in"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_say_what_was_expected(table: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GatewayOptions.read(table)


def test_102_tls_from_the_first_octet_on_995_is_the_default_with_a_certificate() -> None:
    options = GatewayOptions.read({"certificate": "x.pem"})
    assert [str(each) for each in options.addresses] == ["*:995"]
    assert options.protection(995) == "implicit"
    assert options.protection(110) == "starttls"


def test_036_without_a_certificate_it_is_for_this_machine_alone() -> None:
    options = GatewayOptions.read({})
    assert [str(each) for each in options.addresses] == ["127.0.0.1:1110"]
    assert options.protection(1110) == "none"


def test_a_certificate_that_cannot_be_read_is_told_at_check(tmp_path: Path) -> None:
    options = GatewayOptions.read({"certificate": str(tmp_path / "none.pem")})
    ((name, text),) = options.look()
    assert name == "certificate"
    assert "none.pem" in text


def test_as_many_descriptors_as_it_may_need_are_asked_for() -> None:
    program = (
        "import resource\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "from mailflow_pop3.gateway import _raise_descriptors\n"
        "_raise_descriptors(200); print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)\n"
        "_raise_descriptors(10**9); print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)\n"
        "_raise_descriptors(1); print(*resource.getrlimit(resource.RLIMIT_NOFILE), hard)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    first, second, third = (line.split() for line in done.stdout.splitlines())
    assert first[0] == "1224"
    assert second == third
    assert second[0] == second[2]


@pytest.mark.interop("dovecot-imapd", "dovecot-pop3d")
@pytest.mark.parametrize("scheme", ["imap", "imaps", "pop3", "pop3s"])
def test_p3s_15_a_server_is_served_without_a_file_with_its_own_passwords(
    dovecot: Dovecot, tmp_path: Path, scheme: str
) -> None:
    (port,) = free_ports(1)
    there = getattr(dovecot, f"{scheme}_port")
    url = f"{scheme}://localhost:{there}?ca_file={dovecot.ca_file}"
    served = Served(tmp_path, "--backend", url, "--listen", f"127.0.0.1:{port}")
    try:
        served.connected(port).close()
        for password in ("wrong", "sesame"):
            client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE)
            client.user("ann")
            if password == "wrong":
                with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
                    client.pass_(password)
            else:
                client.pass_(password)
                assert client.retr(1)[1] == MAIL.splitlines()
            client.close()
        assert served.ended() == 0
    finally:
        served.close()
    assert "sesame" not in served.said()
