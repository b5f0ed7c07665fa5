"""The requests of a visit as a definition says them: with {names} in the place of what belongs to
one user, one message or one session.

Rule of the file: no value that may be secret is ever written: an earlier page says it, or it is
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from mailflow_webmail.recorded.addresses import OPAQUE, base_of, home_finder, homes, is_word
from mailflow_webmail.recorded.har import Exchange, RecordingError
from mailflow_webmail.recorded.traces import Finder, token
from mailflow_webmail.recorded.visit import Recording

_MIXED = re.compile(r"(?=.*\d)(?=.*[A-Za-z])\w{4,}")
_ID = re.compile(r"id|msg|mess|num|mail", re.IGNORECASE)
_SECRET = re.compile(r"sid\b|sess|token|csrf|nonce|auth|ticket|secret|key", re.IGNORECASE)
_NAME = re.compile(r"\{[A-Za-z_]\w*\}")


class Asked(NamedTuple):
    """A request with {names} in it; `left_out` are names of what was not written."""

    address: str
    query: dict[str, str]
    data: dict[str, str]
    headers: dict[str, str]
    left_out: dict[str, list[str]]
    names: set[str]


class Requests:
    """Those of one recording. `captured` are the names that a page says: where, the value that it
    was, and how it is found there. `password` is what the user has typed."""

    def __init__(self, recording: Recording) -> None:
        self._seen = recording
        login = recording.login
        given = dict(login.sent.data)
        self._user, self.password = given[login.user], given[login.password]
        self.base = base_of(recording)
        self.captured: dict[str, tuple[str, str, Finder]] = {}
        self._secrets = {self.password}
        self._homes = homes(login.landing, self.base, self._user)

    def asked(
        self, exchange: Exchange, step: str, pages: Sequence[Exchange] = (), turn: str = ""
    ) -> Asked:
        """The request with its {names}; of several `pages` what all have, and {n} at `turn`."""
        left_out: dict[str, list[str]] = {}
        about = {"raw": exchange, **{each.step: each.sent for each in self._seen.removed}}
        ids = self._id_names(exchange) if step in about else set()
        names: set[str] = set()

        def table(fields: Iterable[tuple[str, str]], which: str) -> dict[str, str]:
            found: dict[str, str] = {}
            for name, value in fields:
                others = [dict(each.query if which == "query" else each.data).get(name)
                          for each in pages]  # fmt: skip
                if name == turn and turn:
                    found[name] = "{n}"
                    continue
                if (others and any(other != value for other in others)) or not value:
                    continue
                worded = "{id}" if name in ids else self._worded(name, value, step)
                if worded is None:
                    left_out.setdefault(which, []).append(name)
                    continue
                names.update(re.findall(r"\{(\w+)\}", worded))
                found[name] = worded
            return found

        query, data = table(exchange.query, "query"), table(exchange.data, "data")
        headers = {} if pages else table(_own_headers(exchange.headers), "headers")
        return Asked(self._address(exchange, step, names), query, data, headers, left_out, names)

    def _address(self, exchange: Exchange, step: str, names: set[str]) -> str:
        """The path, relative to the webmail; ids, folders and sessions in it are named."""
        url = exchange.url.partition("?")[0]
        for home, name in self._homes:
            if url.startswith(home) and step != "login":
                names.add(name)
                if name not in self.captured:
                    self.captured[name] = ("login", home, home_finder(home, self.base))
                    self._secrets.add(unquote(home.rstrip("/").rpartition("/")[2]))
                rest = url[len(home) :].strip("/")
                return "{home}" + (f"/{self._path(rest, step)}" if rest else "")
        base = self.base.rstrip("/")
        return self._path(url[len(base) :].strip("/") if url.startswith(base) else url, step)

    def _path(self, path: str, step: str) -> str:
        parts = []
        for part in path.split("/"):
            worded = self._worded("part", unquote(part), step) if part else ""
            if worded is None:
                raise RecordingError(
                    f"the address of `{step}` has a part that changes with each session, and no"
                    " page says it; such a webmail is described by hand"
                )
            parts.append(worded if _NAME.fullmatch(worded) else quote(worded))
        return "/".join(parts)

    def _worded(self, name: str, value: str, step: str) -> str | None:
        """What is written for a value; None where nothing may be."""
        about = step not in ("login", "folders", "logout")
        if about and step != "list" and name == "part" and value in self._seen.ids:
            return "{id}"
        if about and value == self._seen.folder:
            return "{folder}"
        if value == self._user:
            return "{user}"
        if value in self._seen.boxes.values:
            return value
        opaque = bool(OPAQUE.fullmatch(value)) and not is_word(value)
        opaque = opaque or (name != "part" and bool(_SECRET.search(name)))
        if opaque or _MIXED.fullmatch(value):
            known = [each for each, (_, secret, _) in self.captured.items() if secret == value]
            if known:
                return f"{{{known[0]}}}"
            if self._capture(name, value, step):
                self._secrets.add(value)
                return self._worded(name, value, step)
            if opaque:
                self._secrets.add(value)
                return None
        private = self.password in value or "@" in value or len(value) > 100
        return None if private or _NAME.search(value) or re.search(r"\d{8}", value) else value

    def _id_names(self, exchange: Exchange) -> set[str]:
        """The parameters that name the message, where it is no part of the path."""
        every = [self._seen.shown, *(each.sent for each in self._seen.removed)]
        listed = {field for each in self._seen.lists for field in each.said}
        scores = {
            name: 2 * all(name in dict(each.said) for each in every)
            + 2 * bool(_ID.search(name)) + ((name, value) not in listed) + len(value) / 100
            for name, value in exchange.said if value in self._seen.ids
        }  # fmt: skip
        return {max(scores, key=lambda each: scores[each])} if scores else set()

    def _capture(self, name: str, value: str, step: str) -> bool:
        """Let an earlier step keep a value; whether one can."""
        pages = {"login": self._seen.login.landing, "list": self._seen.lists[0],
                 "folders": self._seen.folders}  # fmt: skip
        for where, exchange in pages.items():
            if where == step or step == "login" or (step == "folders" and where == "list"):
                continue
            finder = token(exchange.page, value)
            if finder is not None:
                made = re.sub(r"\W", "_", name.lower()).strip("_").removeprefix("x_") or "token"
                while made in self.captured or made in ("folder", "n", "password", "user", "id"):
                    made += "_"
                self.captured[made] = (where, value, finder)
                return True
        return False

    def check(self, written: str) -> None:
        """Raises RecordingError where anything secret is in it."""
        secrets = set(self._secrets)
        for exchange in (self._seen.login.sent, self._seen.shown, *self._seen.lists):
            cookies = exchange.headers.get("Cookie", "").split(";")
            secrets.update(each.partition("=")[2].strip() for each in cookies)
        if self.password in written:
            raise RecordingError(
                "nothing is written: the password is a word that the draft has anyway; record a"
                " visit with another one"
            )
        telling = (each for each in secrets if len(each) >= 6 and not is_word(each))
        if any(each in written for each in telling):
            raise RecordingError("the draft would hold something secret: nothing is written")


def _own_headers(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Those that scripts of the page have added."""
    return [
        (name, value) for name, value in headers.items()
        if name.startswith("X-") and not name.startswith(("X-Forwarded", "X-Client-Data"))
    ]  # fmt: skip
