"""An answer of a webmail, looked at as the shipped definitions do: found, or a changed layout."""

from __future__ import annotations

from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.site import SHIPPED, read
from mailflow_webmail.errors import LayoutError
from mailflow_webmail.web.page import Page

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b"<html>", b"<pre>", b"</pre>", b"<a href=", b"<input name=", b"<form ", b"<table><tr>",
    b"<?xml version='1.0' encoding='utf-16'?>", b"<meta charset=utf-7>", b"<base href=", b"&#0;",
    b"&#x110000;", b"<!--", b"<![CDATA[", b"<script>", b'"exec":"', b'{"env":{"messagecount":',
    b"this.add_message_row(1,{", b'class="folder-message-count"', b"MOVEFILE-0", b":2,S", b"\xff",
    b"\0", b"\\ud83d", b"\xef\xbb\xbf", b"\xfe\xff", b"tr.msg", b"javascript:", b"%zz", b"&APw-",
]  # fmt: skip
SEEDS = [
    b'h<form name="form"><input name="_pass" type=password></form><div id=mailboxlist><li>'
    b'<a href="?_mbox=Entw%26APw-rfe">x</a></li></div>"request_token":"a"',
    b'j{"env":{"messagecount":2,"pagecount":1},"exec":"this.add_message_row(2,{\\"subject\\":1},'
    b'{\\"seen\\":1});\\nthis.add_message_row(1,{});\\n"}',
    b'h<table class="folder-message-count"><td>1 - 1 of 1</table><input name="MOVEFILE-0"'
    b' value="1.a,S=89:2,S"><a href=x><img src="/right.png"></a><form name=delete>',
    b'h<b id=count>1</b><table id=list><tr class=msg><td><input name=uid value=1><a class=src'
    b' href=s></a><td class=size data-octets=5></table><a rel=next href="?2"><pre>A: b\n</pre>',
]  # fmt: skip
SITES = [read(f"{SHIPPED}/{name}.toml") for name in ("roundcube", "sqwebmail", "testbed")]
TYPES = {b"h": "text/html", b"x": "application/xhtml+xml", b"j": "application/json"}


def one(data: bytes) -> None:
    kind = TYPES.get(data[:1], "text/html; charset=iso-8859-1")
    page = Page("http://a.example/?form=x", 200, {"Content-Type": kind}, data[1:])
    for site in SITES:
        try:
            look(page, site)
        except LayoutError as error:
            assert error.text
            assert error.text.isprintable(), error.text


def look(page: Page, site: Site) -> None:
    for signal in site.signal:
        page.holds(signal)
    for step in (site.login, site.folders, site.list_, site.raw):
        for each in step.expect:
            page.holds(each)
        for fact in step.capture.values():
            page.fact(fact)
    for rows in (site.folders.rows, site.list_.rows):
        for row in page.rows(rows):
            assert row.keys() == set(rows.names)
    if site.list_.next_ is not None:
        turn = page.following(site.list_.next_, 1, 10)
        assert turn is None or turn.url is None or turn.url.startswith("http")
    for total in site.list_.total:
        number = page.number(total)
        assert number is None or number >= 0
    page.pre("pre")
