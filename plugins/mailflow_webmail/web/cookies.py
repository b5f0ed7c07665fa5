"""Cookies: a jar for many threads, and those that a browser has saved.

Rule of the file: a cookie's value is in no error; a cookie is kept for the host that gave it, or
for a domain that the host is in and that has a dot; it meets no host but those that are asked.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from http.cookiejar import Cookie, CookiePolicy, DefaultCookiePolicy
from typing import Any

from requests.cookies import RequestsCookieJar

from mailflow.durable import make_directory, replace
from mailflow.errors import ConfigError, from_os
from mailflow.log import get_logger
from mailflow.secrets import private_file

MOST = 180
"""Cookies that are kept."""

LONGEST = 8192
"""Octets of a name and its value; servers take half of that."""

LARGEST = 1 << 20
"""Octets of a file, which may be that of a whole browser."""

_SESSION = ("", "0", "-1")
"""The expiry of a cookie that lasts as long as its browser runs, by who writes the file."""

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


class Lent:
    """The cookies of a browser's file, and what the webmail has made of them since.

    `kept` is a file of ours: a webmail changes its cookies while a session goes on, and knows
    the old ones no more. The browser's file counts again once it is newer.
    """

    def __init__(self, path: str, hosts: Collection[str], kept: str) -> None:
        """Raises ConfigError, as `imported`."""
        self._kept = kept
        self._guard = threading.Lock()
        try:
            ours = os.stat(kept).st_mtime > os.stat(path).st_mtime
            self.cookies = imported(kept if ours else path, hosts)
        except (OSError, ConfigError):
            self.cookies = imported(path, hosts)
        self._known = _file(self.cookies)
        self._written_at = 0.0

    def keep(self, jar: Iterable[Any], seconds: float = 0.0) -> None:
        """Write them down where they have changed, once in so many seconds."""
        with self._guard:
            now = time.monotonic()
            if self._written_at and now < self._written_at + seconds:
                return
            data = _file(jar)
            if data == self._known:
                return
            try:
                make_directory(os.path.dirname(self._kept))
                replace(self._kept, data)
            except OSError as error:
                get_logger().warning(
                    "the session of the browser may be lost after this run",
                    error=from_os(error, f"write {self._kept}"),
                )
            self._known, self._written_at = data, now


def imported(path: str, hosts: Collection[str]) -> list[Cookie]:
    """The cookies of a file as Netscape's, of those hosts and not over yet.

    Raises ConfigError where the file cannot be read, or can by others, where a line is none of a
    cookie, and where no cookie is left.
    """
    found = []
    old = False
    for cookie in _read(path):
        if not any(_covers(cookie.domain, host) for host in hosts):
            continue
        if cookie.is_expired(int(time.time())):
            old = True
        else:
            found.append(cookie)
    if not found:
        which = "those that are for it have expired" if old else "none is for it"
        raise ConfigError(
            f"cookie file {path} has no cookie for {', '.join(sorted(hosts))}: {which}; log in with"
            " the browser and save its cookies again"
        )
    return found


def _read(path: str) -> Iterator[Cookie]:
    octets = private_file(path, "cookie file", LARGEST)
    if len(octets) > LARGEST:
        raise ConfigError(f"cookie file {path} is larger than {LARGEST} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"cookie file {path} is not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r").removeprefix(_HTTP_ONLY)
        if not line.strip() or line.startswith("#"):
            continue
        cookie = _cookie(line)
        if cookie is None:
            raise ConfigError(
                f"line {number} of cookie file {path} is none of a cookie; expected domain, TRUE or"
                " FALSE, path, TRUE or FALSE, expiry, name and value, with tabs between them"
            )
        yield cookie


def _file(cookies: Iterable[Cookie]) -> bytes:
    """As Netscape's."""
    words = (
        (each.domain, "TRUE" if each.domain_specified else "FALSE", each.path,
         "TRUE" if each.secure else "FALSE", str(each.expires or 0), each.name, each.value or "")
        for each in cookies
    )  # fmt: skip
    lines = ("\t".join(each) for each in words)
    return "".join(f"{line}\n" for line in sorted(lines) if "\n" not in line).encode()


def _covers(domain: str, host: str) -> bool:
    whole = _whole(host)
    below = domain.startswith(".") and "." in domain[1:] and whole.endswith(domain)
    return below or domain.lstrip(".") == whole


def _whole(host: str) -> str:
    """As http.cookiejar calls it: one without a dot gets one."""
    return host.lower() if "." in host else f"{host.lower()}.local"


def _cookie(line: str) -> Cookie | None:
    """domain, whether for hosts below it, path, whether for TLS only, expiry, name, value."""
    words = line.split("\t")
    if len(words) != 7 or not {words[1], words[3]} <= {"TRUE", "FALSE"}:
        return None
    domain, below, path, secure, expiry, name, value = words
    seconds = "0" if expiry in _SESSION else expiry.partition(".")[0]
    if not (seconds.isascii() and seconds.isdecimal()) or len(seconds) > 12 or not name:
        return None
    if below == "TRUE":
        domain = f".{domain.lstrip('.').lower()}"
    else:
        domain = _whole(domain)
    ends = int(seconds) or None
    return Cookie(
        0, name, value, None, False, domain, below == "TRUE", domain.startswith("."), path,
        True, secure == "TRUE", ends, ends is None, None, None, {},
    )  # fmt: skip
