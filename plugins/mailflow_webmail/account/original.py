"""The source of a message, octet for octet but for line ends, which become CRLF.

Rule of the file: what does not begin like a message is none, however the answer is headed;
and an answer is known to be whole or it is not.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mailflow.collect import collect
from mailflow.errors import BadMailError, PeerError, UnavailableError
from mailflow.lines import crlf_pieces
from mailflow.mail import Content
from mailflow.record import NamedTuple
from mailflow_webmail.rows import size_of
from mailflow_webmail.web.browser import PAGE_LIMIT
from mailflow_webmail.web.page import Page

if TYPE_CHECKING:
    from mailflow_webmail.account.entry import Facts
    from mailflow_webmail.account.listing import Row
    from mailflow_webmail.account.steps import Steps

SHOWN = 32 << 20
"""Octets of a page that a message is shown in, which is read into memory."""

BEGIN = 1 << 16
"""Octets in which the first header field has its colon, and one stands that tells mail."""

MOST = 2 << 30
"""Octets of a message where the user sets no limit: a disk has an end, a stream may have none."""

_FIELD = re.compile(rb"(?:>?From [^\n]*\n)?[!-9;-~]+[ \t]*:")

_OF_MAIL = re.compile(
    rb"^(?:from|sender|reply-to|to|cc|bcc|subject|message-id|in-reply-to|references|received"
    rb"|resent-[a-z-]+|return-path|delivered-to|envelope-to|x-original-to|dkim-signature)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
"""Fields of mail, and of nothing else that a server writes: "Error: not found" begins like a field,
and so do what HTTP and CGI have before a page."""

_BLANK = re.compile(rb"^\r?\n", re.MULTILINE)


class NoMessageError(UnavailableError):
    """What has come is no message: it has gone, or the webmail is out of order."""


class Source(NamedTuple):
    """A message. `proven`: had it been cut on its way, that would have been noticed."""

    content: Content
    proven: bool


class Sources:
    """Reads the sources of messages with the steps of a site. Any thread may read."""

    def __init__(self, steps: Steps, scratch: str, most: int | None) -> None:
        """Nothing is kept of a message with more octets than `most`, or MOST."""
        self._steps = steps
        self._step = steps.site.raw
        self._name = f"{steps.site.name}: raw"
        self._scratch = scratch
        self._parsing = threading.Lock()
        self._most = MOST if most is None else most
        self._limit = "2 GiB" if most is None else "max_size"

    def read(self, row: Row, facts: Facts) -> Source:
        """Raises GoneError where the webmail says it is missing, NoMessageError where no
        message has come, BadMailError for one that is too large."""
        size = size_of(row)
        if size is not None and size > self._most:
            raise self._too_large(row, self._limit)
        own = dict(row)
        for each in self._step.before:
            self._steps.ask(each, facts, own)
        given = self._steps.hooked("raw", {**facts, **own})
        if given is not None:
            if self._step.pre is None and self._is_source(given) and not given.is_html:
                return self._kept([given.octets], row, proven=True)
            return self._shown(given, row, proven=True)
        method, url, what = self._steps.request("raw", {**facts, **own})
        browser = self._steps.browser
        with browser.answer(method, url, **what) as answer:
            head = Page(answer.url, answer.status_code, answer.headers, b"")
            if self._step.pre is None and self._is_source(head) and not head.is_html:
                pieces = browser.pieces(answer, 2 * MOST)
                return self._kept(pieces, row, proven=answer.says_its_end)
            most = PAGE_LIMIT if self._step.pre is None else 2 * SHOWN
            octets = b"".join(self._within(browser.pieces(answer, most), row))
            page = Page(answer.url, answer.status_code, answer.headers, octets)
            return self._shown(page, row, proven=answer.says_its_end)

    def _within(self, pieces: Iterable[bytes], row: Row) -> Iterator[bytes]:
        """Those of a page. Raises BadMailError where the message in it is too large."""
        octets = 0
        for piece in pieces:
            octets += len(piece)
            if octets > SHOWN and self._step.pre is not None:
                raise self._too_large(row, "the 32 MiB that a page may have")
            yield piece

    def _is_source(self, head: Page) -> bool:
        """Whether it is headed like a source: no page is, that says anything else."""
        expected = [each.status for each in self._step.expect]
        if head.status != 200 and head.status not in expected:  # such as 206, a part of one
            return False
        return all(head.holds_head(each) for each in self._step.expect)

    def _shown(self, page: Page, row: Row, *, proven: bool) -> Source:
        """The source that stands in a page."""
        with self._parsing:  # a tree has many times the octets of its page
            octets = self._found(page)
            page.__dict__.pop("soup", None)
        return self._kept([octets], row, proven=proven)

    def _found(self, page: Page) -> bytes:
        pre = self._step.pre
        with self._steps.reading("raw", "pre", page):
            text = None if pre is None or not self._is_source(page) else page.pre(pre)
            if text is not None and not all(page.holds(each) for each in self._step.expect):
                text = None
        if text is None:
            self._steps.checked("raw", page)
            if pre is not None:
                raise self._steps.layout("raw", "pre", page, f"there is no {pre}")
            what = "the source came as a page, and no `pre` says where in it"
            raise self._steps.layout("raw", "pre", page, what)
        charset = "utf-8" if self._step.recode else page.charset
        try:
            return text.encode(charset)
        except UnicodeError:
            raise self._unreadable(charset) from None

    def _kept(self, pieces: Iterable[bytes], row: Row, *, proven: bool) -> Source:
        """In memory, or in a file of the scratch directory, which is the caller's then."""
        measured = _Measured(pieces)
        try:
            recoded = _recoded(measured, self._step.recode)
            content = collect(self._sound(crlf_pieces(recoded), row), self._scratch, "webmail")
        except UnicodeError:
            raise self._unreadable(" in ".join(self._step.recode)) from None
        return Source(content, proven or measured.octets == size_of(row))

    def _sound(self, pieces: Iterable[bytes], row: Row) -> Iterator[bytes]:
        """The pieces of what begins like a message. Raises NoMessageError, BadMailError."""
        begin, checked, octets = b"", False, 0
        for piece in pieces:
            octets += len(piece)
            if octets > self._most:
                raise self._too_large(row, self._limit)
            if not checked:
                begin += piece
                checked = len(begin) >= BEGIN
                if checked:
                    self._check(begin)
            yield piece
        if not checked:
            self._check(begin)

    def _check(self, begin: bytes) -> None:
        if not begin.strip():
            raise NoMessageError(f"{self._name}: the source is empty")
        if not _FIELD.match(begin):
            raise NoMessageError(
                f"{self._name}: what came does not begin with a header field: it is no message"
            )
        blank = _BLANK.search(begin)
        if not _OF_MAIL.search(begin[: blank.start()] if blank else begin):
            raise NoMessageError(
                f"{self._name}: what came has no header field that mail has: it is no message"
            )

    def _unreadable(self, encoding: str) -> PeerError:
        return PeerError(
            f"{self._name}: the source is not in {encoding}, so that its octets are not known"
        )

    def _too_large(self, row: Row, limit: str) -> BadMailError:
        where = f"message {row['id']!r} in {row['folder']!r} at {self._steps.site.name}"
        return BadMailError(f"{where} is over {limit}")


class _Measured:
    """Pieces, and how many octets they were."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.octets = 0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.octets += len(piece)
            yield piece


def _recoded(pieces: Iterable[bytes], recode: Sequence[str]) -> Iterable[bytes]:
    """The octets as they were before they were encoded once too often."""
    return _decoded(pieces, *recode) if recode else pieces


def _decoded(pieces: Iterable[bytes], written: str, taken: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(written)()
    for piece in pieces:
        yield decoder.decode(piece).encode(taken)
    yield decoder.decode(b"", True).encode(taken)
