"""Forms are sent as a browser sends them, but that nothing is pressed that was not named."""

from __future__ import annotations

import io
import time
from email import message_from_bytes, policy
from urllib.parse import parse_qsl

import pytest

from mailflow.errors import PeerError
from mailflow.mail import Octets
from mailflow_webmail.errors import LayoutError
from mailflow_webmail.web.page import Page
from mailflow_webmail.web.upload import Multipart, Upload

from .web import Web, ok

FORM = """
<form id=f method=post action="send?x=1" {attributes}>
  <input type=hidden name=_token value="t0&amp;ken">
  <input name=user value=nobody><input type=PASSWORD name=pass>
  <input type=checkbox name=keep value=yes checked><input type=checkbox name=spam value=yes>
  <input type=radio name=zone value=a checked><input type=radio name=zone value=b>
  <select name=lang><option value=en>English<option value=de selected>Deutsch</select>
  <select name=first><option value=1>1<option value=2>2</select>
  <textarea name=text>as it
came</textarea>
  <input name=off value=x disabled><input value=nameless>
  <input type=submit name=do.login value="Log in"><input type=submit name=help value=Help>
  <button name=cancel value=1>Cancel</button><input type=reset name=reset value=Reset>
  <input type=button name=click value=Click><input type=image name=map>
  {more}
</form>
"""

AS_IT_CAME = [
    ("_token", "t0&ken"), ("user", "nobody"), ("pass", ""), ("keep", "yes"), ("zone", "a"),
    ("lang", "de"), ("first", "1"), ("text", "as it\ncame"),
]  # fmt: skip


@pytest.fixture
def send(browse):
    """Fills in the form, and gives what came of it at the server."""

    def sent(fill=None, click=None, files=None, attributes="", more="", css="#f"):
        with Web(ok("done")) as web:
            html = FORM.format(attributes=attributes, more=more)
            page = Page(f"{web.url}mail/", 200, {"Content-Type": "text/html"}, html.encode())
            answer = browse(web.url).submit(page, css, fill or {}, click, files or {})
            assert answer is None or answer.body == "done"
        return web.asked[0] if web.asked else None

    return sent


def fields(asked) -> list[tuple[str, str]]:
    return parse_qsl(asked.body.decode(), keep_blank_values=True)


class TestFields:
    def test_a_form_goes_as_it_came_without_a_button(self, send) -> None:
        asked = send()
        assert (asked.method, asked.target) == ("POST", "/mail/send?x=1")
        assert fields(asked) == AS_IT_CAME

    def test_fields_are_filled_in(self, send) -> None:
        filled = {
            "user": "ann", "pass": "p&ss \u00fc", "spam": "yes", "keep": "", "zone": "b",
            "lang": "en", "text": "hello", "_token": "new",
        }  # fmt: skip
        want = dict(AS_IT_CAME) | filled
        del want["keep"]
        assert dict(fields(send(filled))) == want

    @pytest.mark.parametrize(
        ("click", "sent"),
        [
            ("do.login", [("do.login", "Log in")]),
            ("cancel", [("cancel", "1")]),
            ("map", [("map.x", "1"), ("map.y", "1")]),
        ],
    )
    def test_the_button_that_is_named_is_pressed(self, send, click, sent) -> None:
        assert fields(send(click=click)) == AS_IT_CAME + sent

    def test_a_button_may_lead_elsewhere(self, send) -> None:
        more = "<button name=draft formaction=/draft formmethod=get>"
        asked = send(click="draft", more=more)
        assert (asked.method, asked.target.partition("?")[0]) == ("GET", "/draft")

    def test_its_fields_take_the_place_of_the_query(self, browse) -> None:
        with Web(ok()) as web:
            html = b"<form action='find?old=1#top'><input name=q></form>"
            page = Page(web.url, 200, {"Content-Type": "text/html"}, html)
            browse(web.url).submit(page, "form", {"q": "a b"})
        assert web.targets == ["/find?q=a+b"]

    def test_without_an_action_it_goes_where_it_came_from(self, browse) -> None:
        with Web(ok()) as web:
            page = Page(
                f"{web.url}in?a=1", 200, {"Content-Type": "text/html"},
                b"<form method=post><input name=q></form>",
            )  # fmt: skip
            browse(web.url).submit(page, "form", {})
        assert web.targets == ["/in?a=1"]

    def test_the_page_itself_stays_as_it_was(self, browse) -> None:
        with Web(ok()) as web:
            page = Page(web.url, 200, {"Content-Type": "text/html"}, FORM.encode())
            before = str(page.soup)
            browse(web.url).submit(page, "#f", {"user": "ann"}, "cancel")
            assert str(page.soup) == before


class TestEncoding:
    @pytest.mark.parametrize(
        ("kind", "attributes", "sent"),
        [
            ("text/html; charset=utf-8", "", "q=%C3%BC%E2%82%AC"),
            ("text/html; charset=koi8-r", "", "q=%26%23252%3B%26%238364%3B"),
            ("text/html; charset=iso-8859-1", "", "q=%FC%80"),
            ("text/html; charset=iso-8859-15", "", "q=%FC%A4"),
            ("text/html; charset=iso-8859-15", "accept-charset='x utf-8'", "q=%C3%BC%E2%82%AC"),
            ("text/html; charset=utf-16", "", "q=%C3%BC%E2%82%AC"),
            ("text/html; charset=rot13", "", "q=%C3%BC%E2%82%AC"),
        ],
    )
    def test_letters_go_in_the_encoding_of_the_page(self, browse, kind, attributes, sent) -> None:
        html = f"<form method=post action=x {attributes}><input name=q></form>"
        with Web(ok()) as web:
            octets = html.encode("utf-16" if "utf-16" in kind else "ascii")
            page = Page(web.url, 200, {"Content-Type": kind}, octets)
            browse(web.url).submit(page, "form", {"q": "\u00fc\u20ac"})
        assert web.asked[0].body.decode() == sent

    def test_those_of_a_form_with_files_too(self, browse) -> None:
        html = b"<form method=post enctype=multipart/form-data><input name=q></form>"
        with Web(ok()) as web:
            kind = {"Content-Type": "text/html; charset=iso-8859-15"}
            browse(web.url).submit(Page(web.url, 200, kind, html), "form", {"q": "\u20ac"})
        assert b"\r\n\r\n\xa4\r\n" in web.asked[0].body


class TestLacking:
    def test_no_such_form_is_none(self, send) -> None:
        assert send(css="form[name=other]") is None

    @pytest.mark.parametrize(
        ("words", "lack"),
        [
            ({"fill": {"usr": "x"}}, "field 'usr'"),
            ({"fill": {'a"]': "x"}}, "field 'a\"]'"),
            ({"fill": {"zone": "c"}}, "field 'zone' with that choice"),
            ({"fill": {"lang": "fr"}}, "field 'lang' with that choice"),
            ({"fill": {"spam": "no"}}, "field 'spam' with that choice"),
            ({"click": "go"}, "button 'go'"),
            ({"files": {"user": [Upload("a", "b/c", Octets(b""))]}}, "field 'user' for a file"),
        ],
    )
    def test_what_a_form_lacks_is_named(self, send, words, lack) -> None:
        with pytest.raises(LayoutError) as caught:
            send(**words)
        assert caught.value.text == f"the form #f has no {lack}"

    @pytest.mark.parametrize("method", ["dialog", "delete", "x\r\ny"])
    def test_a_method_that_forms_do_not_have_is_refused(self, browse, method) -> None:
        page = Page(
            "http://localhost:9/", 200, {"Content-Type": "text/html"},
            f"<form method='{method}'></form>".encode(),
        )  # fmt: skip
        with pytest.raises(PeerError, match="a method that is not known"):
            browse("http://localhost:9/").submit(page, "form", {})


class TestFiles:
    MORE = "<input type=file name=_file><input type=FILE name=other>"

    @staticmethod
    def parts(asked):
        head = f"Content-Type: {asked.headers['content-type']}\r\n\r\n".encode()
        whole = message_from_bytes(head + asked.body, policy=policy.HTTP)
        return [
            (part.get_param("name", header="content-disposition"), part.get_filename(),
             part.get_content_type(), part.get_payload(decode=True))
            for part in whole.iter_parts()
        ]  # fmt: skip

    def test_files_go_as_parts_behind_the_fields(self, send) -> None:
        octets = bytes(range(256)) * 1000
        files = {"_file": [Upload("a b.bin", "image/png", Octets(octets)),
                           Upload('q"\r\n.txt', "text/plain", Octets(b""))]}  # fmt: skip
        asked = send(
            {"user": "\u00fc"}, "cancel", files, 'enctype="multipart/form-data"', self.MORE
        )
        parts = self.parts(asked)
        assert [(name, content.decode()) for name, _, _, content in parts[:9]] == [
            *((name, "\u00fc" if name == "user" else text) for name, text in AS_IT_CAME),
            ("cancel", "1"),
        ]
        assert parts[9:] == [
            ("_file", "a b.bin", "image/png", octets),
            ("_file", "q%22%0D%0A.txt", "text/plain", b""),
        ]

    def test_a_form_for_files_is_sent_so_without_one(self, send) -> None:
        asked = send(attributes="enctype=multipart/form-data", more=self.MORE)
        assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert [name for name, *_ in self.parts(asked)] == [name for name, _ in AS_IT_CAME]

    def test_they_can_be_posted_without_a_form(self, browse) -> None:
        with Web(ok()) as web:
            upload = Upload("x", "text/plain", Octets(b"hello"))
            browse(web.url).page("POST", "up", data=[("n", "1")], files=[("f", upload)])
        assert [part[3] for part in self.parts(web.asked[0])] == [b"1", b"hello"]

    def test_a_file_is_read_while_it_is_sent(self) -> None:
        class Long:
            size = 1 << 40

            def open(self):
                return io.BytesIO(b"x" * 100_000)

        body = Multipart([], [("f", Upload("x", "a/b", Long()))])
        assert len(body) > 1 << 40
        assert max(map(len, body)) == 1 << 16

    def test_a_long_one_has_its_time_as_long_as_it_moves(self, browse, monkeypatch) -> None:
        monkeypatch.setattr("mailflow_webmail.web.browser.PATIENCE", 0.2)

        class Slow(io.BytesIO):
            def read(self, most: int | None = -1) -> bytes:
                time.sleep(0.3)
                return super().read(most)

        class Long:
            size = 5 << 16

            def open(self):
                return Slow(bytes(self.size))

        with Web(ok("whole")) as web:
            files = [("f", Upload("x", "a/b", Long()))]
            page = browse(web.url, timeout=5.0).page("POST", "", data=[], files=files)
        assert page.body == "whole"

    def test_a_type_cannot_bear_headers(self) -> None:
        upload = Upload("x", "a/b\r\nX-Evil: 1", Octets(b""))
        assert b"X-Evil" not in b"".join(Multipart([], [("f", upload)]))
