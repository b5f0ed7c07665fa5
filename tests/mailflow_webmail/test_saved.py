"""Pages kept for a report: how they are built stays, what they say does not."""

from __future__ import annotations

import json
import os
import re

import pytest

from mailflow_webmail.account import saved as module
from mailflow_webmail.account.saved import Saved, trimmed
from mailflow_webmail.definition.site import site as shipped
from mailflow_webmail.errors import LayoutError
from mailflow_webmail.web.page import Page

from .paper import PASSWORD, USER, Paper, site
from .web import ok

TOKEN = "8f3a1b2c4d5e6f708192a3b4c5d6e7f8"
LETTER = f"""<html><head><title>You have 3 new mails, ann</title>
<script>var user = "Ann Miller"; list.add(12, {{"subject": "Your salary", "flags": 3}});
// secret remark of Ann
rcmail.set_env({{"request_token":"{TOKEN}","locale":"en_US"}});</script>
<style>.ann {{ color: red }}</style></head>
<body class="list skin-larry" data-user="ann"><!-- Ann's page -->
<form id="compose" action="/login/ann/{TOKEN}/123?folder=Lists">
<input type="hidden" name="_token" value="{TOKEN}">
<input type="password" name="_pass" value="{PASSWORD}"><input name="q" value="salary"></form>
<table id="messages"><tr class="msg unread"><td class="from">Ann Miller &lt;ann@example.org&gt;</td>
<td class="subject"><a href="?_task=mail&amp;_mbox=Lists&amp;_uid=1234" title="Your salary">
Your salary is 4711 \u20ac</a></td>
</tr></table></body></html>"""


def html(text, site_=None, private=(USER, PASSWORD)):
    page = Page("http://h/list", 200, {"Content-Type": "text/html"}, text.encode())
    return trimmed(site_ or site(), page, private)[0]


class TestWhatGoes:
    @pytest.mark.parametrize(
        "word", ["salary", "Ann", "Miller", "ann@example.org", TOKEN, PASSWORD, "4711", "mails"]
    )
    def test_rule_21_no_word_of_a_letter_is_left(self, word):
        assert word not in html(LETTER)

    @pytest.mark.parametrize(
        "text",
        [
            "<p>{}</p>", "<p title='{}'>x</p>", "<input type=hidden name=a value='{}'>",
            "<!-- {} -->", "<script>var x = '{}';</script>", '<script>f("{}", 1)</script>',
            "<script>/* {} */</script>", "<script>it's '{}</script>",
            "<script>'{}", "<script>'{}\\", "<a href='/s/{}/x'>x</a>",
            "<style>{}</style>", "<td id='{}'>x</td>", "<td class='m {}'>x</td>",
            "<noscript>{}</noscript>", "<textarea>{}</textarea>", "<title>{}</title>",
            "<p data-x='{}'>x</p>", "<![CDATA[{}]]>", "<meta content='{}'>", "<iframe src='{}'>",
            "<body onload='f(\"{}\")'>", "<p>{}", "<script>f(`my\n{}`)</script>", "<p {}=1>",
            "<p title='a' {}>", "<x-{}>",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("secret", [PASSWORD, USER, "ann+x@example.net", TOKEN])
    def test_rule_21_neither_user_nor_password_nor_token_nor_address_is_left_anywhere(
        self, text, secret
    ):
        assert secret not in html(text.format(secret))

    def test_rule_21_nor_in_the_form_that_addresses_have(self):
        assert "%26ss" not in html("<form name='/x/p%26ss/y'>", private=("p&ss",))

    @pytest.mark.parametrize(
        "said", ["aHVudGVyMg", "68756e74657232", "HUNTER2", "a&amp;b&lt;c", "YSZiPGM", "YSZiPGM="]
    )
    def test_rule_21_nor_as_scripts_write_it(self, said):
        page = html(f"<i id='{said}'><script>f({said});</script>", private=("hunter2", "a&b<c"))
        assert said.rstrip("=") not in page

    def test_a_password_that_is_a_word_of_the_definition_goes_too(self):
        assert "folder" not in html("<p>folder</p><td name=folder>", private=("folder",))
        assert "folder" not in html("<p>dear folder</p>", private=("Red folder",))

    @pytest.mark.filterwarnings("error")
    def test_rule_22_xhtml_is_html(self):
        said = html('<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><p id="a">Ann')
        assert '<p id="a">xxx</p>' in said

    def test_many_rows_are_cut_to_a_few(self):
        said = html("<table>" + "<tr class=msg><td>x</td></tr>" * 100 + "</table>")
        assert said.count("<tr") == module.ALIKE

    def test_json_loses_what_it_says_and_keeps_how_it_is_built(self):
        data = {
            "env": {"messagecount": 3, "who": "Ann Miller", "ann@example.org": 1},
            "rows": [{"subject": "Your salary", "uid": 7}] * 50,
            "exec": 'this.add_row(1,{"subject":"Your salary"});\nthis.end();',
            "big": 49170123456789,
        }
        octets = json.dumps(data).encode()
        page = Page("http://h/", 200, {"Content-Type": "application/json"}, octets)
        text, suffix = trimmed(site(), page, (USER,))
        assert suffix == "json"
        found = json.loads(text)
        assert not re.search("salary|Ann|ann@|49170", text)
        assert found["env"]["messagecount"] == 3
        assert found["rows"][0]["uid"] == 7
        assert found["exec"].startswith('this.add_row(1,{"subject":"xxxx')
        assert len(found["rows"]) == module.ALIKE

    def test_json_that_is_nested_too_deep_to_write_loses_all_words(self):
        octets = b"[" * 600 + b'"Ann"' + b"]" * 600
        page = Page("http://h/", 200, {"Content-Type": "application/json"}, octets)
        assert page.json is not None
        assert "Ann" not in trimmed(site(), page, ())[0]

    def test_other_octets_lose_all_words(self):
        page = Page("http://h/", 200, {"Content-Type": "text/plain"}, b"Dear Ann, 4711 \xff\x00")
        assert trimmed(site(), page, ())[0].startswith("xxxx xxx, 0000")


class TestWhatStays:
    @pytest.mark.parametrize(
        "built",
        [
            'id="messages"', 'class="msg unread"', 'name="_pass"', 'type="password"',
            'class="subject"', 'id="compose"', 'class="list skin-larry"', 'name="_token"',
        ],
    )  # fmt: skip
    def test_elements_keep_what_they_are_matched_by(self, built):
        assert built in html(LETTER)

    def test_scripts_keep_their_calls_and_keys(self):
        said = html(LETTER)
        assert 'rcmail.set_env({"request_token":' in said
        assert 'list.add(12, {"subject":' in said

    def test_words_of_the_definition_stay(self):
        assert "<p>Down, xxx</p>" in html("<p>Down, Ann</p>")

    def test_names_of_parameters_that_the_definition_has_stay(self):
        said = html("<a href='?_task=mail&_mbox=Lists&_uid=12'>x</a>", shipped("roundcube"))
        assert "?_task=mail&amp;_mbox=xxxxx&amp;_uid=00" in said


class TestFiles:
    @pytest.fixture
    def pages(self, tmp_path):
        return Saved(str(tmp_path / "state" / "webmail"))

    def keep(self, pages, text="<p>x</p>", step="list"):
        page = Page("http://h/", 200, {"Content-Type": "text/html"}, text.encode())
        return pages.keep(site(), page, step, "rows", (USER,))

    def test_they_are_for_their_user_alone(self, pages):
        path = self.keep(pages)
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700

    def test_the_name_says_software_and_step_and_the_file_what_did_not_hold(self, pages):
        path = self.keep(pages)
        assert re.fullmatch(r"paper-list-[0-9a-f]{12}\.html", os.path.basename(path))
        with open(path) as file:
            assert file.readline() == "<!-- Paper: list: rows, status 200, text/html -->\n"

    def test_an_equal_page_is_kept_once(self, pages):
        assert self.keep(pages) == self.keep(pages)
        assert len(os.listdir(os.path.dirname(self.keep(pages)))) == 1

    def test_there_are_so_many_and_no_more(self, pages, monkeypatch):
        monkeypatch.setattr(module, "KEPT", 3)
        for number in range(6):
            path = self.keep(pages, f"<p class='{'x' * number}'>")
            os.utime(path, (number, number))
        assert len(os.listdir(os.path.dirname(path))) == 3
        assert os.path.exists(path)

    def test_each_is_of_bounded_size(self, pages):
        path = self.keep(pages, "".join(f"<p id=x{n}>x</p>" for n in range(20_000)))
        assert os.path.getsize(path) < module.SIZE + 1000

    def test_where_none_can_be_written_the_error_is_told_without_it(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert self.keep(Saved(str(tmp_path / "file" / "webmail"))) == ""

    @pytest.mark.parametrize(
        "text",
        ["<p>", "<div>", "<!--", "<![CDATA[", "<script>'", "<script>/*", "&", "x", "@", "\0"],
    )
    def test_a_page_that_is_made_to_be_endless_is_kept_as_well(self, pages, text):
        assert os.path.getsize(self.keep(pages, text * 30_000)) < module.SIZE + 1000

    def test_nothing_of_another_file_is_touched_by_the_name_of_a_site(self, pages, tmp_path):
        page = Page("http://h/", 200, {"Content-Type": "text/html"}, b"<p>")
        path = pages.keep(site(name="../../etc/x"), page, "list", "rows", ())
        assert os.path.dirname(path) == str(tmp_path / "state" / "webmail")


class TestThroughASession:
    def test_rule_15_the_error_names_site_step_key_and_the_page(self, tmp_path):
        with Paper(a=b"A: b\r\n\r\n") as paper, paper.session(tmp_path) as session:
            session.log_in()
            said = f"<p id=in data-key=key1>Hello {USER} {PASSWORD} key1</p><div class=renamed>"
            paper.says["list"] = lambda asked: ok(said, "Set-Cookie: sid=c00kieval")
            with pytest.raises(LayoutError) as caught:
                session.listing("INBOX")
        path = caught.value.fields["saved"]
        assert caught.value.exit_code == 76
        assert caught.value.text.startswith("Paper: list: `empty` does not hold: css #none.")
        assert caught.value.text.endswith(f"is in {path}")
        with open(path) as file:
            text = file.read()
        assert '<div class="renamed">' in text
        for secret in (USER, PASSWORD, "key1", "c00kieval"):
            assert secret not in text
