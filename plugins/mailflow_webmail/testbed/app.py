"""The application of the test bed: what each address answers (WSGI, with Flask).

Rule of the file: with no trouble switched on it is a plain, correct webmail; each trouble is
one question at the place where it strikes.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, redirect, request

from mailflow.errors import MailflowError
from mailflow.net import is_loopback
from mailflow_webmail.testbed import listing, pages, sources
from mailflow_webmail.testbed.compose import sent
from mailflow_webmail.testbed.troubles import Trouble, Troubles

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from werkzeug.wrappers import Response as Answer

    from mailflow.log import Logger
    from mailflow_webmail.testbed.folder import Folder, Folders

COOKIE = "testbed"

LARGEST = 64 << 20
"""Octets that a form may have."""

REMEMBERED = 10_000

NTH = "testbed.nth"
"""In the environment of a request: the how many-th it is on its connection, from 1."""

DROPPED = "testbed.dropped"
"""In the environment of a request: its connection is to end without an answer."""


class Asked(NamedTuple):
    """A request that was answered: `step` is what it was for."""

    method: str
    step: str
    path: str


class Settings(NamedTuple):
    """Who may log in, from where, and how the pages look."""

    user: str = "demo"
    password: str = "demo"  # noqa: S105
    page_size: int = 20
    json_lists: bool = False
    language: str = "en"
    anywhere: bool = False


class _Session:
    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self.requests = 0


class Bed:
    """A webmail over some folders. `settings` may be replaced while it runs; `outgoing` gets
    what is sent, with its recipients in X-Envelope-To."""

    def __init__(
        self, folders: Folders, settings: Settings, troubles: Troubles,
        log: Logger, outgoing: Folder | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        self.folders = folders
        self.outgoing = outgoing
        self.settings = settings
        self.troubles = troubles
        self.asked: deque[Asked] = deque(maxlen=REMEMBERED)
        self.listener: Callable[[Asked], None] = lambda asked: None
        self.seen: set[tuple[str, str]] = set()
        self._sessions: dict[str, _Session] = {}
        self._nonces: deque[str] = deque(maxlen=1000)
        self._lock = threading.Lock()
        self.app = Flask("mailflow_webmail.testbed", static_folder=None, template_folder=None)
        self.app.config["MAX_CONTENT_LENGTH"] = LARGEST
        self.app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST
        self.app.register_error_handler(MailflowError, self._failed)
        self.app.register_error_handler(OSError, self._failed)
        self.app.before_request(self._before)
        self.app.after_request(self._after)
        self.app.add_url_rule("/", "start", lambda: redirect("/folders"))
        for step, methods, answers in (
            ("login", "GET POST", self._login), ("folders", "GET", self._folders),
            ("list", "GET", self._list), ("source", "GET", self._source),
            ("message", "GET", self._message), ("change", "POST", self._change),
            ("compose", "GET POST", self._compose), ("logout", "GET", self._logout),
        ):  # fmt: skip
            self.app.add_url_rule(f"/{step}", step, answers, methods=methods.split())

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        return self.app(environ, start)

    def lend(self) -> str:
        """A session, as the value of its cookie: for whoever was logged in by a browser."""
        key = secrets.token_hex(16)
        with self._lock:
            self._sessions[key] = _Session()
        return key

    def log_out_all(self) -> None:
        """End every session, as when a server starts anew."""
        with self._lock:
            self._sessions.clear()

    def page(self, name: str, status: int = 200, **facts: object) -> Response:
        facts["token"] = self._token()
        html = pages.page(name, self.settings.language, link=link, **facts)
        return Response(html, status, content_type="text/html; charset=utf-8")

    def told(self, what: str, status: int = 200, *, inside: bool = False) -> Response:
        """A page that says one thing."""
        return self.page("told", status, what=what, inside=inside)

    def _before(self) -> Answer | None:
        """What comes in the place of an answer."""
        step = request.endpoint or ""
        asked = Asked(request.method, step, request.path)
        self.asked.append(asked)
        self.listener(asked)
        if not self.settings.anywhere and not _is_near(request.host):
            return self.told("error", 421)
        struck = self._striking(step)
        if request.environ.get(NTH, 1) > 1 and struck("dropped"):
            request.environ[DROPPED] = True
            return Response()
        if trouble := struck("slow"):
            time.sleep(trouble.seconds)
        return self._instead(struck) or self._guarded(step)

    def _striking(self, step: str) -> Callable[[str], Trouble | None]:
        return lambda name: self.troubles.strikes(name, step)

    def _instead(self, struck: Callable[[str], Trouble | None]) -> Response | None:
        if trouble := struck("throttled"):
            answer = self.told("throttled", 429)
            answer.headers["Retry-After"] = f"{trouble.seconds:.0f}"
            return answer
        if struck("throttled-page"):
            return self.told("throttled")
        if struck("error"):
            return self.told("error", 500)
        if struck("unavailable"):
            return self.told("maintenance", 503)
        if struck("maintenance"):
            return self.told("maintenance")
        if struck("challenge"):
            return self.told("challenge")
        return None

    def _guarded(self, step: str) -> Answer | None:
        """Who has no session is asked to log in."""
        if step in ("login", "start", ""):
            return None
        session = self._session()
        if session is None:
            return redirect("/login")
        session.requests += 1
        expired = self.troubles.get("expired")
        if expired is not None and step in expired.at and session.requests > expired.after:
            self._end_session()
            return redirect("/login")
        if request.method == "POST" and not hmac.compare_digest(
            request.form.get("token", "").encode(), session.token.encode()
        ):
            return self.told("again", 403, inside=True)
        return None

    def _failed(self, error: MailflowError | OSError) -> Response:
        """A folder that cannot be read or written."""
        self._log.error("a folder is out of order", error=str(error))
        return self.told("error", 500)

    def _after(self, answer: Response) -> Response:
        if self.troubles.strikes("gzip", request.endpoint or ""):
            answer.headers["Content-Encoding"] = "gzip"
        changed = request.method == "POST" and DROPPED not in request.environ
        if changed and self.troubles.strikes("unanswered", request.endpoint or ""):
            request.environ[DROPPED] = True
        return answer

    def _session(self) -> _Session | None:
        return self._sessions.get(request.cookies.get(COOKIE, ""))

    def _end_session(self) -> None:
        with self._lock:
            self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def _token(self) -> str:
        session = self._session()
        return session.token if session is not None else ""

    def _login(self) -> Answer:
        denied = False
        if request.method == "POST":
            given = (request.form.get("user", ""), request.form.get("pass", ""))
            right = (self.settings.user, self.settings.password)
            fresh = request.form.get("nonce", "") in self._nonces
            if fresh and all(map(_same, given, right)):
                return self._begun()
            denied = True
        nonce = secrets.token_hex(8)
        self._nonces.append(nonce)
        return self.page("login", inside=False, denied=denied, nonce=nonce)

    def _begun(self) -> Answer:
        if self.troubles.strikes("usurped", "login"):
            self.log_out_all()
        answer = redirect("/folders")
        answer.set_cookie(COOKIE, self.lend(), httponly=True, samesite="Lax")
        return answer

    def _logout(self) -> Answer:
        self._end_session()
        return redirect("/login")

    def _folders(self) -> Answer:
        return self.page("folders", inside=True, folders=list(self.folders))

    def _list(self) -> Answer:
        folder = self._folder()
        if folder is None:
            return self.told("gone", 404, inside=True)
        if self.troubles.strikes("interstitial", "list"):
            return self.told("offer", inside=True)
        shown = listing.shown(self, folder, request.args.get("page", "1"))
        if self.settings.json_lists:
            facts = {
                "folder": folder.name, "count": shown.total, "pages": shown.pages,
                "page": shown.number, "token": self._token(),
                "messages": [row._asdict() for row in shown.rows],
            }  # fmt: skip
            return Response(json.dumps(facts), content_type="application/json")
        outage = self.troubles.get("empty") is not None
        return self.page(
            "list", inside=True, folder=folder.name, page=shown,
            shows_count=not outage and not self.troubles.strikes("uncounted", "list"),
            proves_empty=not outage,
            prefix="x-" if self.troubles.strikes("layout", "list") else "",
        )  # fmt: skip

    def _folder(self) -> Folder | None:
        return self.folders.get(request.values.get("folder", ""))

    def _source(self) -> Answer:
        folder = self._folder()
        letter = None if folder is None else listing.chosen(folder, request.args)
        if folder is None or letter is None:
            return self.told("gone", 404, inside=True)
        return sources.answer(self, folder, letter)

    def _message(self) -> Answer:
        folder = self._folder()
        uid = request.args.get("uid", "")
        letter = None if folder is None else folder.letter(uid)
        if folder is None or letter is None:
            return self.told("gone", 404, inside=True)
        self.seen.add((folder.name, uid))
        source = link("source", folder=folder.name, uid=uid)
        return self.page("message", inside=True, letter=letter, source=source)

    def _change(self) -> Answer:
        folder = self._folder()
        action = request.form.get("action", "")
        if folder is None or action not in ("delete", "trash", "seen"):
            return self.told("again", 400, inside=True)
        there = {each.uid: each for each in folder.letters()}
        uids = ",".join(request.form.getlist("uid")).split(",")
        chosen = [there[uid] for uid in dict.fromkeys(uids) if uid in there]
        if action == "seen":
            self.seen.update((folder.name, each.uid) for each in chosen)
        elif not self.troubles.strikes("stubborn", "change"):
            if action == "trash" and folder.name != "Trash":
                trash = self.folders["Trash"]
                for each in chosen:
                    trash.add(b"".join(folder.source(each)))
            folder.delete([each.uid for each in chosen])
        return redirect(link("list", folder=folder.name))

    def _compose(self) -> Answer:
        refused = ""
        if request.method == "POST":
            refused = sent(self, request.form, request.files.getlist("file"))
            if not refused:
                return self.told("sent", inside=True)
        return self.page("compose", inside=True, refused=refused, sender=self.sender)

    @property
    def sender(self) -> str:
        """The address of whoever has logged in."""
        user = self.settings.user
        return user if "@" in user else f"{user}@example.org"


def link(step: str, **query: object) -> str:
    return f"/{step}?{urlencode(query)}" if query else f"/{step}"


def _is_near(host: str) -> bool:
    """Whether that is a name of this machine: a page of somebody else's, whose name leads here,
    is not to read our mail by the browser that shows it."""
    return is_loopback(urlsplit(f"//{host}").hostname or "")


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
