"""One step of a site, done: the request, what its answer tells, and what is kept of it.

Rule of the file: an answer is what the definition expects or it is an error; that something
is missing from a page never means anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from mailflow.errors import GoneError, LoginError, MailflowError, RefusedError, UnavailableError
from mailflow_webmail.definition.names import address, fill, named
from mailflow_webmail.errors import ChallengeError, ExpiredError, LayoutError, ThrottledError
from mailflow_webmail.web.pace import retry_after

if TYPE_CHECKING:
    from mailflow_webmail.definition.finders import Finder, Rows, Signal
    from mailflow_webmail.definition.language import Site, Step
    from mailflow_webmail.web.browser import Browser
    from mailflow_webmail.web.forms import Filled
    from mailflow_webmail.web.page import Page
    from mailflow_webmail.web.upload import Upload

ASKS_LOGIN = 'input[type="password" i]'
"""A page that has this is no page of a session."""

LINKS = frozenset({"href", "src", "action"})
"""Attributes that are addresses, seen from the page they stand in."""

REST = 300.0
"""Seconds to leave a webmail alone that does not say for how long."""

Save = Callable[["Page", str, str], str]
"""(page, step, key) -> where the page was saved, "" where it was not."""

_DENIED = (
    "the webmail refuses the user or the password, or cannot check them at the moment: many"
    " say the same then"
)
_CHALLENGE = (
    "the webmail asks for a human (a CAPTCHA, a second factor, terms to agree to): log in with a"
    " browser, save its cookies as a Netscape cookie file, and name that file as `cookies`"
)
_TOLD: Mapping[str, tuple[type[MailflowError], str]] = {
    "denied": (LoginError, _DENIED),
    "expired": (ExpiredError, "the session has ended"),
    "throttled": (ThrottledError, "the webmail asks to be left alone for a while"),
    "challenge": (ChallengeError, _CHALLENGE),
    "transient": (UnavailableError, "the webmail is out of order at the moment"),
    "missing": (GoneError, "the webmail has no such message or folder"),
    "refused": (RefusedError, "the webmail refuses this"),
}


class Steps:
    """The steps of one site at one webmail. Any thread may do one."""

    def __init__(self, site: Site, browser: Browser, save: Save) -> None:
        self.site = site
        self.browser = browser
        self._save = save

    def ask(
        self, name: str, facts: dict[str, str], more: Mapping[str, str] = {}, *, before: bool = True
    ) -> Page:
        """The answer to a step, done after those that it names as `before`. `facts` are those
        of the session, `more` those of this step; what is captured joins the latter where
        they are a dict, and where the login has captured it too, it is renewed."""
        step = self.site.step(name)
        own = more if isinstance(more, dict) else dict(more)
        for each in step.before if before else ():
            self.ask(each, facts, own)
        page = self.hooked(name, {**facts, **own})
        if page is None:
            method, url, what = self.request(name, {**facts, **own})
            page = self.browser.page(method, url, **what)
            if step.form is not None and not self.is_in(name, page):
                page = self.submitted(name, page, {**facts, **own})
        own |= self.captured(name, self.checked(name, page), facts)
        return page

    def hooked(self, name: str, facts: Mapping[str, str]) -> Page | None:
        """What the site's hook gets; None where it leaves this step to the definition."""
        code = self.site.code
        if code is None or not code.has(name):
            return None
        return code.ask(name, self.browser, {"n": str(first_page(self.site)), **facts})

    def follow(self, name: str, url: str, facts: dict[str, str]) -> Page:
        """The answer to a link that leads on within a step."""
        page = self.checked(name, self.browser.page("GET", url))
        self.captured(name, page, facts)
        return page

    def request(self, name: str, facts: Mapping[str, str]) -> tuple[str, str, dict[str, Any]]:
        """Method, address and the rest of what a step asks."""
        step = self.site.step(name)
        if name == "list" and "n" not in facts:
            facts = {**facts, "n": str(first_page(self.site))}
        what: dict[str, Any] = {
            "params": self.filled(step.query, facts),
            "headers": self.filled(step.headers, facts),
        }
        if step.post is None:
            return "GET", address(step.get or "", facts), what
        what["data"] = self.filled(step.data, facts)
        return "POST", address(step.post, facts), what

    def filled(self, table: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
        """A table of a step, with what its {names} stand for."""
        return {key: fill(text, facts) for key, text in table.items()}

    def checked(self, name: str, page: Page) -> Page:
        """The page, if it is what the step expects. Raises what it tells instead."""
        step = self.site.step(name)
        with self.reading(name, "signal", page):
            self.told(name, page)
        if not step.expect:
            self._is_inside(name, page)
        for number, each in enumerate(step.expect):
            key = "expect" if len(step.expect) == 1 else f"expect[{number + 1}]"
            with self.reading(name, key, page):
                holds = page.holds(each)
            if not holds:
                self._is_inside(name, page)
                raise self.layout(name, key, page, described(each))
        return page

    def captured(self, name: str, page: Page, facts: dict[str, str]) -> dict[str, str]:
        """What the step says to keep of its answer. What the login has captured, too, is
        renewed for the session, whose facts those are."""
        kept = {}
        for key, finder in self.site.step(name).capture.items():
            with self.reading(name, f"capture.{key}", page):
                kept[key] = absolute(page, finder, page.fact(finder))
            if not kept[key]:
                raise self.layout(name, f"capture.{key}", page, described(finder))
        facts.update((key, value) for key, value in kept.items() if key in facts or name == "login")
        return kept

    def told(self, name: str, page: Page, *, by_status: bool = True) -> None:
        """Raises what the page says of itself: by a signal of the site, or by its status."""
        for signal in self.site.signal:
            if (not signal.at or name in signal.at) and page.holds(signal):
                raise self.error(name, signal.raise_, page, signal)
        if any(each.status == page.status for each in self.site.step(name).expect):
            return
        kind = _by_status(name, page.status)
        if kind and by_status:
            self._is_inside(name, page)
            raise self.error(name, kind, page)

    def error(
        self, name: str, kind: str, page: Page, signal: Signal | None = None
    ) -> MailflowError:
        """The error of that kind."""
        if kind == "layout":
            what = f"status {page.status}" if signal is None else described(signal)
            return self.layout(name, "status" if signal is None else "signal", page, what)
        made, text = _TOLD[kind]
        fields: dict[str, object] = {"site": self.site.name, "step": name}
        rest = retry_after(page.headers)
        if kind == "throttled":
            wanted = signal.wait if signal is not None else None
            fields["delay"] = rest or wanted or REST
        elif rest:
            fields["delay"] = rest
        return made(f"{self.site.name}: {name}: {text}", **fields)

    def layout(self, name: str, key: str, page: Page, what: str) -> LayoutError:
        """The error of a page that is not as the definition says; the page is saved."""
        saved = self._save(page, name, key)
        see = f"; the page, without what is private, is in {saved}" if saved else ""
        began = name == "login" and key in ("status", "form")
        who = "Either `url` leads elsewhere, or the webmail" if began else "The webmail"
        return LayoutError(
            f"{self.site.name}: {name}: `{key}` does not hold: {what}. {who} has changed, is"
            f" another software, or shows something else first{see}",
            site=self.site.name, step=name, key=key, saved=saved,
        )  # fmt: skip

    @contextmanager
    def reading(self, name: str, key: str, page: Page) -> Iterator[None]:
        """A page that cannot be looked into is not as the definition says."""
        try:
            yield
        except LayoutError as error:
            if "step" in error.fields:
                raise
            raise self.layout(name, key, page, error.text) from None

    def rows(self, name: str, page: Page, rows: Rows) -> list[Mapping[str, str]]:
        """Those of a step's page."""
        with self.reading(name, "rows", page):
            return list(page.rows(rows))

    def submitted(
        self,
        name: str,
        page: Page,
        facts: Mapping[str, str],
        files: Mapping[str, Sequence[Upload]] = {},
    ) -> Page:
        """The answer to the step's form, filled in, with `files` by their fields."""
        return self.browser.press(self.form(name, page, facts, files))

    def form(
        self,
        name: str,
        page: Page,
        facts: Mapping[str, str],
        files: Mapping[str, Sequence[Upload]] = {},
    ) -> Filled:
        """The step's form, filled in but not sent."""
        from mailflow_webmail.web.forms import filled

        step = self.site.step(name)
        with self.reading(name, "form", page):
            fields = self.filled(step.fill, facts)
            form = filled(page, step.form or "form", fields, step.click, files)
        if form is None:
            with self.reading(name, "signal", page):
                self.told(name, page)
            if name != "login":
                self._is_inside(name, page)
            raise self.layout(name, "form", page, f"there is no {step.form}")
        return form._replace(fields=[*form.fields, *self.filled(step.data, facts).items()])

    def is_in(self, name: str, page: Page) -> bool:
        """Whether a page asked for to log in shows that somebody is: a browser's cookies do."""
        expect = self.site.step(name).expect
        with self.reading(name, "expect", page):
            return name == "login" and all(page.holds(each) for each in expect)

    def _is_inside(self, name: str, page: Page) -> None:
        """Raises where a page of the session was expected and one to log in has come."""
        if name == "logout":
            return
        with self.reading(name, "expect", page):
            asked = page.soup.select_one(ASKS_LOGIN) is not None
        if asked:
            raise self.error(name, "denied" if name == "login" else "expired", page)


def first_page(site: Site) -> int:
    """The {n} of the first page of a list."""
    following = site.list_.next_
    return 0 if following is None else following.from_ or 0


def needed(step: Step) -> set[str]:
    """The names that are filled in wherever the step has a pattern."""
    return {name for _, text in step.templates() for name in named(text)}


def absolute(page: Page, finder: Finder | None, value: str) -> str:
    """The value; a link, which is seen from its page, as it is seen from everywhere."""
    if not value or finder is None or finder.attr not in LINKS:
        return value
    if finder.param or finder.regex:
        return value
    try:
        return urljoin(page.url, value)
    except ValueError:  # the browser refuses it, should anybody go there
        return value


def described(what: Finder | Rows) -> str:
    """What it looks for, as the definition says it."""
    words = ("css", "attr", "json", "url", "text", "param", "regex", "status", "type_", "header")
    said = {word.rstrip("_"): getattr(what, word, None) for word in words}
    return ", ".join(f"{word} {value}" for word, value in said.items() if value)


def _by_status(name: str, status: int) -> str:
    """The kind of error that a status tells where nothing else does."""
    if status == 429:
        return "throttled"
    if status >= 500:
        return "transient"
    if status in (401, 403):
        return "denied" if name == "login" else "refused"
    if status in (404, 410):
        return "missing" if name in ("raw", "list") else "layout"
    partly = name == "raw" and status != 200  # 206 is a part, 203 what a proxy made of it
    return "layout" if status >= 300 or partly else ""
