"""The source of a message, octet for octet but for line ends, which become CRLF.

Rule of the file: what does not begin like a message is none, however the answer is headed;
and an answer is known to be whole or it is not.
"""

from __future__ import annotations

import codecs
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mailflow.errors import BadMailError, UnavailableError, from_os
from mailflow.lines import crlf_pieces
from mailflow.mail import Content, OctetFile, Octets
from mailflow.record import NamedTuple
from mailflow_webmail.page import Page

if TYPE_CHECKING:
    from typing import BinaryIO

    import requests

    from mailflow_webmail.entry import Facts
    from mailflow_webmail.listing import Row
    from mailflow_webmail.steps import Steps

SHORT = 1 << 20
"""Octets of a message that is kept in memory."""

SHOWN = 32 << 20
"""Octets of a page that a message is shown in."""

BEGIN = 1024
"""Octets in which the first header field has its colon."""

_FIELD = re.compile(rb"(?:>?From [^\n]*\n)?[!-9;-~]+[ \t]*:")


class Source(NamedTuple):
    """A message. `proven`: its length is what the webmail said before or after it."""

    content: Content
    proven: bool


class Sources:
    """Reads the sources of messages with the steps of a site. Any thread may read."""

    def __init__(self, steps: Steps, scratch: str, most: int | None) -> None:
        """Nothing is kept of a message with more octets than `most`."""
        self._steps = steps
        self._step = steps.site.raw
        self._scratch = scratch
        self._most = most

    def read(self, row: Row, facts: Facts) -> Source:
        """Raises GoneError where the webmail says it is missing, UnavailableError where
        nothing has come, BadMailError for one that is too large."""
        most = self._most
        if most is not None and row.get("size", "").isdigit() and int(row["size"]) > most:
            raise self._too_large(row)
        for each in self._step.before:
            self._steps.ask(each, facts, row)
        method, url, what = self._steps.request("raw", {**facts, **row})
        browser = self._steps.browser
        with browser.answer(method, url, **what) as answer:
            head = Page(answer.url, answer.status_code, answer.headers, b"")
            if self._step.pre is not None or "html" in head.type or not self._is_source(head):
                limit = SHOWN if most is None else min(SHOWN, 2 * most + SHORT)
                octets = b"".join(browser.pieces(answer, limit))
                page = Page(answer.url, answer.status_code, answer.headers, octets)
                return self._shown(page, row, facts)
            limit = 1 << 62 if most is None else 2 * most + SHORT
            return self._streamed(answer, browser.pieces(answer, limit), row)

    def _is_source(self, head: Page) -> bool:
        return head.status < 300 and all(head.holds(each) for each in self._step.expect)

    def _shown(self, page: Page, row: Row, facts: Facts) -> Source:
        """The source that stands in a page."""
        pre = self._step.pre
        tag = None if pre is None else page.soup.select_one(pre)
        met = page.status < 300 and all(page.holds(each) for each in self._step.expect)
        if tag is None or not met:
            self._steps.checked("raw", page, facts)
            if pre is None:
                what = f"a page of the type {page.type!a}, and no source"
                raise self._steps.layout("raw", "expect", page, what)
            raise self._steps.layout("raw", "pre", page, f"there is no {pre}")
        text = tag.get_text().lstrip("\r\n")
        charset = page.soup.original_encoding or "utf-8"
        try:
            page.octets.decode(charset)
            octets = text.encode(charset)
        except (UnicodeError, LookupError):
            raise BadMailError(
                f"{self._steps.site.name}: raw: the page has octets that are no {charset}: what"
                " stands in it is not the source as it was"
            ) from None
        return self._kept([octets], row, proven=is_measured(page.headers))

    def _streamed(self, answer: requests.Response, pieces: Iterable[bytes], row: Row) -> Source:
        return self._kept(pieces, row, proven=is_measured(answer.headers))

    def _kept(self, pieces: Iterable[bytes], row: Row, proven: bool) -> Source:
        """In memory, or in a file of the scratch directory, which is the caller's then."""
        arrival = Arrival(self._scratch, self._most)
        measured = Measured(pieces)
        try:
            for piece in crlf_pieces(_recoded(measured, self._step.recode)):
                arrival.add(piece)
            if arrival.is_over:
                raise self._too_large(row)
            self._check(arrival.begin)
            return Source(arrival.finish(), proven or str(measured.octets) == row.get("size"))
        except UnicodeError:
            raise BadMailError(
                f"{self._steps.site.name}: raw: the source is not {' in '.join(self._step.recode)}"
            ) from None
        finally:
            arrival.drop()

    def _check(self, begin: bytes) -> None:
        """Raises UnavailableError for what is no message: an outage looks like that."""
        name = self._steps.site.name
        if not begin.strip():
            raise UnavailableError(f"{name}: raw: the source is empty", empty=True)
        if not _FIELD.match(begin):
            raise UnavailableError(
                f"{name}: raw: what came does not begin with a header field, so it is no message",
                empty=True,
            )

    def _too_large(self, row: Row) -> BadMailError:
        where = f"message {row['id']!a} at {self._steps.site.name}"
        return BadMailError(f"{where} is over max_size")


class Measured:
    """Pieces, and how many octets they were."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.octets = 0
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.octets += len(piece)
            yield piece


class Arrival:
    """The octets of one message: in memory while it is short, in a file from then on. Nothing
    is kept of more than `most`. `begin` is what it begins with."""

    def __init__(self, directory: str, most: int | None) -> None:
        self.begin = b""
        self.is_over = False
        self._directory = directory
        self._most = most
        self._octets = 0
        self._parts: list[bytes] = []
        self._path = ""
        self._file: BinaryIO | None = None

    def add(self, piece: bytes) -> None:
        """Raises UnavailableError where it cannot be written."""
        if len(self.begin) < BEGIN:
            self.begin += piece[: BEGIN - len(self.begin)]
        self._octets += len(piece)
        if self._most is not None and self._octets > self._most:
            self.is_over = True
            self.drop()
            return
        if self._file is None and self._octets <= SHORT:
            self._parts.append(piece)
            return
        try:
            if self._file is None:
                self._path = os.path.join(
                    self._directory, f"webmail-{os.getpid()}-{time.monotonic_ns()}"
                )
                self._file = open(self._path, "xb")  # noqa: SIM115
                self._file.writelines(self._parts)
                self._parts.clear()
            self._file.write(piece)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None

    def finish(self) -> Content:
        """The whole message. The caller owns the file from now on."""
        if self._file is None:
            return Octets(b"".join(self._parts))
        try:
            self._file.close()
            content = OctetFile(self._path)
        except OSError as error:
            raise from_os(error, f"write {self._path}") from None
        self._file = None
        return content

    def drop(self) -> None:
        """Forget what was not finished."""
        self._parts.clear()
        if self._file is not None:
            with suppress(OSError):  # the same full disk as before
                self._file.close()
            with suppress(OSError):
                os.unlink(self._path)
            self._file = None


def is_measured(headers: Mapping[str, str]) -> bool:
    """Whether an answer says where it ends (RFC 9112, 6.3), so that a cut one was an error."""
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return True
    return headers.get("Content-Length", "").strip().isdigit()


def _recoded(pieces: Iterable[bytes], recode: tuple[str, ...]) -> Iterable[bytes]:
    """The octets before they were taken for `recode[1]` and written as `recode[0]`."""
    if not recode:
        return pieces
    return _decoded(pieces, *recode)


def _decoded(pieces: Iterable[bytes], written: str, taken: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(written)()
    for piece in pieces:
        yield decoder.decode(piece).encode(taken)
    yield decoder.decode(b"", True).encode(taken)
