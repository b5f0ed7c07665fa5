"""The test bed: a correct, plain webmail over mbox files, as long as no trouble is switched on."""

from __future__ import annotations

import fcntl
import http.client
import json
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any

import pytest
import requests
from bs4 import BeautifulSoup
from bs4.element import Tag

from mailflow.errors import ConfigError
from mailflow.testing import AWKWARD
from mailflow.testing.webmail import TestBed
from mailflow_webmail.testbed import folder as folders
from mailflow_webmail.testbed.folder import Folder, found
from mailflow_webmail.testbed.pages import WORDS

ONE, TWO, THREE = (b"Subject: %d\r\n\r\n%d\r\n" % (n, n) for n in (1, 2, 3))


class Client:
    """A browser, by hand."""

    def __init__(self, bed: TestBed) -> None:
        self.bed = bed
        self.http = requests.Session()

    def get(self, path: str, **query: object) -> requests.Response:
        return self.http.get(f"{self.bed.url}{path}", params=query, timeout=20)

    def post(self, path: str, files: Any = None, **data: object) -> requests.Response:
        return self.http.post(f"{self.bed.url}{path}", data=data, files=files, timeout=20)

    def page(self, path: str, **query: object) -> BeautifulSoup:
        return soup(self.get(path, **query))

    def log_in(self, password: str = "demo") -> BeautifulSoup:
        (nonce,) = values(self.page("login"), "input[name=nonce]")
        return soup(self.post("login", user="demo", **{"pass": password}, nonce=nonce))

    @property
    def token(self) -> str:
        return values(self.page("folders"), "#session input[name=token]")[0]

    def change(self, action: str, *uids: str) -> requests.Response:
        return self.post("change", folder="INBOX", uid=uids, action=action, token=self.token)


def soup(answer: requests.Response) -> BeautifulSoup:
    return BeautifulSoup(answer.content, "lxml")


def values(page: Tag, css: str, attribute: str = "value") -> list[str]:
    return [str(tag[attribute]) for tag in page.select(css)]


def uids(page: BeautifulSoup) -> list[str]:
    return values(page, "#list tr.msg input[name=uid]")


@pytest.fixture
def bed() -> Iterator[TestBed]:
    with TestBed(page_size=10) as bed:
        yield bed


@pytest.fixture
def client(bed: TestBed) -> Client:
    client = Client(bed)
    assert client.log_in().select("a#logout")
    return client


def test_a_wrong_password_shows_the_form_again(bed: TestBed) -> None:
    page = Client(bed).log_in("wrong")
    assert page.select_one("#denied")
    assert page.select_one("form#login")
    assert not page.select_one("a#logout")


def test_a_form_that_was_not_asked_for_logs_nobody_in(bed: TestBed) -> None:
    page = soup(Client(bed).post("login", user="demo", **{"pass": "demo"}))
    assert page.select_one("#denied")


@pytest.mark.parametrize("step", ["folders", "list", "source", "message", "compose"])
def test_who_has_no_session_is_asked_to_log_in(bed: TestBed, step: str) -> None:
    assert Client(bed).page(step).select_one("form#login")


@pytest.mark.parametrize("host", ["evil.example.org", "192.0.2.1:80", "127.0.0.1.example.org", "["])
def test_a_page_of_somebody_else_reads_no_mail_by_a_name_that_leads_here(
    bed: TestBed, host: str
) -> None:
    bed.set(anywhere=False)
    assert requests.get(f"{bed.url}login", timeout=20).status_code == 200
    answer = requests.get(f"{bed.url}login", headers={"Host": host}, timeout=20)
    assert answer.status_code == 421


def test_a_session_ends_with_its_logout(client: Client) -> None:
    client.get("logout")
    assert client.page("folders").select_one("form#login")


def test_folders_bear_the_names_of_their_files() -> None:
    with TestBed(["Entwürfe", "a & b.mbox"]) as bed:
        client = Client(bed)
        names = [tag.get_text() for tag in client.log_in().select("#folders a")]
        assert names == ["INBOX", "Entwürfe", "a & b", "Sent", "Trash"]
        bed.put("Entwürfe", ONE)
        assert len(uids(client.page("list", folder="Entwürfe"))) == 1
        assert client.get("list", folder="unknown").status_code == 404


def test_pages_have_the_newest_message_first_and_a_link_to_the_next(
    bed: TestBed, client: Client
) -> None:
    put = bed.put("INBOX", *(b"Subject: %d\r\n\r\n" % n for n in range(25)))
    seen: list[str] = []
    page = client.page("list", folder="INBOX")
    for _ in range(2):
        assert len(uids(page)) == 10
        seen += uids(page)
        (link,) = values(page, "a[rel~=next]", "href")
        page = client.page(link.lstrip("/"))
    assert [*seen, *uids(page)] == put[::-1]
    assert not page.select("a[rel~=next]")
    assert page.select_one("#count").get_text() == "25"  # type: ignore[union-attr]


def test_sources_are_served_octet_for_octet(client: Client, bed: TestBed) -> None:
    bed.set(page_size=len(AWKWARD))
    bed.put("INBOX", *(sample.octets for sample in AWKWARD))
    page = client.page("list", folder="INBOX")
    rows = zip(page.select("#list tr.msg"), AWKWARD[::-1], strict=True)
    for row, sample in rows:
        answer = client.get(values(row, "a.src", "href")[0].lstrip("/"))
        whole = sample.stored if sample.stored.endswith(b"\n") else sample.stored + b"\r\n"
        assert answer.content == whole, sample
        assert answer.headers["Content-Type"] == "message/rfc822"
        assert answer.headers["Content-Length"] == values(row, "td.size", "data-octets")[0]


def test_a_file_with_crlf_line_ends_is_served_as_it_is(bed: TestBed) -> None:
    lines = (b"From x@y Thu Jan  1 00:00:00 2026", b"Subject: 1", b"", b">From 1", b"", b"")
    Path(bed.path, "INBOX").write_bytes(b"\r\n".join(lines))
    assert bed.messages("INBOX") == [b"Subject: 1\r\n\r\nFrom 1\r\n"]


def test_pwm_29_deletions_persist_as_one_uidl_on_a_line_and_the_mbox_stays(
    bed: TestBed, client: Client
) -> None:
    first, second, third = bed.put("INBOX", ONE, TWO, THREE)
    path = Path(bed.path, "INBOX")
    before = path.read_bytes()
    client.change("delete", second)
    client.change("delete", first)
    assert Path(f"{path}.del").read_text() == f"{second}\n{first}\n"
    bed.stop()
    bed.start()
    assert bed.uids("INBOX") == [third]
    assert path.read_bytes() == before


def test_half_a_line_that_a_power_cut_left_is_no_deletion(tmp_path: Path) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    inbox.add(ONE, ONE, TWO)
    one, same, two = (each.uid for each in inbox.letters())
    assert same == f"{one}.2"
    (tmp_path / "m.del").write_text(one)
    assert len(inbox.letters()) == 3
    inbox.delete([two])
    assert (tmp_path / "m.del").read_text() == f"{two}\n"


def test_equal_messages_are_deleted_one_by_one(bed: TestBed, client: Client) -> None:
    first, second = bed.put("INBOX", ONE, ONE)
    client.change("delete", first)
    assert bed.uids("INBOX") == [second]


def test_a_change_without_the_token_of_the_session_is_refused(bed: TestBed, client: Client) -> None:
    (uid,) = bed.put("INBOX", ONE)
    for token in ("", "wrong"):
        answer = client.post("change", folder="INBOX", uid=uid, action="delete", token=token)
        assert answer.status_code == 403
    assert bed.uids("INBOX") == [uid]


def test_what_is_moved_to_the_trash_lies_there(bed: TestBed, client: Client) -> None:
    first, second = bed.put("INBOX", ONE, TWO)
    client.change("trash", first)
    assert bed.uids("INBOX") == [second]
    assert bed.messages("Trash") == [ONE]


def test_what_is_opened_or_marked_is_seen_and_what_is_loaded_is_not(
    bed: TestBed, client: Client
) -> None:
    first, second, third = bed.put("INBOX", ONE, TWO, THREE)
    client.change("seen", first)
    client.get("message", folder="INBOX", uid=second)
    client.get("source", folder="INBOX", uid=third)
    page = client.page("list", folder="INBOX")
    assert values(page, "tr.msg.seen input") == [second, first]
    assert values(page, "tr.msg.unseen input") == [third]


def test_what_is_sent_lies_in_sent_with_its_attachments(tmp_path: Path) -> None:
    with TestBed(outgoing=str(tmp_path / "out.mbox")) as bed:
        client = Client(bed)
        client.log_in()
        answer = client.post(
            "compose", {"file": ("a b.bin", bytes(range(256)))}, token=client.token,
            to="Ann <ann@example.org>", cc="ben@example.com", bcc="cleo@example.net",
            subject="Grüße", text="Hallo\r\nWelt", **{"from": "me@example.org"},
        )  # fmt: skip
        assert soup(answer).select_one("#sent")
        (octets,) = bed.messages("Sent")
        sent = message_from_bytes(octets, policy=policy.default)
        assert (sent["From"], sent["To"]) == ("me@example.org", "Ann <ann@example.org>")
        assert (sent["Cc"], sent["Bcc"]) == ("ben@example.com", "cleo@example.net")
        assert sent["Subject"] == "Grüße"
        assert sent.get_body().get_content().split() == ["Hallo", "Welt"]  # type: ignore[union-attr]
        (file,) = sent.iter_attachments()
        assert (file.get_filename(), file.get_content()) == ("a b.bin", bytes(range(256)))
        (letter,) = Folder("", str(tmp_path / "out.mbox")).letters()
        (gone,) = Folder("", str(tmp_path / "out.mbox")).source(letter)
        envelope = b"X-Envelope-To: ann@example.org, ben@example.com, cleo@example.net\r\n"
        assert gone == envelope + octets.replace(b"Bcc: cleo@example.net\r\n", b"")


@pytest.mark.parametrize(
    "fields",
    [
        {"to": ""},
        {"to": "ann"},
        {"to": "a@example.org", "subject": "a\r\nBcc: b@x"},
        {"to": "a@example.org", "bcc": "b@x\r\nX: y"},
    ],
)
def test_a_form_that_is_no_message_is_refused_and_nothing_is_written(
    bed: TestBed, client: Client, fields: dict[str, str]
) -> None:
    page = soup(client.post("compose", token=client.token, text="hello", **fields))
    assert page.select_one("#refused")
    assert bed.messages("Sent") == []


def test_what_a_mail_says_is_never_a_part_of_the_page(bed: TestBed, client: Client) -> None:
    (uid,) = bed.put(
        "INBOX",
        b'Subject: </a><script>alert(1)</script><tr class="msg"><input name=uid value=x>\r\n'
        b'From: "><p id="denied">\x00\x1b\r\nDate: {{ 7 * 7 }}\r\n\r\n',
    )
    page = client.page("list", folder="INBOX")
    assert uids(page) == [uid]
    assert not page.select("script, #denied")
    assert "{{ 7 * 7 }}" in page.get_text()
    page = client.page("message", folder="INBOX", uid=uid)
    assert not page.select("script, #denied")


def test_what_comes_to_a_file_is_indexed_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    inbox.add(ONE, TWO)
    known = inbox.letters()
    indexed: list[object] = []
    made = folders._letter
    monkeypatch.setattr(folders, "_letter", lambda *given: indexed.append(1) or made(*given))
    with (tmp_path / "m").open("ab") as file:
        file.write(b"From x@y Thu Jan  1 00:00:00 2026\nSubject: 3\n\n3\n\n")
    letters = inbox.letters()
    assert [each.uid for each in letters[:2]] == [each.uid for each in known]
    assert b"".join(inbox.source(letters[2])) == THREE
    inbox.letters()
    assert len(indexed) == 1


def test_a_file_that_was_rewritten_is_indexed_anew(tmp_path: Path) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    inbox.add(ONE, TWO)
    assert len(inbox.letters()) == 2
    other = Folder("INBOX", str(tmp_path / "other"))
    other.add(THREE, b"Subject: 4\r\n\r\n" + b"4" * 500)
    (tmp_path / "m").write_bytes((tmp_path / "other").read_bytes())
    assert [each.uid for each in inbox.letters()] == [each.uid for each in other.letters()]


def test_what_is_appended_behind_half_a_message_is_one_of_its_own(tmp_path: Path) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    (tmp_path / "m").write_bytes(b"From x@y Thu Jan  1 00:00:00 2026\nSubject: cut\n\nhal")
    inbox.add(TWO)
    sources = [b"".join(inbox.source(each)) for each in inbox.letters()]
    assert sources == [b"Subject: cut\r\n\r\nhal\r\n", TWO]


def test_a_large_mbox_is_never_in_memory(bed: TestBed, client: Client) -> None:
    path = Path(bed.path, "INBOX")
    with path.open("wb") as file:
        file.write(b"From x@y Thu Jan  1 00:00:00 2026\nSubject: large\n\n")
        for _ in range(40):
            file.write(b"0123456789abcde\n" * (1 << 16))
        file.write(b"\n")
    size = 18 + (40 << 20) + (40 << 16)
    tracemalloc.start()
    try:
        page = client.page("list", folder="INBOX")
        assert values(page, "td.size", "data-octets") == [str(size)]
        query = {"folder": "INBOX", "uid": uids(page)[0]}
        source = client.http.get(f"{bed.url}source", params=query, stream=True, timeout=60)
        received = sum(len(piece) for piece in source.iter_content(1 << 16))
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    assert received == size


def test_what_is_no_mbox_is_said_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("Dear diary")
    with pytest.raises(ConfigError, match=f"{tmp_path}/m is no mbox file"):
        Folder("INBOX", str(tmp_path / "m")).letters()


def test_a_folder_that_is_out_of_order_is_an_error_and_not_an_empty_folder(
    bed: TestBed, client: Client
) -> None:
    bed.put("INBOX", ONE)
    Path(bed.path, "INBOX").write_text("Dear diary")
    answer = client.get("list", folder="INBOX")
    assert answer.status_code == 500
    assert soup(answer).select_one("#error")
    assert bed.log.said("error") == ["a folder is out of order"]


def test_a_file_that_was_changed_in_place_is_indexed_anew(tmp_path: Path) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    inbox.add(ONE, TWO)
    assert len(inbox.letters()) == 2
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes().replace(b": 1", b": 7"))
    assert [each.subject for each in inbox.letters()] == ["7", "2"]


def test_a_deletion_is_written_under_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Folder("INBOX", str(tmp_path / "m"))
    inbox.add(ONE)
    deleted = tmp_path / "m.del"
    locked: list[tuple[int, str]] = []
    monkeypatch.setattr(
        folders, "flock", lambda file, how: locked.append((how, deleted.read_text()))
    )
    inbox.delete([inbox.letters()[0].uid])
    assert locked == [(fcntl.LOCK_EX, "")]
    assert deleted.read_text()


def test_two_who_delete_at_once_write_whole_lines(tmp_path: Path) -> None:
    both = [Folder("INBOX", str(tmp_path / "m")) for _ in range(2)]
    both[0].add(*(b"Subject: %d\r\n\r\n" % n for n in range(40)))
    uids = [each.uid for each in both[0].letters()]
    with ThreadPoolExecutor(4) as pool:
        for n, uid in enumerate(uids):
            pool.submit(both[n % 2].delete, [uid])
    assert sorted((tmp_path / "m.del").read_text().split()) == sorted(uids)
    assert both[0].letters() == both[1].letters() == []


def test_a_file_is_the_inbox_and_what_is_sent_goes_into_files_beside_it(tmp_path: Path) -> None:
    every = found(str(tmp_path / "m.mbox"), [("Work", str(tmp_path / "w"))])
    assert {each.name: each.path for each in every} == {
        "INBOX": f"{tmp_path}/m.mbox", "Work": f"{tmp_path}/w", "Sent": f"{tmp_path}/m.mbox.Sent",
        "Trash": f"{tmp_path}/m.mbox.Trash",
    }  # fmt: skip


def test_lists_may_be_json(bed: TestBed, client: Client) -> None:
    put = bed.put("INBOX", *(b"Subject: %d\r\n\r\n" % n for n in range(12)))
    bed.set(json_lists=True)
    answer = client.get("list", folder="INBOX", page=2)
    assert answer.headers["Content-Type"] == "application/json"
    said = json.loads(answer.content)
    assert (said["count"], said["pages"]) == (12, 2)
    assert [each["uid"] for each in said["messages"]] == put[1::-1]


def test_every_language_has_every_word() -> None:
    for words in WORDS.values():
        assert words.keys() == WORDS["en"].keys()


def test_pwm_30_connections_are_kept_alive_by_the_one_server_that_is_built_in(
    bed: TestBed,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20)
    for _ in range(3):
        connection.request("POST", "/login", b"user=x", {"Content-Type": "text/plain"})
        assert connection.getresponse().read().endswith(b"</html>")
        used = connection.sock
        connection.request("GET", "/login")
        connection.getresponse().read()
        assert connection.sock is used is not None
    connection.close()


def test_a_form_that_is_too_large_or_has_no_length_is_refused(bed: TestBed) -> None:
    for headers, status in (({"Content-Length": str(1 << 40)}, 413), (CHUNKED, 411)):
        connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20)
        connection.request("POST", "/login", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


CHUNKED = {"Transfer-Encoding": "chunked"}


def _asked(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/login")
    return connection.getresponse().read()


def test_nothing_is_answered_once_it_has_ended(bed: TestBed) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20)
    assert _asked(connection)
    bed.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        _asked(connection)
    connection.close()
    bed.start()
    assert Client(bed).page("login").select("form#login")


def test_something_may_happen_while_a_step_is_asked_for(bed: TestBed, client: Client) -> None:
    bed.put("INBOX", ONE)
    bed.meanwhile("list", 2, lambda: bed.put("INBOX", TWO))
    counts = [len(uids(client.page("list", folder="INBOX"))) for _ in range(3)]
    assert counts == [1, 2, 2]


def lists(client: Client, count: int = 3) -> list[list[str]]:
    """The UIDLs of so many pages, one after the other."""
    return [uids(client.page("list", folder="INBOX", page=n + 1)) for n in range(count)]


def test_the_last_page_may_overlap(bed: TestBed, client: Client) -> None:
    put = bed.put("INBOX", *(b"Subject: %d\r\n\r\n" % n for n in range(25)))[::-1]
    bed.trouble("overlap")
    assert lists(client) == [put[:10], put[10:20], put[15:]]


def test_a_message_may_come_while_pages_are_turned(bed: TestBed, client: Client) -> None:
    put = bed.put("INBOX", *(b"Subject: %d\r\n\r\n" % n for n in range(25)))[::-1]
    bed.trouble("arriving")
    assert lists(client) == [put[1:11], put[10:20], put[20:]]


def test_a_message_may_go_while_pages_are_turned(bed: TestBed, client: Client) -> None:
    put = bed.put("INBOX", *(b"Subject: %d\r\n\r\n" % n for n in range(25)))[::-1]
    bed.trouble("leaving")
    assert lists(client) == [put[:10], put[11:21], put[20:]]


def test_a_session_may_end_after_so_many_requests(bed: TestBed, client: Client) -> None:
    bed.trouble("expired", after=3)
    pages = [client.page("folders") for _ in range(3)]
    assert [bool(page.select("#folders")) for page in pages] == [True, True, False]


def test_a_second_login_may_end_the_first_session(bed: TestBed, client: Client) -> None:
    bed.trouble("usurped")
    assert Client(bed).log_in().select("a#logout")
    assert client.page("folders").select_one("form#login")


def test_subjects_may_look_like_errors(bed: TestBed, client: Client) -> None:
    bed.put("INBOX", ONE)
    bed.trouble("subject")
    page = client.page("list", folder="INBOX")
    assert "You must be logged in" in page.get_text()
    assert not page.select("#denied, input[type=password]")


def test_gzip_may_be_a_lie(bed: TestBed) -> None:
    bed.trouble("gzip")
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20)
    connection.request("GET", "/login")
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.read().startswith(b"<!DOCTYPE html>")
    connection.close()


def test_sources_may_have_no_length(bed: TestBed, client: Client) -> None:
    (uid,) = bed.put("INBOX", ONE)
    bed.trouble("unsized")
    assert not client.page("list", folder="INBOX").select("td.size")
    answer = client.get("source", folder="INBOX", uid=uid)
    assert answer.content == ONE
    assert not {"Content-Length", "Transfer-Encoding"} & set(answer.headers)


def test_who_asks_too_often_is_told_when_to_come_again(bed: TestBed) -> None:
    bed.trouble("throttled", times=1, seconds=7)
    answers = [Client(bed).get("login") for _ in range(2)]
    assert [each.status_code for each in answers] == [429, 200]
    assert answers[0].headers["Retry-After"] == "7"


def test_a_change_may_be_made_and_not_answered(bed: TestBed, client: Client) -> None:
    (uid,) = bed.put("INBOX", ONE)
    bed.trouble("unanswered")
    with pytest.raises(requests.ConnectionError):
        client.change("delete", uid)
    assert bed.uids("INBOX") == []


def test_a_connection_may_end_at_its_second_request(bed: TestBed) -> None:
    bed.trouble("dropped")
    connection = http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20)
    assert _asked(connection)
    with pytest.raises(http.client.RemoteDisconnected):
        _asked(connection)
    connection.close()


def test_a_session_may_be_lent_as_the_cookies_of_a_browser(bed: TestBed, tmp_path: Path) -> None:
    (tmp_path / "cookies.txt").write_text(bed.cookies())
    jar = MozillaCookieJar(tmp_path / "cookies.txt")
    jar.load(ignore_discard=True, ignore_expires=True)
    client = Client(bed)
    client.http.cookies.update(jar)
    assert client.page("folders").select("a#logout")
    assert bed.asked("login") == 0
