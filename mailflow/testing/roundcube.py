"""A real Roundcube 1.6 from Debian's packages before a Dovecot, on loopback.

    with Dovecot(tmp_path, imap=True) as dovecot, Roundcube(dovecot) as webmail:
        dovecot.add_user("red", "secret")
        requests.get(webmail.url)

Rule of the file: everything lies in a directory of its own, the system's Roundcube is never
touched, and a change of its options is seen by the next request.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Literal

from mailflow.testing.daemon import Daemon, listens
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import free_ports

ROOT = "/var/lib/roundcube/public_html"

SKINS = ("elastic", "larry", "classic")
"""Each draws pages of its own, and each is a package of its own."""

CONFIG = """\
<?php
$config = [];
$config['db_dsnw'] = 'sqlite:///{base}/rc.db?mode=0600';
$config['imap_host'] = ['127.0.0.1:{imap_port}'];
$config['smtp_host'] = '127.0.0.1:{smtp_port}';
$config['smtp_user'] = '';
$config['smtp_pass'] = '';
$config['log_dir'] = '{base}/logs/';
$config['temp_dir'] = '{base}/temp/';
$config['des_key'] = 'abcdefghijklmnopqrstuvwx';
$config['session_lifetime'] = 10;
{settings}
"""

LIGHTTPD = """\
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{root}"
server.errorlog = "{log}"
server.pid-file = "{base}/pid"
server.modules = ("mod_fastcgi")
server.max-keep-alive-requests = 100000
server.max-keep-alive-idle = 60
server.stream-response-body = 1
index-file.names = ("index.php")
mimetype.assign = (".css" => "text/css", ".js" => "text/javascript", ".png" => "image/png")
fastcgi.server = (".php" => ((
  "bin-path" => "{php}",
  "socket" => "{base}/php",
  "max-procs" => 1,
  "broken-scriptfilename" => "enable",
  "bin-environment" => (
    "PHP_FCGI_CHILDREN" => "4",
    "PHP_FCGI_MAX_REQUESTS" => "100000",
    "ROUNDCUBE_CONFIG_DIR" => "{base}/conf"
  )
)))
"""

Front = Literal["php", "lighttpd"]


def installed() -> bool:
    """Whether Debian's roundcube-core and php-cli are here."""
    return os.path.exists(f"{ROOT}/index.php") and os.path.exists("/usr/bin/php")


class Roundcube(Daemon):
    """Runs from `__enter__` to `__exit__`; `settings` are PHP values by the names of options.

    `front` is who speaks HTTP: "php", PHP's own server, which closes every connection after
    its answer, or "lighttpd", which keeps them open. `imap_port` is Dovecot's where it is not
    said, a proxy before it, say. Folders are shown where their user has subscribed to them.
    """

    name = "Roundcube"

    def __init__(
        self,
        dovecot: Dovecot,
        *,
        smtp_port: int = 9,
        imap_port: int = 0,
        settings: Mapping[str, str] = {},
        front: Front = "php",
    ) -> None:
        super().__init__(tempfile.mkdtemp(prefix="roundcube-", dir=dovecot.directory))
        self.dovecot = dovecot
        self.smtp_port = smtp_port
        self.settings = {"skin": "'elastic'", "login_rate_limit": "0", **settings}
        self._imap_port = imap_port
        self._front = front
        self.port = 0
        for name in ("conf", "logs", "temp"):
            os.mkdir(f"{self._base}/{name}")
        for name in ("defaults.inc.php", "mimetypes.php"):
            os.symlink(f"/etc/roundcube/{name}", f"{self._base}/conf/{name}")
        # what a test changes may have the size and the second of what was there before
        self._write("uncached", f"{self._base}/conf/*\n")

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def log(self) -> str:
        """What its front wrote so far, and what Roundcube itself did."""
        return super().log + "".join(self._read(f"logs/{name}") for name in self._logs())

    def stop(self) -> None:
        """End it, and the workers of PHP's own server, which outlive the first of them."""
        group = self._process.pid if self._process is not None else 0
        super().stop()
        with suppress(ProcessLookupError):
            if group:
                os.killpg(group, signal.SIGKILL)

    def configure(self, **settings: str) -> None:
        """Set options; the next request sees them."""
        self.settings = {**self.settings, **settings}
        lines = "\n".join(f"$config['{name}'] = {value};" for name, value in self.settings.items())
        text = CONFIG.format(
            base=self._base,
            imap_port=self._imap_port or self.dovecot.imap_port,
            smtp_port=self.smtp_port,
            settings=lines,
        )
        self._write("conf/config.inc.php", text)

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """Other options for a while."""
        before = self.settings
        self.configure(**settings)
        try:
            yield
        finally:
            self.settings = before
            self.configure()

    def expire(self) -> None:
        """End every session now, as its lifetime would."""
        with closing(sqlite3.connect(f"{self._base}/rc.db", timeout=20)) as base, base:
            base.execute("DELETE FROM session")

    def add_identity(self, user: str, name: str, address: str) -> None:
        """One more that mail can be from; its user has logged in before."""
        with closing(sqlite3.connect(f"{self._base}/rc.db", timeout=20)) as base, base:
            base.execute(
                "INSERT INTO identities (user_id, changed, name, email, organization, signature)"
                " SELECT user_id, datetime(), ?, ?, '', '' FROM users WHERE username = ?",
                (name, address, user),
            )

    def requests(self) -> list[str]:
        """The requests so far as "GET /?_task=mail", where PHP's own server is the front."""
        lines = (line.rpartition("]: ")[2] for line in super().log.splitlines() if "]: " in line)
        return [line for line in lines if line.startswith(("GET ", "POST "))]

    def _logs(self) -> Sequence[str]:
        return sorted(os.listdir(f"{self._base}/logs"))

    def _read(self, name: str) -> str:
        with open(f"{self._base}/{name}", errors="replace") as file:
            return file.read()

    def _answers(self, process: subprocess.Popen[bytes], *ports: int) -> bool:
        return listens(process, *ports)

    def _configure(self) -> Sequence[int]:
        self.configure()
        (self.port,) = free_ports(1)
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PHP_CLI_SERVER_WORKERS": "4",
            "ROUNDCUBE_CONFIG_DIR": f"{self._base}/conf",
        }
        if self._front == "lighttpd":
            php = " ".join(["/usr/bin/php-cgi8.2", *self._options()])
            self._write("lighttpd.conf", LIGHTTPD.format(
                port=self.port, root=ROOT, log=self._log, base=self._base, php=php,
            ))  # fmt: skip
        return [self.port]

    def _command(self) -> Sequence[str]:
        if self._front == "lighttpd":
            return ["/usr/sbin/lighttpd", "-D", "-f", f"{self._base}/lighttpd.conf"]
        return ["/usr/bin/php", *self._options(), "-S", f"{self.host}:{self.port}", "-t", ROOT]

    def _options(self) -> Sequence[str]:
        options = {
            "display_errors": "0", "log_errors": "1", "memory_limit": "512M",
            "opcache.enable_cli": "1", "opcache.blacklist_filename": f"{self._base}/uncached",
        }  # fmt: skip
        return [word for name, value in options.items() for word in ("-d", f"{name}={value}")]
