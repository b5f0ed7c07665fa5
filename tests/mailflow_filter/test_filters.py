"""The filters: discard, hold, reject and tag."""

from __future__ import annotations

from typing import Any

import pytest

from mailflow.errors import BadMailError, ConfigError
from mailflow.mail import Mail, read
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import Discard, Hold, Reject
from mailflow_filter.discard import DiscardFilter
from mailflow_filter.hold import HoldFilter
from mailflow_filter.reject import RejectFilter
from mailflow_filter.tag import TagFilter

TEXT = "From: ann@example.org\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n\nbody\n"
VERDICTS = [(DiscardFilter, Discard), (HoldFilter, Hold), (RejectFilter, Reject)]


def made(component: Any, table: dict[str, object], desk: Desk) -> Any:
    return component(component.options.read(table), desk.runtime)


def run(component: Any, table: dict[str, object], one: Mail, *, approved: bool = False) -> Any:
    desk = Desk("spam")
    (result,) = desk.process(made(component, table, desk), one, approved=approved)
    return result


@pytest.mark.parametrize(("component", "verdict"), VERDICTS)
def test_pml_09_a_verdict_has_its_reason(component: Any, verdict: Any) -> None:
    assert run(component, {}, mail(TEXT)) == verdict("by step spam")
    table: dict[str, object] = {"reason": "spam from {sender|nobody}: {header:Subject}"}
    one = mail(TEXT, sender="eve@x.org")
    assert run(component, table, one) == verdict("spam from eve@x.org: Grüße")


@pytest.mark.parametrize(("component", "verdict"), VERDICTS)
def test_l9_a_reason_is_one_short_line_whatever_the_mail_says(component: Any, verdict: Any) -> None:
    one = mail(f"Subject: =?utf-8?q?a=0D=0ABcc:_b=1B[31m=E2=80=AE?={'x' * 500}\n\n")
    result = run(component, {"reason": "{header:Subject}"}, one)
    assert isinstance(result, verdict)
    assert result.reason.isprintable()
    assert len(result.reason) <= 300


@pytest.mark.parametrize(("component", "_verdict"), VERDICTS)
def test_a_placeholder_that_is_not_set_is_the_mails_fault(component: Any, _verdict: Any) -> None:
    with pytest.raises(BadMailError, match=r"\{note:x\} is not set"):
        run(component, {"reason": "{note:x}"}, mail(TEXT))


def test_what_a_human_approved_goes_on_unless_it_is_thrown_away() -> None:
    one = mail(TEXT)
    assert run(HoldFilter, {}, one, approved=True) is one
    assert run(RejectFilter, {}, one, approved=True) is one
    assert run(DiscardFilter, {}, one, approved=True) == Discard("by step spam")


def test_every_filter_is_pure_and_leaves_nothing_behind() -> None:
    desk = Desk("spam")
    for component in (DiscardFilter, HoldFilter, RejectFilter, TagFilter):
        assert component.pure
        table: dict[str, object] = {"note": {"a": "b"}} if component is TagFilter else {}
        desk.process(made(component, table, desk), mail(TEXT))
    assert desk.sent == []
    assert desk.rows == {}


def test_a_tag_adds_notes_and_keeps_those_there_are() -> None:
    one = mail(TEXT, notes={"a": "1", "b": "2"})
    tagged = run(TagFilter, {"note": {"b": "{note:a}-{header:Subject}", "c": ".Lists"}}, one)
    assert tagged.notes == {"a": "1", "b": "1-Grüße", "c": ".Lists"}
    assert tagged.content is one.content


def test_a_tag_sets_header_fields_and_leaves_the_rest_octet_for_octet() -> None:
    one = mail(TEXT)
    tagged = run(TagFilter, {"header": {"Subject": "{header:Subject}!", "X-Folder": "a"}}, one)
    expected = "From: ann@example.org\nSubject: =?utf-8?b?R3LDvMOfZSE=?=\nX-Folder: a\n\nbody\n"
    assert read(tagged.content) == expected.replace("\n", "\r\n").encode()


@pytest.mark.parametrize("where", ["note", "header"])
@pytest.mark.parametrize("word", ["=?utf-8?q?a=0D=0ABcc:_b?=", "=?utf-8?q?a=00?=", "a\rb", "a\0b"])
def test_l9_control_characters_from_a_mail_become_no_note_and_no_field(
    where: str, word: str
) -> None:
    """D18: nothing of a mail gets into another field or a file name by a line end."""
    one = mail(f"Subject: {word}\n\nbody\n")
    with pytest.raises(BadMailError, match="control characters in X") as caught:
        run(TagFilter, {where: {"X": "{header:Subject}"}}, one)
    assert caught.value.text.isprintable()


def test_a_field_that_was_folded_by_a_tab_makes_a_note() -> None:
    one = mail("Subject: hello\n\tthere\n\n")
    assert run(TagFilter, {"note": {"s": "{header:Subject}"}}, one).notes == {"s": "hello there"}


def test_octets_that_are_no_text_become_a_note_that_can_be_kept() -> None:
    tagged = run(TagFilter, {"note": {"s": "{header:Subject}"}}, mail(b"Subject: a\xff\n\n"))
    tagged.notes["s"].encode()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "note: expected something to do"),
        ({"note": {"a b": "x"}}, "note: expected names of letters"),
        ({"header": {"A:": "x"}}, "header: expected names of header fields"),
        ({"header": {"A\r\nBcc": "x"}}, "header: expected names of header fields"),
        ({"note": {"a": 3}}, "note.a: expected a string"),
        ({"note": {"a": "{nothing}"}}, "note.a: expected {note:NAME}"),
    ],
)
def test_d18_what_a_tag_cannot_do_is_said_before_it_runs(
    table: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        made(TagFilter, table, Desk())
    assert said in caught.value.text
