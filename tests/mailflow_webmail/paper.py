"""A webmail of a few lines whose every page a test may replace, and sessions with it.

    with Paper(a=b"Subject: a\\r\\n\\r\\n") as paper, paper.session(tmp_path) as session:
        paper.says["list"] = lambda asked: page("<p>down for maintenance</p>")

Rule of the file: what no test has replaced is as the definition below says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import tomli

from mailflow.halt import Halt
from mailflow_webmail.account.saved import Saved
from mailflow_webmail.account.session import Session
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.wording import Table
from mailflow_webmail.web.browser import Browser
from mailflow_webmail.web.cookies import Lent

from .web import Asked, Said, Web, ok

USER, PASSWORD = "red@example.org", "s3cret-W0rd"

DEFINITION = tomli.loads("""
format = 1
name = "Paper"
shared = true
signal = [
  { at = ["login"], raise = "denied", css = "#denied" },
  { at = ["login"], raise = "challenge", css = "#captcha" },
  { raise = "throttled", css = "#slower", wait = "90s" },
  { raise = "transient", css = "title", regex = "^Down" },
  { raise = "missing", at = ["raw", "list"], css = "#gone" },
]
[login]
get = "login"
form = "form"
fill = { user = "{user}", pass = "{password}" }
expect = { css = "#in" }
capture.key = { css = "#in", attr = "data-key" }
[folders]
get = "folders"
expect = { css = "#in" }
rows = { css = "a.folder", fields.id = { attr = "href", param = "f" }, fields.name = {} }
[list]
get = "list"
query = { f = "{folder}", p = "{n}", key = "{key}" }
expect = { css = "#in" }
total = { css = "#count" }
empty = { css = "#none" }
next = { from = 1 }
[list.rows]
css = "tr"
fields.id = { attr = "id" }
fields.at = { attr = "data-at" }
[raw]
get = "raw"
query = { id = "{id}", key = "{key}" }
expect = { type = "message/rfc822" }
[delete]
post = "delete"
data = { id = "{id}", key = "{key}" }
[seen]
post = "seen"
data = { id = "{id}" }
expect = { css = "#in" }
[logout]
get = "logout"
""")


def site(**tables: Any) -> Site:
    """The definition, with other values at dotted keys: `site(list__volatile=True)`; None
    takes one away."""
    data = copy.deepcopy(DEFINITION)
    for name, value in tables.items():
        *path, last = name.split("__")
        table = data
        for part in path:
            table = table.setdefault(part, {})
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
    return Table("", Site).convert(data, "")


def page(body: str, *headers: str, **how: Any) -> bytes:
    """A page of a session, whatever else it says."""
    return ok(f"<html><body>{body}</body></html>", *headers, **how)


def row(key: str, at: int) -> str:
    return f"<tr id={key} data-at={at}><td>{key}</td></tr>"


class Paper(Web):
    """Messages by their ids, the oldest first; SIZE of them on a page, the newest first.
    `says` has a function for each page that is another one. `key` changes with each login."""

    SIZE = 3

    def __init__(self, **mail: bytes) -> None:
        super().__init__(self._said)
        self.mail = dict(mail)
        self.says: dict[str, Callable[[Asked], Said]] = {}
        self.logins = 0
        self._halts: list[Halt] = []

    @property
    def key(self) -> str:
        return f"key{self.logins}"

    @property
    def steps(self) -> list[str]:
        return [urlsplit(each.target).path.strip("/") for each in self.asked]

    @contextmanager
    def session(self, directory: Path, site: Site | None = None, **more: Any) -> Iterator[Session]:
        made = self.opened(directory, site, **more)
        try:
            yield made
        finally:
            made.close()

    def opened(
        self, directory: Path, site_: Site | None = None, cookies: Lent | None = None, **more: Any
    ) -> Session:
        self._halts.append(Halt())
        browser = Browser(self.url, halt=self._halts[-1], timeout=20.0, cookies=cookies)
        saved = Saved(str(directory / "saved"))
        return Session(
            site_ or site(), browser, USER, lambda: PASSWORD, str(directory), saved=saved, **more
        )

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for halt in self._halts:
            halt.close()

    def inside(self, body: str = "") -> bytes:
        return page(f'<p id=in data-key="{self.key}"></p>{body}')

    def form(self, body: str = "") -> bytes:
        return page(f"{body}<form method=post action=login><input name=user>"
                    "<input name=pass type=password></form>")  # fmt: skip

    def step(self, asked: Asked) -> str:
        """The name of the page; a login that was sent is `login`, its form is `form`."""
        name = urlsplit(asked.target).path.strip("/")
        return "form" if name == "login" and asked.method == "GET" else name

    def _said(self, asked: Asked) -> Said:
        name = self.step(asked)
        given = {key: value[0] for key, value in parse_qs(urlsplit(asked.target).query).items()}
        given |= {key: value[0] for key, value in parse_qs(asked.body.decode("latin-1")).items()}
        if name in self.says:
            return self.says[name](asked)
        is_free = name in ("form", "login", "folders", "seen", "logout")
        if not name or not (is_free or given.get("key") == self.key):
            return self.form()
        return getattr(self, f"_{name}")(given)

    def _form(self, given: dict[str, str]) -> bytes:
        return self.form()

    def _login(self, given: dict[str, str]) -> bytes:
        if (given.get("user"), given.get("pass")) != (USER, PASSWORD):
            return self.form("<p id=denied>no</p>")
        self.logins += 1
        return self.inside()

    def _folders(self, given: dict[str, str]) -> bytes:
        return self.inside('<a class=folder href="list?f=INBOX">Inbox</a>')

    def _list(self, given: dict[str, str]) -> bytes:
        return self.listed(int(given["p"]))

    def listed(self, number: int, total: int | None = None, more: str = "") -> bytes:
        """A page of the list; `total` is what it says there is, `more` stands on it too."""
        keys = list(self.mail)[::-1]
        places = range((number - 1) * self.SIZE, min(len(keys), number * self.SIZE))
        rows = "".join(row(keys[at], at) for at in places)
        none = "" if keys else "<p id=none></p>"
        said = len(keys) if total is None else total
        return self.inside(f"<b id=count>{said}</b><table>{rows}</table>{none}{more}")

    def _raw(self, given: dict[str, str]) -> bytes:
        if given["id"] not in self.mail:
            return self.inside("<p id=gone></p>")
        return ok(self.mail[given["id"]], kind="message/rfc822")

    def _delete(self, given: dict[str, str]) -> bytes:
        for key in given["id"].split(","):
            self.mail.pop(key, None)
        return self.inside("done")

    def _seen(self, given: dict[str, str]) -> bytes:
        return self.inside()

    def _logout(self, given: dict[str, str]) -> bytes:
        return self.form()
