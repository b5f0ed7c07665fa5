"""A session of one account at a webmail: the steps of its site, done.

Rule of the file: a page that does not match is an error; it is never an empty folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mailflow.errors import (
    ConfigError,
    GoneError,
    LoginError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.lines import crlf_pieces
from mailflow.mail import Content, OctetFile
from mailflow_webmail.browser import Browser
from mailflow_webmail.errors import ChallengeError, ExpiredError, LayoutError
from mailflow_webmail.page import Page
from mailflow_webmail.site import site

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow_webmail.settings import WebmailOptions
    from mailflow_webmail.site import Site, Step

T = TypeVar("T")

Row = Mapping[str, str]

PAGES = 10_000


_RAISED: Mapping[str, type[MailflowError]] = {
    "denied": LoginError, "expired": ExpiredError, "throttled": UnavailableError,
    "challenge": ChallengeError, "transient": UnavailableError, "missing": GoneError,
    "refused": RefusedError, "layout": LayoutError,
}  # fmt: skip


class Session:
    def __init__(
        self, site: Site, browser: Browser, user: str, secret: Callable[[], str], scratch: str
    ) -> None:
        self.site = site
        self.browser = browser
        self.scratch = scratch
        self._secret = secret
        self._facts: dict[str, str] = {"user": user}
        self._inside = False

    def log_in(self) -> None:
        facts = {**self._facts, "password": self._secret()}
        self._keep(self.site.login, self._ask("login", facts))
        self._inside = True

    def folders(self) -> list[Row]:
        page = self.do("folders")
        return [dict(row) for row in page.rows(self.site.folders.rows)]

    def listing(self, folder: str) -> list[Row]:
        """Every message of a folder, once."""
        step = self.site.list_
        found: dict[str, Row] = {}
        n = step.next_.from_ if step.next_ is not None and step.next_.from_ is not None else 0
        page = self.do("list", folder=folder, n=str(n))
        total = [int(value) for each in step.total if (value := page.find(each))]
        for _ in range(PAGES):
            before = len(found)
            for row in page.rows(step.rows):
                found.setdefault(row["id"], {**row, "folder": folder})
            if step.next_ is None or len(found) == before:
                break
            n += step.next_.step
            if step.next_.css is not None:
                link = page.soup.select_one(step.next_.css)
                if link is None:
                    break
                page = self._checked("list", self.browser.page("GET", _join(page, link["href"])))
            elif step.next_.last is not None and n > int(page.find(step.next_.last) or 0):
                break
            else:
                page = self.do("list", folder=folder, n=str(n))
        if not found and not (total and 0 in total) and not (step.empty and page.holds(step.empty)):
            raise LayoutError(f"{self.site.name}: list: no messages, and nothing that says so")
        if total and len(found) not in total:
            raise UnavailableError(f"{self.site.name}: list: {len(found)} messages of {total}")
        return list(found.values())

    def raw(self, row: Row) -> Content:
        return self._again(lambda: self._raw(row))

    def remove(self, rows: Sequence[Row], how: str = "delete") -> None:
        """Delete rows of one folder, or move them to the trash, or mark them as seen."""
        for row in rows:
            self.do(how, **row)

    def close(self) -> None:
        """Log out, and end the connections."""
        try:
            self.log_out()
        finally:
            self.browser.close()

    def log_out(self) -> None:
        if self._inside and self.site.logout is not None:
            self._inside = False
            self._ask("logout", self._facts)

    def do(self, name: str, **facts: str) -> Page:
        """A step inside the session; once more in a new one where that has ended."""

        def once() -> Page:
            step = self.site.step(name)
            for each in step.before:
                self.do(each, **facts)
            page = self._ask(name, {**self._facts, **facts})
            self._keep(step, page)
            return page

        return self._again(once)

    def _again(self, what: Callable[[], T]) -> T:
        if not self._inside:
            self.log_in()
        try:
            return what()
        except ExpiredError:
            self.log_in()
            return what()

    def _keep(self, step: Step, page: Page) -> None:
        for name, finder in step.capture.items():
            value = page.find(finder)
            if value is None:
                raise LayoutError(f"{self.site.name}: {name} is not there")
            self._facts[name] = value

    def _request(self, step: Step, facts: Mapping[str, str]) -> tuple[str, str, dict[str, Any]]:
        method = "POST" if step.post is not None else "GET"
        what: dict[str, Any] = {
            "params": _filled(step.query, facts),
            "headers": _filled(step.headers, facts),
        }
        if step.post is not None:
            what["data"] = _filled(step.data, facts)
        return method, fill(step.post or step.get or "", facts), what

    def _ask(self, name: str, facts: Mapping[str, str]) -> Page:
        step = self.site.step(name)
        method, url, what = self._request(step, facts)
        page = self.browser.page(method, url, **what)
        if step.form is not None:
            sent = self.browser.submit(page, step.form, _filled(step.fill, facts), step.click)
            if sent is None:
                raise LayoutError(f"{self.site.name}: {name}: there is no {step.form}")
            page = sent
        return self._checked(name, page)

    def _checked(self, name: str, page: Page) -> Page:
        step = self.site.step(name)
        for signal in self.site.signal:
            if (not signal.at or name in signal.at) and page.holds(signal):
                raise _RAISED[signal.raise_](f"{self.site.name}: {name}: {signal.raise_}")
        if all(page.holds(each) for each in step.expect):
            return page
        if page.soup.select_one('input[type="password"]') is not None:
            if name == "login":
                raise LoginError(f"{self.site.name}: the login is refused")
            if name != "logout":
                raise ExpiredError(f"{self.site.name}: the session has ended")
        raise LayoutError(f"{self.site.name}: {name}: the page is not as expected")

    def _raw(self, row: Row) -> Content:
        step = self.site.raw
        method, url, what = self._request(step, {**self._facts, **row})
        with self.browser.answer(method, url, **what) as response:
            head = Page(response.url, response.status_code, response.headers, b"")
            if not all(head.holds(each) for each in step.expect):
                octets = b"".join(self.browser.pieces(response, 1 << 23))
                self._checked(
                    "raw", Page(response.url, response.status_code, response.headers, octets)
                )
            handle, path = tempfile.mkstemp(dir=self.scratch)
            with os.fdopen(handle, "wb") as file:
                for piece in crlf_pieces(self.browser.pieces(response, 1 << 40)):
                    file.write(piece)
        return OctetFile(path)


def opened(options: WebmailOptions, halt: Halt, scratch: str) -> Session:
    """A session for these options; it logs in when it is first asked. Raises ConfigError."""
    if options.password is None:
        raise ConfigError(f"no `password` for {options.url}")
    browser = Browser(options.url, timeout=options.timeout, parallel=options.parallel, halt=halt)
    return Session(site(options.site), browser, options.user, options.password.reveal, scratch)


def fill(pattern: str, facts: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: facts[found[1]], pattern)


def _filled(table: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
    return {name: fill(value, facts) for name, value in table.items()}


def _join(page: Page, href: Any) -> str:
    from urllib.parse import urljoin

    return urljoin(page.url, str(href))
