"""What is found in one answer of a webmail, and what a hostile one costs."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from mailflow_webmail.definition.finders import Condition, Fact, Finder, Next, Number, Rows
from mailflow_webmail.definition.patterns import Search
from mailflow_webmail.definition.wording import Section, Table
from mailflow_webmail.errors import LayoutError
from mailflow_webmail.web.page import Page, Turn

URL = "http://mail.example.org/list?box=a&start=20"


def html(body: str | bytes, kind: str = "text/html; charset=utf-8", url: str = URL) -> Page:
    return Page(url, 200, {"Content-Type": kind}, body.encode() if isinstance(body, str) else body)


def said(value: object) -> Page:
    return Page(URL, 200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def made(options: type[Section], **keys: Any) -> Any:
    return Table("", options).convert(keys, ".")


def find(page: Page, **keys: Any) -> str | None:
    return page.find(made(Finder, **keys))


def holds(page: Page, **keys: Any) -> bool:
    return page.holds(made(Condition, **keys))


def rows(page: Page, **keys: Any) -> list[Mapping[str, str]]:
    return list(page.rows(made(Rows, **keys)))


class TestFinder:
    PAGE = html(
        '<title>A &amp; B</title><a href="x?box=Entw%26APw-rfe&amp;n=2">go <b>on</b></a>'
        "<p></p><p> 1,234 mails </p><script>var t = 'secret'; go(40);</script>"
    )

    @pytest.mark.parametrize(
        ("keys", "value"),
        [
            ({"css": "a"}, "go on"),
            ({"css": "a", "attr": "href"}, "x?box=Entw%26APw-rfe&n=2"),
            ({"css": "a", "attr": "href", "param": "n"}, "2"),
            ({"css": "a", "attr": "href", "param": "box"}, "Entw&APw-rfe"),
            ({"css": "a", "attr": "href", "param": "box", "decode": "modified-utf-7"}, "Entwürfe"),
            ({"css": "a", "attr": "rel"}, None),
            ({"css": "a", "attr": "href", "param": "no"}, None),
            ({"css": "p"}, "1,234 mails"),
            ({"css": "p", "regex": r"[\d,]+"}, "1,234"),
            ({"css": "i"}, None),
            ({"url": r"start=(\d+)"}, "20"),
            ({"url": "nowhere"}, None),
            ({"text": "go (on)"}, "on"),
            ({"text": "secret"}, None),
            ({"regex": r"go\((\d+)\)"}, "40"),
            ({"json": "a"}, None),
        ],
    )
    def test_a_value_is_where_the_definition_says(
        self, keys: dict[str, Any], value: str | None
    ) -> None:
        assert find(self.PAGE, **keys) == value

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("env.count", "65"), ("rows.1.id", "b"), ("rows.9.id", None), ("no.no", None),
            ("env", None), ("on", "true"), ("rows.-1.id", None), ("nothing", None),
        ],
    )  # fmt: skip
    def test_json_is_walked_by_a_dotted_path(self, path: str, value: str | None) -> None:
        data = {
            "env": {"count": 65},
            "rows": [{"id": "a"}, {"id": "b"}],
            "on": True,
            "nothing": None,
        }
        assert find(said(data), json=path) == value

    def test_rule_22_an_attribute_with_several_words_is_one_text(self) -> None:
        page = html('<a rel="Entw&amp;APw-rfe next 2" class="a b">x</a>')
        assert find(page, css="a", attr="rel") == "Entw&APw-rfe next 2"
        assert find(page, css="a", attr="class") == "a b"

    def test_a_number_has_marks_between_its_groups_in_every_country(self) -> None:
        for shown in ("1234", "1,234", "1.234", "1 234", "1\u00a0234", "1'234"):
            assert html(f"<p>{shown}").number(made(Number, css="p")) == 1234
        for shown in ("12,34", "1.5", "", "x", "1,2345", "-1"):
            assert html(f"<p>{shown}").number(made(Number, css="p")) is None

    def test_a_fact_may_have_a_value_where_nothing_is_found(self) -> None:
        fact = made(Fact, css="b", otherwise="Trash")
        assert html("<b>Papierkorb</b>").fact(fact) == "Papierkorb"
        assert html("<i>Papierkorb</i>").fact(fact) == "Trash"


class TestCondition:
    PAGE = Page(URL, 200, {"Content-Type": "Text/HTML", "X-A": "attachment; a"}, b"<p></p><b>x</b>")

    @pytest.mark.parametrize(
        ("keys", "so"),
        [
            ({"css": "p"}, True),
            ({"css": "p", "nonempty": True}, False),
            ({"css": "b", "nonempty": True}, True),
            ({"css": "b", "regex": "y"}, False),
            ({"css": "b", "attr": "id"}, False),
            ({"css": "i"}, False),
            ({"status": 200}, True),
            ({"status": 404}, False),
            ({"status": 200, "css": "i"}, False),
            ({"type": "text/html"}, True),
            ({"type": "message/rfc822"}, False),
            ({"header": {"X-A": "^attachment"}}, True),
            ({"header": {"X-A": "^inline"}}, False),
            ({"header": {"X-B": ".*"}}, False),
            ({"nonempty": True}, True),
            ({"regex": "<b>"}, True),
        ],
    )
    def test_all_that_it_says_must_be_so(self, keys: dict[str, Any], so: bool) -> None:
        assert holds(self.PAGE, **keys) is so

    def test_rule_02_an_answer_of_white_space_is_empty(self) -> None:
        assert not holds(html(b" \r\n"), nonempty=True)

    def test_rule_13_what_a_subject_says_does_not_fire_an_anchored_signal(self) -> None:
        answer = said({"exec": 'this.add_message_row(1,{"subject":"this.session_error(1)"});\n'})
        signal = {"json": "exec", "regex": r"(?m)^this\.session_error\("}
        assert not holds(answer, **signal)
        assert holds(said({"exec": "x();\nthis.session_error(1);"}), **signal)


class TestRows:
    def test_elements_have_fields_within_them(self) -> None:
        page = html(
            '<table><tr id="7"><td><a href="s?i=7">x</a><td class=n>5</tr>'
            '<tr id="8" class="gone"><td><a href="s?i=8">y</a></tr></table>'
        )
        fields = {
            "id": {"attr": "id"}, "src": {"css": "a", "attr": "href"}, "size": {"css": ".n"},
            "all": {}, "word": {"text": "^x"}, "state": {"attr": "class"},
        }  # fmt: skip
        first, second = rows(page, css="tr", fields=fields)
        assert first == {
            "id": "7", "src": "s?i=7", "size": "5", "all": "x 5", "word": "x", "state": "",
        }  # fmt: skip
        assert second["size"] == second["word"] == ""
        assert [
            row["id"] for row in rows(page, css="tr", fields=fields, skip={"state": "gone"})
        ] == ["7"]

    def test_lines_of_a_script_have_groups_and_fields(self) -> None:
        text = 'add(12,{"s":"caf\\u00e9 &lt;3","seen":1});\nadd(13,{"s":"add(99,"});\n'
        found = rows(
            said({"exec": text}), json="exec", regex=r"(?m)^add\((?P<id>\d+),.*",
            fields={
                "subject": {"regex": r'"s":"((?:[^"\\]|\\.)*)"', "decode": ["javascript", "html"]},
                "seen": {"regex": '[{,]"seen":(1)'},
            },
        )  # fmt: skip
        assert found == [
            {"id": "12", "subject": "café <3", "seen": "1"},
            {"id": "13", "subject": "add(99,", "seen": ""},
        ]

    def test_objects_of_json_have_paths(self) -> None:
        data = {"list": [{"uid": 5, "from": {"name": "A"}}, {"uid": 6}]}
        fields = {"id": {"json": "uid"}, "from": {"json": "from.name"}}
        assert rows(said(data), json="list", fields=fields) == [
            {"id": "5", "from": "A"}, {"id": "6", "from": ""},
        ]  # fmt: skip

    def test_rule_15_a_page_without_them_has_none(self) -> None:
        for page in (html("<p>Welcome"), said({"list": "no array"}), html(b"\xff", "image/png")):
            assert rows(page, css="tr", fields={"id": {}}) == []
            assert rows(page, json="list", fields={"id": {"json": "."}}) == []


class TestNext:
    def test_a_link_is_followed_from_its_page(self) -> None:
        page = html('<a href="?start=40"><img src="/i/right.png"></a>')
        found = page.following(made(Next, css='a:has(> img[src$="/right.png"])'), 0, 20)
        assert found == Turn("http://mail.example.org/list?start=40", 0)

    def test_pwm_37_of_several_links_the_sign_tells_which(self) -> None:
        page = html(
            '<a class=p href="a">«</a> <a class=p href="b">On » mail</a> <a class=p href="c">»</a>'
        )
        turn = page.following(made(Next, css="a.p", label="»"), 0, 20)
        assert turn is not None
        assert turn.url == "http://mail.example.org/c"

    def test_where_there_is_no_link_there_is_no_page(self) -> None:
        assert html("<p>").following(made(Next, css="a"), 0, 20) is None

    @pytest.mark.parametrize("href", ["#", "", "javascript:next()", "http://["])
    def test_a_link_that_leads_nowhere_is_a_changed_layout(self, href: str) -> None:
        with pytest.raises(LayoutError, match="the link 'a' to the next page is no address"):
            html(f'<a href="{href}">').following(made(Next, css="a"), 0, 20)

    def test_a_counter_goes_on_to_the_last(self) -> None:
        page = html("<b>3</b>")
        plain = {"from": 1, "last": {"css": "b"}}
        assert page.following(made(Next, **plain), 2, 20) == Turn(None, 3)
        assert page.following(made(Next, **plain), 3, 20) is None
        assert page.following(made(Next, **{"from": 0, "step": 20}), 20, 20) == Turn(None, 40)

    def test_a_counter_of_rows_grows_by_as_many_as_there_were(self) -> None:
        turn = html("").following(made(Next, **{"from": 0, "step": "rows"}), 25, 17)
        assert turn == Turn(None, 42)

    def test_an_offset_stands_in_a_script(self) -> None:
        offset = made(Next, offset={"css": "a", "attr": "onclick", "regex": r"go\((\d+)\)"})
        assert html('<a onclick="go(40)">').following(offset, 20, 20) == Turn(None, 40)
        assert html('<a onclick="go(20)">').following(offset, 20, 20) is None
        assert html("<a>").following(offset, 20, 20) is None


class TestPre:
    def test_the_text_of_an_element_is_exact_but_for_line_ends(self) -> None:
        page = html("<pre>\nSubject: &lt;a&gt; &amp;amp;\r\n\r\n a\tb  \r\n\r\n</pre>")
        assert page.pre("pre") == "Subject: <a> &amp;\n\n a\tb  \n\n"

    def test_none_is_none_and_two_are_a_changed_layout(self) -> None:
        assert html("<p>").pre("pre") is None
        with pytest.raises(LayoutError, match="2 elements match 'pre'"):
            html("<pre>a</pre><pre>b</pre>").pre("pre")

    def test_an_octet_that_stands_for_nothing_is_no_source(self) -> None:
        with pytest.raises(LayoutError, match="not in the encoding that the page says"):
            html(b"<pre>A: b\0c</pre>").pre("pre")


class TestEncoding:
    @pytest.mark.parametrize(
        ("octets", "kind"),
        [
            (b"<p>\xc3\xa9", "text/html"),
            (b"<p>\xe9", "text/html; charset=ISO-8859-1"),
            (b"<p>\xe9", 'text/html; charset="windows-1252"'),
            (b"<meta charset=iso-8859-15><p>\xe9", "text/html"),
            (b'<meta content="text/html; charset=latin1"><p>\xe9', "text/html"),
            (b"\xef\xbb\xbf<p>\xc3\xa9", "text/html; charset=latin-1"),
            ("\ufeff<p>é".encode("utf-16-le"), "text/html"),
            (b"<p>\xe9", "text/html; charset=utf-8"),
            (b"<p>\xc3\xa9", "text/html; charset=nonsense"),
            (b"<p>\xc3\xa9", "text/html; charset=zlib"),
        ],
    )  # fmt: skip
    def test_a_page_is_read_in_the_encoding_it_says_where_that_is_so(
        self, octets: bytes, kind: str
    ) -> None:
        assert find(html(octets, kind), css="p") == "é"

    def test_windows_quotes_in_what_is_called_latin_1(self) -> None:
        assert find(html(b"<p>\x93a\x94", "text/html; charset=iso-8859-1"), css="p") == "“a”"


class TestHostile:
    def test_a_pattern_that_takes_for_ever_is_given_up(self) -> None:
        page = html("<p>" + "a" * 50_000 + "b")
        page.search = Search(0.2)
        begin = time.monotonic()
        with pytest.raises(
            LayoutError, match=r"the pattern '\(a\+\)\+\$' takes too long on this page"
        ):
            find(page, css="p", regex="(a+)+$")
        with pytest.raises(LayoutError, match="takes too long"):
            find(page, css="p", regex="a+a+a+x")
        assert time.monotonic() - begin < 60

    def test_rows_share_the_time_of_their_page(self) -> None:
        page = html("<p>" + "a" * 5_000 + "b</p>" + "<p></p>" * 1000)
        page.search = Search(0.2)
        with pytest.raises(LayoutError, match="takes too long"):
            rows(page, css="p", fields={"id": {"regex": "(a+)+$"}})

    def test_lines_without_end_are_refused(self) -> None:
        page = said({"exec": "add(1);\n" * 200_000})
        with pytest.raises(LayoutError, match="matches more than 100000 times"):
            rows(page, json="exec", regex=r"(?m)^add\((?P<id>\d+)")

    def test_rows_within_rows_take_no_longer_than_they_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mailflow_webmail.web.page.PATIENCE", 0.2)
        page = html(("<div>" * 200 + "x" + "</div>" * 200) * 50)
        with pytest.raises(LayoutError, match="the rows of this page take too long to read"):
            rows(page, css="div", fields={"id": {"css": "a"}, "text": {}})

    def test_deep_nesting_is_read_without_recursion(self) -> None:
        page = html("<b>" * 100_000 + "<i>x</i>")
        assert find(page, css="b") is not None
        assert page.visible in ("", "x")
        page = Page(URL, 200, {"Content-Type": "application/json"}, b"[" * 1_000_000)
        assert page.json is None
        assert find(page, json="a.b") is None

    def test_a_page_of_tags_alone_is_refused_before_it_is_parsed(self) -> None:
        with pytest.raises(LayoutError, match="more than 200000 tags"):
            _ = html(b"<a>" * 300_000).soup

    def test_eight_mebioctets_are_read(self) -> None:
        page = html("<p>a</p>" + "x" * (8 << 20))
        assert find(page, css="p") == "a"
        assert find(page, regex="(?m)^<p>(.)") == "a"

    def test_nul_ends_nothing(self) -> None:
        assert find(html(b"<b>a\0b</b><i>c</i>"), css="i") == "c"

    def test_rule_22_xhtml_and_a_page_without_tags_warn_of_nothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            declared = '<?xml version="1.0" encoding="utf-8"?><note><p>a</p></note>'
            assert find(html(declared, "application/xhtml+xml"), css="p") == "a"
            assert find(html("http://example.org/"), text=".+") == "http://example.org/"

    def test_rule_22_what_is_no_html_has_no_elements(self) -> None:
        assert not holds(html("<p>a</p>", "text/plain"), css="p")
        assert find(html("<p>a</p>", "message/rfc822"), css="p") is None

    @pytest.mark.parametrize(
        "octets",
        [rb'{"a": "x\ud801y"}', rb'{"a": "x\uDC01y"}', b'{"a": "x\xed\xa0\x81y"}',
         '{"a": "x\\ud801y"}'.encode("utf-16")],
    )  # fmt: skip
    def test_half_a_character_of_json_is_none(self, octets: bytes) -> None:
        page = Page(URL, 200, {"Content-Type": "application/json"}, octets)
        assert find(page, json="a") == "x\ufffdy"

    def test_both_halves_of_a_character_of_json_are_one(self) -> None:
        assert find(said({"a": "\U0001f600"}), json="a") == "\U0001f600"

    def test_a_number_of_thousands_of_digits_is_no_json(self) -> None:
        page = Page(URL, 200, {}, b'{"a":' + b"9" * 10_000 + b"}")
        assert find(page, json="a") is None

    def test_a_link_with_a_million_parameters_is_none(self) -> None:
        page = html(f'<a href="?{"a=1&" * 2000}box=1">')
        assert find(page, css="a", attr="href", param="box") is None
