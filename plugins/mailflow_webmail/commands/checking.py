"""Every step of a site, tried at a live webmail, one after the other.

Rule of the file: nothing is changed there but the messages that are named for it; a step that
could not be tried is never said to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

from mailflow.errors import MailflowError
from mailflow.kept import drop
from mailflow.record import NamedTuple
from mailflow.values import counted
from mailflow_webmail.account.listing import PAGE
from mailflow_webmail.choice import Folder, matching
from mailflow_webmail.definition.names import OF_A_MAIL

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Row, Session
    from mailflow_webmail.web.page import Page

CHANGES = ("seen", "trash", "delete")
"""Steps that change a message, in the order in which they can all be done."""

NOT_LOGGED_IN = "nobody is logged in"


class Outcome(NamedTuple):
    """What came of a step: `holds` is None where it was not tried. `error` is why not, where
    `holds` is False; else `text` says what was found, or why nothing was."""

    step: str
    holds: bool | None
    text: str
    error: MailflowError | None = None


class Check:
    """The steps of one session's site."""

    def __init__(self, session: Session, folder: str, change: Sequence[str]) -> None:
        """`folder` is listed, by its id or name; `change` are ids of messages in it that may be
        changed: the first is marked and moved to the trash, the last is deleted."""
        self._session = session
        self._site = session.site
        self._folder = folder
        self._change = change
        self._rows: list[Row] = []
        self._composed: Page | None = None

    def outcomes(self) -> Iterator[Outcome]:
        """Of each step that the site has, as it is tried."""
        entered = self._tried("login", self._login)
        yield entered
        steps: dict[str, Callable[[], str]] = {
            "folders": self._folders, "list": self._list, "raw": self._raw,
            **{name: lambda name=name: self._changed(name) for name in CHANGES},  # type: ignore[misc]
            "compose": self._compose, "write": lambda: self._form("write"),
            "attach": self._attach, "send": lambda: self._form("send"),
            "sent": lambda: self._not_tried("nothing was sent"), "logout": self._logout,
        }  # fmt: skip
        for name in filter(self._site.has, steps):
            if entered.holds:
                yield self._tried(name, steps[name])
            else:
                yield Outcome(name, None, NOT_LOGGED_IN)

    def _tried(self, name: str, what: Callable[[], str]) -> Outcome:
        try:
            return Outcome(name, True, what())
        except _NotTriedError as error:
            return Outcome(name, None, error.text)
        except MailflowError as error:
            return Outcome(name, False, error.text, error)

    def _not_tried(self, why: str) -> NoReturn:
        raise _NotTriedError(why)

    def _login(self) -> str:
        self._session.log_in()
        kept = ", ".join(self._site.login.capture)
        return f"logged in; captured {kept}" if kept else "logged in"

    def _folders(self) -> str:
        rows = self._session.folders()
        found = [Folder(row["id"], row.get("name") or row["id"]) for row in rows]
        meant = matching(self._folder, found)
        if meant:
            self._folder = meant[0].id
        names = [each.name for each in found]
        return (
            f"{counted(len(names), 'folder')}: {', '.join(names[:10])}{' ...' * (len(names) > 10)}"
        )

    def _list(self) -> str:
        self._rows = self._session.listing(self._folder)
        pages = len({row[PAGE] for row in self._rows})
        text = f"{counted(len(self._rows), 'message')} in {self._folder!r}"
        if not self._rows:
            return f"{text}; rows were not tried: name a --folder with mail"
        text += f" on {counted(pages, 'page')}"
        alone = pages == 1 and self._site.list_.next_ is not None
        return (
            f"{text}; `next` was not tried: name a --folder with several pages" if alone else text
        )

    def _raw(self) -> str:
        if not self._rows:
            self._not_tried("there is no message")
        content = self._session.raw(self._rows[0])
        try:
            return f"message {self._rows[0]['id']} has {content.size} octets"
        finally:
            drop(content)

    def _changed(self, how: str) -> str:
        if not self._change:
            self._not_tried("it changes a message: name one with --change ID")
        moved = self._site.has("trash") and how == "delete" and len(self._change) == 1
        if moved:
            self._not_tried("the message is in the trash: name a second one with --change ID")
        wanted = self._change[-1] if how == "delete" else self._change[0]
        rows = [row for row in self._rows if row["id"] == wanted]
        if not rows:
            self._not_tried(f"there is no message {wanted} in {self._folder!r}")
        self._session.remove(rows, how)
        if how == "seen":
            return f"message {wanted} was marked as read, which no list proves"
        gone = "moved to the trash" if how == "trash" else "deleted"
        return f"message {wanted} was {gone}: a new list does not have it"

    def _compose(self) -> str:
        nothing = dict.fromkeys(OF_A_MAIL, "")
        self._composed = self._session.do("compose", nothing)
        return "the page is as expected"

    def _form(self, name: str) -> str:
        if name == "send" and self._site.has("write"):
            self._not_tried("its page comes after `write`, which writes a draft")
        page = self._composed
        if page is None:
            self._not_tried("there is no page of `compose`")
        step = self._site.step(name)
        with self._session.steps.reading(name, "form", page):
            form = page.soup.select_one(step.form or "form")
        if form is None:
            raise self._session.steps.layout(name, "form", page, f"there is no {step.form}")
        there = {str(each.get("name", "")) for each in form.select("[name]")}
        for field in (*step.fill, *([step.click] if step.click else [])):
            if field not in there:
                key = "click" if field == step.click else f"fill.{field}"
                raise self._session.steps.layout(name, key, page, f"the form has no {field!r}")
        return f"the form has its {counted(len(step.fill), 'field')}; nothing was sent"

    def _attach(self) -> str:
        self._not_tried("it uploads a file")

    def _logout(self) -> str:
        if self._session.browser.is_lent:
            self._not_tried("the session is that of a browser")
        self._session.do("logout", {})
        return "logged out"


class _NotTriedError(MailflowError):
    """A step that nothing is known of."""
