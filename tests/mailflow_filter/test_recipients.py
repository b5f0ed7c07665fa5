"""`filter.recipients`: who gets a mail, whoever it was addressed to."""

from __future__ import annotations

from typing import Any

import pytest

from mailflow.errors import BadMailError, ConfigError
from mailflow.mail import Envelope, Mail
from mailflow.testing.engine import Desk, mail
from mailflow_filter.recipients import RecipientsFilter

TO = ("ann@example.org", "Bob@example.net")
TEXT = "From: eve@x.org\nTo: Cleo <cleo@example.com>, dan@example.com\n\nbody\n"


def result(table: dict[str, object], one: Mail | None = None) -> Mail:
    desk = Desk("step")
    component: Any = RecipientsFilter
    one = one or mail(TEXT, sender="eve@x.org", to=TO)
    (made,) = desk.process(component(component.options.read(table), desk.runtime), one)
    assert isinstance(made, Mail)
    return made


def recipients(table: dict[str, object], one: Mail | None = None) -> tuple[str, ...]:
    return result(table, one).envelope.recipients


def test_pml_20_the_recipients_are_replaced_and_nothing_else_is() -> None:
    one = mail(TEXT, sender="eve@x.org", to=TO, notes={"a": "b"})
    made = result({"set": ["olga@example.org", "Pat <pat@example.org>"]}, one)
    assert made.envelope == Envelope("eve@x.org", ("olga@example.org", "pat@example.org"))
    assert (made.id, made.notes) == (one.id, one.notes)
    assert made.content is one.content


def test_recipients_are_added_once_whatever_the_case() -> None:
    assert recipients({"add": ["ANN@example.org", "pat@example.org"]}) == (*TO, "pat@example.org")


def test_recipients_are_removed_whatever_the_case_and_by_domain() -> None:
    assert recipients({"remove": "bob@EXAMPLE.net"}) == ("ann@example.org",)
    assert recipients({"remove": "*@example.org"}) == ("Bob@example.net",)
    assert recipients({"remove": ["*@ample.org", "nn@example.org"]}) == TO


def test_replacing_comes_before_removing_and_adding_comes_last() -> None:
    table: dict[str, object] = {
        "add": "ann@example.org", "remove": ["ann@example.org"],
        "set": ["ann@example.org", "pat@example.org"],
    }  # fmt: skip
    assert recipients(table) == ("pat@example.org", "ann@example.org")


def test_pml_08_nobody_may_be_left() -> None:
    assert recipients({"remove": ["*@example.org", "*@example.net"]}) == ()


def test_the_mail_may_say_who_gets_it() -> None:
    assert recipients({"set": ["{header:To}", "{header:Cc|}"]}) == (
        "cleo@example.com",
        "dan@example.com",
    )


def test_a_comma_in_an_encoded_name_parts_no_addresses() -> None:
    one = mail("To: =?utf-8?q?M=C3=BCller=2C_J?= <j@x.org>\n\n")
    assert recipients({"set": "{header:To}"}, one) == ("j@x.org",)
    trick = mail("To: =?utf-8?q?evil@x.org=2C?= <j@x.org>\n\n")
    assert recipients({"set": "{header:To}"}, trick) == ("j@x.org",)


@pytest.mark.parametrize(
    "to", ["nobody", "a@x.org b@x.org", "a@x.org\0", "<a@x.org", "a@x\x1b.org"]
)
def test_what_is_no_address_is_the_mails_fault(to: str) -> None:
    with pytest.raises(BadMailError, match="not only addresses in set: ") as caught:
        result({"set": "{header:To}"}, mail(f"To: {to}\n\n"))
    assert caught.value.text.isprintable()


def test_a_mail_names_no_more_than_a_thousand() -> None:
    many = ", ".join(f"m{number}@x.org" for number in range(1001))
    with pytest.raises(BadMailError, match="1001 recipients in add, more than 1000"):
        result({"add": "{header:To}"}, mail(f"To: {many}\n\n"))


def test_what_is_not_set_is_the_mails_fault() -> None:
    with pytest.raises(BadMailError, match=r"\{header:Cc\} is not set"):
        result({"add": "{header:Cc}"})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "set: expected something to do"),
        ({"set": "nobody"}, "set: expected addresses; 'nobody' is none"),
        ({"add": ["a@x.org", "b"]}, "add: expected addresses; 'b' is none"),
        ({"remove": "*"}, "remove: expected addresses or \"*@domain\"; '*' is neither"),
        ({"remove": "*@"}, "remove: expected addresses"),
        ({"remove": "a@x.org\r\nb@x.org"}, "remove: expected a string on one line"),
        ({"set": "{nothing}"}, "set: expected {note:NAME}"),
    ],
)
def test_d18_what_cannot_be_done_is_said_before_it_runs(
    table: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        RecipientsFilter.options.read(table)
    assert said in caught.value.text
