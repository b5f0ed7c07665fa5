"""A real SqWebMail 6 from Debian's packages, on loopback, over Maildirs of its own.

    with SqWebMail(tmp_path) as webmail:
        webmail.add_user("red", "secret")
        webmail.mail.deliver("red", [b"Subject: hello\\n\\nhello\\n"])
        requests.get(webmail.url, params={"noframes": "1"})

Rule of the file: needs root. Where its sockets and its settings lie is compiled in, so each
runs where /run/courier, /etc/courier and its cache are directories of its own (a mount
namespace): as many as one likes may run, and the system's are never touched.
"""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from mailflow.testing.daemon import PATIENCE, Daemon, end, listens
from mailflow.testing.maildirs import Maildirs
from mailflow.testing.serving import free_ports

BINARY = "/usr/lib/courier/courier/sqwebmaild"

AUTHDAEMON = "/usr/lib/courier/courier-authlib/authdaemond"

SOCKETS = {"authdaemond": "authdaemon/socket", "sqwebmaild": "sqwebmail.sock"}
"""Where each of the two listens, in /run/courier."""

AUTHDAEMONRC = """\
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=2
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
"""

SCRIPT = """\
set -eu
# Disks of other tests are let go of: they could not be unmounted for good elsewhere.
grep '^/dev/loop' /proc/mounts | cut -d ' ' -f 2 | xargs -r umount --lazy
mkdir -p /run/courier
mount --bind {base}/etc /etc/courier
mount --bind {base}/run /run/courier
mount --bind {base}/cache /var/cache/sqwebmail
exec /usr/sbin/lighttpd -D -f {base}/lighttpd.conf
"""

LIGHTTPD = """\
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{base}/http"
server.errorlog = "{log}"
server.pid-file = "{base}/pid"
server.modules = ("mod_alias", "mod_cgi")
alias.url = (
  "/cgi-bin/sqwebmail" => "/usr/lib/cgi-bin/sqwebmail",
  "/sqwebmail/" => "/usr/share/sqwebmail/"
)
$HTTP["url"] =~ "^/cgi-bin/" {{ cgi.assign = ("" => "") }}
mimetype.assign = (".css" => "text/css", ".png" => "image/png")
"""

SENDIT = """\
#!/usr/bin/env -S LC_ALL=C /usr/bin/perl
# $1 is the envelope sender; the recipients are those of To, Cc and Bcc.
use strict;
use IO::Socket::INET;
my ($head, $body) = split /\\n\\n/, do {{ local $/; <STDIN> }}, 2;
$head =~ s/\\n[ \\t]+/ /g;
my @to = map {{ /^(?:To|Cc|Bcc):/i ? /([^\\s<>,"]+@[^\\s<>,"]+)/g : () }} split /\\n/, $head;
$head =~ s/^Bcc:.*\\n//gim;
(my $data = "$head\\n\\n$body") =~ s/\\r?\\n/\\r\\n/g;
$data =~ s/^\\./../gm;
my $to = IO::Socket::INET->new("127.0.0.1:{port}") or do {{ print "no server"; exit 75 }};
my $say = sub {{
    print $to $_[0] if @_;
    my $answer;
    do {{ $answer = <$to> }} while $answer =~ /^\\d+-/;
    if ($answer !~ /^[23]/) {{ print $answer; exit 75 }}
}};
$say->();
$say->($_) for "EHLO localhost\\r\\n", "MAIL FROM:<$ARGV[0]>\\r\\n",
    (map {{ "RCPT TO:<$_>\\r\\n" }} @to), "DATA\\r\\n", "$data\\r\\n.\\r\\n", "QUIT\\r\\n";
"""
"""In the place of the script that hands mail to sendmail: a client of one SMTP server."""


def installed() -> bool:
    """Whether Debian's sqwebmail, courier-authlib-userdb and lighttpd are here."""
    return all(map(os.path.exists, (BINARY, "/usr/sbin/makeuserdb", "/usr/sbin/lighttpd")))


class SqWebMail(Daemon):
    """Runs from `__enter__` to `__exit__`; `settings` are environment variables of its daemon,
    such as SQWEBMAIL_TIMEOUTSOFT, the seconds after which an idle session ends.

    Three processes: lighttpd, which speaks HTTP, `sqwebmaild` behind it, and `authdaemond`, which
    knows the passwords; `down` and `up` end and start one of the latter two.
    """

    name = "SqWebMail"

    def __init__(
        self, directory: str | os.PathLike[str], *, settings: Mapping[str, str] = {}
    ) -> None:
        super().__init__(directory)
        self.settings = dict(settings)
        self.mail = Maildirs(os.path.join(self._base, "home"))
        self.port = 0
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._users: dict[str, str] = {}
        for name in ("http", "home", "etc", "cache"):
            os.mkdir(f"{self._base}/{name}")
        os.chown(f"{self._base}/cache", *self.mail.owner)
        self._run_directories()
        self._write("etc/calendarmode", "local\n")
        self._write("etc/authdaemonrc", AUTHDAEMONRC)
        self._write_users()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/cgi-bin/sqwebmail"

    def add_user(self, name: str, password: str) -> None:
        """A mailbox, or a new password for one."""
        home = self.mail.add(name)
        uid, gid = self.mail.owner
        made = self._inside("userdbpw", "-md5", octets=f"{password}\n".encode()).decode().strip()
        self._users[name] = f"uid={uid}|gid={gid}|home={home}|mail={home}/Maildir|systempw={made}"
        self._write_users()
        self._inside("makeuserdb")

    def sends_to(self, smtp_port: int) -> None:
        """What it sends from now on goes to this server, and not to the system's sendmail."""
        script = f"{self._base}/sendit"
        self._write("sendit", SENDIT.format(port=smtp_port))
        os.chmod(script, 0o755)
        self._inside("mount", "--bind", script, "/usr/lib/courier/sqwebmail/sendit.sh")

    def down(self, part: str) -> None:
        """End "authdaemond" or "sqwebmaild", with what it started."""
        if (process := self._parts.pop(part, None)) is None:
            return
        end(process)
        with suppress(ProcessLookupError):  # those whom it has started listen, too
            os.killpg(process.pid, signal.SIGKILL)
        _until(lambda: not _takes(self._socket(part)), f"{part} does not end")

    def up(self, part: str) -> None:
        """Start one of them where it does not run, and wait until it listens."""
        if part in self._parts:
            return
        command = AUTHDAEMON if part == "authdaemond" else BINARY
        with open(self._log, "ab") as log:
            process = self._parts[part] = subprocess.Popen(
                [*self._enter(), command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._settings(), start_new_session=True,
            )  # fmt: skip
        _until(
            lambda: _takes(self._socket(part)) or process.poll() is not None,
            f"{part} does not start",
        )
        if process.poll() is not None:
            raise RuntimeError(f"{part} has ended:\n{self.log}")

    def _socket(self, part: str) -> str:
        return f"{self._base}/run/{SOCKETS[part]}"

    def stop(self) -> None:
        for part in list(self._parts):
            self.down(part)
        super().stop()

    def _write_users(self) -> None:
        lines = (f"{name}\t{fields}\n" for name, fields in self._users.items())
        self._write("etc/userdb", "".join(lines))
        os.chmod(f"{self._base}/etc/userdb", 0o600)  # makeuserdb wants it so

    def _run_directories(self) -> None:
        """As tmpfiles.d of the packages has them."""
        courier = pwd.getpwnam("courier")
        for name, mode in {
            "": 0o775, "authdaemon": 0o750, "calendar": 0o755, "calendar/private": 0o770,
            "calendar/localcache": 0o700,
        }.items():  # fmt: skip
            path = os.path.join(self._base, "run", name)
            os.mkdir(path)
            os.chown(path, courier.pw_uid if name else 0, courier.pw_gid)
            os.chmod(path, mode)

    def _settings(self) -> Mapping[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "MAILDIRPATH": "Maildir", "SQWEBMAIL_PREFORK": "2", **self.settings,
        }  # fmt: skip

    def _answers(self, process: subprocess.Popen[bytes], *ports: int) -> bool:
        if not listens(process, *ports):
            return False
        for part in SOCKETS:
            self.up(part)
        return True

    def _configure(self) -> Sequence[int]:
        (self.port,) = free_ports(1)
        self._write("start", SCRIPT.format(base=self._base))
        self._write(
            "lighttpd.conf", LIGHTTPD.format(port=self.port, base=self._base, log=self._log)
        )
        return [self.port]

    def _command(self) -> Sequence[str]:
        return ["unshare", "--mount", "sh", f"{self._base}/start"]

    def _enter(self) -> Sequence[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--root", "--"]

    def _inside(self, *command: str, octets: bytes = b"") -> bytes:
        """What a program prints that sees these settings."""
        return subprocess.run(
            [*self._enter(), *command], input=octets, env=self._settings(),
            capture_output=True, check=True, timeout=PATIENCE,
        ).stdout  # fmt: skip


def _takes(path: str) -> bool:
    """Whether somebody listens at this socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except OSError:
            return False
        return True


def _until(true: Callable[[], bool], failure: str) -> None:
    """Wait for it. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{failure} in {PATIENCE} s")
        time.sleep(0.02)  # nothing tells when a socket begins or ends to listen
