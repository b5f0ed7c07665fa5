"""A real Cyrus IMAP 3.6 from Debian's packages, on loopback, in a directory of its own.

    with Cyrus(tmp_path) as cyrus:
        cyrus.add_user("red", "secret")
        cyrus.deliver("red", b"Subject: hello\r\n\r\nhello\r\n")
        imaplib.IMAP4("127.0.0.1", cyrus.imap_port)

Rule of the file: it works as root and as anybody else, from packages that were only
unpacked (tests/unpack-cyrus.sh), since Debian installs no two IMAP servers side by side.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mailflow.testing.daemon import Daemon
from mailflow.testing.maildirs import folder_name
from mailflow.testing.serving import free_ports
from mailflow.testing.tls import NAMES, Authority

if TYPE_CHECKING:
    from imaplib import IMAP4

UNPACKED = os.path.join(sys.prefix, "cyrus")
"""Where `make test` unpacks it."""

BINARY = os.path.join(UNPACKED, "usr/lib/cyrus/bin/imapd")

CONFIG = """\
configdirectory: {base}/conf
partition-default: {base}/mail
defaultpartition: default
cyrus_user: {user}
cyrus_group: {group}
servername: cyrus.example.org
admins: {admin}
proc_path: {base}/run/proc
mboxname_lockpath: {base}/run/lock
idlesocket: {base}/run/idle
lmtpsocket: {base}/run/lmtp
notifysocket: {base}/run/notify
unixhierarchysep: yes
altnamespace: {altnamespace}
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {base}/auth
tls_server_cert: {cert_file}
tls_server_key: {key_file}
conversations: no
munge8bit: no
failedloginpause: 0
delete_mode: immediate
autocreate_quota: 0
autocreate_inbox_folders: Archive|Drafts|Junk|Sent|Trash
xlist-Archive: Archive
xlist-Drafts: Drafts
xlist-Junk: Junk
xlist-Sent: Sent
xlist-Trash: Trash
{settings}
"""

SERVICES = """\
START {{
  recover cmd="{base}/bin/ctl_cyrusdb -C {base}/imapd.conf -r"
  idled cmd="{base}/bin/idled -C {base}/imapd.conf"
}}
SERVICES {{
  imap cmd="{base}/bin/imapd -C {base}/imapd.conf" listen="127.0.0.1:{imap_port}"
  imaps cmd="{base}/bin/imapd -s -C {base}/imapd.conf" listen="127.0.0.1:{imaps_port}"
}}
"""

ADMIN = "admin"


def installed() -> bool:
    """Whether `tests/unpack-cyrus.sh` has been here."""
    return os.path.exists(BINARY)


class Cyrus(Daemon):
    """Runs from `__enter__` to `__exit__`.

    `settings` is more of imapd.conf; `names` are the hosts that the certificate is for.
    With `prefixed` the folders of a user are called INBOX/Sent and so on, as Cyrus does
    it by default, else Sent. The log is next to empty: Cyrus knows syslog alone.
    """

    name = "Cyrus"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        settings: str = "",
        names: Sequence[str] = NAMES,
        prefixed: bool = True,
    ) -> None:
        super().__init__(directory)
        self.settings = settings
        self.prefixed = prefixed
        authority = Authority(self._base)
        self.ca_file = authority.ca_file
        self._certificate = authority.issue(names)
        self._passwords = {ADMIN: ADMIN}
        self._owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self.imap_port = self.imaps_port = 0

    def add_user(self, name: str, password: str) -> None:
        """A mailbox with its folders, or a new password for one."""
        self._passwords[name] = password
        with self._session(name) as session:
            session.noop()  # the first log-in makes them

    def folder(self, name: str) -> str:
        """How a folder of that name is called here: of "Sent", say, INBOX/Sent."""
        return f"INBOX/{name}" if self.prefixed and name != "INBOX" else name

    def deliver(self, user: str, *messages: bytes, folder: str = "INBOX") -> None:
        """Put messages into a folder, in this order; it is made if it is not there."""
        self.deliver_many(user, messages, folder=folder)

    def deliver_many(self, user: str, messages: Iterable[bytes], *, folder: str = "INBOX") -> None:
        """As `deliver`."""
        name = _quoted(self.folder(folder))
        with self._session(user) as session:
            if folder != "INBOX":
                session.create(name)  # a NO says that it is there
            for message in messages:
                octets = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                _sure(session.append(name, None, None, octets))

    def messages(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """What is in a folder now, oldest first; none where it is not there."""
        with self._session(user) as session:
            if session.select(_quoted(self.folder(folder)), readonly=True)[0] != "OK":
                return []
            _, answers = session.uid("FETCH", "1:*", "(BODY.PEEK[])")
            return [answer[1] for answer in answers if isinstance(answer, tuple)]

    def renumber(self, user: str, folder: str) -> None:
        """Give the folder a new UIDVALIDITY and its messages new UIDs: made anew, refilled.

        Raises ValueError for INBOX, which Cyrus deletes with every folder of the user.
        """
        if folder == "INBOX":
            raise ValueError("Cyrus makes no INBOX anew: renumber another folder")
        messages = self.messages(user, folder)
        name = _quoted(f"user/{user}/{folder}")
        with self._session(ADMIN) as session:
            _sure(session.setacl(name, ADMIN, "lrswipkxtecda"))
            _sure(session.delete(name))
            _sure(session.create(name))
        self.deliver_many(user, messages, folder=folder)

    def _prepare(self) -> None:
        """Copy what runs to where the user that it runs as can read it."""
        auth = _Auth(os.path.join(self._base, "auth"), self._passwords)
        self._afterwards.callback(auth.close)
        shutil.copytree(os.path.dirname(BINARY), f"{self._base}/bin")
        os.mkdir(f"{self._base}/lib")
        for pattern in ("usr/lib/*-linux-gnu", "lib/*-linux-gnu"):
            for directory in glob.glob(os.path.join(UNPACKED, pattern)):
                shutil.copytree(directory, f"{self._base}/lib", dirs_exist_ok=True)
        for name in ("conf/socket", "conf/proc", "conf/db", "conf/log", "mail", "run"):
            os.makedirs(f"{self._base}/{name}")
        if os.getuid() == 0:
            for name in ("conf", "mail", "run"):
                for path, _, _ in os.walk(f"{self._base}/{name}"):
                    os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
            os.chown(self._certificate.key_file, self._owner.pw_uid, self._owner.pw_gid)
        self._environment = {"LD_LIBRARY_PATH": f"{self._base}/lib", "PATH": os.defpath}
        if os.path.isdir(f"{self._base}/lib/sasl2"):
            self._environment["SASL_PATH"] = f"{self._base}/lib/sasl2"

    def _configure(self) -> Sequence[int]:
        import grp

        self.imap_port, self.imaps_port = free_ports(2)
        values = {
            "base": self._base,
            "user": self._owner.pw_name,
            "group": grp.getgrgid(self._owner.pw_gid).gr_name,
            "admin": ADMIN,
            "altnamespace": "no" if self.prefixed else "yes",
            "cert_file": self._certificate.cert_file,
            "key_file": self._certificate.key_file,
            "imap_port": self.imap_port,
            "imaps_port": self.imaps_port,
            "settings": self.settings,
        }
        for name, text in (("imapd.conf", CONFIG), ("cyrus.conf", SERVICES)):
            self._write(name, text.format_map(values))
        return [self.imap_port]

    def _command(self) -> Sequence[str]:
        base = self._base
        return [
            f"{base}/bin/master", "-D", "-C", f"{base}/imapd.conf",
            "-M", f"{base}/cyrus.conf", "-p", f"{base}/run/master.pid",
        ]  # fmt: skip

    @contextmanager
    def _session(self, user: str) -> Iterator[IMAP4]:
        from imaplib import IMAP4

        with IMAP4(self.host, self.imap_port, timeout=20) as session:
            session.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            words = f"\0{user}\0{self._passwords[user]}".encode()  # LOGIN has ASCII alone there
            session.authenticate("PLAIN", lambda challenge: words)
            yield session


class _Auth:
    """What Cyrus asks whether a password is right, in the protocol of saslauthd: four
    words with their lengths (user, password, service, realm), answered by "OK" or "NO"."""

    def __init__(self, path: str, passwords: dict[str, str]) -> None:
        self._passwords = passwords
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        os.chmod(path, 0o666)
        self._socket.listen(100)
        threading.Thread(target=self._serve, name="saslauthd", daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # which wakes accept
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(5)
                words = [_word(stream.read) for _ in range(4)]
                right = words[1] == self._passwords.get(words[0])
                connection.sendall(struct.pack("!H", 2) + (b"OK" if right else b"NO"))


def _word(read: Callable[[int], bytes]) -> str:
    return read(struct.unpack("!H", read(2))[0]).decode()


def _quoted(name: str) -> str:
    return f'"{folder_name(name)}"'


def _sure(answer: tuple[str, object]) -> None:
    """Raises RuntimeError for a NO, which here nobody expects."""
    if answer[0] != "OK":
        raise RuntimeError(f"Cyrus says {answer}")
