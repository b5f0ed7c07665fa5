"""What a list writes into the header of a post."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailflow.mail import Header, Mail, read

Make = Callable[..., Any]

RED = 'address = "Red <red@example.org>"\nmembers = ["ann@example.org"]\n'
PREFIX = RED + 'prefix = "[Red]"\n'
POST = "From: Ann <ann@example.org>\nTo: Red <red@example.org>\nSubject: hello\n\nbody\n"


def header(one: Any, text: str = POST) -> Header:
    made = one.made(text)
    assert isinstance(made, Mail)
    return made.header()


def subject(one: Any, given: str) -> str | None:
    return header(one, POST.replace("Subject: hello", f"Subject: {given}")).get("Subject")


def test_pml_24_the_prefix_is_added(step: Make) -> None:
    assert subject(step(PREFIX), "hello") == "[Red] hello"
    assert subject(step(RED), "hello") == "hello"


@pytest.mark.parametrize(
    "given",
    [
        "[Red] hello",
        "Re: [Red] hello",
        "AW: Fwd: [RED] hello",
        "=?utf-8?q?Re=3A_=5BRed=5D_Gr=C3=BC=C3=9Fe?=",
        "=?utf-8?q?Re=3A_=5BRe?= =?utf-8?q?d=5D_hello?=",
    ],
)
def test_pml_24_the_prefix_is_not_added_to_what_has_it(step: Make, given: str) -> None:
    assert subject(step(PREFIX), given) == given


@pytest.mark.parametrize("field", ["", "Subject:\n", "Subject: \n \n", "Subject: =?utf-8?q?_?=\n"])
def test_pml_24_a_missing_subject_becomes_one(step: Make, field: str) -> None:
    """PML-30: and does not crash."""
    text = POST.replace("Subject: hello\n", field)
    assert header(step(RED), text).get_all("Subject") == ["(No subject)"]
    assert header(step(PREFIX), text).get_all("Subject") == ["[Red] (No subject)"]


def test_encoded_words_stay_as_they_are_behind_the_prefix(step: Make) -> None:
    words = "=?iso-8859-1?q?Gr=FC=DFe?= aus =?utf-8?b?S8O2bG4=?="
    assert subject(step(PREFIX), words) == f"[Red] {words}"


def test_raw_octets_in_a_subject_stay_as_they_are(step: Make) -> None:
    octets = POST.encode().replace(b"hello", b"caf\xe9")
    assert step(PREFIX).made(octets).header().raw("Subject") == b"Subject: [Red] caf\xe9\r\n"


@pytest.mark.parametrize("given", ["hello", "=?utf-8?q?Gr=C3=BC=C3=9Fe?="])
def test_a_prefix_beyond_ascii_is_encoded_and_keeps_its_space(step: Make, given: str) -> None:
    one = step(RED + 'prefix = "[Käse]"')
    made = header(one, POST.replace("Subject: hello", f"Subject: {given}"))
    shown = {"hello": "hello"}.get(given, "Grüße")
    assert made.decoded("Subject") == f"[Käse] {shown}"
    assert (made.get("Subject") or "").isascii()
    assert (made.get("Subject") or "").endswith(given)


def test_an_unchanged_subject_keeps_its_octets(step: Make) -> None:
    field = b"SUBJECT:Re: [Red]  odd\r\n\tfolding  \r\n"
    octets = POST.encode().replace(b"Subject: hello\n", field)
    assert step(PREFIX).made(octets).header().raw("Subject") == field


def test_pml_23_reply_to_and_sender_are_the_lists(step: Make) -> None:
    text = "Reply-To: a@x.org\nReply-To: b@x.org\nSender: c@x.org\n" + POST
    made = header(step(RED), text)
    assert made.get_all("Reply-To") == ["Red <red@example.org>"]
    assert made.get_all("Sender") == ["Red <red@example.org>"]
    assert made.get_all("From") == ["Ann <ann@example.org>"]


@pytest.mark.parametrize(("word", "left"), [("author", []), ("keep", ["a@x.org"])])
def test_answers_may_go_to_the_author(step: Make, word: str, left: list[str]) -> None:
    made = header(step(f'{RED}reply_to = "{word}"'), "Reply-To: a@x.org\n" + POST)
    assert made.get_all("Reply-To") == left


def test_pml_30_a_post_says_which_list_it_is_from_and_how_to_leave(step: Make) -> None:
    made = header(step(RED + 'owner = "olga@example.org"'))
    assert made.get("List-Id") == "Red <red.example.org>"
    assert made.get("List-Post") == "<mailto:red@example.org>"
    assert made.get("List-Help") == "<mailto:olga@example.org?subject=help%20red@example.org>"
    assert made.get("List-Unsubscribe") == (
        "<mailto:olga@example.org?subject=unsubscribe%20red@example.org>"
    )
    assert made.get("List-Subscribe") == (
        "<mailto:olga@example.org?subject=subscribe%20red@example.org>"
    )
    assert made.get("List-Owner") == "<mailto:olga@example.org>"
    assert "List-Archive" not in made
    assert made.get("Precedence") == "list"
    assert made.get("X-Loop") == "red@example.org"


def test_the_archive_is_named_where_there_is_one(step: Make) -> None:
    made = header(step(RED + 'archive = "https://example.org/red/?a=b"'))
    assert made.get("List-Archive") == "<https://example.org/red/?a=b>"


@pytest.mark.parametrize(
    ("posting", "said"),
    [
        ('{ members = "reject", others = "discard" }', "NO"),
        ('{ members = "hold", others = "reject" }', "<mailto:red@example.org>"),
        ('{ members = "discard", others = "hold" }', "<mailto:red@example.org>"),
    ],
)
def test_a_list_that_only_moderators_write_to_says_so(step: Make, posting: str, said: str) -> None:
    """RFC 2369, 3.4."""
    one = step(RED + f'posting = {posting}\nmoderators = ["ann@example.org"]')
    assert header(one).get("List-Post") == said


def test_without_an_owner_the_list_itself_is_asked_and_holds_the_wish(step: Make) -> None:
    red = step(RED)
    made = header(red)
    assert "List-Owner" not in made
    unsubscribe = made.get("List-Unsubscribe") or ""
    assert unsubscribe == "<mailto:red@example.org?subject=unsubscribe%20red@example.org>"
    wish = POST.replace("hello", "unsubscribe red@example.org")
    assert "unsubscribe" in red.one(wish).reason


def test_the_list_id_may_be_an_old_one(step: Make) -> None:
    one = step('address = "red@example.org"\nmembers = []\nlist_id = "Rote-Liste.example.net"\n'
               'posting = { others = "accept" }')  # fmt: skip
    assert header(one).get("List-Id") == "<Rote-Liste.example.net>"
    assert "a loop" in one.one("List-Id: <rote-liste.example.net>\n" + POST).reason


def test_an_odd_address_is_quoted_in_its_urls(step: Make) -> None:
    one = step('address = "r%d?x&y@example.org"\nmembers = []\nunaddressed = "accept"\n'
               'posting = { others = "accept" }')  # fmt: skip
    assert header(one).get("List-Post") == "<mailto:r%25d%3Fx%26y@example.org>"


def test_a_name_beyond_ascii_is_encoded(step: Make) -> None:
    made = header(step(RED.replace("Red <", "Röte, die <")))
    for name in ("Sender", "Reply-To", "List-Id"):
        assert (made.get(name) or "").isascii()
        assert (made.decoded(name) or "").startswith("Röte, die <red")


def test_another_lists_fields_are_replaced_and_its_x_loop_stays(step: Make) -> None:
    other = "".join(
        f"{name}: <mailto:x@other.org>\n"
        for name in (
            "List-Id", "List-Post", "List-Help", "List-Subscribe", "List-Unsubscribe",
            "List-Unsubscribe-Post", "List-Owner", "List-Archive",
        )
    )  # fmt: skip
    made = header(step(RED), f"{other}Precedence: list\nX-Loop: x@other.org\n{POST}")
    assert b"other.org" not in bytes(made).replace(b"X-Loop: x@other.org", b"")
    assert "List-Unsubscribe-Post" not in made
    assert made.get_all("Precedence") == ["list"]
    assert made.get_all("X-Loop") == ["x@other.org", "red@example.org"]


@pytest.mark.parametrize(
    "name",
    ["Bcc", "Resent-Bcc", "Delivered-To", "X-Original-To", "Return-Path", "Approved", "X-Approved",
     "Return-Receipt-To", "Disposition-Notification-To", "X-Confirm-Reading-To", "Errors-To",
     "Envelope-To", "X-Envelope-To", "X-Delivered-To", "X-Forwarded-To", "Status", "X-Status"],
)  # fmt: skip
def test_l11_what_is_private_does_not_reach_the_members(step: Make, name: str) -> None:
    text = f"{name}: secret@example.org\n{name.upper()}: Red123\n{POST}"
    made = header(step(RED), text)
    assert name not in made
    assert b"secret" not in bytes(made)


def test_what_others_signed_or_checked_stays(step: Make) -> None:
    """DKIM-Signature, Authentication-Results and trace fields are octet for octet there."""
    fields = (
        b"Received: from a by b;\r\n\tMon, 1 Jan 2024 10:00:00 +0000\r\n"
        b"DKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=ab c \r\n d\r\n"
        b"Authentication-Results: mx.example.org; dkim=pass\r\n"
        b"ARC-Seal: i=1;  x\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed;\r\n  boundary="x"\r\n'
    )
    assert read(step(RED).made(fields + POST.encode()).content).startswith(fields)


def test_an_mbox_line_does_not_travel(step: Make) -> None:
    made = step(RED).made("From ann@x Mon Jan  1 10:00:00 2024\n" + POST)
    assert read(made.content).startswith(b"From: Ann <ann@example.org>\r\n")


@pytest.mark.parametrize(
    "key", ["prefix", "address", "owner", "bounces", "list_id", "authserv", "archive"]
)
@pytest.mark.parametrize("character", ["\\r\\n", "\\n", "\\r", "\\u0000"])
def test_d18_control_characters_in_the_toml_are_refused(
    step: Make, key: str, character: str
) -> None:
    from mailflow.errors import ConfigError

    value = {"prefix": "[Red{}]"}.get(key, "R{}d <red@example.org>").format(character)
    lines = [f'{key} = "{value}"', "members = []"]
    if key != "address":
        lines.append('address = "red@example.org"')
    with pytest.raises(ConfigError, match=key):
        step("\n".join(lines))
