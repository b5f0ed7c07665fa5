"""The classic webmail that docs/webmail-sites.rst describes, for what is written there to be run.

Rule of the file: its pages have what the document shows, letter by letter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from html import escape
from urllib.parse import parse_qs, quote, urlsplit

from .web import Asked, Web, ok, to

USER, PASSWORD = "ann", "s3cret p&ss"
PAGE = 10

LOGIN = """\
<form method="post" action="login.php">
<input name="imapuser"> <input name="pass" type="password">
<input type="hidden" name="key" value="83b1">
<input type="submit" name="go" value="Anmelden"> <input type="submit" name="help" value="Hilfe">
</form>
"""
HASHED = """\
<form method="post" action="login.php" onsubmit="hash(this)">
<input name="imapuser"> <input name="pass" type="password">
<input type="hidden" name="challenge" value="c0ffee"> <input type="hidden" name="answer">
</form>
"""
FRAMES = """\
<frameset cols="20%,*">
<frame name="left" src="left.php"> <frame name="list" src="list.php?box=INBOX">
</frameset>
"""
FAULT = '<div class="fault" id="{0}">Fehler: {0}</div>'


class Classic(Web):
    """A webmail of `boxes`: by the name of each folder, its messages by their ids.

    `paging` is "link" or "script"; `hashed`: the login wants an answer to its challenge;
    `shown`: sources stand in a page. `fault`: what is wrong with all lists, "" for nothing.
    """

    def __init__(
        self, boxes: Mapping[str, Mapping[str, bytes]], *, paging: str = "link",
        hashed: bool = False, shown: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(self._answered)
        self.boxes = {name: dict(box) for name, box in boxes.items()}
        self.fault = ""
        self.pages: list[str] = []
        self._paging, self._hashed, self._shown = paging, hashed, shown

    def _answered(self, asked: Asked) -> bytes:
        target = urlsplit(asked.target)
        said = {
            name: values[0]
            for name, values in parse_qs(target.query or asked.body.decode()).items()
        }
        name = target.path.removeprefix("/").removesuffix(".php") or "index"
        if name == "login" and asked.method == "POST":
            return self._enter(said)
        if "session=1" not in asked.headers.get("cookie", "") or name in ("login", "logout"):
            return self._page(HASHED if self._hashed else LOGIN)
        return getattr(self, f"_{name}")(said)

    def _enter(self, said: Mapping[str, str]) -> bytes:
        if self._hashed:
            wanted = hashlib.sha256(("c0ffee" + PASSWORD).encode()).hexdigest()
            good = said.get("answer") == wanted and "pass" not in said
        else:
            good = said.get("pass") == PASSWORD and said.get("key") == "83b1" and "help" not in said
        if not good or said.get("imapuser") != USER:
            return self._page(LOGIN)
        return to("main.php", "Set-Cookie: session=1; Path=/")

    def _main(self, said: Mapping[str, str]) -> bytes:
        return self._page(FRAMES)

    def _left(self, said: Mapping[str, str]) -> bytes:
        texts = {"INBOX": "Posteingang", "Entw&APw-rfe": "Entwürfe"}
        return self._page("".join(
            f'<a class="box" href="list.php?box={quote(name)}">{texts.get(name, name)}</a>'
            f" ({len(box)})<br>\n"
            for name, box in self.boxes.items()
        ))  # fmt: skip

    def _list(self, said: Mapping[str, str]) -> bytes:
        if self.fault:
            return self._page(FAULT.format(self.fault))
        name, start = said.get("box", "INBOX"), int(said.get("start", 0))
        ids = sorted(self.boxes[name], key=int, reverse=True)
        shown = ids[start : start + PAGE]
        rows = "".join(
            f'<tr><td><input type="checkbox" name="msg[]" value="{each}"></td><td>Bob</td>\n'
            f'<td><a href="read.php?box={quote(name)}&amp;id={each}">Hello &raquo;</a></td></tr>\n'
            for each in shown
        )
        count = f"{start + 1 if shown else 0} - {start + len(shown)} / {len(ids)}"
        return self._page(
            f'<p class="count">{count}</p>\n<form method="post" action="delete.php">\n'
            f'<input type="hidden" name="key" value="5f0c">\n<table>\n{rows}</table>\n'
            f'<input type="submit" name="delete" value="Löschen">\n</form>\n'
            + self._next(name, start + PAGE, start + PAGE < len(ids))
        )

    def _next(self, name: str, start: int, more: bool) -> str:
        if not more:
            return '<img src="img/next_off.gif">\n'
        if self._paging == "script":
            return f'<a href="#" onclick="page({start})"><img src="img/next.gif"></a>\n'
        href = f"list.php?box={quote(name)}&amp;start={start}"
        return f'<a href="{href}"><img src="img/next.gif"></a>\n'

    def _source(self, said: Mapping[str, str]) -> bytes:
        octets = self.boxes.get(said["box"], {}).get(said["id"])
        if octets is None:
            return self._page(FAULT.format("gone"))
        if self._shown:
            return self._page(f'<pre class="source">\n{escape(octets.decode())}</pre>\n')
        return ok(octets.decode("latin-1").encode(), kind="application/octet-stream")

    def _delete(self, said: Mapping[str, str]) -> bytes:
        if said.get("key") == "5f0c":
            self.boxes[said["box"]].pop(said["msg[]"], None)
        return self._list({"box": said["box"]})

    def _page(self, body: str) -> bytes:
        self.pages.append(body)
        return ok(f"<html><body>\n{body}</body></html>\n", kind="text/html; charset=utf-8")
