"""A real Dovecot 2.3 from Debian's package, on loopback, in a directory of its own.

    with Dovecot(tmp_path) as dovecot:
        dovecot.add_user("red", "secret")
        dovecot.deliver("red", b"Subject: hello\r\n\r\nhello\r\n")
        poplib.POP3("127.0.0.1", dovecot.pop3_port)

Rule of the file: it works as root and as anybody else.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection, Iterable, Sequence

from mailflow.testing.daemon import Daemon
from mailflow.testing.maildirs import Maildirs
from mailflow.testing.serving import free_ports
from mailflow.testing.tls import NAMES, Authority, Certificate

BINARY = "/usr/sbin/dovecot"

CONFIG = """\
base_dir = {base}/run
state_dir = {base}/state
log_path = {log}
protocols = {protocols}
listen = 127.0.0.1
default_internal_user = {internal_user}
default_internal_group = {internal_group}
default_login_user = {login_user}
first_valid_uid = 0
first_valid_gid = 0
mail_uid = {uid}
mail_gid = {gid}
ssl = yes
ssl_cert = <{cert_file}
ssl_key = <{key_file}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
mail_location = maildir:~/Maildir
mail_max_userip_connections = 1000
mailbox_idle_check_interval = 1s
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {base}/users/%u
}}
userdb {{
  driver = passwd-file
  args = {base}/users/%u
}}
namespace inbox {{
  inbox = yes
{folders}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service pop3-login {{
  chroot = {login_chroot}
  service_count = 0
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = {pop3s_port}
    ssl = yes
  }}
}}
service imap-login {{
  chroot = {login_chroot}
  service_count = 0
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
}}
{settings}
"""


BY_TOKEN = """
auth_mechanisms = plain login oauthbearer xoauth2
passdb {{
  driver = oauth2
  mechanisms = oauthbearer xoauth2
  args = {base}/tokens.conf
}}
"""

TOKENS = """\
introspection_mode = post
introspection_url = {url}
username_attribute = username
active_attribute = active
active_value = true
"""

SPECIAL = ("Archive", "Drafts", "Junk", "Sent", "Trash")
"""The folders that everybody has where IMAP is open, each marked with what it is for."""

CAPABILITIES = (
    "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE SORT SORT=DISPLAY THREAD=REFERENCES "
    "THREAD=REFS THREAD=ORDEREDSUBJECT MULTIAPPEND URL-PARTIAL CATENATE UNSELECT CHILDREN "
    "NAMESPACE UIDPLUS LIST-EXTENDED I18NLEVEL=1 CONDSTORE QRESYNC ESEARCH ESORT SEARCHRES "
    "WITHIN CONTEXT=SEARCH LIST-STATUS BINARY MOVE SNIPPET=FUZZY PREVIEW=FUZZY PREVIEW "
    "SPECIAL-USE STATUS=SIZE SAVEDATE LITERAL+ NOTIFY"
)
"""What Debian's Dovecot 2.3 offers by itself."""


def installed() -> bool:
    """Whether Debian's dovecot-pop3d is here."""
    return os.path.exists(BINARY)


class Dovecot(Daemon):
    """Runs from `__enter__` to `__exit__`.

    `settings` is more of dovecot.conf; `names` are the hosts that the certificate
    is for; `imap` opens IMAP as well, with the folders of SPECIAL. `without` names
    capabilities that it keeps to itself, such as "UIDPLUS"; with a `certificate` of somebody
    else's, `ca_file` says nothing. Access tokens are good, too, where `introspection` is the
    URL at which their provider says whose they are (RFC 7662; see OAuth2Server).
    """

    name = "Dovecot"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        imap: bool = False,
        settings: str = "",
        names: Sequence[str] = NAMES,
        without: Collection[str] = (),
        certificate: Certificate | None = None,
        introspection: str = "",
    ) -> None:
        super().__init__(directory)
        self.imap = imap
        self.settings = settings + (_capabilities(without) if without else "")
        self._introspection = introspection
        os.mkdir(os.path.join(self._base, "users"))
        authority = Authority(self._base)
        self.ca_file = authority.ca_file
        self._certificate = certificate or authority.issue(names)
        self.mail = Maildirs(os.path.join(self._base, "home"))
        self.pop3_port = self.pop3s_port = self.imap_port = self.imaps_port = 0

    def add_user(self, name: str, password: str) -> None:
        """A mailbox, or (within a second) a new password for one."""
        home = self.mail.add(name)
        self._write(f"users/{name}", f"{name}:{password}::::{home}::\n")

    def maildir(self, user: str, folder: str = "INBOX") -> str:
        """Where the mail of `user` lies."""
        return self.mail.path(user, folder)

    def folder(self, name: str) -> str:
        """How a folder is called here: of "Work/2026", say, Work.2026."""
        return name.replace("/", ".")

    def deliver(self, user: str, *messages: bytes, folder: str = "INBOX") -> None:
        """Put messages into a folder, in this order, unflushed: thousands a second.

        The folder is made if it is not there; "/" parts it from the one above.
        """
        self.mail.deliver(user, messages, folder=folder)

    def deliver_many(self, user: str, messages: Iterable[bytes], *, folder: str = "INBOX") -> None:
        """As `deliver`."""
        self.mail.deliver(user, messages, folder=folder)

    def messages(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """What is in a folder now, oldest first, as it lies on the disk."""
        return self.mail.messages(user, folder)

    def renumber(self, user: str, folder: str = "INBOX") -> None:
        """Give the folder a new UIDVALIDITY and its messages new UIDs; nobody may be in it."""
        path = self.maildir(user, folder)
        for name in os.listdir(path):
            if name.startswith(("dovecot-uidlist", "dovecot.index")):
                os.unlink(os.path.join(path, name))

    def _configure(self) -> Sequence[int]:
        root = os.getuid() == 0
        me = pwd.getpwuid(os.getuid()).pw_name
        ports = free_ports(4)
        self.pop3_port, self.pop3s_port, self.imap_port, self.imaps_port = ports
        text = CONFIG.format(
            base=self._base,
            log=self._log,
            protocols="pop3 imap" if self.imap else "pop3",
            folders="\n".join(map(_special, SPECIAL)) if self.imap else "",
            internal_user="dovecot" if root else me,
            internal_group="dovecot" if root else _group_name(os.getgid()),
            uid=self.mail.owner[0],
            gid=self.mail.owner[1],
            login_user="dovenull" if root else me,
            login_chroot="login" if root else "",
            cert_file=self._certificate.cert_file,
            key_file=self._certificate.key_file,
            pop3_port=self.pop3_port,
            pop3s_port=self.pop3s_port,
            imap_port=self.imap_port,
            imaps_port=self.imaps_port,
            settings=self.settings,
        )
        if self._introspection:
            self._write("tokens.conf", TOKENS.format(url=self._introspection))
            text += BY_TOKEN.format(base=self._base)
        self._write("dovecot.conf", text)
        return [self.pop3_port, *([self.imap_port] if self.imap else [])]

    def _command(self) -> Sequence[str]:
        return [BINARY, "-F", "-c", os.path.join(self._base, "dovecot.conf")]


def _special(name: str) -> str:
    return f"  mailbox {name} {{\n    special_use = \\{name}\n    auto = create\n  }}"


def _capabilities(without: Collection[str]) -> str:
    if unknown := set(without) - set(CAPABILITIES.split()):
        raise ValueError(f"Dovecot offers no {' '.join(sorted(unknown))}")
    left = " ".join(name for name in CAPABILITIES.split() if name not in without)
    return f"\nimap_capability = {left}\n"


def _group_name(gid: int) -> str:
    import grp

    return grp.getgrgid(gid).gr_name
