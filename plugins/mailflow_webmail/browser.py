"""Requests to one webmail, and nowhere else.

Rule of the file: every answer is bounded in octets and in time, comes from the host that was
asked or one that the user named, and no script of it is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from mailflow.errors import PeerError, RefusedError, UnavailableError
from mailflow_webmail.page import Page

if TYPE_CHECKING:
    import requests

    from mailflow.halt import Halt

PAGE_LIMIT = 8 << 20
"""Octets of a page that is read."""

REDIRECTS = 10

CHUNK = 1 << 16

File = tuple[str, tuple[str, bytes, str]]
"""A file to upload: (field, (file name, octets, media type))."""


class Browser:
    """Keeps cookies and connections. Any thread may ask through it."""

    def __init__(self, url: str, *, timeout: float, parallel: int, halt: Halt) -> None:
        import mechanicalsoup
        import requests
        from requests.adapters import HTTPAdapter

        self.url = url if url.endswith("/") else f"{url}/"
        self._host = urlsplit(url).netloc
        self._timeout = timeout
        self._halt = halt
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(
            {
                "Accept-Encoding": "identity",
                "Accept-Language": "en",
                "User-Agent": "mailflow",
            }
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=parallel, pool_block=True))
        self._forms = mechanicalsoup.Browser(session=self._session)

    def page(self, method: str, url: str, **what: Any) -> Page:
        """The answer, read whole."""
        with self.answer(method, url, **what) as response:
            octets = b"".join(self.pieces(response, PAGE_LIMIT))
            return Page(response.url, response.status_code, response.headers, octets)

    def submit(
        self,
        page: Page,
        css: str,
        fill: Mapping[str, str],
        click: str | None,
        files: Sequence[File] = (),
    ) -> Page | None:
        """Fill in a form of the page and send it; None where there is no such form."""
        import mechanicalsoup

        tag = page.soup.select_one(css)
        if tag is None:
            return None
        form = mechanicalsoup.Form(tag)
        form.set_all = None
        for name, value in fill.items():
            form.set(name, value, force=True)
        form.choose_submit(click)
        what = self._forms.get_request_kwargs(tag, page.url)
        if files:
            names = {name for name, _ in files}
            kept = [each for each in what["files"].items() if each[0] not in names]
            what["files"] = [*kept, *files]
        return self.page(what.pop("method"), what.pop("url"), **what)

    @contextmanager
    def answer(self, method: str, url: str, **what: Any) -> Iterator[requests.Response]:
        """The answer, to be read in pieces."""
        import requests

        url = urljoin(self.url, url)
        try:
            for _ in range(REDIRECTS):
                self._halt.check()
                self._may_go(url)
                response = self._session.request(
                    method, url, timeout=self._timeout, stream=True, allow_redirects=False, **what
                )
                with response:
                    target = self._session.get_redirect_target(response)
                    if target is None:
                        yield response
                        return
                url = urljoin(url, target)
                method, what = "GET", {}
        except requests.RequestException as error:
            raise UnavailableError(f"{self._host}: {type(error).__name__}") from None
        raise PeerError(f"{self._host} redirects in circles")

    def pieces(self, response: requests.Response, most: int) -> Iterator[bytes]:
        """The octets, as they come. Raises PeerError beyond `most`."""
        size = 0
        for piece in response.iter_content(CHUNK):
            self._halt.check()
            size += len(piece)
            if size > most:
                raise PeerError(f"{self._host} sends more than {most} octets as one answer")
            yield piece

    def close(self) -> None:
        self._session.close()

    def _may_go(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.netloc != self._host:
            raise RefusedError(f"{self._host} sends us to another host")
