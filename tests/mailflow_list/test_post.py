"""`list.post`: who gets a mail, who decides, and what is never passed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailflow.errors import UnavailableError
from mailflow.mail import Envelope, Mail, read
from mailflow.testing.engine import mail
from mailflow.verdicts import Discard, Hold, Reject

RED = 'address = "Red <red@example.org>"\nmembers = ["ann@example.org", "bob@example.net"]\n'
POST = (
    "From: Ann <ann@example.org>\nTo: Red <red@example.org>\nSubject: hello\n"
    "Message-ID: <1@example.org>\n\nbody\n"
)
BOTH = """
[[list]]
address = "Red <red@example.org>"
members = ["ann@example.org", "bob@example.net"]

[[list]]
address = "Green <green@example.org>"
members = ["ann@example.org", "dan@example.com"]
posting = { others = "reject" }
"""

Make = Callable[..., Any]


def without(text: str, name: str) -> str:
    """The mail without the fields of that name."""
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(f"{name}:")
    )


# Envelope and notes


def test_pml_07_a_post_has_sender_recipients_and_its_list_in_the_notes(step: Make) -> None:
    made = step(RED).made(POST)
    assert made.envelope == Envelope("red@example.org", ("ann@example.org", "bob@example.net"))
    assert made.notes["list"] == "Red <red@example.org>"
    assert made.notes["list_name"] == "red"


def test_pml_30_the_envelope_sender_is_the_lists_and_never_the_authors(step: Make) -> None:
    one = mail(POST, sender="ann@example.org")
    assert step(RED).made(one).envelope.sender == "red@example.org"
    other = step(RED + 'bounces = "red-bounces@example.org"')
    assert other.made(one).envelope.sender == "red-bounces@example.org"


def test_pml_08_a_list_without_members_delivers_to_nobody(step: Make) -> None:
    one = step('address = "red@example.org"\nmembers = []\nposting = { others = "accept" }')
    made = one.made(POST)
    assert made.envelope.recipients == ()
    assert made.notes["list"] == "red@example.org"


def test_the_body_and_the_other_fields_stay_octet_for_octet(step: Make) -> None:
    fields = b"X-Odd:\tkept \r\n as it is\r\nX-8-Bit: \xe9\xff\r\n"
    body = b"--b\r\n\0 nul, \r bare, \xe9 \r\n.dot\r\n" + bytes(range(256)).replace(b"\n", b"")
    head, _, _ = POST.replace("\n", "\r\n").encode().partition(b"\r\n\r\n")
    made = read(step(RED).made(fields + head + b"\r\n\r\n" + body).content)
    assert made.startswith(fields)
    assert made.endswith(b"\r\n\r\n" + body)
    for line in head.split(b"\r\n"):
        assert line + b"\r\n" in made


def test_the_author_is_spared_a_copy_where_wanted(step: Make) -> None:
    text = POST.replace("ann@", "ANN@")
    assert step(RED).made(text).envelope.recipients == ("ann@example.org", "bob@example.net")
    spared = step(RED + "copy_to_author = false").made(text)
    assert spared.envelope.recipients == ("bob@example.net",)


def test_l10_ten_thousand_members_are_each_a_recipient_once(step: Make, tmp_path: Any) -> None:
    names = [f"m{number}@example.org" for number in range(10_000)]
    (tmp_path / "m").write_text("\n".join([*names, *(n.upper() for n in names)]))
    one = step('address = "red@example.org"\nmembers = "m"\nposting = { others = "accept" }')
    assert one.made(POST).envelope.recipients == tuple(names)


def test_members_that_are_a_list_of_this_step_are_left_out_and_said(step: Make) -> None:
    """L2: two lists that are members of each other."""
    one = step(
        """
        posting = { others = "accept" }
        [[list]]
        address = "red@example.org"
        aliases = ["old@example.org"]
        members = ["RED@example.org", "old@example.org", "green@example.org", "ann@example.org"]
        [[list]]
        address = "green@example.org"
        members = ["red@example.org"]
        """
    )
    for _ in range(2):
        made = one.made(without(POST, "Message-ID"))
        assert made.envelope.recipients == ("ann@example.org",)
    assert len(one.desk.log.said("warning")) == 3


# Which list


@pytest.mark.parametrize(
    "field",
    ["To", "Cc", "Bcc", "Delivered-To", "X-Delivered-To", "X-Original-To", "Envelope-To",
     "Resent-To"],
)  # fmt: skip
def test_pml_30_a_list_is_addressed_in_any_of_these_fields_whatever_the_case(
    step: Make, field: str
) -> None:
    other = "To: club@example.net\n" if field != "To" else ""
    text = without(POST, "To")
    text = text.replace("Subject:", f"{other}{field}: x@y.org, RED@Example.Org\nSubject:")
    assert isinstance(step(RED).one(text), Mail)


def test_pml_30_a_blind_copy_is_known_by_whom_the_server_took_it_for(step: Make) -> None:
    text = without(POST, "To")
    received = "Received: by mx.example.org\n\tfor <RED@example.org>; Sat, 21 Nov 2026\n"
    assert step(BOTH).made(received + text).notes["list_name"] == "red"
    assert isinstance(step(BOTH).one(received.replace("RED", "blue") + text), Hold)


def test_what_a_mail_is_addressed_to_counts_more_than_its_way(step: Make) -> None:
    """It was for green and came by red's alias, or says so: it is for green alone."""
    received = "Received: by mx.example.org for <red@example.org>; Sat, 21 Nov 2026\n"
    made = step(BOTH).made(received + POST.replace("red@", "green@"))
    assert made.notes["list_name"] == "green"


def test_the_envelope_names_the_list_too(step: Make) -> None:
    one = mail(without(POST, "To"), to=["red@example.org"])
    assert isinstance(step(RED).one(one), Mail)
    alias = mail(without(POST, "To"), to=["rot@example.org"])
    assert isinstance(step(RED + 'aliases = ["rot@example.org"]').one(alias), Mail)


def test_pml_25_the_list_that_is_addressed_takes_the_mail(step: Make) -> None:
    both = step(BOTH)
    made = both.made(POST.replace("red@", "green@"))
    assert made.notes["list"] == "Green <green@example.org>"
    assert made.envelope.recipients == ("ann@example.org", "dan@example.com")
    assert both.made(POST).notes["list"] == "Red <red@example.org>"


def test_pml_27_a_post_to_both_lists_goes_to_both_once(step: Make) -> None:
    both = step(BOTH)
    text = POST.replace("Subject:", "Cc: green@example.org\nSubject:")
    made = both.all(text)
    assert [one.notes["list_name"] for one in made] == ["red", "green"]
    # The mail server makes a copy for each address; the second is the same post.
    again = both.one("Delivered-To: green@example.org\n" + text)
    assert isinstance(again, Discard)
    assert "Message-ID" in again.reason


@pytest.mark.parametrize(
    ("word", "verdict"), [("hold", Hold), ("reject", Reject), ("discard", Discard)]
)
def test_pml_09_mail_for_no_list_is_a_verdict_that_says_so(
    step: Make, word: str, verdict: type
) -> None:
    text = POST.replace("red@", "blue@")
    for toml in (RED, BOTH):
        result = step(f'unaddressed = "{word}"\n{toml}').one(text)
        assert isinstance(result, verdict)
        assert result.reason.startswith("no such list: it is addressed to blue@example.org")
        assert "red@example.org" in result.reason


def test_mail_for_no_list_is_held_by_default(step: Make) -> None:
    assert isinstance(step(RED).one(POST.replace("red@", "blue@")), Hold)
    assert isinstance(step(BOTH).one("From: ann@example.org\n\nbody\n"), Hold)
    assert isinstance(step(BOTH).one(b""), Hold)


def test_pml_22_one_list_may_take_what_is_addressed_to_nobody(step: Make) -> None:
    one = step(RED + 'unaddressed = "accept"')
    assert isinstance(one.one(POST.replace("red@", "blue@")), Mail)
    refused = step(RED + 'unaddressed = "accept"').one(
        POST.replace("red@", "blue@").replace("ann@", "eve@")
    )
    assert isinstance(refused, Hold)  # the author must still be a member


def test_mail_for_no_list_that_is_approved_goes_to_the_only_one(step: Make) -> None:
    text = POST.replace("red@", "blue@")
    assert isinstance(step(RED).one(text, approved=True), Mail)
    assert isinstance(step(BOTH).one(text, approved=True), Hold)


def test_a_post_of_an_earlier_step_passes_unchanged_and_a_list_it_missed_is_said(
    step: Make,
) -> None:
    """Two steps with one list each do not post a mail twice."""
    posted = step(RED).made(POST.replace("Subject:", "Cc: green@example.org\nSubject:"))
    green = step('address = "green@example.org"\nmembers = ["dan@example.com"]')
    assert green.one(posted) is posted
    (line,) = green.desk.log.lines
    assert line.level == "warning"
    assert line.facts["missed"] == ["green@example.org"]


def test_a_post_of_an_earlier_step_for_that_list_only_is_nothing_to_say(step: Make) -> None:
    posted = step(RED).made(POST)
    green = step('address = "green@example.org"\nmembers = ["dan@example.com"]')
    assert green.one(posted) is posted
    assert green.desk.log.lines == []


# Who may post


def test_pml_22_the_author_must_be_a_member(step: Make) -> None:
    assert isinstance(step(RED).one(POST), Mail)
    held = step(RED).one(POST.replace("ann@example.org>\nTo", "eve@example.org>\nTo"))
    assert held == Hold("eve@example.org is not a member of red@example.org")


def test_pml_30_a_member_is_known_whatever_the_case(step: Make) -> None:
    assert isinstance(step(RED).one(POST.replace("ann@example.org>", "Ann@EXAMPLE.org>")), Mail)


@pytest.mark.parametrize("role", ["members", "moderators", "others"])
@pytest.mark.parametrize(
    ("rule", "kind"),
    [("accept", Mail), ("hold", Hold), ("reject", Reject), ("discard", Discard)],
)
def test_posting_is_as_the_rule_for_the_author_says(
    step: Make, role: str, rule: str, kind: type
) -> None:
    author = {"members": "bob@example.net", "moderators": "mod@example.org"}.get(role, "eve@x.org")
    toml = f'{RED}moderators = ["mod@example.org"]\nposting = {{ {role} = "{rule}" }}'
    result = step(toml).one(POST.replace("ann@example.org", author))
    assert isinstance(result, kind)
    if not isinstance(result, Mail):
        assert result.reason


def test_a_moderator_who_is_a_member_posts_as_a_moderator(step: Make) -> None:
    toml = RED + 'moderators = ["ann@example.org"]\nposting = { members = "hold" }'
    assert isinstance(step(toml).one(POST), Mail)
    assert isinstance(step(toml).one(POST.replace("Ann <ann@", "<bob@").replace(
        "bob@example.org", "bob@example.net")), Hold)  # fmt: skip


def test_a_member_who_sends_for_somebody_else_is_known_by_sender(step: Make) -> None:
    text = POST.replace("Ann <ann@example.org>", "boss@x.org")
    assert isinstance(step(RED).one(text), Hold)
    assert isinstance(step(RED).one("Sender: ann@example.org\n" + text), Mail)


def test_one_of_several_authors_is_enough(step: Make) -> None:
    assert isinstance(step(RED).one(POST.replace("Ann <ann@", "eve@x.org, Ann <ann@")), Mail)


@pytest.mark.parametrize(
    "author",
    [
        '"ann@example.org" <eve@x.org>',
        "ann@example.org <eve@x.org>",
        "eve@x.org (ann@example.org)",
        "Ann, <ann@example.org> eve@x.org",
        "<ann@example.org> <eve@x.org>",
        "ann@example.org)eve@x.org",
        "eve@x.org\nFrom: ann@example.org",
        "ann@example.org\nFrom: eve@x.org",
        "Lee, Ann <ann@example.org>",
        "Team: ann@example.org, eve@x.org;",
        "=?utf-8?q?ann=40example=2Eorg?=",
        "",
    ],
)
def test_l5_a_from_field_that_only_shows_a_member_is_not_a_members(step: Make, author: str) -> None:
    text = POST.replace("Ann <ann@example.org>", author)
    assert isinstance(step(RED).one(text), Hold)
    # Nor does a Sender make an unclear From clear.
    if "eve@x.org" not in author:
        assert isinstance(step(RED).one("Sender: ann@example.org\n" + text), Hold)


VERIFIED = RED + 'authserv = "mx.example.org"\n'


@pytest.mark.parametrize(
    "results",
    [
        "mx.example.org; dmarc=pass header.from=example.org",
        "MX.example.org 1; spf=fail (a; b) x=y; dmarc=pass (p=none dis=none)",
        'mx.example.org; dkim=pass reason="good; dmarc=fail"; DMARC=PASS',
    ],
)
def test_l5_a_member_counts_as_one_where_the_receiving_server_confirms_it(
    step: Make, results: str
) -> None:
    assert isinstance(step(VERIFIED).one(f"Authentication-Results: {results}\n{POST}"), Mail)


AND_PASS = "Authentication-Results: mx.example.org; dmarc=pass\n"


@pytest.mark.parametrize(
    "results",
    [
        "",
        "Authentication-Results: mx.example.org; dmarc=fail\n",
        "Authentication-Results: mx.example.org; dkim=pass; spf=pass\n",
        "Authentication-Results: mx.example.org; none\n",
        "Authentication-Results: evil.example.com; dmarc=pass\n",
        "Authentication-Results: mx.example.org.evil.com; dmarc=pass\n",
        "Authentication-Results: mx.example.org; spf=pass (; dmarc=pass)\n",
        'Authentication-Results: mx.example.org; spf=pass reason="; dmarc=pass"\n',
        "Authentication-Results: mx.example.org; spf=pass (never closed; dmarc=pass\n",
        "Authentication-Results: mx.example.org; dmarc=fail; dmarc=pass\n",
        "Authentication-Results: mx.example.org; dmarc=passed\n",
        "Authentication-Results: mx.example.org; dmarc=fail\n" + AND_PASS,
    ],
)
def test_l5_a_forged_member_is_somebody_else(step: Make, results: str) -> None:
    result = step(VERIFIED).one(results + POST)
    assert result == Hold("mx.example.org does not confirm that it is from ann@example.org")


def test_l5_where_dmarc_counts_sender_and_second_authors_do_not(step: Make) -> None:
    passed = "Authentication-Results: mx.example.org; dmarc=pass\n"
    eve = POST.replace("Ann <ann@example.org>", "eve@x.org")
    assert isinstance(step(VERIFIED).one(f"{passed}Sender: ann@example.org\n{eve}"), Hold)
    for authors in ("eve@x.org, ann@example.org", "ann@example.org, eve@x.org"):
        two = POST.replace("Ann <ann@example.org>", authors)
        assert isinstance(step(VERIFIED).one(passed + two), Hold)


# Loops


@pytest.mark.parametrize(
    "field",
    [
        "X-Loop: Red@example.org",
        "List-Id: The red one <RED.example.org>",
        "List-Post: <mailto:red@example.org>",
    ],
)
def test_l1_what_has_been_through_the_list_is_dropped(step: Make, field: str) -> None:
    result = step(RED).one(f"{field}\n{POST}", approved=True)
    assert isinstance(result, Discard)
    assert result.reason.startswith("a loop")


def test_l1_a_post_that_comes_back_is_dropped_even_with_another_recipient(step: Make) -> None:
    red = step(RED)
    back = red.made(POST)
    back = back.replace(envelope=Envelope("x@y.org", ("sub@example.net",)), notes={})
    header = back.header()
    header.set("To", "sub@example.net")
    assert isinstance(step(RED).one(back.with_header(header)), Discard)
    header.remove("List-Id")
    header.set("To", "red@example.org")
    assert isinstance(step(RED).one(back.with_header(header)), Discard)


def test_l1_a_mail_that_goes_round_elsewhere_is_dropped_after_25_hops(step: Make) -> None:
    hop = "Received: from a by b; Mon, 1 Jan 2024 10:00:00 +0000\n"
    assert isinstance(step(RED).one(hop * 25 + POST), Mail)
    assert isinstance(step(RED).one(hop * 26 + POST), Discard)
    assert isinstance(step(RED + "max_hops = 3").one(hop * 4 + POST), Discard)


def test_l2_a_mail_makes_one_pass_through_two_lists_that_are_members_of_each_other(
    step: Make,
) -> None:
    """Each in a pipeline of its own; the way back is closed by what the first one wrote."""
    one = step(RED + 'posting = { others = "accept" }')
    two = step('address = "two@example.net"\nmembers = ["red@example.org"]\n'
               'posting = { others = "accept" }')  # fmt: skip
    first = one.made(POST).replace(notes={}, envelope=Envelope("r@x", ("two@example.net",)))
    second = two.made(first).replace(notes={}, envelope=Envelope("t@x", ("red@example.org",)))
    assert second.header().get_all("X-Loop") == ["red@example.org", "two@example.net"]
    assert isinstance(one.one(second), Discard)
    # The same where a list on the way threw away the trace: the Message-ID is known.
    header = second.header()
    for name in ("X-Loop", "List-Id", "List-Post"):
        header.remove(name)
    assert isinstance(one.one(second.with_header(header)._replace(id="back")), Discard)


def test_l1_a_message_id_that_comes_again_is_a_copy(step: Make) -> None:
    red = step(RED)
    red.made(POST)
    again = red.one(POST.replace("hello", "other"))
    assert again == Discard("red@example.org had a mail with this Message-ID: <1@example.org>")
    red.desk.now += 8 * 86400
    assert isinstance(red.one(POST), Mail)


def test_a_mail_that_is_processed_again_after_a_crash_is_no_copy_of_itself(step: Make) -> None:
    red, one = step(RED), mail(POST)
    assert isinstance(red.one(one), Mail)
    assert isinstance(red.one(one), Mail)


def test_a_held_post_is_known_and_a_refused_one_is_not(step: Make) -> None:
    eve = POST.replace("ann@", "eve@")
    held = step(RED)
    held.one(eve)
    assert isinstance(held.one(eve), Discard)
    refused = step(RED + 'posting = { others = "reject" }')
    refused.one(eve)
    assert isinstance(refused.one(eve), Reject)


def test_posts_without_a_message_id_are_no_copies(step: Make) -> None:
    red = step(RED)
    for _ in range(2):
        assert isinstance(red.one(without(POST, "Message-ID")), Mail)


# Programs


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied (vacation)",
        "Return-Path: <>",
        "X-Autoreply: yes",
        "Content-Type: multipart/report; report-type=delivery-status",
        "Precedence: auto_reply",
    ],
)
@pytest.mark.parametrize("to", ["red@example.org", "red-bounces@example.org"])
def test_l3_an_automatic_answer_is_dropped_whatever_the_rules_say(
    step: Make, field: str, to: str
) -> None:
    toml = RED + 'automatic = "accept"\nposting = { others = "accept" }'
    text = f"{field}\n{POST}".replace("red@example.org", to)
    for approved in (False, True):
        result = step(toml).one(text, approved=approved and to == "red@example.org")
        assert isinstance(result, Discard)
        assert result.reason.startswith("an automatic answer")


def test_l3_a_bounce_is_dropped_by_its_null_sender(step: Make) -> None:
    assert isinstance(step(RED).one(mail(POST, sender="")), Discard)


@pytest.mark.parametrize("field", ["Auto-Submitted: auto-generated", "Precedence: bulk"])
@pytest.mark.parametrize(("word", "kind"), [("discard", Discard), ("hold", Hold), ("accept", Mail)])
def test_l3_what_a_program_sends_is_dropped_unless_the_list_wants_it(
    step: Make, field: str, word: str, kind: type
) -> None:
    assert isinstance(step(RED).one(f"{field}\n{POST}"), Discard)
    assert isinstance(step(f'{RED}automatic = "{word}"').one(f"{field}\n{POST}"), kind)


def test_l3_what_reads_like_an_out_of_office_note_waits_for_a_human(step: Make) -> None:
    text = POST.replace("hello", "Out of Office: hello")
    assert isinstance(step(RED).one(text), Hold)
    assert isinstance(step(RED).one(text, approved=True), Mail)


@pytest.mark.parametrize("subject", ["unsubscribe", "Re: Unsubscribe", "help", "subscribe!",
                                     "unsubscribe red@example.org"])  # fmt: skip
def test_a_wish_to_be_taken_off_is_not_sent_to_everybody(step: Make, subject: str) -> None:
    assert isinstance(step(RED).one(POST.replace("hello", subject)), Hold)


@pytest.mark.parametrize("subject", ["how to unsubscribe", "unsubscribe x@y.org", "helpers"])
def test_a_post_about_it_is_a_post(step: Make, subject: str) -> None:
    assert isinstance(step(RED).one(POST.replace("hello", subject)), Mail)


# Shape


def test_a_post_over_the_size_limit_is_held_or_rejected(step: Make) -> None:
    text = POST + "x" * 2000
    size = mail(text).content.size
    assert isinstance(step(f"{RED}max_size = {size}").one(text), Mail)
    held = step(f"{RED}max_size = {size - 1}").one(text)
    assert held == Hold(f"it has {size} octets, more than the {size - 1} this list takes")
    assert isinstance(step(RED + 'max_size = "1k"\noversize = "reject"').one(text), Reject)
    assert isinstance(step(RED + 'max_size = "1k"').one(text, approved=True), Mail)


@pytest.mark.parametrize(
    "subject",
    [
        "=?utf-8?q?a=0D=0ABcc:_everybody@example.org?=",
        "=?utf-8?b?YQ0KYg==?=",
        "=?utf-8?q?a=00b?=",
        "a\rb",
        "a\0b",
        "=?utf-16be?b?AAoACgAK?=",
    ],
)
def test_l9_a_subject_that_hides_control_characters_waits_and_is_never_written(
    step: Make, subject: str
) -> None:
    text = POST.replace("hello", subject)
    held = step(RED + 'prefix = "[Red]"').one(text)
    assert held == Hold("its Subject field holds control characters")
    made = step(RED + 'prefix = "[Red]"').made(text, approved=True)
    assert "Bcc" not in made.header()
    assert "\r" not in (made.header().get("Subject") or "")


def test_l9_a_subject_of_a_megabyte_is_held(step: Make) -> None:
    held = step(RED).one(POST.replace("hello", "x" * 1_100_000))
    assert held == Hold("its header section is too long to be looked through")


def test_f11_a_mail_that_is_no_mail_is_held(step: Make) -> None:
    for octets in (b"", b"\r\n", b"\xff\xfe" + "text".encode("utf-16-le"), b"no header\r\n"):
        one = mail(octets, to=["red@example.org"])
        assert isinstance(step(RED).one(one), Hold)
        assert isinstance(step(RED).one(one, approved=True), Mail)


# Approval


def test_an_approved_post_goes_out_without_the_posting_rule(step: Make) -> None:
    for rule in ("hold", "reject"):
        red = step(RED + f'posting = {{ others = "{rule}" }}')
        one = mail(POST.replace("ann@", "eve@"))
        red.one(one)
        made = red.made(one, approved=True)
        assert made.envelope.recipients == ("ann@example.org", "bob@example.net")
        assert made.header().get("List-Id") == "Red <red.example.org>"


def test_an_approval_does_not_overrule_what_is_thrown_away(step: Make) -> None:
    toml = RED + 'posting = { others = "discard" }'
    assert isinstance(step(toml).one(POST.replace("ann@", "eve@"), approved=True), Discard)


# Several lists and their verdicts


TO_BOTH = POST.replace("Subject:", "Cc: green@example.org\nSubject:")


def test_a_post_that_one_list_holds_waits_for_all_and_then_goes_to_all(step: Make) -> None:
    both, one = step(BOTH), mail(TO_BOTH.replace("ann@", "dan@").replace(
        "dan@example.org", "dan@example.com"))  # fmt: skip
    held = both.one(one)
    assert held == Hold("dan@example.com is not a member of red@example.org")
    made = both.all(one, approved=True)
    assert [each.notes["list_name"] for each in made] == ["red", "green"]


def test_a_post_that_one_list_refuses_goes_to_the_other_and_the_story_says_so(step: Make) -> None:
    made, refused = step(BOTH).all(TO_BOTH.replace("Ann <ann@example.org>", "bob@example.net"))
    assert made.notes["list_name"] == "red"
    assert refused == Discard("bob@example.net is not a member of green@example.org")


def test_a_post_that_every_list_refuses_is_rejected_with_every_reason(step: Make) -> None:
    toml = 'posting = { others = "reject" }\n' + BOTH
    result = step(toml).one(TO_BOTH.replace("ann@", "eve@"))
    assert result == Reject(
        "eve@example.org is not a member of red@example.org;"
        " eve@example.org is not a member of green@example.org"
    )


def test_a_loop_through_one_list_does_not_stop_the_other(step: Make) -> None:
    made, dropped = step(BOTH).all("X-Loop: red@example.org\n" + TO_BOTH)
    assert made.notes["list_name"] == "green"
    assert isinstance(dropped, Discard)


def test_each_list_has_its_own_memory_rules_and_dress(step: Make) -> None:
    both = step(BOTH)
    both.made(POST)
    assert both.made(POST.replace("red@", "green@")).notes["list_name"] == "green"


# Reasons


def test_a_reason_is_one_short_line_whatever_the_mail_says(step: Make) -> None:
    author = "x" * 5000 + "@x.org"
    text = POST.replace("ann@example.org>", f"{author}>").replace("red@", "blue\u202e@")
    for toml in (RED, RED + 'unaddressed = "accept"'):
        reason = step(toml).one(text).reason
        assert len(reason) <= 300
        assert reason.isprintable()


def test_a_members_file_that_is_gone_stops_the_post_for_now(step: Make, tmp_path: Any) -> None:
    path = tmp_path / "red.members"
    path.write_text("ann@example.org\n")
    red = step('address = "red@example.org"\nmembers = "red.members"')
    path.unlink()
    with pytest.raises(
        UnavailableError, match=r"cannot read the addresses in .*/red\.members: No such"
    ):
        red.one(POST)
