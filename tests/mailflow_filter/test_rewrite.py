"""`filter.rewrite`: header edits that leave every other octet alone."""

from __future__ import annotations

from typing import Any

import pytest

from mailflow.errors import BadMailError, ConfigError
from mailflow.mail import read
from mailflow.testing.engine import Desk, mail
from mailflow_filter.rewrite import RewriteFilter

MAIL = (
    b"Received: by x\r\n\tfor <a@x.org>; today\r\n"
    b"X-Spam-Score: 3\r\nX-spam-level : **\r\nX-Odd:\tkept \r\n as it  is\r\n"
    b"X-8-Bit: \xe9\xff\r\nSubject: hello\r\n\tthere\r\n"
    b"\r\n--b\r\n\0 nul, \r bare, \xe9 \r\n.dot\r\n"
)


def rewritten(table: dict[str, object], octets: bytes | str = MAIL) -> bytes:
    desk = Desk("step")
    component: Any = RewriteFilter
    filter_ = component(component.options.read(table), desk.runtime)
    (result,) = desk.process(filter_, mail(octets))
    return read(result.content)


def test_a_field_is_set_in_its_place_and_all_else_stays_octet_for_octet() -> None:
    made = rewritten({"set": {"Subject": "other"}})
    assert made == MAIL.replace(b"hello\r\n\tthere", b"other")


def test_a_field_is_added_behind_those_there_are() -> None:
    made = rewritten({"add": {"X-Odd": "again"}})
    assert made == MAIL.replace(b"\r\n\r\n", b"\r\nX-Odd: again\r\n\r\n", 1)


def test_a_field_is_removed_whatever_its_case_and_a_star_is_all_that_begin_so() -> None:
    assert rewritten({"remove": ["x-odd"]}) == MAIL.replace(b"X-Odd:\tkept \r\n as it  is\r\n", b"")
    made = rewritten({"remove": "X-Spam-*"})
    assert made == MAIL.replace(b"X-Spam-Score: 3\r\nX-spam-level : **\r\n", b"")


def test_a_renamed_field_keeps_its_value_octet_for_octet() -> None:
    made = rewritten({"rename": {"X-Odd": "X-Even", "x-8-bit": "X-Raw"}})
    assert made == MAIL.replace(b"X-Odd:", b"X-Even:").replace(b"X-8-Bit:", b"X-Raw:")


def test_a_prefix_stands_before_the_value_once() -> None:
    made = rewritten({"prefix": {"Subject": "[Club]", "X-None": "[Club]"}})
    assert made == MAIL.replace(b"Subject: ", b"Subject: [Club] ")
    assert rewritten({"prefix": {"Subject": "[CLUB]"}}, made) == made
    assert rewritten({"prefix": {"Subject": "{sender|}"}}) == MAIL


def test_a_prefix_beyond_ascii_keeps_its_space_before_an_encoded_word() -> None:
    made = rewritten({"prefix": {"Subject": "[Grün]"}}, "Subject: =?utf-8?q?=C3=BC?=\n\n")
    assert mail(made).header().decoded("Subject") == "[Grün] ü"
    assert made.isascii()


@pytest.mark.parametrize("value", ["x" * 70, "a " * 100, "", " \r\n folded at once"])
def test_a_prefixed_field_has_no_long_line_that_it_had_not(value: str) -> None:
    made = rewritten({"prefix": {"Subject": "[a prefix]"}}, f"Subject: {value}\r\n\r\n")
    first = made.partition(b"\r\n")[0]
    assert len(first) <= 78
    unfolded = mail(made).header().get("Subject") or ""
    assert unfolded.split() == ["[a", "prefix]", *value.split()]


def test_templates_see_the_mail_as_it_came() -> None:
    made = rewritten(
        {
            "remove": ["X-Odd"],
            "set": {"Subject": "new", "X-Was": "{header:Subject}", "X-By": "{header:X-Odd}"},
        }
    )
    header = mail(made).header()
    assert header.get("Subject") == "new"
    assert header.get("X-Was") == "hello there"
    assert header.get("X-By") == "kept  as it  is"


def test_what_is_not_ascii_is_encoded_and_an_address_beside_it_stays_one() -> None:
    made = rewritten({"set": {"To": "Jörg <j@x.org>", "Subject": "Grüße"}})
    header = mail(made).header()
    assert header.get("To") == "=?utf-8?b?SsO2cmc=?= <j@x.org>"
    assert header.decoded("Subject") == "Grüße"


def test_the_parts_are_done_in_their_order() -> None:
    table: dict[str, object] = {
        "add": {"X-A": "added"}, "set": {"X-A": "set"}, "rename": {"X-Odd": "X-A"},
        "remove": ["X-A"], "prefix": {"X-A": "p"},
    }  # fmt: skip
    assert mail(rewritten(table)).header().get_all("X-A") == ["set", "added"]


@pytest.mark.parametrize("where", ["set", "add", "prefix"])
@pytest.mark.parametrize("word", ["=?utf-8?q?a=0D=0ABcc:_b?=", "=?utf-8?q?a=00?=", "a\rb", "a\0b"])
def test_d18_control_characters_from_a_mail_become_no_field(where: str, word: str) -> None:
    text = f"Subject: {word}\nX: there\n\nbody\n"
    with pytest.raises(BadMailError, match="control characters in X = ") as caught:
        rewritten({where: {"X": "{header:Subject}"}}, text)
    assert caught.value.text.isprintable()


def test_a_mail_without_a_header_gets_one() -> None:
    assert rewritten({"set": {"X": "y"}}, b"\r\nbody\r\n") == b"X: y\r\n\r\nbody\r\n"


def test_an_mbox_line_is_no_field_and_stays() -> None:
    made = rewritten(
        {"remove": ["From"], "set": {"X": "y"}}, "From a@x.org today\nFrom: a@x.org\n\n"
    )
    assert made == b"From a@x.org today\r\nX: y\r\n\r\n"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "set: expected something to do"),
        ({"remove": ["*"]}, "remove: `*` would leave no header"),
        ({"remove": ["A B"]}, "remove: expected names of header fields; found 'A B'"),
        ({"remove": [""]}, "remove: expected names of header fields"),
        ({"set": {"A\r\nBcc": "x"}}, "set: expected names of header fields"),
        ({"rename": {"A": "B:"}}, "rename: expected names of header fields; found 'B:'"),
        ({"rename": {"A": ""}}, "rename: expected names of header fields"),
        ({"prefix": {"A:": "x"}}, "prefix: expected names of header fields"),
        ({"add": {"A": "{nothing}"}}, "add.A: expected {note:NAME}"),
        ({"delete": ["A"]}, "delete: unknown option"),
    ],
)
def test_d18_what_cannot_be_done_is_said_before_it_runs(
    table: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        RewriteFilter.options.read(table)
    assert said in caught.value.text
