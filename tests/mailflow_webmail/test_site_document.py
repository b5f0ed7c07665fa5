"""docs/webmail-sites.rst: what stands there is run against the webmail that it describes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailflow.errors import GoneError, LoginError, PluginError, UnavailableError
from mailflow.halt import Halt
from mailflow.mail import read as octets
from mailflow.testing.documents import Shell, blocks
from mailflow_webmail.account.session import Session
from mailflow_webmail.definition.site import SHIPPED, definitions, read
from mailflow_webmail.web.browser import Browser

from .classic import PASSWORD, USER, Classic

PAGE = Path(__file__).parents[2] / "docs/webmail-sites.rst"
FOUND = blocks(PAGE)
DEFINITION = next(each for each in FOUND if (each.file or "").endswith("classic.toml"))
HOOK = next(each for each in FOUND if (each.file or "").endswith("classic.py"))

MAIL = {
    str(1000 + number): b"Subject: %d\r\nX: \tcaf\xc3\xa9 \xe9\t\r\n\r\nHello \xff\r\n\r\n" % number
    for number in range(1, 24)
}
BOXES = {"INBOX": MAIL, "Entw&APw-rfe": {}}


def changed(*words: str) -> str:
    """The definition with those tables of a later block that has all the words."""
    text = DEFINITION.text
    (block,) = [
        each for each in FOUND
        if each.language == "toml" and each is not DEFINITION
        and all(word in each.text for word in words)
    ]  # fmt: skip
    top, *tables = re.split(r"(?m)^(?=\[)", block.text)
    for table in tables:
        name = re.escape(table.partition("\n")[0].rstrip("]"))
        whole = rf"(?ms)^{name}\].*?(?=^\[(?!{name[2:]}\.)|\Z)"
        text, count = re.subn(whole, lambda _, t=table: t + "\n", text)
        assert count == 1
    return top + text


@contextmanager
def session(
    directory: Path, text: str, web: Classic, password: str = PASSWORD
) -> Iterator[Session]:
    file = directory / "classic.toml"
    file.write_text(text)
    (directory / "classic.py").write_text(HOOK.text)
    halt = Halt()
    with web:
        browser = Browser(web.url, halt=halt)
        made = Session(read(str(file)), browser, USER, lambda: password, str(directory))
        try:
            yield made
        finally:
            made.close()
            halt.close()


def fetched(webmail: Session, folder: str = "INBOX") -> dict[str, bytes]:
    return {row["id"]: octets(webmail.raw(row)) for row in webmail.listing(folder)}


class TestClassic:
    def test_pwm_37_a_webmail_in_another_language_is_described_in_toml_alone(
        self, tmp_path: Path
    ) -> None:
        """Link paging, a source that nothing links to, octets that were encoded twice."""
        with session(tmp_path, DEFINITION.text, Classic(BOXES)) as webmail:
            assert {row["name"]: row["id"] for row in webmail.folders()} == {
                "INBOX": "INBOX", "Entwürfe": "Entw&APw-rfe",
            }  # fmt: skip
            assert fetched(webmail) == MAIL
            assert fetched(webmail, "Entw&APw-rfe") == {}

    def test_rule_16_frames_are_not_followed_and_need_not_be(self, tmp_path: Path) -> None:
        web = Classic(BOXES)
        with session(tmp_path, DEFINITION.text, web) as webmail:
            webmail.listing("INBOX")
            assert [asked.target.partition("?")[0] for asked in web.asked] == [
                "/login.php", "/login.php", "/main.php", "/list.php", "/list.php", "/list.php",
            ]  # fmt: skip

    def test_offsets_that_stand_in_scripts_lead_to_the_next_page(self, tmp_path: Path) -> None:
        text = changed("onclick", "{n}")
        with session(tmp_path, text, Classic(BOXES, paging="script")) as webmail:
            assert fetched(webmail) == MAIL

    def test_a_webmail_with_one_folder_has_the_name_that_is_given(self, tmp_path: Path) -> None:
        with session(tmp_path, changed("otherwise", "body"), Classic(BOXES)) as webmail:
            assert [row["id"] for row in webmail.folders()] == ["INBOX"]
            assert fetched(webmail) == MAIL

    def test_a_source_that_stands_in_a_page_is_taken_from_it(self, tmp_path: Path) -> None:
        mail = {"7": "Subject: <é> &amp;\r\nX:\ty \t\r\n\r\n\r\na\r\n\r\n".encode()}
        text = changed("pre.source")
        with session(tmp_path, text, Classic({"INBOX": mail}, shown=True)) as webmail:
            assert fetched(webmail) == mail

    def test_a_message_is_deleted_and_a_new_list_shows_it(self, tmp_path: Path) -> None:
        web = Classic(BOXES)
        with session(tmp_path, DEFINITION.text, web) as webmail:
            rows = {row["id"]: row for row in webmail.listing("INBOX")}
            webmail.remove([rows["1012"]])
            assert web.boxes["INBOX"].keys() == MAIL.keys() - {"1012"}

    def test_its_failures_are_told_apart(self, tmp_path: Path) -> None:
        web = Classic(BOXES)
        with session(tmp_path, DEFINITION.text, web) as webmail:
            row = webmail.listing("INBOX")[0]
            del web.boxes["INBOX"][row["id"]]
            with pytest.raises(GoneError):
                webmail.raw(row)
            web.fault = "imap"
            with pytest.raises(UnavailableError, match=r"Classic 2: list: .* out of order"):
                webmail.listing("INBOX")
        with (
            session(tmp_path, DEFINITION.text, Classic(BOXES), "wrong") as webmail,
            pytest.raises(LoginError),
        ):
            webmail.log_in()

    def test_its_pages_are_as_the_document_shows_them(self, tmp_path: Path) -> None:
        shown = {
            line.strip()
            for block in FOUND if block.language == "html"
            for line in block.text.splitlines()
        }  # fmt: skip
        pages: list[str] = []
        for web, text in (
            (Classic(BOXES), DEFINITION.text),
            (Classic(BOXES, paging="script"), changed("onclick", "{n}")),
            (Classic(BOXES, hashed=True), changed("hook")),
        ):
            with session(tmp_path, text, web) as webmail:
                webmail.folders()
                webmail.listing("INBOX")
            pages += web.pages
        lines = {line.strip() for page in pages for line in page.splitlines()}
        assert shown - lines == set()


class TestHook:
    def test_code_does_the_login_and_data_all_the_rest(self, tmp_path: Path) -> None:
        with session(tmp_path, changed("hook"), Classic(BOXES, hashed=True)) as webmail:
            assert fetched(webmail) == MAIL

    def test_a_password_that_is_wrong_is_refused_as_ever(self, tmp_path: Path) -> None:
        web = Classic(BOXES, hashed=True)
        with (
            session(tmp_path, changed("hook"), web, "wrong") as webmail,
            pytest.raises(LoginError),
        ):
            webmail.log_in()

    def test_what_goes_wrong_in_it_is_one_line_without_a_secret(self, tmp_path: Path) -> None:
        with (
            session(tmp_path, changed("hook"), Classic(BOXES)) as webmail,
            pytest.raises(PluginError) as raised,
        ):
            webmail.log_in()
        assert raised.value.text == f"{tmp_path}/classic.py:10: `login` failed: TypeError"


def test_the_console_shows_what_it_shows(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = Shell(tmp_path, {"PATH": path})
    shown = [block for block in FOUND if block.language == "console"]
    assert shown
    for block in shown:
        assert shell.check(block) == []


@pytest.mark.parametrize("name", [each.name for each in definitions() if each.shipped])
def test_every_line_of_a_shipped_file_is_explained(name: str) -> None:
    """In the section of its name, and nothing that is not in the file any more."""
    lines = PAGE.read_text().splitlines()
    begin = lines.index(f"``{name}.toml``")
    rules = [n for n in range(begin + 2, len(lines)) if re.fullmatch("~+|-+|=+", lines[n])]
    end = rules[0] if rules else len(lines)
    shown = [block for block in FOUND if begin < block.line < end and block.language == "toml"]
    told = [line.strip() for block in shown for line in block.text.splitlines() if line.strip()]
    file = [line.strip() for line in Path(SHIPPED, f"{name}.toml").read_text().splitlines()]
    assert told == [line for line in file if line]


def test_no_explanation_stands_twice() -> None:
    paragraphs = [each for each in re.split(r"\n\n+", PAGE.read_text()) if len(each) > 80]
    assert not [each for each in paragraphs if paragraphs.count(each) > 1 and each[0].isalpha()]
