"""HAR files of visits to webmails, as Chromium and Firefox save them; a small client visits.

Rule of the file: what the browsers do differently is written down here, and nowhere else.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urljoin, urlsplit

import bs4
import requests

Entry = dict[str, Any]


def chromium(entry: Entry) -> Entry:
    """Text as it came, posted fields encoded; what is saved as a file has no body."""
    posted = entry["request"].get("postData")
    if posted:
        posted["params"] = [
            {"name": each["name"], "value": quote(each["value"])} for each in posted["params"]
        ]
    if "attachment" in str(entry["response"]["headers"]).lower():
        entry["response"]["content"] = {"size": 0, "mimeType": "message/rfc822"}
    return {**entry, "_resourceType": "document"}


def firefox(entry: Entry) -> Entry:
    """Names of headers in small letters, fields decoded behind headers of the body, and text that
    is said to be base64 and is not (Mozilla's bug 1762313)."""
    for side in ("request", "response"):
        for each in entry[side]["headers"]:
            each["name"] = each["name"].lower()
    posted = entry["request"].get("postData")
    if posted:
        posted["text"] = f"Content-Type: {posted['mimeType']}\r\n\r\n{posted['text']}"
    content = entry["response"]["content"]
    if "html" in content["mimeType"]:
        content["encoding"] = "base64"
    return entry


class Visit:
    """Somebody at a webmail whose browser records."""

    def __init__(self, url: str, browser: Callable[[Entry], Entry] = chromium) -> None:
        self.url = url
        self.entries: list[Entry] = []
        self.page: bs4.BeautifulSoup = bs4.BeautifulSoup("", "lxml")
        self._browser = browser
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str) -> None:
        self._ask("GET", url)

    def follow(self, css: str, number: int = 0) -> None:
        """A link of the page."""
        self._ask("GET", str(self.page.select(css)[number]["href"]))

    def send(self, css: str, fill: Mapping[str, str], click: str = "") -> None:
        """A form of the page, with its hidden fields."""
        form = self.page.select_one(css)
        assert form is not None, self.page
        hidden = {
            str(each["name"]): str(each.get("value", ""))
            for each in form.select("input[type=hidden]")
        }
        pressed = form.select_one(f'[name="{click}"]') if click else None
        more = {} if pressed is None else {click: str(pressed.get("value", ""))}
        self._ask("POST", str(form.get("action", "")), {**hidden, **fill, **more})

    def saved(self, path: Path) -> str:
        """The file."""
        log = {"version": "1.2", "creator": {"name": "x", "version": "1"}, "entries": self.entries}
        path.write_text("\ufeff" + json.dumps({"log": log}))
        return str(path)

    def _ask(self, method: str, url: str, data: Mapping[str, str] | None = None) -> None:
        url = urljoin(self.url, url)
        answer = self._session.request(method, url, data=data, allow_redirects=False, timeout=20)
        self.url = url
        self.entries.append(self._browser(_entry(answer, len(self.entries))))
        if answer.is_redirect:
            self._ask("GET", answer.headers["Location"])
        elif "html" in answer.headers.get("Content-Type", ""):
            self.page = bs4.BeautifulSoup(answer.content, "lxml")


def _entry(answer: requests.Response, number: int) -> Entry:
    type_ = answer.headers.get("Content-Type", "")
    request: Entry = {
        "method": answer.request.method, "url": answer.request.url,
        "headers": _pairs(answer.request.headers), "queryString": [],
    }  # fmt: skip
    if answer.request.body:
        body = str(answer.request.body)
        pairs = parse_qsl(body, keep_blank_values=True)
        request["postData"] = {
            "mimeType": answer.request.headers["Content-Type"], "text": body,
            "params": [{"name": name, "value": value} for name, value in pairs],
        }  # fmt: skip
    content: Entry = {"size": len(answer.content), "mimeType": type_}
    try:
        content["text"] = answer.content.decode()
    except UnicodeDecodeError:
        content |= {"text": base64.b64encode(answer.content).decode(), "encoding": "base64"}
    return {
        "startedDateTime": f"2026-11-21T20:00:{number:02}.000Z", "request": request,
        "response": {
            "status": answer.status_code, "headers": _pairs(answer.headers), "content": content,
            "redirectURL": answer.headers.get("Location", ""),
        },
    }  # fmt: skip


def _pairs(headers: Mapping[str, str]) -> list[Entry]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def host(url: str) -> str:
    return urlsplit(url).netloc
