"""The servers of example.org on loopback, so that a pipeline of the documents can be run.

    with ExampleOrg(tmp_path / "org") as org:
        org.furnish(home, text)                # the secrets and members that it names
        (home / "red.toml").write_text(org.rewrite(text))
        org.pop3.deliver("red", post("red@example.org"))

Rule of the file: of a pipeline nothing is changed but where its servers are. What
`rewrite` puts in the place of `host = "..."` is all of it:

    pop.*, mail.*   our POP3 server, with TLS from the first octet
    smtp.*          our SMTP sink, with STARTTLS, for whoever logs in
    localhost       our SMTP sink, in clear (its `port` is replaced)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.smtp import SmtpSink
from mailflow.testing.tls import Authority

PASSWORD = "correct horse"  # of everybody at example.org
USERS = ("ann", "lists", "office", "red", "treasurer")
MEMBERS = ("ann@example.org", "ben@example.com", "cleo@example.net")

_HOST = re.compile(r'^(?P<indent> *)host *= *"(?P<host>[^"]*)".*$', re.MULTILINE)
_PORT = re.compile(r"^ *port *= *[0-9]+.*\n", re.MULTILINE)

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
        authority = Authority(directory)
        certificate = authority.issue()
        users = dict.fromkeys(USERS, PASSWORD)
        self.ca_file = authority.ca_file
        self.pop3 = Pop3Server(users, tls=certificate, implicit=True)
        self.smtp = SmtpSink(users=users, tls=certificate.server_context())
        self.relay = SmtpSink()

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

    def rewrite(self, text: str) -> str:
        """A pipeline with its servers here. Raises ValueError on a host that is none of ours."""
        return _HOST.sub(self._here, _PORT.sub("", text))

    def _here(self, found: re.Match[str]) -> str:
        kind = found["host"].partition(".")[0]
        trust = {"ca_file": self.ca_file}
        if kind in ("pop", "mail"):
            said: dict[str, object] = {"port": self.pop3.port, "tls": "implicit", **trust}
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
        """Make the secret files and the members' files that a pipeline names in `home`."""
        import tomli

        for key, value in _files(tomli.loads(text)):
            path = value.replace("~", os.fspath(home), 1)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{PASSWORD}\n" if key == "file" else "\n".join(MEMBERS))
            os.chmod(path, 0o600)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _files(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, path) of every secret and every members' file, at any depth."""
    for key, value in table.items():
        if key in ("file", "members", "moderators") and isinstance(value, str):
            if "/" in value:
                yield key, value
        elif isinstance(value, Mapping):
            yield from _files(value)
        elif isinstance(value, list):
            for each in value:
                if isinstance(each, Mapping):
                    yield from _files(each)
