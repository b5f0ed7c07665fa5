"""What a browser has recorded of a visit: a draft of a definition, or what was not recorded."""

from __future__ import annotations

import json
import os
import tempfile
import tomllib

from mailflow_webmail.recorded.draft import Draft
from mailflow_webmail.recorded.har import RecordingError, exchanges
from mailflow_webmail.recorded.visit import understood

PACKAGES = ["mailflow_webmail"]
WORDS = [
    b"GET\0http://a.example/?f=", b"POST\0http://a.example/", b"\0", b"\1", b"text/html",
    b"text/plain", b"application/json",
    b'<form id="l" method="post"><input name="u"><input type="password" name="',
    b'<input type="hidden" name="t" value="', b"</form>", b'<a href="?f=INBOX&p=2" rel="next">',
    b"</a>", b"<table><tr><td>", b'{"rows":[{"id":', b"]}", b"From: a\nSubject: b\n\n", b"logout",
    b"delete", b'{"log":{"entries":[{"request":{"method":"GET","url":"http://a/"',
    b'"response":{"status":200', b"\xff",
]  # fmt: skip
SEEDS = [
    b"GET\0http://a/\0\x00200\0text/html\0\0<form><input name=u><input type=password name=p></form>"
    b"\1POST\0http://a/in\0u=ann&p=s3cret99\x00302\0text/html\0/box?f=INBOX\0"
    b"\1GET\0http://a/box?f=INBOX\0\x00200\0text/html\0\0<div><a href='/box?f=INBOX'>in</a>"
    b"<a href='/box?f=Sent'>out</a></div><table><tr><td><a href='/src?id=11'>x</a></td></tr>"
    b"<tr><td><a href='/src?id=12'>y</a></td></tr></table>"
    b"\1GET\0http://a/src?id=11\0\x00200\0text/plain\0\0From: a@b\nSubject: c\n\nhello\n"
    b"\1POST\0http://a/act\0id=11&do=delete\x00302\0text/html\0/box?f=INBOX\0"
    b"\1GET\0http://a/logout\0\x00200\0text/html\0\0bye",
    b'j{"log":{"entries":[{"request":{"method":"GET","url":"http://a/","headers":[]},'
    b'"response":{"status":200,"content":{"text":"aGk=","encoding":"base64"}}},1,null]}}',
]
FILE = os.path.join(tempfile.mkdtemp(), "visit.har")


def har(data: bytes) -> bytes:
    """A recording: method, url, form, status, type, redirect and body of each request."""
    entries = []
    for number, each in enumerate(data.decode("latin-1").split("\1")):
        words = each.split("\0", 6) + [""] * 7
        method, url, form, status, type_, redirect, body = words[:7]
        header = [{"name": "Content-Type", "value": type_}]
        posted = {"postData": {"mimeType": "x-www-form-urlencoded", "text": form}} if form else {}
        entries.append({
            "startedDateTime": f"{number:03}",
            "request": {"method": method, "url": url, "headers": [], **posted},
            "response": {"status": status, "headers": header, "redirectURL": redirect,
                         "content": {"text": body, "mimeType": type_}},
        })  # fmt: skip
    return json.dumps({"log": {"entries": entries}}).encode()


def one(data: bytes) -> None:
    with open(FILE, "wb") as file:
        file.write(data[1:] if data[:1] == b"j" else har(data))
    try:
        seen = understood(exchanges(FILE), FILE)
        draft = Draft(seen)
        written = draft.toml()
    except RecordingError as error:
        assert error.text.isprintable(), error.text
        return
    table = tomllib.loads(written)
    assert table["format"] == 1
    assert {"login", "folders", "list", "raw"} <= table.keys()
    password = dict(seen.login.sent.data)[seen.login.password]
    assert not password or password not in written
