"""What a browser has recorded: a HAR file (HTTP Archive 1.2), read as requests and pages.

Rule of the file: browsers differ. What is missing, cut or marked wrongly is left out, and what
cannot be read at all is one line that says so.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from mailflow.errors import MailflowError
from mailflow_webmail.web.page import TAGS, Page

MOST = 256 << 20
"""Octets of a file; one of a webmail's whole visit has a tenth."""

BODY = 16 << 20
"""Octets of an answer that is looked into."""

BESIDE = ("image/", "font/", "audio/", "video/", "text/css", "text/javascript", "application/font",
          "application/javascript", "application/x-javascript", "application/wasm")  # fmt: skip
"""Types that a page is drawn with."""

HOW = (
    "In the browser, open the network tab of its developer tools, switch on that the log is kept"
    " (Chromium: Preserve log; Firefox: Persist Logs) and the cache off; log in, open a folder and"
    " its second page, show the source of a message or save it, delete one, log out; then save all"
    " as HAR, with contents."
)

_HALF = re.compile("[\ud800-\udfff]")

Fields = tuple[tuple[str, str], ...]


class RecordingError(MailflowError):
    """A recording that no definition can be made of."""

    exit_code = 65


class Exchange(NamedTuple):
    """A request and its answer. `page` has no octets where the browser kept none, as of what it
    has saved as a file; `redirect` is where it leads, "" nowhere."""

    method: str
    url: str
    query: Fields
    data: Fields
    headers: Mapping[str, str]
    page: Page
    redirect: str

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def said(self) -> Fields:
        """What is asked with, beside the path."""
        return self.query + self.data

    @property
    def values(self) -> set[str]:
        """The same, and the parts of the path."""
        parts = (unquote(each) for each in self.path.split("/") if each)
        return {*parts, *(value for _, value in self.said if value)}


def exchanges(path: str) -> list[Exchange]:
    """Those of a file, in their order, but for images, styles and scripts. Raises
    RecordingError."""
    found = list(_exchanges(_entries(path), path))
    if not found:
        raise RecordingError(f"{path}: no page of a webmail was recorded. {HOW}")
    return found


def _entries(path: str) -> list[tuple[int, Any]]:
    """Each with its number in the file, from 1, in the order in which they began."""
    try:
        if os.stat(path).st_size > MOST:
            raise RecordingError(
                f"{path}: over {MOST >> 20} MiB: record the few clicks alone. {HOW}"
            )
        with open(path, "rb") as file:
            found = json.loads(file.read().removeprefix(b"\xef\xbb\xbf"))
        entries = found["log"]["entries"]
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RecordingError(f"{path}: this is no HAR file") from None
    numbered = enumerate(entries if isinstance(entries, list) else (), 1)
    return sorted((each for each in numbered if isinstance(each[1], dict)), key=_begun)


def _begun(entry: tuple[int, Mapping[str, Any]]) -> str:
    """When it began: Firefox has the order in which answers came."""
    return str(entry[1].get("startedDateTime", ""))


def _exchanges(entries: list[tuple[int, Any]], path: str) -> Iterator[Exchange]:
    for number, each in entries:
        try:
            found = _exchange(each["request"], each["response"], f"{path}: entry {number}")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
        if found is not None:
            yield found


def _exchange(
    request: Mapping[str, Any], response: Mapping[str, Any], where: str
) -> Exchange | None:
    """None for what is left out. Raises RecordingError where JSON has said half a character, which
    nothing could be asked with and no definition could say."""
    url = str(request["url"]).partition("#")[0]
    status = int(response["status"])
    content = response.get("content") or {}
    headers = _headers(response)
    type_ = str(headers.get("Content-Type") or content.get("mimeType") or "")
    if not url.startswith(("http://", "https://")) or not status:
        return None
    if type_.lower().startswith(BESIDE):
        return None
    headers["Content-Type"] = type_
    redirect = str(response.get("redirectURL") or headers.get("Location", ""))
    octets = _body(content)
    if octets.count(b"<") > TAGS and "html" in type_:  # nothing would look into it
        octets = b""
    method, data, sent = str(request["method"]).upper(), _posted(request), _headers(request)
    told = (*chain(*data), *chain(*sent.items()), *chain(*headers.items()), redirect)
    if any(map(_HALF.search, (method, url, *told))):
        raise RecordingError(
            f"{where}, {url.partition('?')[0]!a}, has half a character (a lone surrogate) in what"
            " was asked or in the headers: take it out of the file, or record it again"
        )
    return Exchange(
        method, url, tuple(parse_qsl(urlsplit(url).query, keep_blank_values=True)), data, sent,
        Page(url, status, headers, octets), redirect if status >= 300 else "",
    )  # fmt: skip


def _headers(message: Mapping[str, Any]) -> dict[str, str]:
    """By names as they are mostly written: HTTP/2 has them in small letters."""
    return {
        str(each["name"]).title(): str(each["value"])
        for each in message.get("headers") or () if isinstance(each, dict)
    }  # fmt: skip


def _body(content: Mapping[str, Any]) -> bytes:
    """What an answer held, in UTF-8 where the file has it as text; Firefox may call that base64."""
    text = str(content.get("text") or "")
    if content.get("encoding") == "base64":
        try:
            return base64.b64decode(text, validate=True)[:BODY]
        except (ValueError, binascii.Error):
            pass
    return b"\xef\xbb\xbf"[: 3 * bool(text)] + text.encode("utf-8", "replace")[:BODY]


def _posted(request: Mapping[str, Any]) -> Fields:
    """The fields of a form. Chromium has them as text, and encoded in `params`, Firefox decoded in
    `params`, or with headers before the text."""
    posted = request.get("postData") or {}
    text = str(posted.get("text") or "")
    type_ = str(posted.get("mimeType") or "").lower()
    if (text and "urlencoded" in type_) or not type_:
        last = text.replace("\r\n", "\n").rpartition("\n\n")[2]
        found = tuple(parse_qsl(last, keep_blank_values=True))
        if found:
            return found
    params = posted.get("params") or ()
    return tuple((str(each["name"]), str(each.get("value") or "")) for each in params)
