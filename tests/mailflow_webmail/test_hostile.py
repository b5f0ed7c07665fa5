"""A hostile webmail: refused or capped, with one clear line, and nothing given away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailflow.errors import ConfigError, MailflowError, PeerError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import clean
from mailflow_webmail.web.browser import PAGE_LIMIT, Browser
from mailflow_webmail.web.forms import filled
from mailflow_webmail.web.page import Page
from mailflow_webmail.web.places import Places
from mailflow_webmail.web.upload import Upload

from .web import HttpProxy, Mouth, Web, ok, to

SECRET = "canary-s3cret"

HOME = r"^(127\.0\.0\.1:\d+|the form form) "


def is_one_line(error: MailflowError) -> bool:
    """Short, on one line, and without anything secret."""
    text = str(error)
    return clean(text) == text and len(text) < 300 and SECRET not in text


def follow_form(browser: Browser, target: str) -> None:
    html = f"<form method=post action='{target}'><input name=p></form>"
    page = Page(browser.url, 200, {"Content-Type": "text/html"}, html.encode())
    browser.submit(page, "form", {"p": SECRET})


LED = {
    "redirect": lambda browser, _: browser.page("POST", "", data={"password": SECRET}),
    "form": follow_form,
    "link": lambda browser, target: browser.page("GET", target),
}
"""How a webmail may lead us somewhere."""


def outcome(browser: Browser, *words: str, **what: Any) -> Page | MailflowError:
    try:
        return browser.page(*words, **what)
    except MailflowError as error:
        return error


class TestLedAway:
    @pytest.mark.parametrize(
        ("target", "told"),
        [
            ("http://evil.example/x?s=canary-s3cret", "sends us to evil.example, which is another"),
            ("//evil.example/", "sends us to evil.example, which is another place"),
            ("http://127.0.0.1:9/", "sends us to 127.0.0.1:9, which is another place"),
            ("http://127.0.0.1.evil.example/", "sends us to 127.0.0.1.evil.example, which is"),
            ("http://127.0.0.1@evil.example/", "sends us to an address with a name or password in"),
            ("http://[::1]/", r"sends us to \[::1\], which is another place"),
            ("http://[::1/", "(sends us|leads) to an address that is none"),
            ("http://127.0.0.1:99999/", "sends us to an address that is none"),
            ("https://127.0.0.1/", "sends us to https://127.0.0.1; set `url` to that"),
            ("file:///etc/passwd", "sends us to a file: address, which is never asked"),
            ("data:text/html,hello", "sends us to a data: address, which is never asked"),
            ("javascript:alert(1)", "sends us to a javascript: address, which is never asked"),
            ("ftp://127.0.0.1/", "sends us to a ftp: address, which is never asked"),
            ("/" + "x" * 20_000, r"sends us to an address of \d+ letters"),
        ],
    )
    @pytest.mark.parametrize("how", LED)
    def test_no_other_place_is_asked(self, browse, target, told, how) -> None:
        with Web(lambda asked: to(target) if how == "redirect" else ok()) as web:
            browser = browse(web.url)
            with pytest.raises(PeerError, match=HOME + told) as caught:
                LED[how](browser, target)
        assert len(web.asked) == (how == "redirect")
        assert is_one_line(caught.value)
        assert "x=" not in caught.value.text

    def test_tls_is_not_left(self, browse, authority) -> None:
        with Web(ok("clear")) as clear, Web(to(clear.url), authority.issue()) as web:
            browser = browse(web.url, ca_file=authority.ca_file, hosts=[f"127.0.0.1:{clear.port}"])
            with pytest.raises(PeerError, match=f"out of TLS, to http://127.0.0.1:{clear.port}$"):
                browser.page("GET", "")
        assert clear.asked == []

    @pytest.mark.parametrize(
        "said", ["Location: \xff\xfe\xe9", "Location: /\t\x0b\x1f", "Location: "]
    )
    def test_an_address_of_nonsense_is_no_crash(self, browse, said) -> None:
        with Web(ok(b"", said, status="302 Found")) as web:
            told = outcome(browse(web.url), "GET", "")
        assert isinstance(told, PeerError)
        assert is_one_line(told)

    @pytest.mark.parametrize("host", ["", "a/b", "http://x", "u@x", "x:y", "x:99999", "[::1"])
    def test_what_is_no_host_is_not_one_of_the_hosts(self, host) -> None:
        with pytest.raises(ConfigError, match=r"expected a host such as login.example.org"):
            Places("https://webmail.example.org/", [host])

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://x/",
            "x",
            "https://",
            "https://u:p@x/",
            "file:///etc",
            "https://[x/",
            "https://\u2014/",
        ],
    )
    def test_what_is_no_webmail_is_not_asked(self, url) -> None:
        with pytest.raises(ConfigError, match="expected an address such as"):
            Places(url)

    @pytest.mark.parametrize(
        "url", ["http://M\u00fcller.example/", "http://xn--mller-kva.example/"]
    )
    def test_a_name_of_any_alphabet_is_one_of_dns(self, browse, url) -> None:
        def answer(asked):
            return ok("in") if asked.target == "/in" else to("http://m\u00c3\u00bcller.example/in")

        with Web(answer) as web, HttpProxy({"xn--mller-kva.example": web.port}) as proxy:
            browser = browse(url, proxy=f"http://127.0.0.1:{proxy.port}")
            assert browser.page("GET", "").body == "in"

    def test_names_are_compared_as_dns_does(self) -> None:
        places = Places("https://WebMail.Example.org/", ["Login.example.org"])
        for url in ("https://webmail.EXAMPLE.org:443/x", "https://webmail.example.org./",
                    "https://login.example.org/"):  # fmt: skip
            places.check(url)


class TestEndless:
    def test_a_page_of_a_gigabyte_is_not_read(self, browse) -> None:
        sent = []

        def answer(asked):
            yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
            for _ in range(1 << 10):
                yield bytes(1 << 20)
                sent.append(1)

        with Web(answer) as web, pytest.raises(PeerError, match=HOME + "sends more than 8388608"):
            browse(web.url).page("GET", "")
        assert len(sent) < 100

    def test_a_chunk_of_less_than_nothing_is_not_the_rest_of_a_stream(self, browse) -> None:
        taken: list[int] = []

        def answer(asked):
            yield ok(b"").partition(b"Content-Length")[0]
            yield b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"
            for number in range(100):
                yield bytes(1 << 20)
                taken.append(number)

        with Web(answer) as web, pytest.raises(MailflowError, match=HOME):
            browse(web.url).page("GET", "")
        assert len(taken) < 50

    @pytest.mark.parametrize("name", ["punycode", "idna", "IDNA", "unicode_escape", "undefined"])
    def test_an_encoding_that_no_page_has_is_not_tried(self, name) -> None:
        """Python takes hours to decode a page of megabytes from the first of them."""
        octets = f"<form accept-charset={name}><input name=p></form>\u20ac".encode()
        page = Page("http://x/", 200, {"Content-Type": f"text/html; charset={name}"}, octets)
        assert page.charset == "utf-8"
        form = filled(page, "form", {"p": "\u20ac"}, None, {})
        assert form is not None
        assert form.values == [("p", "\u20ac".encode())]

    def test_a_page_of_blanks_is_parsed_at_once(self) -> None:
        """Each of them may be the first before a declaration of XML."""
        octets = b"<html>" + b" " * PAGE_LIMIT
        assert Page("http://x/", 200, {"Content-Type": "text/html"}, octets).visible == ""

    def test_nor_is_one_behind_a_redirect(self, browse) -> None:
        sent = []

        def answer(asked):
            if asked.target == "/in":
                yield ok("there")
                return
            yield b"HTTP/1.1 302 Go\r\nLocation: /in\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
            for _ in range(1 << 10):
                yield bytes(1 << 20)
                sent.append(1)

        with Web(answer) as web:
            assert browse(web.url).page("GET", "").body == "there"
        assert len(sent) < 100

    @pytest.mark.parametrize(
        "head",
        [
            b"X-Long: " + b"x" * 70_000 + b"\r\n",
            b"X-Many: 1\r\n" * 150,
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
        ],
        ids=["long", "many", "two lengths"],
    )
    def test_headers_have_their_bounds(self, browse, head) -> None:
        with (
            Web(lambda asked: iter([b"HTTP/1.1 200 OK\r\n" + head + b"\r\nhello"])) as web,
            pytest.raises(PeerError, match=HOME + "does not answer as HTTP has it$"),
        ):
            browse(web.url).page("GET", "")

    def test_to_be_told_to_go_on_for_ever_has_an_end(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.PATIENCE", 0.2)
        done = threading.Event()

        def answer(asked):
            while not done.wait(0.001):
                yield b"HTTP/1.1 100 Continue\r\n\r\n"

        with Web(answer) as web, pytest.raises(UnavailableError, match="is too slow"):
            browse(web.url, timeout=5.0).page("GET", "")
        done.set()


class TestGivenAway:
    def test_an_error_has_no_address_no_cookie_and_no_body(self, browse) -> None:
        def answer(asked):
            if asked.target == "/":
                return ok(b"", f"Set-Cookie: sid={SECRET}")
            return iter([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + SECRET.encode()])

        with Web(answer) as web:
            browser = browse(web.url)
            browser.page("GET", "")
            with pytest.raises(UnavailableError, match="broke off") as caught:
                browser.page("POST", f"session/{SECRET}?t={SECRET}", data={"password": SECRET})
        assert is_one_line(caught.value)
        assert caught.value.__cause__ is None
        assert SECRET not in repr(caught.value.fields)

    def test_what_cannot_be_sent_is_told_without_it(self, browse) -> None:
        with pytest.raises(PeerError, match="a request cannot be made") as caught:
            browse("http://localhost:9/").page("GET", "", headers={"X": f"{SECRET}\r\nY: 1"})
        assert is_one_line(caught.value)

    def test_a_proxy_s_password_is_in_no_error(self, browse) -> None:
        with Mouth(b"nonsense\r\n\r\n") as mouth:
            for scheme in ("http", "socks5h"):
                proxy = f"{scheme}://ann:{SECRET}@127.0.0.1:{mouth.port}"
                for url in ("http://x.example/", "https://x.example/"):
                    with pytest.raises(MailflowError) as caught:
                        browse(url, proxy=proxy).page("GET", "")
                    assert is_one_line(caught.value)
                    assert "ann" not in caught.value.text

    def test_a_script_is_text(self, browse) -> None:
        html = b"<title>x</title><p><script>location='http://evil.example/'</script>hello"
        with Web(ok(html, "Refresh: 0; url=http://evil.example/")) as web:
            page = browse(web.url).page("GET", "")
            assert page.soup.title is not None
        assert len(web.asked) == 1


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[[bytes], None]]:
    said = [b""]

    def answer(asked) -> Any:
        return iter([said[0]])

    with closing(Halt()) as halt, Web(answer) as web:
        browser = Browser(web.url, halt=halt, timeout=5.0)

        def ask(octets: bytes) -> None:
            said[0] = octets
            began = time.monotonic()
            found = outcome(browser, "POST", "x", data={"password": SECRET})
            if isinstance(found, Page):
                assert len(found.octets) <= PAGE_LIMIT
                assert found.soup is not None
            else:
                assert is_one_line(found)
            assert time.monotonic() - began < 30

        with closing(browser):
            yield ask


class TestDisturbed:
    """Whatever is said, a page or an error of ours comes of it, and soon."""

    words = st.sampled_from(
        [
            "HTTP/1.1 200 OK", "HTTP/1.1 302 Found", "HTTP/1.1 401 No", "HTTP/1.1 503 Out",
            "HTTP/1.0 200", "HTTP/9.9 999 \u00e9", "ICY 200 OK", "HTTP/1.1 100 Continue",
            "HTTP/1.1 101 Switching", "HTTP/1.1 204 None", "HTTP/1.1 -1 x", "HTTP/1.1 304 Same",
            "Content-Length: 10", "Content-Length: -1", "Content-Length: 99999999999999999999",
            "Content-Length: 0x10", "Transfer-Encoding: chunked", "Transfer-Encoding: x, chunked",
            "Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: br",
            "Content-Type: text/html; charset=utf-7", "Content-Type: ;;;=\x00", "Location: /x",
            "Location: http://[", "Location: \\\\evil\\x", "Location: ?", "Retry-After: \xbd",
            "Retry-After: 99999", "Set-Cookie: a=b; Domain=.; Max-Age=x; Expires=\xff",
            "Set-Cookie: =;;", "Set-Cookie: \x00=\x01", ": nameless", " folded", "no colon", "",
            "5\r\nhello", "ffffffffffffffffff", "-1", "0\r\n", "1;x=y\r\na", "\x1f\x8b\x08\x00",
            "<html><form action=x>", "\x00" * 20,
        ]
    )  # fmt: skip

    @settings(max_examples=150)
    @given(st.lists(words, max_size=12), st.binary(max_size=60), st.booleans())
    @example(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "-1"], b"", True)
    @example(["HTTP/1.1 200 OK", "Content-Length: -1", "", "x"], b"", True)
    @example(["HTTP/1.1 307 Go", "Location: /x"], b"", True)
    def test_words_of_http_in_any_order(self, ask, lines, more, begins) -> None:
        start = "HTTP/1.1 200 OK\r\n" if begins else ""
        ask((start + "\r\n".join(lines)).encode("latin-1") + b"\r\n" + more)

    @settings(max_examples=60)
    @given(st.binary(max_size=200))
    def test_octets_of_any_kind(self, ask, octets) -> None:
        ask(octets)


def test_a_form_cannot_make_us_upload_what_we_did_not_choose(browse, tmp_path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    html = (
        "<form method=post enctype=multipart/form-data><input name=f type=file"
        f" value='{tmp_path}/secret'></form>"
    )
    with Web(ok()) as web:
        page = Page(web.url, 200, {"Content-Type": "text/html"}, html.encode())
        browse(web.url).submit(page, "form", {}, None, {})
    assert SECRET.encode() not in web.asked[0].body
    assert Upload._fields == ("name", "type", "content")
