"""What was written for a program, as people read it."""

from __future__ import annotations

import pytest

from mailflow_webmail.definition.decoding import decoded
from mailflow_webmail.definition.wording import Codec


@pytest.mark.parametrize(
    ("how", "written", "read"),
    [
        ("modified-utf-7", "Entw&APw-rfe", "Entwürfe"),
        ("modified-utf-7", "A &- B", "A & B"),
        ("modified-utf-7", "&U,BTFw-", "台北"),
        ("modified-utf-7", "A & B", "A & B"),
        ("modified-utf-7", "&AGE-", "&AGE-"),
        ("modified-utf-7", "&&&", "&&&"),
        ("modified-utf-7", "Entwürfe", "Entwürfe"),
        ("percent", "a%20b%2Fc", "a b/c"),
        ("percent", "100%", "100%"),
        ("javascript", r"caf\u00e9 \"x\" \/ \\ \n \x41 \u{1F600}", 'café "x" / \\ \n A 😀'),
        ("javascript", r"\ud83d\ude00", "😀"),
        ("javascript", r"\ud83d", "\ufffd"),
        ("javascript", r"\u{FFFFFF}", r"\u{FFFFFF}"),
        ("html", "<b>a</b> &lt;b&gt; &amp;amp; &eacute;", "a <b> &amp; é"),
        ("html", "1 < 2", "1 < 2"),
    ],
)
def test_what_is_written_so_is_undone_and_nothing_else(how: str, written: str, read: str) -> None:
    assert decoded(written, [how]) == read


def test_one_is_undone_after_the_other() -> None:
    assert decoded(r"\u0026lt;a\u0026gt;", ["javascript", "html"]) == "<a>"
    assert decoded("Entw%26APw-rfe", ["percent", "modified-utf-7"]) == "Entwürfe"


@pytest.mark.parametrize("name", ["unicode-escape", "raw_unicode_escape", "punycode", "hex", "x\0"])
def test_a_source_is_recoded_by_encodings_alone_that_a_page_may_have(name: str) -> None:
    with pytest.raises(ValueError, match="expected the name of an encoding"):
        Codec("").convert(name, "")
    assert Codec("").convert("latin_1", "") == "iso8859-1"
