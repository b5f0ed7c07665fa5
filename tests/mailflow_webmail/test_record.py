"""`mailflow webmail record`: a draft of a definition, from what a browser has recorded."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailflow.errors import ConfigError
from mailflow.halt import Halt
from mailflow.mail import read as whole
from mailflow.testing.webmail import PASSWORD, TestBed
from mailflow_webmail.account.session import opened
from mailflow_webmail.commands.check import check
from mailflow_webmail.commands.record import record
from mailflow_webmail.definition.site import read
from mailflow_webmail.recorded.har import RecordingError
from mailflow_webmail.settings import WebmailOptions

from .classic import PASSWORD as SECRET
from .classic import USER, Classic
from .visits import Entry, Visit, chromium, firefox

MAIL = [b"From: ben@example.com\r\nSubject: n%d\r\n\r\nhello\r\n" % number for number in range(5)]


@pytest.fixture
def bed() -> Iterator[TestBed]:
    with TestBed(folders=["Archive", "Entw&APw-rfe"], page_size=3, user="ann") as running:
        running.put("INBOX", *MAIL)
        yield running


def at_bed(bed: TestBed, browser: Callable[[Entry], Entry] = chromium) -> Visit:
    """What its user is told to do."""
    visit = Visit(bed.url, browser)
    visit.get("login")
    visit.send("#login", {"user": "ann", "pass": PASSWORD})
    visit.follow('#folders a[href*="INBOX"]')
    visit.follow("a[rel=next]")
    visit.follow("a[rel=prev]")
    visit.follow("a.src", 1)
    uid = str(visit.page.select("[name=uid]")[1]["value"])
    visit.send('form:has([name="uid"])', {"uid": uid, "action": "delete"})
    visit.follow("#logout")
    return visit


def drafted(visit: Visit, path: Path) -> str:
    result = CliRunner().invoke(record, [visit.saved(path)], standalone_mode=False)
    assert result.exception is None, result.exception
    return result.stdout


def confirmed(text: str) -> str:
    return re.sub(r"(?m)^guesses = .*\n", "", text)


@pytest.mark.parametrize("browser", [chromium, firefox])
def test_pwm_34_the_draft_reads_a_webmail_once_its_guesses_are_confirmed(
    bed: TestBed, tmp_path: Path, browser: Callable[[Entry], Entry]
) -> None:
    text = drafted(at_bed(bed, browser), tmp_path / "visit.har")
    site = tmp_path / "own.toml"
    site.write_text(confirmed(text))
    bed.put("INBOX", *MAIL)
    options = {"site": str(site), "url": bed.url, "user": "ann", "password": PASSWORD}
    session = opened(WebmailOptions.read(options), Halt(), str(tmp_path))
    try:
        assert {row["id"] for row in session.folders()} >= {"INBOX", "Archive"}
        rows = session.listing("INBOX")
        assert sorted(row["id"] for row in rows) == sorted(bed.uids("INBOX"))
        read_ = sorted(whole(session.raw(row)) for row in rows)
        assert read_ == sorted(bed.messages("INBOX"))
        session.remove(rows[:1], "delete")
    finally:
        session.close()
    assert rows[0]["id"] not in bed.uids("INBOX")
    assert len(bed.uids("INBOX")) == len(rows) - 1


def test_a_draft_is_refused_until_each_guess_is_confirmed(bed: TestBed, tmp_path: Path) -> None:
    text = drafted(at_bed(bed), tmp_path / "visit.har")
    guesses = tomllib.loads(text)["guesses"]
    site = tmp_path / "own.toml"
    site.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"`{guesses[0]}` is a guess")):
        read(str(site))
    site.write_text(
        text.replace(f"guesses = {json.dumps(guesses)}", f'guesses = ["{guesses[-1]}"]')
    )
    with pytest.raises(ConfigError) as told:
        read(str(site))
    assert len(told.value.text.splitlines()) == 1


def test_every_guess_has_a_remark_where_it_stands_that_says_what_else_it_could_be(
    bed: TestBed, tmp_path: Path
) -> None:
    text = drafted(at_bed(bed), tmp_path / "visit.har")
    guesses = tomllib.loads(text)["guesses"]
    assert {"login.expect", "folders.rows", "list.rows", "list.total", "list.next"} <= {*guesses}
    assert text.count("\n# guess: ") == len(guesses)
    assert text.count("could also be") >= 5


def test_check_tries_a_draft_as_it_stands_and_says_what_is_to_be_confirmed(
    bed: TestBed, tmp_path: Path
) -> None:
    site = tmp_path / "own.toml"
    site.write_text(drafted(at_bed(bed), tmp_path / "visit.har"))
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    words = [str(site), bed.url, "--user", "ann", "--password", f"file:{secret}"]
    result = CliRunner().invoke(check, words, standalone_mode=False)
    assert (result.exception, result.return_value) == (None, 0), result.output
    assert "a guess that you have to confirm: list.total" in result.stdout


def test_no_password_no_cookie_and_no_token_is_written(bed: TestBed, tmp_path: Path) -> None:
    visit = at_bed(bed)
    text = drafted(visit, tmp_path / "visit.har")
    log = (tmp_path / "visit.har").read_text()
    secrets = set(re.findall(r'name=\\"(?:token|nonce)\\" value=\\"([^"\\]+)', log))
    secrets |= {value for each in visit.entries for value in cookies(each)}
    assert len(secrets) >= 3
    assert not any(each in text for each in secrets)
    assert f'"{PASSWORD}"' not in text


def cookies(entry: dict[str, Any]) -> Iterator[str]:
    for each in entry["response"]["headers"]:
        if each["name"].lower() == "set-cookie":
            yield each["value"].partition(";")[0].partition("=")[2]


@pytest.mark.parametrize(("lacking", "told"), [
    ("login", "nobody logs in there"), ("source", "it lacks the source of a message"),
])  # fmt: skip
def test_what_was_not_recorded_is_told_and_how_to_record_it(
    bed: TestBed, tmp_path: Path, lacking: str, told: str
) -> None:
    visit = at_bed(bed)
    visit.entries = [each for each in visit.entries if lacking not in each["request"]["url"]]
    result = CliRunner().invoke(record, [visit.saved(tmp_path / "x.har")], standalone_mode=False)
    assert isinstance(result.exception, RecordingError)
    assert told in result.exception.text
    assert "Persist Logs" in result.exception.text
    assert result.exception.exit_code == 65


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", '{"log": {}}', '{"log": {"entries": 5}}', '{"log": {"entries": []}}',
    '{"log": {"entries": [1, {}, {"request": {}, "response": 5}]}}', "[" * 100_000,
    '{"log": {"entries": [{"request": {"url": "http://h/"}, "response": {"status": Infinity}}]}}',
])  # fmt: skip
def test_what_is_no_recording_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.har").write_text(text)
    result = CliRunner().invoke(record, [str(tmp_path / "x.har")], standalone_mode=False)
    assert isinstance(result.exception, RecordingError)
    assert "\n" not in result.exception.text


@pytest.mark.parametrize("place", ["url", "header", "data"])
def test_half_a_character_is_refused_with_the_file_and_the_entry(
    bed: TestBed, tmp_path: Path, place: str
) -> None:
    visit = at_bed(bed)
    sent, answer = (visit.entries[2][side] for side in ("request", "response"))
    if place == "url":
        sent["url"] += "?a=\ud800"
    elif place == "header":
        answer["headers"].append({"name": "X-A", "value": "\ud800"})
    else:
        sent["postData"] = {"mimeType": "x/y", "params": [{"name": "a", "value": "\ud800"}]}
    path = visit.saved(tmp_path / "visit.har")
    result = CliRunner().invoke(record, [path], standalone_mode=False)
    assert isinstance(result.exception, RecordingError)
    assert result.exception.text.startswith(f"{path}: entry 3, '{bed.url}")
    assert "half a character" in result.exception.text
    assert result.exception.text.isascii()


def test_images_styles_scripts_and_what_was_cut_off_do_no_harm(
    bed: TestBed, tmp_path: Path
) -> None:
    visit = at_bed(bed)
    clean = drafted(visit, tmp_path / "clean.har")
    first = visit.entries[0]
    for type_ in ("image/png", "text/css", "application/javascript"):
        content = {"mimeType": type_, "text": "AAAA", "encoding": "base64", "size": 3}
        headers = [{"name": "Content-Type", "value": type_}]
        beside = {**first["response"], "content": content, "headers": headers}
        visit.entries.insert(3, {**first, "response": beside})
    visit.entries.insert(2, {**first, "response": {**first["response"], "status": 0}})
    visit.entries.insert(2, {"request": first["request"]})
    visit.entries.insert(2, {**first, "request": {**first["request"], "url": "data:text/html,x"}})
    assert drafted(visit, tmp_path / "dirty.har") == clean


def test_the_order_of_the_file_does_not_matter(bed: TestBed, tmp_path: Path) -> None:
    visit = at_bed(bed)
    straight = drafted(visit, tmp_path / "straight.har")
    visit.entries.reverse()
    assert drafted(visit, tmp_path / "turned.har") == straight


def test_where_one_page_was_recorded_the_next_is_asked_for_in_a_remark(
    bed: TestBed, tmp_path: Path
) -> None:
    visit = at_bed(bed)
    visit.entries = [each for each in visit.entries if "page=" not in each["request"]["url"]]
    text = drafted(visit, tmp_path / "visit.har")
    assert "# guess: only one page of a list was recorded" in text
    assert "list.next" in tomllib.loads(text)["guesses"]
    assert "next" not in tomllib.loads(text)["list"]


def test_a_classic_webmail_with_offsets_is_drafted(tmp_path: Path) -> None:
    boxes = {
        "INBOX": {str(100 + n): MAIL[n % 5] for n in range(23)},
        "Old": {"7": MAIL[0]}, "Entw&APw-rfe": {},
    }  # fmt: skip
    with Classic(boxes) as web:
        visit = Visit(web.url)
        visit.get("index.php")
        visit.send("form", {"imapuser": USER, "pass": SECRET}, "go")
        visit.get("left.php")
        visit.follow("a.box")
        visit.get("list.php?box=INBOX&start=10")
        visit.get("source.php?box=INBOX&id=121")
        visit.get("list.php?box=INBOX")
        visit.send("form", {"box": "INBOX", "msg[]": "122"}, "delete")
        text = drafted(visit, tmp_path / "visit.har")
    found = tomllib.loads(text)
    assert found["login"]["click"] == "go"
    assert found["list"]["next"] == {"from": 0, "step": "rows"}
    assert found["list"]["query"] == {"box": "{folder}", "start": "{n}"}
    assert found["raw"]["query"] == {"box": "{folder}", "id": "{id}"}
    assert found["delete"]["data"]["msg[]"] == "{id}"
    assert "5f0c" not in text
    assert found["delete"]["before"] == ["list"]
    assert SECRET not in text


def test_a_password_that_every_definition_has_as_a_word_is_no_draft(
    bed: TestBed, tmp_path: Path
) -> None:
    visit = at_bed(bed)
    sent = next(each["request"] for each in visit.entries if "postData" in each["request"])
    posted = sent["postData"]
    posted["text"] = posted["text"].replace(f"pass={PASSWORD}", "pass=form")
    result = CliRunner().invoke(record, [visit.saved(tmp_path / "x.har")], standalone_mode=False)
    assert isinstance(result.exception, RecordingError)
    assert "record a visit with another one" in result.exception.text
    assert not result.stdout


def test_nothing_that_a_page_says_breaks_out_of_a_remark_or_a_string(
    bed: TestBed, tmp_path: Path
) -> None:
    visit = at_bed(bed)
    evil = "x%0A%5Bhook%5D%0A%1B%5B2J%C2%9B=1234567890123"
    for each in visit.entries:
        if "source" in each["request"]["url"] or "uid=" in each["request"]["url"]:
            each["request"]["url"] += f"&{evil}"
    text = drafted(visit, tmp_path / "visit.har")
    assert "hook" not in tomllib.loads(text)
    assert "x" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "was left out" in text


def test_a_session_in_the_address_is_kept_from_the_login_and_not_written(tmp_path: Path) -> None:
    home = "login/ann/0123456789ABCDEF0123456789ABCDEF/1795290000"
    rows = "".join(f'<a href="/mail/{home}?form=read&amp;id={n}a7">x</a>' for n in range(3))
    boxes = "".join(f'<a href="/mail/{home}?form=list&amp;box={n}">x</a>' for n in ("INBOX", "Old"))
    html = "text/html"
    pages = [
        ("GET", "/mail", "", "<form><input name=u><input type=password name=p></form>", html),
        ("POST", "/mail", "u=ann&p=s3cret99", f'{boxes}<p id="in">', html),
        ("GET", f"/mail/{home}?form=boxes", "", boxes, html),
        ("GET", f"/mail/{home}?form=list&box=INBOX", "", f"<p id=n>3</p>{rows}", html),
        ("GET", f"/mail/{home}?form=raw&box=INBOX&id=1a7", "", "A: b\nTo: c\n\n", "text/plain"),
        ("POST", f"/mail/{home}", "form=del&box=INBOX&id=1a7", "gone", html),
    ]  # fmt: skip
    pages.insert(2, ("GET", f"/mail/{home}", "", f'{boxes}<p id="in">', html))
    entries = [
        {
            "startedDateTime": f"{number:02}",
            "request": {
                "method": method, "url": f"http://mail.example{path}", "headers": [],
                "postData": {"mimeType": "application/x-www-form-urlencoded", "text": data},
            },
            "response": {
                "status": 302 if number == 1 else 200, "headers": [],
                "redirectURL": f"http://mail.example/mail/{home}" * (number == 1),
                "content": {"mimeType": kind, "text": body},
            },
        }
        for number, (method, path, data, body, kind) in enumerate(pages)
    ]  # fmt: skip
    (tmp_path / "visit.har").write_text(json.dumps({"log": {"entries": entries}}))
    result = CliRunner().invoke(record, [str(tmp_path / "visit.har")], standalone_mode=False)
    assert result.exception is None, result.exception
    found = tomllib.loads(result.stdout)
    assert found["raw"]["get"] == found["list"]["get"] == "{home}"
    assert re.search(found["login"]["capture"]["home"]["url"], f"http://mail.example/mail/{home}")
    assert "0123456789ABCDEF" not in result.stdout
    assert "1795290000" not in result.stdout
