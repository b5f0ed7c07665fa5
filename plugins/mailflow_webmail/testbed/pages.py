"""The pages of the test bed, as templates of Jinja, and their words in three languages.

Rule of the file: whatever a mail says is escaped; what a definition looks for is an id, a class
or a name, and is the same in every language.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "login": "Log in", "user": "User", "password": "Password", "logout": "Log out",
        "folders": "Folders", "messages": "messages", "empty": "There is no message here.",
        "next": "Next page", "previous": "Previous page", "source": "Source",
        "delete": "Delete", "trash": "Move to Trash", "seen": "Mark as read",
        "compose": "Write", "from": "From", "to": "To", "cc": "Cc", "bcc": "Bcc",
        "subject": "Subject", "file": "Files", "send": "Send", "sent": "The message was sent.",
        "denied": "The name or the password is wrong.", "gone": "This message is not there.",
        "refused": "The message was not sent", "again": "Please try again.",
        "maintenance": "Maintenance: please come back later.",
        "throttled": "Too many requests: please wait.", "error": "Something went wrong.",
        "challenge": "Please type the letters of the picture.", "offer": "Now with more space!",
    },
    "de": {
        "login": "Anmelden", "user": "Benutzer", "password": "Passwort", "logout": "Abmelden",
        "folders": "Ordner", "messages": "Nachrichten", "empty": "Hier ist keine Nachricht.",
        "next": "Nächste Seite", "previous": "Vorige Seite", "source": "Quelltext",
        "delete": "Löschen", "trash": "In den Papierkorb", "seen": "Als gelesen markieren",
        "compose": "Schreiben", "from": "Von", "to": "An", "cc": "Kopie", "bcc": "Blindkopie",
        "subject": "Betreff", "file": "Dateien", "send": "Senden",
        "sent": "Die Nachricht wurde gesendet.",
        "denied": "Name oder Passwort ist falsch.", "gone": "Diese Nachricht gibt es nicht.",
        "refused": "Die Nachricht wurde nicht gesendet", "again": "Bitte noch einmal versuchen.",
        "maintenance": "Wartung: bitte später wiederkommen.",
        "throttled": "Zu viele Anfragen: bitte warten.", "error": "Etwas ging schief.",
        "challenge": "Bitte die Buchstaben des Bildes tippen.", "offer": "Jetzt mit mehr Platz!",
    },
    "ja": {
        "login": "ログイン", "user": "ユーザー", "password": "パスワード", "logout": "ログアウト",
        "folders": "フォルダー", "messages": "通", "empty": "メールはありません。",
        "next": "次のページ", "previous": "前のページ", "source": "ソース",
        "delete": "削除", "trash": "ゴミ箱へ", "seen": "既読にする",
        "compose": "作成", "from": "差出人", "to": "宛先", "cc": "写し", "bcc": "控え",
        "subject": "件名", "file": "ファイル", "send": "送信", "sent": "送信しました。",
        "denied": "名前またはパスワードが違います。", "gone": "このメールはありません。",
        "refused": "送信しませんでした", "again": "もう一度お試しください。",
        "maintenance": "メンテナンス中です。", "throttled": "お待ちください。",
        "error": "エラーが発生しました。", "challenge": "画像の文字を入力してください。",
        "offer": "容量が増えました。",
    },
}  # fmt: skip
"""By language and by name; every language has every name."""

_FRAME = """\
<!DOCTYPE html>
<html lang="{{ language }}">
<head><meta charset="utf-8"><title>{% block title %}mailflow testbed{% endblock %}</title></head>
<body>
{% if inside %}<nav>
<a href="{{ link('folders') }}">{{ say.folders }}</a>
<a href="{{ link('compose') }}">{{ say.compose }}</a>
<a id="logout" href="{{ link('logout') }}">{{ say.logout }}</a>
<form id="session"><input type="hidden" name="token" value="{{ token }}"></form>
</nav>{% endif %}
{% block body %}{% endblock %}
</body>
</html>
"""

_LOGIN = """\
{% extends "frame" %}{% block body %}
{% if denied %}<p id="denied">{{ say.denied }}</p>{% endif %}
<form id="login" method="post" action="{{ link('login') }}">
<input type="hidden" name="nonce" value="{{ nonce }}">
<label>{{ say.user }} <input name="user"></label>
<label>{{ say.password }} <input type="password" name="pass"></label>
<button>{{ say.login }}</button>
</form>
{% endblock %}
"""

_FOLDERS = """\
{% extends "frame" %}{% block title %}{{ say.folders }}{% endblock %}{% block body %}
<ul id="folders">
{% for folder in folders %}\
<li><a href="{{ link('list', folder=folder.name) }}">{{ folder.name }}</a></li>
{% endfor %}</ul>
{% endblock %}
"""

_LIST = """\
{% extends "frame" %}{% block title %}{{ folder }}{% endblock %}{% block body %}
<h1>{{ folder }}</h1>
{% if shows_count %}\
<p><span id="{{ prefix }}count">{{ page.total }}</span> {{ say.messages }}</p>{% endif %}
<form method="post" action="{{ link('change') }}">
<input type="hidden" name="token" value="{{ token }}">
<input type="hidden" name="folder" value="{{ folder }}">
{% if page.rows %}<table id="{{ prefix }}list">
{% for row in page.rows %}<tr class="{{ prefix }}msg {{ 'seen' if row.seen else 'unseen' }}">
<td><input type="checkbox" name="{{ prefix }}uid" value="{{ row.uid }}">\
{% if row.seen %}<span class="{{ prefix }}read">✓</span>{% endif %}</td>
<td class="{{ prefix }}from">{{ row.sender }}</td>
<td class="{{ prefix }}subject">\
<a href="{{ link('message', folder=folder, uid=row.uid) }}">{{ row.subject }}</a></td>
<td class="{{ prefix }}date">{{ row.date }}</td>
{% if row.size is not none %}<td class="{{ prefix }}size" data-octets="{{ row.size }}">\
{{ (row.size + 1023) // 1024 }} KB</td>{% endif %}
<td><a class="{{ prefix }}{{ 'place' if page.by_place else 'src' }}" href="{{ row.source }}">\
{{ say.source }}</a></td>
</tr>
{% endfor %}</table>
<button name="action" value="delete">{{ say.delete }}</button>
<button name="action" value="trash">{{ say.trash }}</button>
<button name="action" value="seen">{{ say.seen }}</button>
{% elif proves_empty %}<p id="{{ prefix }}empty">{{ say.empty }}</p>{% endif %}
</form>
{% if page.number > 1 %}\
<a rel="prev" href="{{ link('list', folder=folder, page=page.number - 1) }}">{{ say.previous }}</a>
{% endif %}{% if page.number < page.pages %}\
<a rel="next" href="{{ link('list', folder=folder, page=page.number + 1) }}">{{ say.next }}</a>
{% endif %}{% endblock %}
"""

_MESSAGE = """\
{% extends "frame" %}{% block title %}{{ letter.subject }}{% endblock %}{% block body %}
<dl id="message">
<dt>{{ say.from }}</dt><dd class="from">{{ letter.sender }}</dd>
<dt>{{ say.subject }}</dt><dd class="subject">{{ letter.subject }}</dd>
</dl>
<a class="src" href="{{ source }}">{{ say.source }}</a>
{% endblock %}
"""

_SOURCE = """\
{% extends "frame" %}{% block body %}<pre id="source">
{{ text }}</pre>{% endblock %}
"""

_COMPOSE = """\
{% extends "frame" %}{% block title %}{{ say.compose }}{% endblock %}{% block body %}
{% if refused %}<p id="refused">{{ say.refused }}: <span>{{ refused }}</span></p>{% endif %}
<form id="compose" method="post" action="{{ link('compose') }}" enctype="multipart/form-data">
<input type="hidden" name="token" value="{{ token }}">
{% for name in ("reply-to", "message-id", "in-reply-to", "references") -%}
<input type="hidden" name="{{ name }}">
{% endfor -%}
<label>{{ say.from }} <input name="from" value="{{ sender }}"></label>
<label>{{ say.to }} <input name="to"></label>
<label>{{ say.cc }} <input name="cc"></label>
<label>{{ say.bcc }} <input name="bcc"></label>
<label>{{ say.subject }} <input name="subject"></label>
<textarea name="text"></textarea>
<label>{{ say.file }} <input type="file" name="file" multiple></label>
<button name="send" value="1">{{ say.send }}</button>
</form>
{% endblock %}
"""

_TOLD = """\
{% extends "frame" %}{% block body %}<p id="{{ what }}">{{ say[what] }}</p>
{% if what == "challenge" %}<form method="post"><input name="letters"></form>{% endif %}
{% endblock %}
"""


@cache
def environment() -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined

    templates = {
        "frame": _FRAME, "login": _LOGIN, "folders": _FOLDERS, "list": _LIST, "message": _MESSAGE,
        "source": _SOURCE, "compose": _COMPOSE, "told": _TOLD,
    }  # fmt: skip
    return Environment(autoescape=True, loader=DictLoader(templates), undefined=StrictUndefined)


def page(name: str, language: str, **facts: object) -> str:
    """A page, as HTML."""
    template = environment().get_template(name)
    return template.render(say=WORDS[language], language=language, **facts)
