"""Cookies: a jar for many threads, and those that a browser has saved.

Rule of the file: a cookie's value is in no error; a cookie is kept for the host that gave it, or
for a domain that the host is in and that has a dot; it meets no host but those that are asked.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from http.cookiejar import Cookie, CookiePolicy, DefaultCookiePolicy
from typing import Any

from requests.cookies import RequestsCookieJar

from mailflow.errors import ConfigError
from mailflow.secrets import private_file

MOST = 180
"""Cookies that are kept."""

LONGEST = 8192
"""Octets of a name and its value; servers take half of that."""

_HTTP_ONLY = "#HttpOnly_"


class Policy(DefaultCookiePolicy):
    """Those of other domains are refused (RFC 6265, 5.3), and those that are too long."""

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        size = len(cookie.name) + len(cookie.value or "")
        return size <= LONGEST and super().set_ok(cookie, request)


class Jar(RequestsCookieJar):
    """Looked through and changed by any thread."""

    def __init__(self, policy: CookiePolicy | None = None) -> None:
        super().__init__(policy or Policy())

    def __iter__(self) -> Iterator[Any]:
        with self._cookies_lock:
            return iter([*super().__iter__()])

    def set_cookie(self, cookie: Cookie, *words: Any, **more: Any) -> None:
        """Where there are too many, those of before are kept: a session is among the first."""
        with self._cookies_lock:
            known = {(each.domain, each.path, each.name) for each in self}
            if len(known) < MOST or (cookie.domain, cookie.path, cookie.name) in known:
                super().set_cookie(cookie, *words, **more)


def imported(path: str, hosts: Collection[str]) -> list[Cookie]:
    """The cookies of a file as Netscape's, of those hosts and not over yet.

    Raises ConfigError where the file cannot be read, or can by others, where a line is none of a
    cookie, and where no cookie is left.
    """
    try:
        text = private_file(path, "cookie file").decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"cookie file {path} is not UTF-8 text") from None
    found = []
    old = 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.removeprefix(_HTTP_ONLY)
        if not line.strip() or line.startswith("#"):
            continue
        cookie = _cookie(line)
        if cookie is None:
            raise ConfigError(
                f"line {number} of cookie file {path} is none of a cookie; expected domain, TRUE or"
                " FALSE, path, TRUE or FALSE, expiry, name and value, with tabs between them"
            )
        if not any(_covers(cookie.domain, host) for host in hosts):
            continue
        if cookie.is_expired(int(time.time())):
            old += 1
            continue
        found.append(cookie)
    if not found:
        which = "those that are for it have expired" if old else "none is for it"
        raise ConfigError(
            f"cookie file {path} has no cookie for {', '.join(sorted(hosts))}: {which}; log in with"
            " the browser and save its cookies again"
        )
    return found


def _covers(domain: str, host: str) -> bool:
    name = domain.lower()
    return name.lstrip(".") == host or (name.startswith(".") and host.endswith(name))


def _cookie(line: str) -> Cookie | None:
    """domain, whether for hosts below it, path, whether for TLS only, expiry, name, value."""
    words = line.split("\t")
    if len(words) != 7 or not {words[1], words[3]} <= {"TRUE", "FALSE"}:
        return None
    domain, below, path, secure, expiry, name, value = words
    seconds = expiry.partition(".")[0]
    if not (seconds.isascii() and seconds.isdecimal()) or len(seconds) > 12 or not name:
        return None
    if below == "TRUE":
        domain = f".{domain.lstrip('.')}"
    ends = int(seconds) or None
    return Cookie(
        0, name, value, None, False, domain.lower(), below == "TRUE", domain.startswith("."), path,
        True, secure == "TRUE", ends, ends is None, None, None, {},
    )  # fmt: skip
