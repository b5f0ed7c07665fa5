"""Site definitions: where they are found, and what is said of one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailflow.errors import ConfigError
from mailflow_webmail.definition import site as sites
from mailflow_webmail.definition.site import SHIPPED, Site, definitions, find, read, site
from mailflow_webmail.settings import WebmailOptions
from mailflow_webmail.web.page import Page

GOOD = """\
format = 1
name = "Example 3"
[login]
get = "login"
form = "form#login"
fill = { user = "{user}", pass = "{password}" }
expect = { css = "#inside" }
capture.token = { css = "input[name=token]", attr = "value" }
[folders]
get = "folders"
rows = { css = "a.folder", fields.id = { attr = "href", param = "box" }, fields.name = {} }
[list]
get = "list"
query = { box = "{folder}", page = "{n}" }
rows = { css = "tr.mail", fields.id = { attr = "id" }, fields.src = { css = "a", attr = "href" } }
total = { css = "#count", regex = 'of (\\d+)' }
empty = { css = "#none" }
next = { from = 1 }
[raw]
get = "{src}"
expect = { type = "message/rfc822" }
[delete]
post = "delete"
data = { id = "{id}", token = "{token}" }
"""

Say = Callable[..., Path]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Write the good definition with some of its text replaced."""

    def written(*changes: tuple[str, str], path: str = "example.toml") -> Path:
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return written


def told(path: Path) -> list[str]:
    """What is said of a definition, without its file's name; nothing where it is good."""
    try:
        read(str(path))
    except ConfigError as error:
        return [line.removeprefix(f"{path}:") for line in error.text.splitlines()]
    return []


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The user's and the system's directories of sites."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(sites, "SYSTEM", str(tmp_path / "system"))
    found = {"user": tmp_path / "user/mailflow/sites", "system": tmp_path / "system/sites"}
    for directory in found.values():
        directory.mkdir(parents=True)
    return found


class TestPlaces:
    def test_pwm_04_a_user_s_file_comes_before_the_system_s_and_the_packaged(
        self, places: dict[str, Path], say: Say
    ) -> None:
        assert find("roundcube") == f"{SHIPPED}/roundcube.toml"
        (places["system"] / "roundcube.toml").write_text(GOOD)
        assert find("roundcube") == str(places["system"] / "roundcube.toml")
        (places["user"] / "roundcube.toml").write_text(GOOD.replace("Example 3", "Mine"))
        assert site("roundcube").name == "Mine"
        (found,) = [each for each in definitions() if each.name == "roundcube"]
        assert found.shadows == (
            str(places["system"] / "roundcube.toml"), f"{SHIPPED}/roundcube.toml",
        )  # fmt: skip

    def test_pwm_04_a_directory_is_scanned_for_one_file_per_webmail(
        self, places: dict[str, Path]
    ) -> None:
        (places["user"] / "own.toml").write_text(GOOD)
        (places["user"] / ".own.toml.swp").write_text("")
        (places["user"] / "notes.txt").write_text("")
        names = [each.name for each in definitions()]
        assert "own" in names
        assert {"roundcube", "sqwebmail", "testbed"} <= set(names)
        assert not any("notes" in name or name.startswith(".") for name in names)

    def test_a_path_is_a_site_too(self, say: Say) -> None:
        assert site(str(say())).name == "Example 3"

    def test_a_path_starts_at_the_file_that_names_it(self, say: Say) -> None:
        file = say()
        rest = {"url": "https://mail.example.org/", "user": "ann", "password": "x"}
        options = WebmailOptions.read({"site": "example.toml", **rest}, str(file.parent))
        assert options.site == str(file)
        assert WebmailOptions.read({"site": "example", **rest}, "/x").site == "example"

    def test_check_tells_each_fault_of_the_site_that_a_pipeline_names(self, say: Say) -> None:
        file = say(("format = 1", "format = 2"), ("[raw]", "[row]"))
        rest = {"url": "https://mail.example.org/", "user": "ann", "password": "x"}
        options = WebmailOptions.read({"site": str(file), **rest})
        found = [text for option, text in options.look() if option == "site"]
        assert [text.partition(" ")[0] for text in found] == [
            f"{file}:1:", f"{file}:1:", f"{file}:19:",
        ]  # fmt: skip

    def test_one_way_to_remove_that_it_lacks_is_told_with_the_other(self) -> None:
        with pytest.raises(ConfigError, match=r"how to `trash`, but how to `delete`$"):
            site("testbed-json").step("trash")
        with pytest.raises(ConfigError, match=r"how to `seen`$"):
            site("testbed-json").step("seen")

    def test_a_site_that_is_not_there_is_told_with_the_nearest(
        self, places: dict[str, Path]
    ) -> None:
        with pytest.raises(ConfigError, match=r"no site 'roundcub'; did you mean `roundcube`\?"):
            site("roundcub")
        with pytest.raises(ConfigError, match=r"no site 'x'; there are roundcube, sqwebmail, "):
            site("x")

    def test_a_directory_in_the_way_of_a_file_is_told(self, places: dict[str, Path]) -> None:
        (places["user"] / "a.toml").mkdir()
        with pytest.raises(ConfigError, match=r"a\.toml: cannot be read: Is a directory"):
            site("a")


class TestFaults:
    def test_a_good_one_has_none(self, say: Say) -> None:
        assert told(say()) == []

    @pytest.mark.parametrize("name", [each.name for each in definitions() if each.shipped])
    def test_the_shipped_ones_have_none(self, name: str) -> None:
        assert isinstance(read(f"{SHIPPED}/{name}.toml"), Site)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("expect = { css = \"#inside\" }", "expcet = { css = '#inside' }"),
             "7: login.expcet: unknown key; did you mean `expect`?"),
            (('css = "tr.mail"', 'css = "tr["'), "15: list.rows.css: expected a CSS selector: "),
            (("'of (\\d+)'", "'of (\\d+'"),
             "16: list.total.regex: expected a regular expression: "),
            (("[delete]", "[deleet]"), "22: deleet: unknown key; did you mean `delete`?"),
            (("format = 1", "format = 2"),
             "1: format: it is for a newer mailflow; this one knows format 1"),
            (("format = 1\n", ""), "1: `format` is missing: "),
            (("next = { from = 1 }", "next = { css = 'a', from = 1 }"),
             "18: list.next.from: `css` is given too; expected one of them"),
            (("next = { from = 1 }", "next = { step = 2 }"),
             "18: list.next: needs `css` (a link), `from` (a counter) or `offset`"),
            (("next = { from = 1 }", "next = { from = 1, step = 'row' }"),
             '18: list.next.step: expected a whole number from 1, or "rows"; found "row"'),
            (('post = "delete"', 'post = "delete"\nget = "delete"'),
             "23: delete.post: `get` is given too; expected one of them"),
            (('post = "delete"', 'get = "delete"'),
             "24: delete.data: only a POST or a `form` has `data`; expected `post`"),
            (('form = "form#login"\n', ""), "5: login.fill: there is no `form` to fill in"),
            (("[raw]", "[raw]\nheaders = { X = '€{id}' }"),
             "20: raw.headers.X: expected text in letters of Latin-1, "),
            (("capture.token", "capture.folder"),
             "8: login.capture.folder: {folder} is taken; expected another name"),
        ],
    )  # fmt: skip
    def test_pwm_04_a_fault_has_its_line_path_and_nearest_key(
        self, say: Say, change: tuple[str, str], said: str
    ) -> None:
        assert told(say(change))[0].startswith(said)

    def test_every_fault_of_a_file_is_told_at_once(self, say: Say) -> None:
        found = told(say(("format = 1", "format = 'x'"), ("[raw]", "[row]")))
        assert [each.partition(" ")[0] for each in found] == ["1:", "1:", "19:"]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ((" = 'of (\\d+)'", " = 'of \\d+'"),
             "16: list.total.regex: needs a group, ( ), around the number"),
            ((' = { css = "#inside" }', " = { url = '/in', text = 'x' }"),
             "7: login.expect.text: `url` is given too; expected one of them"),
            ((' = { css = "#inside" }', " = {}"),
             "7: login.expect: it says nothing; expected a source, `status`, `type` or `header`"),
            (('{ css = "#count", regex', '{ json = "a", attr = "b", regex'),
             "16: list.total.attr: only elements have attributes; expected `css` beside it"),
            (("fields.name = {} }", "fields.name = {}, skip = { nmae = 'x' } }"),
             "11: folders.rows.skip.nmae: there is no such field; did you mean `name`?"),
            (("fields.src = {", "fields.user = {"),
             "15: list.rows.fields.user: {user} is taken; expected another name"),
            (("fields.src = { css", "fields.src = { json = 'x' }, fields.e = { css"),
             "15: list.rows.fields.src.json: the row is an element"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_together_is_told(
        self, say: Say, change: tuple[str, str], said: str
    ) -> None:
        assert said in told(say(change))

    def test_a_file_that_is_not_toml_is_one_line(self, say: Say) -> None:
        assert told(say(("[raw]", "[raw"))) == [
            "19: not TOML at column 5: expected ']' at the end of a table declaration"
        ]


class TestRefusals:
    """What a webmail must have, or it is not read at all."""

    def test_without_a_stable_id_it_is_refused(self, say: Say) -> None:
        (said,) = told(say(('fields.id = { attr = "id" }, ', "")))
        assert said.startswith("15: list.rows: needs an `id` among the fields: what stays the same")
        assert said.endswith("; a webmail that has none cannot be read")

    def test_an_id_that_the_definition_supplies_is_none(self, say: Say) -> None:
        (said,) = told(say(('fields.id = { attr = "id" }, ', 'fields.id = { otherwise = "1" }, ')))
        assert said.startswith("15: list.rows.fields.id.otherwise: the page gives a message its id")

    def test_a_webmail_with_one_folder_need_not_ask_for_it(self, say: Say) -> None:
        fields = ('fields.id = { attr = "href", param = "box" }', 'fields.id = { otherwise = "I" }')
        assert told(say(fields, ('box = "{folder}", ', ""))) == []

    def test_without_a_raw_source_it_is_refused(self, say: Say) -> None:
        (said,) = told(say(('[raw]\nget = "{src}"\nexpect = { type = "message/rfc822" }\n', "")))
        assert said.startswith("1: `raw` is missing: ")
        assert said.endswith("a message is never rebuilt from its display.")

    def test_rule_01_a_step_that_proves_nothing_says_what_to_expect(self, say: Say) -> None:
        assert told(say(('expect = { css = "#inside" }\n', ""))) == [
            "3: login: needs `expect`: a webmail answers 200 to anything"
        ]

    def test_rule_01_a_source_is_headed_like_no_page_with_an_error(self, say: Say) -> None:
        assert told(say(('expect = { type = "message/rfc822" }\n', ""))) == [
            "19: raw: needs `type` or `header` in `expect`: what no page with an error has"
        ]

    def test_a_signal_that_stands_alone_is_told_as_one_of_many_is(self, say: Say) -> None:
        said = told(say(('expect = { type = "message/rfc822" }', 'expect = { text = "x" }')))
        assert said[-1].startswith("21: raw.expect[1]: a mail is not looked into; expected")

    def test_rule_02_a_list_needs_a_proof_of_emptiness(self, say: Say) -> None:
        changes = (("total = { css = \"#count\", regex = 'of (\\d+)' }\n", ""),
                   ('empty = { css = "#none" }\n', ""))  # fmt: skip
        assert told(say(*changes)) == [
            "12: list: needs `total` or `empty`: else an outage looks like an empty folder"
        ]

    @pytest.mark.parametrize("source", ["regex = 'You must log in'", "text = 'session_error'"])
    def test_rule_13_a_signal_that_a_subject_could_hold_is_refused(
        self, say: Say, source: str
    ) -> None:
        signal = f'name = "Example 3"\nsignal = {{ raise = "expired", {source} }}'
        (said,) = told(say(('name = "Example 3"', signal)))
        assert "a mail on the page could say that; begin the pattern with ^, or use `css`" in said

    @pytest.mark.parametrize(
        "signal",
        [
            "regex = '(?m)^session_error'",
            "css = 'title', regex = 'Expired'",
            "at = ['login'], regex = 'Expired'",
        ],
    )
    def test_rule_13_an_anchored_signal_is_fine(self, say: Say, signal: str) -> None:
        text = f'name = "Example 3"\nsignal = {{ raise = "expired", {signal} }}'
        assert told(say(('name = "Example 3"', text))) == []

    def test_rule_13_a_source_that_is_a_mail_is_not_looked_into(self, say: Say) -> None:
        expect = "expect = [{ type = 'message/rfc822' }, { regex = 'From' }]"
        (said,) = told(say(('expect = { type = "message/rfc822" }', expect)))
        assert said.startswith("21: raw.expect[2]: a mail is not looked into; expected `status`, ")

    def test_rule_20_pwm_37_the_label_of_a_link_is_no_word(self, say: Say) -> None:
        words = say(("next = { from = 1 }", "next = { css = 'a', label = 'Next' }"), ("{n}", "1"))
        assert told(words) == ["18: list.next.label: it has words, which a user's language changes"]
        signs = say(("next = { from = 1 }", "next = { css = 'a', label = '»|>+' }"), ("{n}", "1"))
        assert told(signs) == []

    def test_only_a_throttled_page_says_when_to_come_again(self, say: Say) -> None:
        text = 'name = "Example 3"\nsignal = { raise = "refused", css = "p", wait = "1m" }'
        assert (
            "3: signal.wait: only a page that is raised as"
            in told(say(('name = "Example 3"', text)))[0]
        )


def test_rule_14_a_form_is_found_by_its_field_in_every_skin() -> None:
    form = site("roundcube").login.form
    assert form is not None
    for name in ("login-form", "form", "x"):
        octets = f'<form name="search"></form><form name="{name}"><input name="_pass">'.encode()
        page = Page("http://a/", 200, {"Content-Type": "text/html"}, octets)
        assert [tag["name"] for tag in page.soup.select(form)] == [name]


class TestNames:
    """Names in templates that nothing provides are faults before anything is asked."""

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (('page = "{n}"', 'page = "{m}"'),
             "14: list.query.page: nothing provides {m} at `list`"),
            (('box = "{folder}"', 'box = "{foldr}"'),
             "14: list.query.box: nothing provides {foldr} at `list`; did you mean `folder`?"),
            (('get = "{src}"', 'get = "{href}"'), "20: raw.get: nothing provides {href} at `raw`"),
            (('token = "{token}"', 'token = "{tokn}"'),
             "24: delete.data.token: nothing provides {tokn} at `delete`; did you mean `token`?"),
            (('id = "{id}", token', 'p = "{password}", id = "{id}", token'),
             "24: delete.data.p: only `login` is told the {password}"),
            (('get = "{src}"', 'get = "raw"'),
             "19: raw: none of its templates names the message; expected {id} in one"),
            (('page = "{n}"', 'page = "1"'),
             "18: list.next: none of the templates names the page; expected {n} in one"),
            (('box = "{folder}", ', ""),
             "12: list: none of its templates names the folder; expected {folder} in one"),
            (("next = { from = 1 }\n", ""), "14: list.query.page: nothing provides {n} at `list`"),
            (('get = "folders"\n', ""), "9: folders: needs `get`, `post` or `query`"),
        ],
    )  # fmt: skip
    def test_a_name_that_nothing_provides_is_a_fault(
        self, say: Say, change: tuple[str, str], said: str
    ) -> None:
        assert told(say(change))[0].startswith(said)

    def test_rule_04_what_a_list_page_captures_needs_the_list_before(self, say: Say) -> None:
        """A token of the old session is worth nothing in the next one."""
        capture = "empty = { css = \"#none\" }\ncapture.key = { css = '#key' }"
        moved = (('empty = { css = "#none" }', capture), ('token = "{token}"', 'token = "{key}"'))
        assert "25: delete.data.token: nothing provides {key} at `delete`" in told(say(*moved))
        before = ('post = "delete"', 'before = ["list"]\npost = "delete"')
        assert told(say(*moved, before)) == []

    def test_rule_04_what_the_login_page_captures_is_not_known_to_the_login(self, say: Say) -> None:
        (said,) = told(say(('pass = "{password}" }', 'pass = "{token}" }')))
        assert said.startswith("6: login.fill.pass: nothing provides {token} at `login`")

    def test_a_total_names_a_field_of_the_folders(self, say: Say) -> None:
        total = "total = [{ css = '#count', regex = '(\\d+)' }, { field = 'cuont' }]"
        old = "total = { css = \"#count\", regex = 'of (\\d+)' }"
        fields = ("fields.name = {} }", "fields.name = {}, fields.count = { css = 'b' } }")
        assert told(say((old, total), fields)) == [
            "16: list.total[2].field: the folders have no such field; did you mean `count`?"
        ]
