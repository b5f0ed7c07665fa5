"""Requests to one webmail, and nowhere else.

Rule of the file: every answer is bounded in octets and in time, comes from the host that was
asked or one that the user named, and no script of it is run; what fails leaves here as a
MailflowError with one line, in which there is no address but a host, no cookie, no body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import mailflow
from mailflow.errors import MailflowError, PeerError, UnavailableError
from mailflow.halt import Halt
from mailflow.net import tls_context
from mailflow.values import FOREVER, counted
from mailflow_webmail.errors import ThrottledError
from mailflow_webmail.web.pace import Pace, retry_after
from mailflow_webmail.web.page import Page
from mailflow_webmail.web.parting import Parting
from mailflow_webmail.web.places import Places
from mailflow_webmail.web.unpacking import Answer, unpacked
from mailflow_webmail.web.upload import Multipart
from mailflow_webmail.web.watch import STOPPED, TOO_SLOW, Call, Watch

if TYPE_CHECKING:
    import requests

    from mailflow_webmail.settings import WebmailOptions
    from mailflow_webmail.web.cookies import Lent
    from mailflow_webmail.web.forms import Filled
    from mailflow_webmail.web.upload import Upload

PAGE_LIMIT = 8 << 20
"""Octets of a page that is read."""

REDIRECTS = 10

PATIENCE = 5
"""How many time-outs a request and its answer may take in all; each piece of a stream or of a
file that is sent, so many anew."""

SHORT = 10.0
"""Seconds that a server is waited for when it asks for that, three times at most; more are for
the engine."""

STALE = 2.0
"""A request that must not go out twice takes no connection that was idle for so many seconds:
servers close theirs after five or so, and what is under way just then is lost."""

PARTING = 2.0
"""Seconds for a farewell when the engine stops."""

KEEP = 60.0
"""Seconds after which changed cookies are written down again; they are at the end, too."""

LEFT = 1 << 16
"""Octets of the body of a redirect that are read, to keep its connection."""

CLEAR = ("http:", "socks")
"""Schemes without TLS of our own."""

_KEPT = (307, 308)
"""Redirects that want the same method and body again (RFC 9110, 15.4.8)."""


class Browser:
    """Keeps cookies and connections. Any thread may ask through it.

    `grace`: how many seconds a request that is under way may still take when the engine stops.
    Errors: UnavailableError (not to be had, lost, silent, stopped), ThrottledError, LoginError
    (TLS or a proxy refused us), PeerError (it breaks HTTP, or a limit, or leads elsewhere).
    Where an error's field `sent` is True, the request may have arrived; one that was answered
    with 429 (RFC 6585) was not looked at.
    """

    def __init__(
        self,
        url: str,
        *,
        halt: Halt,
        timeout: float = 60.0,
        parallel: int = 4,
        delay: float = 0.0,
        proxy: str | None = None,
        proxy_password: str | None = None,
        ca_file: str | None = None,
        cookies: Lent | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        """Raises ConfigError."""
        import requests

        from mailflow_webmail.web.cookies import Jar
        from mailflow_webmail.web.transport import Proxy, Trunk, adapter

        url = url.partition("#")[0].partition("?")[0]
        self.url = url if url.endswith("/") else f"{url}/"
        self.places = Places(self.url, hosts)
        self.name = self.places.name
        self.grace = 0.0
        self._timeout = timeout
        clear = not hosts and all(each.startswith(CLEAR) for each in (self.url, proxy or self.url))
        context = None if clear and ca_file is None else tls_context(ca_file)
        self._halt = halt = Parting(halt)
        self._pace = Pace(delay, halt)
        self._watch = Watch(halt)
        self._trunk = Trunk(Proxy(proxy, proxy_password) if proxy else None, timeout, halt)
        self._adapter = adapter(self._trunk, context, parallel)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies = self.jar = Jar()
        self._session.headers.update(
            {
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Accept-Language": "en",
                "User-Agent": f"mailflow/{mailflow.__version__}",
            }
        )
        self._lent = cookies
        for cookie in cookies.cookies if cookies is not None else ():
            self.jar.set_cookie(cookie)

    @classmethod
    def of(cls, options: WebmailOptions, halt: Halt) -> Browser:
        """As a step's options say. Raises ConfigError."""
        secret = options.proxy_password
        return cls(
            options.url, halt=halt, timeout=options.timeout, parallel=options.parallel,
            delay=options.delay, proxy=options.proxy,
            proxy_password=None if secret is None else secret.reveal(),
            ca_file=options.ca_file, cookies=options.lent(), hosts=options.hosts,
        )  # fmt: skip

    @property
    def is_lent(self) -> bool:
        """Whether it began with the cookies of a browser of its user."""
        return self._lent is not None

    def page(self, method: str, url: str, **what: Any) -> Page:
        """The answer, read whole: see `answer`."""
        with self.answer(method, url, **what) as answer:
            octets = b"".join(self._pieces(answer, PAGE_LIMIT))
            page = Page(answer.url, answer.status_code, answer.headers, octets)
            page.led = answer.led
            return page

    def submit(
        self,
        page: Page,
        css: str,
        fill: Mapping[str, str],
        click: str | None = None,
        files: Mapping[str, Sequence[Upload]] = {},
    ) -> Page | None:
        """Fill in a form of the page and send it; None where there is no such form.

        `click` is the name of the button; none is pressed without it. Raises LayoutError where
        the form lacks a field.
        """
        from mailflow_webmail.web.forms import filled

        form = filled(page, css, fill, click, files)
        return None if form is None else self.press(form)

    def press(self, form: Filled) -> Page:
        """Send a form that is filled in."""
        if form.method == "GET":
            return self.page("GET", form.url, params=form.values, once=True)
        if form.multipart or form.files:
            return self.page("POST", form.url, data=form.values, files=form.files)
        return self.page("POST", form.url, data=form.values)

    @contextmanager
    def answer(
        self,
        method: str,
        url: str,
        *,
        params: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        files: Sequence[tuple[str, Upload]] | None = None,
        once: bool = False,
    ) -> Iterator[Answer]:
        """The answer, after all redirects, to be read in `pieces`.

        With `files`, be it an empty list, what is posted is multipart/form-data. With `once`,
        not even a GET is sent again.
        """
        what = {"params": params, "headers": headers}
        body = {"data": data, "files": files}
        url = self._joined(self.url, url)
        for number in range(REDIRECTS + 1):
            with self._watch.call(self._patience, self.grace) as call:
                call.arrived = number > 0
                prepared = self._prepared(method, url, **what, **body)
                if isinstance(prepared.body, Multipart):
                    prepared.body.moves = partial(call.begin, self._patience)
                with self._sent(prepared, call, once or method != "GET") as response:
                    answer = Answer(response, call)
                    answer.led = number
                    target = self._target(response)
                    if target is None:
                        yield answer
                        return
                    self._read_up(answer)
            before, url = str(prepared.url), self._joined(str(prepared.url), target)
            self.places.check(url)
            what["params"] = None
            if not self.places.same(before, url):
                what["headers"] = None
            if response.status_code not in _KEPT:
                once = False
                method, body = "GET", {}
            elif body and method != "GET" and not self.places.same(before, url):
                raise PeerError(f"{self.name} would have what we post sent to another host")
        raise PeerError(f"{self.name} sends us on more than {REDIRECTS} times")

    def pieces(self, answer: Answer, most: int) -> Iterator[bytes]:
        """The octets, as they come. Raises PeerError beyond `most`, UnavailableError."""
        for piece in self._pieces(answer, most):
            answer.call.begin(FOREVER)
            yield piece
            answer.call.begin(self._patience)

    @contextmanager
    def parting(self) -> Iterator[None]:
        """Inside, a last request is made even where the engine stops, and no answer is waited
        for as long as others: nothing depends on it."""
        before = self.grace, self._timeout
        with self._halt.put_off(PARTING):
            self.grace, self._timeout = max(self.grace, PARTING), min(self._timeout, PARTING)
            try:
                yield
            finally:
                self.grace, self._timeout = before

    def close(self) -> None:
        """End the connections."""
        self._adapter.close()
        self._session.close()
        self._watch.close()
        if self._lent is not None:
            self._lent.keep(self.jar)

    @property
    def _patience(self) -> float:
        return PATIENCE * self._timeout

    def _pieces(self, answer: Answer, most: int) -> Iterator[bytes]:
        from mailflow_webmail.web.failures import CAUGHT

        size = 0
        coding = answer.headers.get("Content-Encoding", "")
        pieces = unpacked(answer, coding, self.name)
        while True:
            try:
                piece = next(pieces, b"")
            except (MailflowError, *CAUGHT) as error:
                raise self._failure(error, answer.call) from None
            if answer.call.reason:  # a connection that was shut looks like one that has ended
                raise self._failure(EOFError(), answer.call)
            if not piece:
                return
            size += len(piece)
            if size > most:
                raise PeerError(f"{self.name} sends more than {most} octets as one answer")
            yield piece

    def _joined(self, base: str, url: str) -> str:
        try:
            return urljoin(base, url)
        except ValueError:
            raise PeerError(f"{self.name} sends us to an address that is none") from None

    def _prepared(self, method: str, url: str, **what: Any) -> requests.PreparedRequest:
        """The request, to a place where we may go."""
        import requests

        self.places.check(url)
        headers = dict(what.pop("headers") or {})
        files = what.pop("files", None)
        if files is not None:
            what["data"] = Multipart(what["data"], files)
            headers["Content-Type"] = what["data"].type
        request = requests.Request(method, url, headers=headers, **what)
        try:
            for each in headers.values():
                each.encode("latin-1")  # as it is sent
            prepared = self._session.prepare_request(request)
        except UnicodeEncodeError:
            raise PeerError(
                f"{self.name}: a request cannot be made: a header has letters beyond Latin-1"
            ) from None
        except (requests.RequestException, ValueError) as error:
            kind = type(error).__name__
            raise PeerError(f"{self.name}: a request cannot be made: {kind}") from None
        self.places.check(str(prepared.url))
        return prepared

    @contextmanager
    def _sent(
        self, prepared: requests.PreparedRequest, call: Call, once: bool
    ) -> Iterator[requests.Response]:
        """The answer to a request, once the server has not asked for a rest."""
        response = self._asked(prepared, call, once)
        try:
            for _ in range(3):
                seconds = self._wanted(response)
                if seconds is None:
                    break
                if seconds > SHORT or once:
                    raise ThrottledError(
                        f"{self.name} asks to be left alone"
                        f" for {counted(round(seconds), 'second')}",
                        delay=seconds, sent=response.status_code != 429,
                    )  # fmt: skip
                response.close()
                self._pace.rest(max(1.0, seconds))
                response = self._asked(prepared, call, once)
            else:
                raise ThrottledError(f"{self.name} says again and again that it is asked too often")
            yield response
        finally:
            response.close()

    def _wanted(self, response: requests.Response) -> float | None:
        """The seconds of rest that it asks for. Raises ThrottledError where it does not say
        how many."""
        if response.status_code not in (429, 503):
            return None
        seconds = retry_after(response.headers)
        if seconds is None and response.status_code == 429:
            raise ThrottledError(f"{self.name} says that it is asked too often", sent=False)
        return seconds

    def _asked(
        self, prepared: requests.PreparedRequest, call: Call, once: bool
    ) -> requests.Response:
        """The head of the answer. Unless it is for `once`, what went out on a connection that had
        been idle, and was closed just then, is sent once more on a new one."""
        from requests.cookies import extract_cookies_to_jar

        from mailflow_webmail.web.failures import CAUGHT, is_early

        self._pace.wait()
        call.begin(self._patience)
        call.idle = STALE if once else FOREVER
        while True:
            try:
                response = self._trunk.send(self._adapter, prepared, call)
                break
            except MailflowError as error:
                raise self._failure(error, call) from None
            except CAUGHT as error:
                if once or not call.reused or call.reason or not is_early(error):
                    raise self._failure(error, call) from None
                once, call.idle = True, 0.0
        extract_cookies_to_jar(self.jar, prepared, response.raw)
        if self._lent is not None:
            self._lent.keep(self.jar, KEEP)
        if response.status_code == 407 and self._trunk.proxy is not None:
            response.close()
            raise self._trunk.proxy.wants_login()
        return response

    def _target(self, response: requests.Response) -> str | None:
        """Where a redirect leads."""
        if response.status_code not in (301, 302, 303, *_KEPT):
            return None
        said = response.headers.get("Location")
        if said is None:
            return None
        try:
            return said.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return said

    def _read_up(self, answer: Answer) -> None:
        """What a redirect says besides, if that is little."""
        size = 0
        for piece in self._pieces(answer, PAGE_LIMIT):
            size += len(piece)
            if size > LEFT:
                return

    def _failure(self, error: BaseException, call: Call) -> MailflowError:
        """What has happened: the error of ours for one of the libraries."""
        from mailflow_webmail.web.failures import told

        sent = call.sent or call.arrived
        if call.reason == STOPPED:
            return UnavailableError(STOPPED, sent=sent)
        if call.reason == TOO_SLOW:
            return UnavailableError(
                f"{self.name} is too slow: no whole answer in {self._patience:.0f} seconds",
                sent=sent,
            )
        ours = error if isinstance(error, MailflowError) else told(error, self.name)
        ours.fields.setdefault("sent", sent)
        return ours
