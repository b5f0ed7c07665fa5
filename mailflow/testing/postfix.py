"""A real Postfix from Debian's package, on loopback, in a directory of its own.

    with Postfix(tmp_path, ["ann@example.org"], users={"red": "secret"}) as postfix:
        ...                                  # talk to postfix.host, postfix.port
        postfix.messages("ann@example.org", 1)

Rule of the file: needs root; the system's Postfix is never touched.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from mailflow.testing.daemon import Daemon
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.serving import free_ports
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
maillog_file = {log}
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


class Postfix(Daemon):
    """Runs from `__enter__` to `__exit__`.

    `addresses` have mailboxes; others of their domains are refused. `port` takes mail
    for them, and with STARTTLS and a login for anybody; `submission_port` wants both,
    `smtps_port` is TLS from the first octet. `users` (name: password) start a Dovecot
    to check them. `settings` is more of main.cf, `services` of master.cf.
    """

    name = "Postfix"

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
        super().__init__(directory)
        self._kept = self._log  # in the end: until then it lies where Postfix's users can write
        self._log = os.path.join(self._base, "postfix.log")
        self.addresses = tuple(addresses)
        self._introspection = introspection
        self.users = dict(users or {})
        self.size_limit = size_limit
        self.settings = settings
        self.services = services
        os.mkdir(os.path.join(self._base, "tls"))
        authority = Authority(os.path.join(self._base, "tls"))
        self.ca_file = authority.ca_file
        self._certificate = authority.issue(names)
        self._auth_socket = os.path.join(self._base, "auth")
        self.port = self.submission_port = self.smtps_port = 0

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

    def _prepare(self) -> None:
        self._afterwards.callback(self._keep_log)
        if self.users:
            self._start_auth()

    def _keep_log(self) -> None:
        with open(self._kept, "w") as file:
            file.write(self.log)

    def _start_auth(self) -> None:
        listener = (
            f"service auth {{\n  unix_listener {self._auth_socket} {{\n    mode = 0666\n  }}\n}}\n"
        )
        dovecot = Dovecot(
            os.path.join(self.directory, "auth"),
            settings=listener,
            introspection=self._introspection,
        )
        self._afterwards.enter_context(dovecot)
        for name, password in self.users.items():
            dovecot.add_user(name, password)

    def _configure(self) -> Sequence[int]:
        owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        self.port, self.submission_port, self.smtps_port = free_ports(3)
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
            log=self._log,
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
        return [self.port]

    def _command(self) -> Sequence[str]:
        return [f"{DAEMONS}/master", "-c", f"{self._base}/etc", "-d"]

    def _directory(self, name: str, uid: int, gid: int, mode: int) -> None:
        path = os.path.join(self._base, name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
