"""A real Postfix from Debian's package, on loopback, in a directory of its own.

    with Postfix(tmp_path, ["ann@example.org"], users={"red": "secret"}) as postfix:
        ...                                  # talk to postfix.host, postfix.port
        postfix.messages("ann@example.org", 1)

Rule of the file: needs root, listens on free ports only, and ends the processes
that it started and no others; the system's Postfix is never touched.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from mailflow.testing.dovecot import Dovecot
from mailflow.testing.tls import NAMES, Authority

BINARY = "/usr/sbin/postfix"
DAEMONS = "/usr/lib/postfix/sbin"

MAIN = """\
compatibility_level = 3.6
queue_directory = {base}/spool
data_directory = {base}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {base}/postfix.log
maillog_file_prefixes = {base}
myhostname = mx.example.org
mydestination =
mynetworks = 192.0.2.1
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
virtual_transport = virtual
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = texthash:{base}/mailboxes
virtual_mailbox_base = {base}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_mailbox_limit = 0
message_size_limit = {size_limit}
default_transport = error:5.4.6 nothing leaves this machine
relay_transport = error:5.4.6 nothing leaves this machine
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {cert_file}
smtpd_tls_key_file = {key_file}
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {auth_socket}
smtpd_sasl_auth_enable = {auth}
smtpd_peername_lookup = no
disable_dns_lookups = yes
biff = no
local_header_rewrite_clients =
{settings}
"""

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{submission_port} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{smtps_port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
{services}
"""

QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
    "private", "saved", "trace",
)  # fmt: skip


def installed() -> bool:
    """Whether Debian's postfix is here."""
    return os.path.exists(BINARY)


class Postfix:
    """Runs from `__enter__` to `__exit__`.

    `addresses` have mailboxes; others of their domains are refused. `port` takes mail
    for them, and with STARTTLS and a login for anybody; `submission_port` wants both,
    `smtps_port` is TLS from the first octet. `users` (name: password) start a Dovecot
    to check them. `settings` is more of main.cf, `services` of master.cf.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        addresses: Sequence[str],
        *,
        users: Mapping[str, str] | None = None,
        names: Sequence[str] = NAMES,
        size_limit: int = 50_000_000,
        settings: str = "",
        services: str = "",
        introspection: str = "",
    ) -> None:
        self.directory = os.path.abspath(directory)
        self.addresses = tuple(addresses)
        self._introspection = introspection
        self.users = dict(users or {})
        self.size_limit = size_limit
        self.settings = settings
        self.services = services
        self._base = tempfile.mkdtemp(prefix="postfix-")  # a test's own is closed to its users
        os.chmod(self._base, 0o755)
        os.mkdir(os.path.join(self._base, "tls"))
        authority = Authority(os.path.join(self._base, "tls"))
        self.ca_file = authority.ca_file
        self._certificate = authority.issue(names)
        self._auth_socket = os.path.join(self._base, "auth")
        self._dovecot: Dovecot | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.submission_port = self.smtps_port = 0

    def __enter__(self) -> Self:
        try:
            if self.users:
                self._start_auth()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._dovecot:
            self._dovecot.__exit__(kind, error, trace)
        os.makedirs(self.directory, exist_ok=True)
        with open(os.path.join(self.directory, "postfix.log"), "w") as file:
            file.write(self.log)
        shutil.rmtree(self._base, ignore_errors=True)

    @property
    def log(self) -> str:
        """What Postfix wrote so far."""
        try:
            with open(os.path.join(self._base, "postfix.log"), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def start(self) -> None:
        """Start, and wait until it greets. Raises RuntimeError with its log."""
        for _ in range(3):  # another program may take a free port before Postfix does
            self._configure()
            self._process = subprocess.Popen(
                [f"{DAEMONS}/master", "-c", f"{self._base}/etc", "-d"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # on SIGTERM the master signals its process group
            )
            if self._greets():
                return
            self.stop()
        raise RuntimeError(f"Postfix does not start:\n{self.log}")

    def stop(self) -> None:
        """End it; start() may follow, on other ports, with the same mail."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a session of our own, see start()
            process.wait()

    def maildir(self, address: str) -> str:
        """Where the mail to `address` lies."""
        return os.path.join(self._base, "mail", address)

    def messages(self, address: str, count: int = 0, timeout: float = 20.0) -> list[bytes]:
        """What arrived, oldest first, as it lies on the disk; waits until there are `count`.

        Raises TimeoutError with the log if they do not come.
        """
        folder = os.path.join(self.maildir(address), "new")

        def paths() -> list[str]:
            names = os.listdir(folder) if os.path.isdir(folder) else []
            return [os.path.join(folder, name) for name in names]

        self._await(lambda: len(paths()) >= count, f"no {count} mails to {address}", timeout)
        found = []
        for path in sorted(paths(), key=lambda path: os.stat(path).st_mtime_ns):
            with open(path, "rb") as file:
                found.append(file.read())
        return found

    def flush(self) -> None:
        """Try what was deferred again, now: the words of `postqueue -f` to the queue manager."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(os.path.join(self._base, "spool", "public", "qmgr"))
            sock.sendall(b"FADI")

    def settle(self, timeout: float = 20.0) -> None:
        """Wait until the queue is empty: whatever was taken is delivered or returned.

        Raises TimeoutError with the log.
        """
        queues = [os.path.join(self._base, "spool", name) for name in ("incoming", "active")]
        self._await(lambda: not any(map(os.listdir, queues)), "the queue is not empty", timeout)

    def _await(self, true: Callable[[], bool], failure: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure} in {timeout} s:\n{self.log}")
            time.sleep(0.02)  # nothing tells when a file comes or goes

    def _start_auth(self) -> None:
        listener = (
            f"service auth {{\n  unix_listener {self._auth_socket} {{\n    mode = 0666\n  }}\n}}\n"
        )
        self._dovecot = Dovecot(
            os.path.join(self.directory, "auth"),
            settings=listener,
            introspection=self._introspection,
        )
        self._dovecot.__enter__()
        for name, password in self.users.items():
            self._dovecot.add_user(name, password)

    def _configure(self) -> None:
        """Write main.cf, master.cf with ports that are free now, and the queue."""
        owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        self.port, self.submission_port, self.smtps_port = _free_ports(3)
        self._directory("etc", 0, 0, 0o755)
        self._directory("spool", 0, 0, 0o755)
        self._directory("spool/pid", 0, 0, 0o755)
        self._directory("data", owner.pw_uid, owner.pw_gid, 0o700)
        self._directory("mail", nobody.pw_uid, nobody.pw_gid, 0o755)
        for name in QUEUES:
            self._directory(f"spool/{name}", owner.pw_uid, 0, 0o700)
        postdrop = grp.getgrnam("postdrop").gr_gid
        self._directory("spool/public", owner.pw_uid, postdrop, 0o710)
        self._directory("spool/maildrop", owner.pw_uid, postdrop, 0o1730)
        self._write("mailboxes", "".join(f"{each} {each}/\n" for each in self.addresses))
        self._write("etc/main.cf", MAIN.format(
            base=self._base,
            daemons=DAEMONS,
            domains=" ".join({each.rpartition("@")[2] for each in self.addresses}),
            uid=nobody.pw_uid,
            gid=nobody.pw_gid,
            size_limit=self.size_limit,
            cert_file=self._certificate.cert_file,
            key_file=self._certificate.key_file,
            auth="yes" if self.users else "no",
            auth_socket=self._auth_socket,
            settings=self.settings,
        ))  # fmt: skip
        self._write("etc/master.cf", MASTER.format(
            port=self.port, submission_port=self.submission_port, smtps_port=self.smtps_port,
            services=self.services,
        ))  # fmt: skip

    def _directory(self, name: str, uid: int, gid: int, mode: int) -> None:
        path = os.path.join(self._base, name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, mode)

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self._base, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o644)

    def _greets(self) -> bool:
        """Wait for the first port; False as soon as the process has ended."""
        assert self._process is not None
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection((self.host, self.port), 5) as sock:
                    sock.settimeout(5)
                    greets = sock.recv(4) == b"220 "
                    sock.sendall(b"QUIT\r\n")
                    return greets
            except OSError:
                time.sleep(0.02)  # nothing tells when a port begins to listen
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
