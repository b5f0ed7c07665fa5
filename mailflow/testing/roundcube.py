"""A real Roundcube from Debian's packages before a Dovecot, on loopback, on PHP's own server.

    with Dovecot(tmp_path, imap=True) as dovecot, Roundcube(tmp_path, dovecot) as webmail:
        dovecot.add_user("red", "secret")
        requests.get(webmail.url)

Rule of the file: everything lies in a directory of its own, and it ends what it started.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from mailflow.testing.dovecot import Dovecot

ROOT = "/var/lib/roundcube/public_html"

CONFIG = """\
<?php
$config = [];
$config['db_dsnw'] = 'sqlite:///{home}/rc.db?mode=0600';
$config['imap_host'] = ['127.0.0.1:{imap_port}'];
$config['smtp_host'] = '127.0.0.1:{smtp_port}';
$config['smtp_user'] = '';
$config['smtp_pass'] = '';
$config['log_dir'] = '{home}/logs/';
$config['temp_dir'] = '{home}/temp/';
$config['des_key'] = 'abcdefghijklmnopqrstuvwx';
$config['session_lifetime'] = 10;
{settings}
"""


def installed() -> bool:
    """Whether Debian's roundcube-core and php-cli are here."""
    return os.path.exists(f"{ROOT}/index.php") and os.path.exists("/usr/bin/php")


class Roundcube:
    """Runs from `__enter__` to `__exit__`; `settings` are PHP values by their names."""

    def __init__(
        self, dovecot: Dovecot, *, smtp_port: int = 9, settings: Mapping[str, str] = {}
    ) -> None:
        self.dovecot = dovecot
        self.smtp_port = smtp_port
        self.settings = {"skin": "'elastic'", "login_rate_limit": "0", **settings}
        self._home = tempfile.mkdtemp(prefix="rc")
        for name in ("conf", "logs", "temp"):
            os.mkdir(f"{self._home}/{name}")
        for name in ("defaults.inc.php", "mimetypes.php"):
            os.symlink(f"/etc/roundcube/{name}", f"{self._home}/conf/{name}")
        self.configure()

    def configure(self, **settings: str) -> None:
        """Set options; the next request sees them."""
        self.settings |= settings
        lines = "\n".join(f"$config['{name}'] = {value};" for name, value in self.settings.items())
        text = CONFIG.format(
            home=self._home,
            imap_port=self.dovecot.imap_port,
            smtp_port=self.smtp_port,
            settings=lines,
        )
        with open(f"{self._home}/conf/config.inc.php", "w") as file:
            file.write(text)

    def __enter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.port: int = port
        self.url = f"http://127.0.0.1:{port}/"
        with open(f"{self._home}/php.log", "wb") as log:
            self._process = subprocess.Popen(
                [
                    "php",
                    "-d",
                    "display_errors=0",
                    "-d",
                    "log_errors=1",
                    "-S",
                    f"127.0.0.1:{port}",
                    "-t",
                    ROOT,
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "PHP_CLI_SERVER_WORKERS": "4",
                    "ROUNDCUBE_CONFIG_DIR": f"{self._home}/conf",
                },
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("Roundcube does not begin")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
