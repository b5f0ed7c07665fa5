"""The servers of example.org on loopback, so that a pipeline of the documents can be run.

    with ExampleOrg(tmp_path / "org") as org:
        org.furnish(home, text)                # the secrets and members that it names
        (home / "red.toml").write_text(org.rewrite(text))
        org.pop3.deliver("red", post("red@example.org"))

Rule of the file: of a pipeline nothing is changed but where its servers are. What
`rewrite` puts in the place of `host = "..."` is all of it:

    pop.*, mail.*   our POP3 server, with TLS from the first octet
    imap.*          a Dovecot, with TLS from the first octet, started when it is asked for
    smtp.*          our SMTP sink, with STARTTLS, for whoever logs in
    localhost       our SMTP sink, in clear (its `port` is replaced)

In the place of a `url` at webmail.* is our test bed, in clear, with its own `site`; it is started
when it is asked for, and ann has an account there; it is proxy.example.org, too, for requests to
itself. A `url` at 127.0.0.1 is that of a test bed that the reader has started. Where a [[serve]]
listens there is 127.0.0.1 with a free port, `here[port]`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mailflow.oauth2.store import Store, Tokens
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.oauth2 import OAuth2Server, Token
from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.serving import free_ports
from mailflow.testing.smtp import SmtpSink
from mailflow.testing.tls import Authority

if TYPE_CHECKING:
    from mailflow.testing.webmail import TestBed

PASSWORD = "correct horse"  # of everybody at example.org
USERS = ("ann", "lists", "office", "red", "treasurer")
MEMBERS = ("ann@example.org", "ben@example.com", "cleo@example.net")

_HOST = re.compile(r'^(?P<indent> *)host *= *"(?P<host>[^"]*)".*$', re.MULTILINE)
_PORT = re.compile(r"^ *port *= *[0-9]+.*\n", re.MULTILINE)

_WEBMAIL = re.compile(r'^(?P<indent> *)url *= *"https?://webmail\.[^"]*".*$', re.MULTILINE)
_TESTBED = re.compile(r'(?<=")http://127\.0\.0\.1:(?P<port>[0-9]+)/(?=")')
_PROXY = re.compile(r"proxy\.example\.org:\d+")
_SITE = re.compile(r'^( *site *= *)"[^"]*"', re.MULTILINE)
_LISTEN = re.compile(r"^ *listen *=.*$", re.MULTILINE)
_ADDRESS = re.compile(r'"[^"/:]+:(?P<port>[0-9]+)"')

WEBMAIL_FOLDERS = ("INBOX", "Lists", "Sent", "Trash")

IMAP_SETTINGS = """
auth_username_format = %n
namespace inbox {
  separator = /
}
"""
"""Whoever logs in may say his address, and folders are parted as most people write them."""

BODY = b"Gr\xc3\xbc\xc3\x9fe,\r\n.\r\n..and dots, and no end of line"


def post(to: str, subject: str = "Hello", sender: str = "Ann <ann@example.org>") -> bytes:
    """A message with 8-bit text and lines of dots, from a member."""
    identifier = f"<{subject.replace(' ', '.')}.{to}>"
    head = (
        f"From: {sender}\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: {identifier}\r\n"
        "Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return head.encode() + BODY


class ExampleOrg:
    """Runs from `__enter__` to `__exit__`; keys and certificates lie in `directory`."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        os.makedirs(directory, exist_ok=True)
        self._directory = os.fspath(directory)
        self._imap: Dovecot | None = None
        self._oauth2: OAuth2Server | None = None
        self._webmail: TestBed | None = None
        self._testbed: TestBed | None = None
        authority = Authority(directory)
        self.certificate = certificate = authority.issue(days=25)
        users = dict.fromkeys(USERS, PASSWORD)
        self.ca_file = authority.ca_file
        self.pop3 = Pop3Server(users, tls=certificate, implicit=True)
        self.smtp = SmtpSink(
            users=users,
            mechanisms=("PLAIN", "LOGIN", "XOAUTH2"),
            tls=certificate.server_context(),
        )
        self.relay = SmtpSink()
        self.here: dict[int, int] = {}

    def __enter__(self) -> Self:
        for server in (self.pop3, self.smtp, self.relay):
            server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self.pop3, self.smtp, self.relay):
            server.__exit__(kind, error, trace)
        for each in (self._imap, self._oauth2, self._webmail, self._testbed):
            if each is not None:
                each.__exit__(kind, error, trace)

    @property
    def imap(self) -> Dovecot:
        """The IMAP server, where everybody has a mailbox. It needs Debian's dovecot-imapd."""
        if self._imap is None:
            self._imap = Dovecot(
                os.path.join(self._directory, "imap"),
                imap=True, settings=IMAP_SETTINGS, certificate=self.certificate,
                introspection=self.oauth2.introspection,
            )  # fmt: skip
            self._imap.__enter__()
            for user in USERS:
                self._imap.add_user(user, PASSWORD)
        return self._imap

    @property
    def webmail(self) -> TestBed:
        """The webmail, where one user at a time has an account."""
        if self._webmail is None:
            from mailflow.testing.webmail import TestBed

            self._webmail = TestBed(WEBMAIL_FOLDERS, user="ann", password=PASSWORD)
            self._webmail.__enter__()
        return self._webmail

    def testbed(self, url: str) -> TestBed:
        """The one that a reader has started there, as he is told to."""
        if self._testbed is None:
            from mailflow.testing.webmail import TestBed

            self._testbed = TestBed(listen=[url.split("/")[2]])
            self._testbed.__enter__()
        return self._testbed

    @property
    def oauth2(self) -> OAuth2Server:
        """The one provider of tokens, whatever name a page gives it."""
        if self._oauth2 is None:
            self._oauth2 = OAuth2Server()
            self._oauth2.__enter__()
        return self._oauth2

    def log_in(self, home: str | os.PathLike[str], provider: str, user: str, client: str) -> None:
        """What `mailflow auth login` leaves in `home`: a token that IMAP and SMTP take."""
        token = f"token-of-{user}"
        name = user.partition("@")[0]
        self.oauth2.tokens.append(Token(client, name, "mail", token, "r", time.time() + 3600))
        self.smtp.users[user] = token
        store = Store(provider, user)
        folder = os.path.join(os.fspath(home), ".local", "state", "mailflow", "oauth2")
        os.makedirs(folder, 0o700, exist_ok=True)
        store.path = os.path.join(folder, os.path.basename(store.path))
        now = time.time()
        store.save(Tokens(client, token, now, now + 3600, "r", consented=now, used=now))

    def rewrite(self, text: str) -> str:
        """A pipeline with its servers here. Raises ValueError on a host that is none of ours."""
        text = _LISTEN.sub(lambda line: _ADDRESS.sub(self._listening, line[0]), text)
        text = _TESTBED.sub(lambda url: f"http://127.0.0.1:{self.port(int(url['port']))}/", text)
        if _WEBMAIL.search(text):
            here = f'url = "{self.webmail.url}"'
            text = _WEBMAIL.sub(lambda line: f"{line['indent']}{here}", text)
            text = _SITE.sub(r'\1"testbed"', text)
            text = _PROXY.sub(f"127.0.0.1:{self.webmail.port}", text)
        return _HOST.sub(self._here, _PORT.sub("", text))

    def port(self, documented: int) -> int:
        """Where a listener of the documents is reached here."""
        if documented not in self.here:
            (self.here[documented],) = free_ports(1)
        return self.here[documented]

    def _listening(self, found: re.Match[str]) -> str:
        return f'"127.0.0.1:{self.port(int(found["port"]))}"'

    def _here(self, found: re.Match[str]) -> str:
        kind = found["host"].partition(".")[0]
        trust = {"ca_file": self.ca_file}
        if kind in ("pop", "mail"):
            said: dict[str, object] = {"port": self.pop3.port, "tls": "implicit", **trust}
        elif kind == "imap":
            said = {"port": self.imap.imaps_port, "tls": "implicit", **trust}
        elif kind == "smtp":
            said = {"port": self.smtp.port, "tls": "starttls", **trust}
        elif kind == "localhost":
            said = {"port": self.relay.port}
        else:
            raise ValueError(f"{found['host']} is no host of example.org")
        lines = (
            f"{found['indent']}{key} = {value if isinstance(value, int) else _quoted(str(value))}"
            for key, value in {"host": "localhost", **said}.items()
        )
        return "\n".join(lines)

    def furnish(self, home: str | os.PathLike[str], text: str) -> None:
        """Make the files that a pipeline names in `home`: secrets, members, certificates."""
        import tomli

        for key, value in _files(tomli.loads(text)):
            path = value.replace("~", os.fspath(home), 1)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._text(key))
            os.chmod(path, 0o600)

    def _text(self, key: str) -> str:
        """What stands in a file that an option of this name names."""
        if key in ("certificate", "key"):
            cert_file, key_file = self.certificate
            with open(cert_file if key == "certificate" else key_file, encoding="ascii") as file:
                return file.read()
        if key == "cookies":
            return self.webmail.cookies("webmail.example.org")
        texts = {
            "file": f"{PASSWORD}\n",
            "passwords": "".join(
                f"{user}{domain}:{{PLAIN}}{PASSWORD}\n"
                for user in USERS
                for domain in ("", "@example.org")
            ),
        }
        return texts.get(key, "\n".join(MEMBERS))


FILES = ("certificate", "cookies", "file", "key", "members", "moderators", "passwords")
"""Options that name a file which must be there."""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _files(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, path) of every file that must be there, at any depth."""
    for key, value in table.items():
        if key in FILES and isinstance(value, str):
            if "/" in value:
                yield key, value
        elif isinstance(value, Mapping):
            yield from _files(value)
        elif isinstance(value, list):
            for each in value:
                if isinstance(each, Mapping):
                    yield from _files(each)
