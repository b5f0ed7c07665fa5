"""A small IMAP server on loopback, with mail in memory and faults on demand.

    with ImapServer({"red": "secret"}, {"red": [b"Subject: hello\r\n\r\nhello\r\n"]}) as server:
        imaplib.IMAP4(server.host, server.port)

Rule of the file: without faults it is a correct server of what it knows (RFC 3501, with
UIDPLUS, MOVE, IDLE, LITERAL+, SASL-IR); a fault is told to it, never an accident.
"""

from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mailflow.testing.imap_folder import Folder, Message, items_of, matches, members, words_of
from mailflow.testing.imap_link import NO_FAULTS, Faults
from mailflow.testing.link import CutError, Link, Loopback

if TYPE_CHECKING:
    from mailflow.testing.tls import Certificate

CAPABILITIES = ("SASL-IR", "LITERAL+", "ID", "IDLE", "UIDPLUS", "MOVE", "UNSELECT", "AUTH=PLAIN")
TOKEN_CAPABILITIES = ("AUTH=OAUTHBEARER", "AUTH=XOAUTH2")

SLICE = 0.05
"""Seconds between two looks at the folder while a client idles."""


class ImapServer(Loopback):
    """Serves from `__enter__` to `__exit__`, each connection in a thread.

    `tls` offers STARTTLS, with `implicit` TLS from the first octet. `tokens` are the access
    tokens of users. `faults` may be set at any time and hold for the connections that
    follow. `commands` are the lines of all clients in order, without tags, secrets masked.
    """

    name = "imap"

    def __init__(
        self,
        users: Mapping[str, str],
        messages: Mapping[str, Iterable[bytes]] = {},
        *,
        capabilities: Sequence[str] = CAPABILITIES,
        tokens: Mapping[str, str] = {},
        tls: Certificate | None = None,
        implicit: bool = False,
        greets_with_capabilities: bool = True,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__()
        self.users = dict(users)
        self.tokens = dict(tokens)
        self.capabilities = (*capabilities, *(TOKEN_CAPABILITIES if tokens else ()))
        self.implicit = implicit
        self.told = greets_with_capabilities
        self.faults = faults
        self.commands: list[str] = []
        self.tls = tls.server_context() if tls else None
        self.lock = threading.RLock()
        self._folders: dict[str, dict[str, Folder]] = {
            name: {"INBOX": Folder("INBOX")} for name in {*users, *tokens}
        }
        for name, found in messages.items():
            for data in found:
                self.deliver(name, data)

    def deliver(self, user: str, data: bytes, folder: str = "INBOX", *flags: str) -> int:
        """Put a message into a folder, which is made if need be; its UID."""
        with self.lock:
            return self.folder(user, folder).add(data, flags)

    def folder(self, user: str, name: str = "INBOX") -> Folder:
        """A folder, which is made if need be."""
        with self.lock:
            return self._folders[user].setdefault(name, Folder(name))

    def folders(self, user: str) -> dict[str, Folder]:
        return self._folders[user]

    def messages(self, user: str, folder: str = "INBOX") -> list[bytes]:
        """What is in a folder now."""
        return [message.data for message in self.folder(user, folder).messages]

    def renumber(self, user: str, folder: str = "INBOX") -> None:
        """Another UIDVALIDITY, as after a restored backup: every message has another UID."""
        with self.lock:
            self.folder(user, folder).renumber()

    def link(self, sock: socket.socket) -> Link:
        return _Session(self, sock)


class _Session(Link):
    """One connection: reads commands, and answers each in turn."""

    server: ImapServer
    faults: Faults

    def __init__(self, server: ImapServer, sock: socket.socket) -> None:
        super().__init__(server, sock, server.faults)
        self.user = ""
        self.folder: Folder | None = None
        self.read_only = False
        self.shown: list[Message] = []
        self.over = False
        self._tag = b""

    def run(self) -> None:
        if self.server.tls and self.server.implicit:
            self.shake_hands(self.server.tls)
        code = b"[%b] " % self._capability() if self.server.told else b""
        self.say(self._changed("", b"* OK %bready\r\n" % code))
        while not self.over:
            self._take()
        self.flush()

    def _take(self) -> None:
        """Read one command with its literals, note it without its secret, answer it."""
        line = self.line()
        tag, _, rest = line.partition(b" ")
        whole = rest
        while found := re.search(rb"\{(\d+)(\+?)\}\Z", rest):
            if not found[2]:
                self.say(b"+ go on\r\n")
            literal = self.octets(int(found[1]))
            rest = self.line()
            whole += b"\r\n" + literal + rest
        self._tag = tag
        keyword = whole.split(b" ", 1)[0].upper().decode("ascii", "replace")
        words = re.split(rb" ", whole, maxsplit=2)
        if keyword == "UID" and len(words) > 1:
            keyword = f"UID {words[1].upper().decode('ascii', 'replace')}"
        shown = whole.decode("utf-8", "replace")
        if keyword in ("LOGIN", "AUTHENTICATE"):
            shown = " ".join(shown.split(" ")[: 2 if keyword == "AUTHENTICATE" else 1]) + " ***"
        self.server.commands.append(shown)
        if keyword in self.faults.cut_before or shown in self.faults.cut_before:
            self.flush()
            raise CutError
        for beginning, data in self.faults.before.items():
            if shown.startswith(beginning):
                self.say(data.replace(b"<tag>", tag))
        with self.server.lock:
            answer = self._answer(keyword, whole[len(keyword) :].lstrip(b" "))
        self.say(self._changed(shown, answer))
        if keyword == "STARTTLS" and b" OK" in answer and self.server.tls:
            self.shake_hands(self.server.tls)

    def _changed(self, command: str, right: bytes) -> bytes:
        """The right answer, or what the faults put in its place."""
        for beginning, answer in self.faults.answers.items():
            if command.startswith(beginning) and bool(beginning) == bool(command):
                other = answer(right) if callable(answer) else answer
                return right if other is None else other.replace(b"<tag>", self._tag)
        return right

    def _answer(self, keyword: str, argument: bytes) -> bytes:
        name = f"_do_{keyword.lower().replace(' ', '_')}"
        method = getattr(self, name, None)
        if method is None:
            return self._bad(f"unknown command {keyword}")
        if not self.user and keyword not in _BEFORE:
            return self._no("log in first")
        if keyword in _SELECTED and self.folder is None:
            return self._bad("no folder is open")
        try:
            words = words_of(argument)
            news = self._news() if keyword in _TELLING else b""
            return news + method(*words)  # type: ignore[no-any-return]
        except (TypeError, ValueError, IndexError) as error:
            return self._bad(f"cannot read that: {error}")

    def _ok(self, text: str = "done") -> bytes:
        return b"%b OK %b\r\n" % (self._tag, text.encode())

    def _no(self, text: str) -> bytes:
        return b"%b NO %b\r\n" % (self._tag, text.encode())

    def _bad(self, text: str) -> bytes:
        return b"%b BAD %b\r\n" % (self._tag, text.encode())

    def _capability(self) -> bytes:
        names = ["IMAP4rev1", *self.server.capabilities]
        if self.server.tls and not self.secure:
            names.append("STARTTLS")
        return b"CAPABILITY " + " ".join(names).encode()

    def _news(self) -> bytes:
        """What has changed in the open folder since it was shown last."""
        folder = self.folder
        if folder is None:
            return b""
        told = b""
        there = {id(message) for message in folder.messages}
        for number in range(len(self.shown), 0, -1):
            if id(self.shown[number - 1]) not in there:
                told += b"* %d EXPUNGE\r\n" % number
                del self.shown[number - 1]
        if len(folder.messages) > len(self.shown):
            told += b"* %d EXISTS\r\n" % len(folder.messages)
        self.shown = list(folder.messages)
        return told

    def _named(self, uids: bytes) -> list[tuple[int, Message]]:
        """(number, message) of a set of UIDs."""
        highest = self.shown[-1].uid if self.shown else 0
        wanted = members(uids, highest)
        return [(n, m) for n, m in enumerate(self.shown, 1) if any(m.uid in r for r in wanted)]

    # Any state

    def _do_capability(self) -> bytes:
        return b"* %b\r\n" % self._capability() + self._ok()

    def _do_noop(self) -> bytes:
        return self._ok()

    def _do_id(self, _: object) -> bytes:
        return b'* ID ("name" "test")\r\n' + self._ok()

    def _do_logout(self) -> bytes:
        self.over = True
        return b"* BYE see you\r\n" + self._ok()

    def _do_starttls(self) -> bytes:
        return self._ok("begin TLS") if self.server.tls and not self.secure else self._no("no TLS")

    def _do_login(self, user: bytes, password: bytes) -> bytes:
        if "LOGINDISABLED" in self.server.capabilities:
            return self._no("[PRIVACYREQUIRED] not like this")
        return self._entered(user.decode(), password.decode(), self.server.users)

    def _do_authenticate(self, name: bytes, initial: bytes | None = None) -> bytes:
        mechanism = name.decode().upper()
        if f"AUTH={mechanism}" not in self.server.capabilities:
            return self._no("unknown mechanism")
        if initial is None:
            self.say(b"+ \r\n")
            initial = self.line()
        try:
            said = base64.b64decode(b"" if initial == b"=" else initial, validate=True).decode()
        except ValueError:
            return self._bad("cancelled")
        if mechanism == "PLAIN":
            _, user, password = said.split("\0")
            return self._entered(user, password, self.server.users)
        if mechanism == "EXTERNAL":
            self.user = said or "red"
            return self._ok("welcome")
        found = re.search(r"(?:user=|a=)([^\1,]+).*auth=Bearer ([^\1]+)", said, re.S)
        user, token = (found[1].split("\1")[0], found[2].split("\1")[0]) if found else ("", "")
        if self.server.tokens.get(user) != token:
            self.say(b"+ " + base64.b64encode(b'{"status":"invalid_token"}') + b"\r\n")
            self.line()
        return self._entered(user, token, self.server.tokens)

    def _entered(self, user: str, secret: str, known: Mapping[str, str]) -> bytes:
        if not secret or known.get(user) != secret:
            return self._no("[AUTHENTICATIONFAILED] wrong name or password")
        self.user = user
        code = f"[{self._capability().decode()}] " if self.server.told else ""
        return self._ok(f"{code}welcome")

    # Folders

    def _do_list(self, _: bytes, pattern: bytes) -> bytes:
        found = b""
        spelled = re.escape(pattern.decode()).replace(r"\*", ".*").replace("%", "[^/]*")
        for folder in self.server.folders(self.user).values():
            if re.fullmatch(spelled, folder.wire_name):
                flags = " ".join(folder.attributes)
                found += f'* LIST ({flags}) "/" "{folder.wire_name}"\r\n'.encode()
        return found + self._ok()

    def _do_status(self, name: bytes, wanted: list[bytes]) -> bytes:
        folder = self._find(name)
        if folder is None:
            return self._no("[NONEXISTENT] no such folder")
        facts = {
            b"MESSAGES": len(folder.messages), b"UIDNEXT": folder.uid_next,
            b"UIDVALIDITY": folder.uid_validity, b"RECENT": 0,
            b"UNSEEN": sum("\\Seen" not in message.flags for message in folder.messages),
        }  # fmt: skip
        told = b" ".join(b"%b %d" % (each.upper(), facts[each.upper()]) for each in wanted)
        return b'* STATUS "%b" (%b)\r\n' % (name, told) + self._ok()

    def _do_create(self, name: bytes) -> bytes:
        if self._find(name) is not None:
            return self._no("[ALREADYEXISTS] it is there")
        made = Folder.of_wire(name.decode())
        self.server.folders(self.user)[made.name] = made
        return self._ok()

    def _do_select(self, name: bytes, *_: object) -> bytes:
        return self._open(name, read_only=False)

    def _do_examine(self, name: bytes, *_: object) -> bytes:
        return self._open(name, read_only=True)

    def _open(self, name: bytes, *, read_only: bool) -> bytes:
        self.folder = folder = self._find(name)
        if folder is None:
            return self._no("[NONEXISTENT] no such folder")
        self.read_only = read_only
        self.shown = list(folder.messages)
        flags = r"\Answered \Flagged \Deleted \Seen \Draft"
        return (
            f"* FLAGS ({flags})\r\n* {len(self.shown)} EXISTS\r\n* 0 RECENT\r\n"
            f"* OK [PERMANENTFLAGS ({flags} \\*)] flags\r\n"
            f"* OK [UIDVALIDITY {folder.uid_validity}] valid\r\n"
            f"* OK [UIDNEXT {folder.uid_next}] next\r\n"
        ).encode() + self._ok("[READ-ONLY] open" if read_only else "[READ-WRITE] open")

    def _do_unselect(self) -> bytes:
        self.folder = None
        return self._ok()

    def _do_append(self, name: bytes, *words: object) -> bytes:
        folder = self._find(name)
        if folder is None:
            return self._no("[TRYCREATE] no such folder")
        flags = words[0] if isinstance(words[0], list) else []
        data = words[-1]
        assert isinstance(data, bytes)
        uid = folder.add(data, [flag.decode() for flag in flags])
        return self._ok(f"[APPENDUID {folder.uid_validity} {uid}] added")

    def _find(self, name: bytes) -> Folder | None:
        wanted = "INBOX" if name.upper() == b"INBOX" else name.decode()
        folders = self.server.folders(self.user).values()
        return next((folder for folder in folders if folder.wire_name == wanted), None)

    # Messages

    def _do_uid_search(self, *words: object) -> bytes:
        criteria = list(words[2:] if words and words[0] == b"CHARSET" else words)
        highest = self.shown[-1].uid if self.shown else 0
        found = [str(m.uid) for m in self.shown if matches(list(criteria), m, highest)]
        return " ".join(["* SEARCH", *found]).encode() + b"\r\n" + self._ok()

    def _do_uid_fetch(self, uids: bytes, wanted: object, *_: object) -> bytes:
        asked = wanted if isinstance(wanted, list) else [wanted]
        told = [
            b"* %d FETCH (%b)\r\n" % (number, items_of(message, asked, self.read_only))
            for number, message in self._named(uids)
        ]
        return b"".join([*told, self._ok()])

    def _do_uid_store(self, uids: bytes, item: bytes, flags: list[bytes]) -> bytes:
        if self.read_only:
            return self._no("[READ-ONLY] it is open for reading")
        told = b""
        for number, message in self._named(uids):
            message.change(item, [flag.decode() for flag in flags])
            if b"SILENT" not in item.upper():
                shown = " ".join(sorted(message.flags))
                told += f"* {number} FETCH (UID {message.uid} FLAGS ({shown}))\r\n".encode()
        return told + self._ok()

    def _do_uid_copy(self, uids: bytes, name: bytes) -> bytes:
        folder = self._find(name)
        if folder is None:
            return self._no("[TRYCREATE] no such folder")
        return self._ok(f"{self._copied(uids, folder)} copied")

    def _copied(self, uids: bytes, folder: Folder) -> str:
        old = [message for _, message in self._named(uids)]
        new = [folder.add(m.data, m.flags, m.date) for m in old]
        before, after = ",".join(str(m.uid) for m in old), ",".join(map(str, new))
        return f"[COPYUID {folder.uid_validity} {before} {after}]" if old else ""

    def _do_uid_move(self, uids: bytes, name: bytes) -> bytes:
        folder = self._find(name)
        if folder is None:
            return self._no("[TRYCREATE] no such folder")
        assert self.folder is not None
        gone = {id(message) for _, message in self._named(uids)}
        told = f"* OK {self._copied(uids, folder)} moved\r\n".encode()
        self.folder.messages = [m for m in self.folder.messages if id(m) not in gone]
        return told + self._news() + self._ok()

    def _do_uid_expunge(self, uids: bytes) -> bytes:
        return self._expunged({id(message) for _, message in self._named(uids)})

    def _do_expunge(self) -> bytes:
        return self._expunged({id(message) for message in self.shown})

    def _expunged(self, among: set[int]) -> bytes:
        assert self.folder is not None
        self.folder.messages = [
            m for m in self.folder.messages if not ("\\Deleted" in m.flags and id(m) in among)
        ]
        return self._news() + self._ok()

    def _do_idle(self) -> bytes:
        """Not under the lock of the server, which others need to change the folder."""
        tag = self._tag
        self.say(self._changed("IDLE +", b"+ idling\r\n"))
        self.server.lock.release()
        try:
            while not self.heard(SLICE):
                with self.server.lock:
                    self.say(self._news())
            self.line()
        finally:
            self.server.lock.acquire()
        self._tag = tag
        return self._ok()


_BEFORE = frozenset(
    ("CAPABILITY", "NOOP", "LOGOUT", "ID", "STARTTLS", "LOGIN", "AUTHENTICATE")
)  # fmt: skip
_SELECTED = frozenset((
    "UID SEARCH", "UID FETCH", "UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE", "EXPUNGE",
    "IDLE", "UNSELECT",
))  # fmt: skip
_TELLING = frozenset(("NOOP", "UID SEARCH", "UID STORE"))

ImapFaults = Faults
"""The name under which `Faults` stands beside those of POP3."""

__all__ = ["CAPABILITIES", "NO_FAULTS", "Faults", "Folder", "ImapFaults", "ImapServer", "Message"]
