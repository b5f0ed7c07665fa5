"""A letter, written into the compose form of a webmail and sent.

    sender.post(letter, commit)        `commit` stands right before the request that sends

Rule of the file: it was sent where the answer shows what the site expects; it was not where
the webmail says why; all else, a lost answer above all, is a doubt and raised as such.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import unquote_plus, urljoin, urlsplit

from mailflow.addresses import addresses, same
from mailflow.errors import (
    BadMailError,
    GoneError,
    InUseError,
    MailflowError,
    RefusedError,
    UnavailableError,
)
from mailflow.kept import drop
from mailflow.log import clean
from mailflow.mail import Header, Octets, head
from mailflow_webmail.account.original import Sources
from mailflow_webmail.definition.decoding import number
from mailflow_webmail.definition.language import SENDING
from mailflow_webmail.definition.names import OF_A_MAIL, fill, named
from mailflow_webmail.errors import ExpiredError, LayoutError
from mailflow_webmail.sending.letter import addressed
from mailflow_webmail.web.upload import Upload

if TYPE_CHECKING:
    from bs4.element import Tag

    from mailflow.halt import Halt
    from mailflow_webmail.account.entry import Facts
    from mailflow_webmail.account.session import Session
    from mailflow_webmail.definition.language import Site
    from mailflow_webmail.sending.letter import Letter
    from mailflow_webmail.sending.parts import File
    from mailflow_webmail.web.page import Page

T = TypeVar("T")

WORDS = 200
"""Characters of what a webmail says that are passed on."""

GRACE = 10.0
"""Seconds that a mail under way has to be answered when the engine stops: what is known then
need not be asked."""

TURN = 30.0
"""Seconds to wait for another session of the account to have done its work."""

PAUSE = 0.2

_BARE_LF = re.compile(rb"(?<!\r)\n")

_PLAIN_ID = re.compile(r"<[!#-;=?-\[\]-~]+>")
"""One that may stand in a search of whatever language."""


class NotSentError(MailflowError):
    """The webmail was asked to send, and did not; as temporary as what it says."""

    def __init__(self, cause: MailflowError) -> None:
        super().__init__(cause.text, **cause.fields)
        self.temporary = cause.temporary


class Draft(NamedTuple):
    """A form that is filled in but for its last button."""

    page: Page
    facts: Mapping[str, str]
    files: tuple[File, ...]
    """Those that go with the form itself."""


def carried(site: Site) -> frozenset[str]:
    """What of a mail the site's steps fill in somewhere. Raises ConfigError where it sends
    nothing."""
    found: set[str] = set()
    for name in ("compose", "send"):
        site.step(name)
    for name in SENDING:
        if name != "sent" and site.has(name):
            found.update(each for _, text in site.step(name).templates() for each in named(text))
    return frozenset(found & {*OF_A_MAIL})


class Sender:
    """Sends by the form of one session's webmail."""

    def __init__(self, session: Session, scratch: str, halt: Halt) -> None:
        session.give_way()
        self._session = session
        self._halt = halt
        self._site = session.site
        self._steps = session.steps
        self._browser = session.browser
        self._sources = Sources(session.steps, scratch, None)

    def choices(self) -> list[str]:
        """Whom the form sends from; empty where it takes what is written."""
        nothing = dict.fromkeys(OF_A_MAIL, "")
        page = self._work(lambda known: self._steps.ask("compose", known, nothing))
        field = self._from_field(page)
        return [_said(each) for each in field.select("option")] if field.name == "select" else []

    def post(self, letter: Letter, commit: Callable[[], None]) -> None:
        """Write it and send it. Nothing has gone where this raises before the commit:
        BadMailError for what the form does not take, RefusedError where the webmail refuses a
        file, or what a session raises."""

        def whole(known: Facts) -> None:
            self._send(self._drafted(letter, known), commit)

        self._work(whole)

    def _send(self, draft: Draft, commit: Callable[[], None]) -> None:
        """After the commit raises NotSentError where that is certain; after any other error
        nobody knows."""
        uploads = self._uploads(draft.files)
        form = self._steps.form("send", draft.page, draft.facts, uploads)
        self._browser.places.check(form.url)
        commit()
        try:
            self._browser.grace = GRACE
            page = self._browser.press(form)
        except MailflowError as error:
            if error.fields.get("sent", True):
                raise
            raise NotSentError(error) from None
        finally:
            self._browser.grace = 0.0
        if page.status == 413:
            raise NotSentError(RefusedError(f"{self._site.name}: send: the mail is too large"))
        if page.status >= 500:
            raise UnavailableError(f"{self._site.name}: send: the answer is HTTP {page.status}")
        try:
            self._checked("send", page)
        except LayoutError:
            raise
        except ExpiredError as error:
            if page.led > 1 or (page.led == 1 and not self._is_entrance(page)):
                raise UnavailableError(f"{error.text}, maybe after it was sent") from None
            raise NotSentError(error) from None
        except MailflowError as error:
            raise NotSentError(error) from None

    def _is_entrance(self, page: Page) -> bool:
        """Whether it is where one logs in, to which those are led who are not."""
        url = urlsplit(urljoin(self._browser.url, self._site.login.get or ""))
        return urlsplit(page.url).path == url.path

    def sent_to(self, letter: Letter) -> frozenset[str]:
        """Who has got this mail, in the form of `same`, as what the webmail keeps of it says;
        nobody, too, where that cannot be seen."""
        if not self._site.has("sent") or not _PLAIN_ID.fullmatch(letter.message_id):
            return frozenset()
        found: set[str] = set()
        for row in self._work(lambda known: self._candidates(letter, known)):
            identifier, recipients = addressed(self._header(row))
            if identifier == letter.message_id:
                found |= recipients
        return frozenset(found)

    def _header(self, row: Mapping[str, str]) -> Header:
        """Of what the webmail keeps; empty where that has gone. It is not read by the session,
        for which messages are those of its listings."""
        try:
            kept = self._work(lambda known: self._sources.read(row, known)).content
        except GoneError:
            return Header()
        try:
            return Header(head(kept))
        finally:
            drop(kept)

    def _work(self, what: Callable[[Facts], T]) -> T:
        """As of a session, after whoever else is at work there for this account: what fetches
        the mail that is to be sent, where a second login would end the first."""
        until = time.monotonic() + TURN
        while True:
            try:
                return self._session.work(what)
            except InUseError:
                if time.monotonic() > until or self._halt.wait(PAUSE):
                    raise

    def _candidates(self, letter: Letter, known: Facts) -> list[Mapping[str, str]]:
        more = letter.facts()
        page = self._steps.ask("compose", known, more)
        step = self._site.sent
        if step is None:
            return []
        with self._steps.reading("sent", "folder_at", page):
            folder = step.folder or (step.folder_at and page.find(step.folder_at))
        if not folder:
            return []
        more["folder"] = folder
        page = self._steps.ask("sent", known, more)
        return [{**row, "folder": folder} for row in self._steps.rows("sent", page, step.rows)]

    def _drafted(self, letter: Letter, known: Facts) -> Draft:
        self._takes(letter)
        more = letter.facts()
        page = self._steps.ask("compose", known, more)
        more["from"] = self._from(page, letter)
        self._fits(page, {**known, **more})
        if self._site.has("write"):
            page = self._steps.submitted("write", page, {**known, **more})
            more |= self._steps.captured("write", self._checked("write", page), known)
        with_form: list[File] = []
        for place, file in enumerate(letter.files, 1):
            one = {**known, **more, "number": str(place)}
            page = self._attached(file, page, one, with_form)
        return Draft(page, {**known, **more}, tuple(with_form))

    def _takes(self, letter: Letter) -> None:
        """Raises BadMailError for files that would not arrive."""
        step = self._site.attach
        if step is None and letter.files:
            raise BadMailError(f"{self._site.name} takes no files")
        if step is None or step.exact or "line-ends" in letter.loses:
            return
        for each in letter.files:
            if b"\0" not in each.octets and _BARE_LF.search(each.octets):
                raise BadMailError(
                    f"{self._site.name} would change the line ends of the file {each.name!a}"
                    ' (loses = ["line-ends"])'
                )

    def _attached(
        self, file: File, page: Page, one: Mapping[str, str], with_form: list[File]
    ) -> Page:
        """The page that is open then."""
        step = self._site.attach
        assert step is not None  # noqa: S101  # `_takes` has looked
        uploads = {step.file: [_upload(file)]}
        if step.form is not None:
            page = self._steps.submitted("attach", page, one, uploads)
            self._checked("attach", page)
            with self._steps.reading("attach", "added", page):
                added = page.soup.select(step.added) if step.added else None
            if added is not None and len(added) != int(one["number"]):
                raise self._steps.layout("attach", "added", page, f"not one {step.added} a file")
            return page
        if step.post is None:
            with_form.append(file)
            return page
        method, url, what = self._steps.request("attach", one)
        what["data"] = list(what["data"].items())
        answer = self._browser.page(method, url, files=[(step.file, _upload(file))], **what)
        self._checked("attach", answer)
        return page

    def _uploads(self, files: Sequence[File]) -> Mapping[str, Sequence[Upload]]:
        step = self._site.attach
        return {step.file: [_upload(each) for each in files]} if step and files else {}

    def _checked(self, name: str, page: Page) -> Page:
        """As of Steps, and with the webmail's own words where a signal has them."""
        try:
            return self._steps.checked(name, page)
        except (LayoutError, ExpiredError):
            raise
        except MailflowError as error:
            with self._steps.reading(name, "signal", page):
                words = self._words(name, page)
            raise type(error)(f"{error.text}{words}", **error.fields) from None

    def _words(self, name: str, page: Page) -> str:
        for signal in self._site.signal:
            if name in signal.at and page.holds(signal):
                said = page.find(signal) or ""
                said = unquote_plus(said) if signal.url else said.replace('\\"', '"')
                said = clean(" ".join(said.split()))[:WORDS]
                return f": {said}" if said else ""
        return ""

    def _from(self, page: Page, letter: Letter) -> str:
        """What the form's field for the sender gets: the identity, or the address."""
        field = self._from_field(page)
        sender = letter.sender
        if field.name != "select":
            fixed = field.has_attr("readonly") or field.get("type") == "hidden"
            offered = _said(field)
            if fixed and not _is(offered, sender.address):
                raise BadMailError(_no_identity(sender.address, [offered]))
            return offered if fixed else letter.typed_sender
        options = field.select("option")
        fitting = [each for each in options if _is(_said(each), sender.address)]
        if not fitting:
            raise BadMailError(_no_identity(sender.address, [_said(each) for each in options]))
        exact = [each for each in fitting if _name(_said(each)) == sender.name]
        if not exact and sender.name and "name" not in letter.loses:
            raise BadMailError(
                f"the webmail sends as {clean(_said(fitting[0]))} and not as"
                f' {clean(sender.name)}: name it so there, or say loses = ["name"]'
            )
        chosen = (exact or fitting)[0]
        return str(chosen.get("value", chosen.get_text()))

    def _from_field(self, page: Page) -> Tag:
        name, fields = self._fields(page)
        step = self._site.step(name)
        wanted = [key for key, text in step.fill.items() if text == "{from}"]
        field = fields.get(wanted[0]) if wanted else None
        if field is None:
            raise self._steps.layout(name, "fill", page, "the form has no field for {from}")
        return field

    def _fits(self, page: Page, facts: Mapping[str, str]) -> None:
        """Raises BadMailError where a field would cut what it gets."""
        name, fields = self._fields(page)
        for key, text in self._site.step(name).fill.items():
            most = number(str(fields[key].get("maxlength", ""))) if key in fields else None
            if most is not None and len(fill(text, facts)) > most:
                hint = "; a lower `recipients_max` makes several forms" if "{bcc}" in text else ""
                raise BadMailError(f"the form takes {most} characters as {key} at most{hint}")

    def _fields(self, page: Page) -> tuple[str, dict[str, Tag]]:
        """The step that fills in the form that the page of `compose` shows, and its fields."""
        name = "write" if self._site.has("write") else "send"
        with self._steps.reading(name, "form", page):
            form = page.soup.select_one(self._site.step(name).form or "form")
        found = form.select("input, select, textarea") if form is not None else []
        return name, {str(each.get("name", "")): each for each in found}


def _upload(file: File) -> Upload:
    return Upload(file.name, file.type, Octets(file.octets))


def _said(field: Tag) -> str:
    """What a field or an option of one says of an address."""
    text = field.get_text(" ", strip=True)
    return text if "@" in text else str(field.get("value", ""))


def _is(said: str, address: str) -> bool:
    return same(address) in map(same, addresses(said).found)


def _name(said: str) -> str:
    """The name before an address, as it is meant."""
    name = " ".join(said.rpartition("<")[0].split())
    if name[:1] == '"' == name[-1:]:
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _no_identity(address: str, offered: Sequence[str]) -> str:
    others = ", ".join(clean(each) for each in offered if each) or "nobody"
    return f"it is from {address}, and the webmail sends as {others}"
