"""A session of one account at a webmail: what its site says how to do, done.

Rule of the file: a page that does not match is an error; it is never an empty folder, never a
message and never a removal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from mailflow.directories import state_directory
from mailflow.errors import ConfigError, GoneError, MailflowError, PeerError
from mailflow.log import clean
from mailflow_webmail.account.entry import Entry, Facts
from mailflow_webmail.account.listing import Lister, Row
from mailflow_webmail.account.original import Sources
from mailflow_webmail.account.removal import refuse_unproven, remove
from mailflow_webmail.account.saved import Saved
from mailflow_webmail.account.shifting import Whereabouts
from mailflow_webmail.account.steps import Steps, absolute, described
from mailflow_webmail.definition.site import site
from mailflow_webmail.errors import ChallengeError, LayoutError
from mailflow_webmail.web.browser import Browser

if TYPE_CHECKING:
    from mailflow.halt import Halt
    from mailflow.mail import Content
    from mailflow_webmail.account.original import Source
    from mailflow_webmail.definition.language import Site
    from mailflow_webmail.settings import WebmailOptions
    from mailflow_webmail.web.page import Page

T = TypeVar("T")

FOLLOWED = 1000
"""Pages with folders."""

NAMED = 20
"""So many folders are named in an error."""


class Session:
    """Logs in when it is first asked. Any thread may use it, but for `close`."""

    def __init__(
        self,
        site: Site,
        browser: Browser,
        user: str,
        secret: Callable[[], str] | None,
        scratch: str,
        *,
        most: int | None = None,
        saved: Saved | None = None,
    ) -> None:
        """`secret` gives the password, None where the cookies of a browser must do. Octets of
        large messages are files in `scratch`; nothing is kept of one with more than `most`.
        `saved` keeps pages for a report."""
        self.site = site
        self.browser = browser
        self.steps = Steps(site, browser, self._save)
        self._user = user
        self._secret = secret
        host = urlsplit(browser.url).netloc
        self._entry = Entry(self._entered, None if site.shared else (host, user))
        self._whereabouts = Whereabouts(site, Lister(self.steps))
        self._sources = Sources(self.steps, scratch, most)
        self._unproven: set[tuple[str, str]] = set()
        self._shown: Mapping[str, str] = {}
        self._is_lent = False
        self._saved = saved
        self._private = {user, user.partition("@")[0]}

    def log_in(self) -> None:
        """Log in, if that was not done yet. Raises LoginError, ChallengeError,
        ThrottledError, InUseError, UnavailableError, LayoutError."""
        self._entry.begin()

    def folders(self) -> list[Row]:
        """A row for each: its `id`, and `name` as people read it."""
        rows = self._entry.work(self._folders)
        self._shown = {row["id"]: row.get("name") or row["id"] for row in rows}
        return rows

    def listing(self, folder: str) -> list[Row]:
        """All messages of a folder, each once. Raises GoneError where
        there is no such folder, LayoutError where nothing proves that it is whole."""
        with self._telling_folders(folder):
            return list(self._rows_now(folder).values())

    def first(self, folder: str) -> tuple[list[Row], tuple[int, ...]]:
        """The first page of a folder alone, and the number of messages that it says, if any: it
        shows whether anything has come, and proves nothing else. Raises as `listing` does."""
        with self._telling_folders(folder):
            rows, counts = self._entry.work(lambda facts: self._whereabouts.first(folder, facts))
        return list(rows.values()), counts

    def raw(self, row: Row) -> Content:
        """The source of a message. Raises GoneError where a new listing does not have it,
        BadMailError for one that is too large. A file of it belongs to the caller."""
        source = self._entry.work(lambda facts: self._raw(row, facts))
        key = (row["folder"], row["id"])
        (self._unproven.discard if source.proven else self._unproven.add)(key)
        return source.content

    def remove(self, rows: Sequence[Row], how: str = "delete") -> None:
        """Delete rows of one folder, move them to the "trash", or mark them as "seen". Those
        that are gone already are no error. Raises for what a new listing still has, and, when
        the others are removed, RefusedError for those that may have arrived cut."""
        cut = [row for row in rows if (row["folder"], row["id"]) in self._unproven]
        cut = [] if how == "seen" else cut
        remove(self.steps, self._entry, self._rows_now, [r for r in rows if r not in cut], how)
        refuse_unproven(cut, self.site.name)

    def work(self, what: Callable[[Facts], T]) -> T:
        """What it gives inside a session, done once more in a new one where that has ended;
        it is called with the facts of the session."""
        return self._entry.work(what)

    def give_way(self) -> None:
        """From now on let another session of this account in as soon as nothing is under way."""
        self._entry.patience = 0.0

    def do(self, name: str, facts: Mapping[str, str]) -> Page:
        """A step of the site, by its name; the answer is what the step expects."""
        return self._entry.work(lambda known: self.steps.ask(name, known, facts))

    def close(self) -> None:
        """Log out, if anybody was logged in, and end the connections."""
        try:
            with suppress(MailflowError), self.browser.parting():  # whatever it says
                self._entry.end(self._left)
        finally:
            self.browser.close()

    def _rows_now(self, folder: str) -> Mapping[str, Row]:
        return self._entry.work(lambda facts: self._whereabouts.listed(folder, facts)).rows

    @contextmanager
    def _telling_folders(self, folder: str) -> Iterator[None]:
        """An error says too where no such folder is shown: what a webmail answers to one that
        is not there may look like anything."""
        try:
            yield
        except MailflowError as error:
            if isinstance(error, GoneError | LayoutError):
                with suppress(MailflowError):
                    self.folders()
            if not self._shown or folder in self._shown:
                raise
            names = list(self._shown.values())
            shown = clean(", ".join(names[:NAMED])) + ", ..." * (len(names) > NAMED)
            text = f"the webmail shows no folder {folder!r}, but {shown}; asked for it nevertheless"
            raise type(error)(f"{text}: {error.text}", **error.fields) from None

    def _entered(self) -> Facts:
        facts = Facts(user=self._user)
        self._is_lent = self._secret is None or self.browser.is_lent
        try:
            if self._is_lent:
                self._enter_by_cookies(facts)
        except ChallengeError:
            self._is_lent = False
            if self._secret is None:
                raise
        if not self._is_lent and self._secret is not None:
            password = self._secret()
            self._private.add(password)
            self.steps.ask("login", facts, {"password": password})
        self._private.update(facts.values())
        return facts

    def _enter_by_cookies(self, facts: Facts) -> None:
        """Where a browser begins, since a page to log in is shown to whoever asks for it by some
        webmails, and else that page. Raises ChallengeError where the cookies do not do."""
        page = self.browser.page("GET", "")
        if not self.steps.is_in("login", page):
            method, url, what = self.steps.request("login", facts)
            page = self.browser.page(method, url, **what)
        if not self.steps.is_in("login", page):
            with self.steps.reading("login", "signal", page):
                self.steps.told("login", page, by_status=False)
            raise ChallengeError(
                f"{self.site.name}: login: the session of the browser whose cookies are used has"
                " ended: log in there again, and save its cookies anew"
            )
        self.steps.captured("login", page, facts)

    def _save(self, page: Page, step: str, key: str) -> str:
        """Keep a page that is not as expected, without what is private."""
        if self._saved is None:
            return ""
        cookies = [str(cookie.value) for cookie in self.browser.jar if cookie.value]
        return self._saved.keep(self.site, page, step, key, [*self._private, *cookies])

    def _left(self, facts: Facts) -> None:
        """A session that a browser lent us is not ours to end."""
        if self.site.logout is not None and not self._is_lent:
            self.steps.ask("logout", facts)

    def _folders(self, facts: Facts) -> list[Row]:
        page = self.steps.ask("folders", facts)
        step = self.site.folders
        met: dict[str, Row] = {}
        pages = [page]
        seen = {page.url}
        while pages:
            page = pages.pop(0)
            for row in self.steps.rows("folders", page, step.rows):
                if not row.get("id"):
                    raise self.steps.layout(
                        "folders", "rows.fields.id", page, "a row without an id"
                    )
                met.setdefault(row["id"], row)
            for url in self._more_folders(page):
                if url in seen:
                    continue
                if len(seen) == FOLLOWED:
                    raise PeerError(f"{self.site.name}: folders: over {FOLLOWED} pages")
                seen.add(url)
                pages.append(self.steps.follow("folders", url, facts))
        if not met:
            raise self.steps.layout("folders", "rows", page, described(step.rows))
        return list(met.values())

    def _more_folders(self, page: Page) -> list[str]:
        """The addresses of pages with more of them."""
        follow = self.site.folders.follow
        if follow is None:
            return []
        with self.steps.reading("folders", "follow", page):
            return [absolute(page, follow, value) for value in page.values(follow)]

    def _raw(self, row: Row, facts: Facts) -> Source:
        return self._whereabouts.loaded(row, facts, lambda now: self._sources.read(now, facts))


def opened(options: WebmailOptions, halt: Halt, scratch: str) -> Session:
    """A session for these options; it logs in when it is first asked. Raises ConfigError."""
    secret = options.password
    if secret is None and options.cookies is None:
        raise ConfigError(f"no `password` for {options.url}")
    browser = Browser.of(options, halt)
    return Session(
        site(options.site), browser, options.user, secret.reveal if secret else None, scratch,
        most=options.max_size, saved=pages(),
    )  # fmt: skip


def pages() -> Saved | None:
    """Where pages are kept for a report; a process that has no home does without."""
    try:
        return Saved(os.path.join(state_directory(), "webmail", "pages"))
    except ConfigError:
        return None


__all__ = ["Row", "Session", "opened"]
