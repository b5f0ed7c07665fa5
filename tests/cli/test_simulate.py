"""`mailflow simulate`: what would become of a mail, and nothing does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .command import MAIL, Shop

PIPELINE = """
[[fetch]]
use = "stdin"
where = 'not subject contains "spam"'
[[process]]
use = "filter.tag"
when = 'subject contains "one"'
note = { folder = "Red" }
[[process]]
use = "filter.hold"
when = 'subject contains "wait"'
reason = "a human must look"
[[process]]
use = "filter.recipients"
set = ["bob@example.org", "cleo@example.net"]
[[distribute]]
use = "smtp"
host = "127.0.0.1"
port = 1
tls = "none"
[[distribute]]
name = "archive"
use = "maildir"
path = "{home}/Maildir"
[[react]]
use = "react.log"
"""


@pytest.fixture
def file(shop: Shop) -> str:
    return shop.write(PIPELINE)


def facts(shop: Shop, *words: str, mail: bytes = MAIL) -> Any:
    done = shop("simulate", "--json", *words, stdin=mail)
    assert done.status == 0, done.err
    return json.loads(done.out)


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("*"))


def test_each_step_s_verdict_and_who_gets_the_mail(shop: Shop, file: str) -> None:
    done = shop("simulate", "--sender", "ann@example.org", file, stdin=MAIL)
    assert (done.status, done.err) == (0, "")
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert done.out.splitlines()[0].endswith(
        "from <ann@example.org> to nobody named, as if by stdin"
    )
    assert lines[2:] == [
        "filter.tag changes note folder = 'Red'",
        "filter.hold not asked its `when` does not hold",
        "filter.recipients changes to 2 recipients",
        "smtp delivered bob@example.org, cleo@example.net",
        "archive delivered",
    ]


def test_nothing_is_made_and_nobody_is_connected_to(shop: Shop, file: str) -> None:
    before = names(shop.home)
    assert shop("simulate", file, stdin=MAIL).status == 0
    assert names(shop.home) == before


def test_held_mail_is_said_to_be_held_with_its_reason(shop: Shop, file: str) -> None:
    told = facts(shop, file, mail=MAIL.replace(b"one", b"wait"))
    assert [(way["step"], way["state"], way["why"]) for way in told["ways"]] == [
        ("filter.hold", "held", "a human must look")
    ]
    assert shop("queue", "list", "--json").out.strip() == "[]"


def test_what_where_says_is_told(shop: Shop, file: str) -> None:
    assert facts(shop, file)["wanted"] is True
    spam = MAIL.replace(b"one", b"spam")
    assert facts(shop, file, mail=spam)["wanted"] is False
    assert "it would stay at the source" in shop("simulate", file, stdin=spam).out


def test_the_envelope_is_that_of_the_hook_or_as_given(shop: Shop, file: str) -> None:
    done = shop("simulate", "--json", file, stdin=MAIL, env={"SENDER": "x@example.org"})
    assert json.loads(done.out)["sender"] == "x@example.org"
    told = facts(shop, "--sender", "", "--recipient", "a@x", "--recipient", "b@x", file)
    assert (told["sender"], told["recipients"]) == ("", ["a@x", "b@x"])


def test_as_if_it_came_from_a_mailbox(shop: Shop) -> None:
    file = shop.write(
        '[[fetch]]\nuse = "pop3"\nhost = "h"\nuser = "u"\npassword = { env = "X" }\n' + PIPELINE
    )
    told = facts(shop, "--source", "pop3", file, mail=b"From ann Mon Jan  1 2026\n" + MAIL)
    assert (told["source"], told["sender"]) == ("pop3", None)
    assert told["size"] == len(MAIL.replace(b"\n", b"\r\n"))
    done = shop("simulate", "--source", "pop4", file, stdin=MAIL)
    assert done.status == 78
    assert "no [[fetch]] is called 'pop4'; did you mean `pop3`?" in done.err


def test_an_empty_message_is_65(shop: Shop, file: str) -> None:
    assert shop("simulate", file).status == 65


REMEMBERS = '''
from mailflow import hookimpl, Hold, Options
class Once:
    """Holds what it has met."""
    options = Options
    pure = False
    def __init__(self, options, runtime): ...
    def process(self, mail, context):
        if context.memory.get("met"):
            yield Hold("met before")
        else:
            context.memory.set("met", "yes")
            yield mail
class Shouts:
    """Starts a program."""
    options = Options
    programs = True
    def __init__(self, options, runtime): ...
    def react(self, trouble, context):
        open("shouted", "w").close()
class Breaks:
    """Breaks."""
    options = Options
    pure = True
    def __init__(self, options, runtime): ...
    def process(self, mail, context):
        raise ValueError("broken")
@hookimpl
def mailflow_register(register):
    register.processor(Once)
    register.processor(Breaks, "breaks")
    register.reactor(Shouts)
'''

HOOK = '[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\npath = "{home}/Maildir"\n'


def test_what_steps_remember_counts_and_is_not_added_to(shop: Shop) -> None:
    shop.plugin("pigeon", REMEMBERS)
    file = shop.write('[[process]]\nuse = "pigeon"\n' + HOOK)
    for _ in range(2):
        assert facts(shop, file)["steps"][0]["verdict"] == "passes"
    assert not shop.journal.exists()
    assert shop("hook", file, stdin=MAIL).status == 0
    before = [shop.rows(f"SELECT * FROM {table}") for table in ("memory", "mail", "story")]
    assert facts(shop, file)["steps"][0]["why"] == "met before"
    after = [shop.rows(f"SELECT * FROM {table}") for table in ("memory", "mail", "story")]
    assert after == before
    assert len(after[1]) == 1


def test_a_reactor_that_starts_a_program_is_not_asked(shop: Shop) -> None:
    shop.plugin("pigeon", REMEMBERS)
    file = shop.write('[[process]]\nuse = "pigeon.breaks"\n[[react]]\nuse = "pigeon"\n' + HOOK)
    told = facts(shop, file)
    assert told["steps"][0]["verdict"] == "trouble"
    assert "broken" in told["steps"][0]["why"]
    assert told["not_asked"] == ["pigeon"]
    assert not (shop.home / "shouted").exists()


def test_a_refusal_and_a_discard_end_it(shop: Shop) -> None:
    file = shop.write('[[process]]\nuse = "filter.discard"\nreason = "noise"\n' + HOOK)
    done = shop("simulate", file, stdin=MAIL)
    assert done.out.splitlines()[-1] == "it ends here"
    assert facts(shop, file)["steps"][0]["verdict"] == "discard"
    file = shop.write('[[process]]\nuse = "filter.reject"\nreason = "not here"\n' + HOOK)
    assert facts(shop, file)["refused"] == "not here"


def test_a_file_that_only_serves_has_nothing_to_simulate(shop: Shop) -> None:
    file = shop.write('[maildrop.ann]\nuse = "spool"\n[[serve]]\nuse = "pop3"\n')
    done = shop("simulate", file, stdin=MAIL)
    assert (done.status, done.out) == (78, "")
    assert done.err == f"mailflow: {file}: no mail comes this way; there is no [[fetch]]\n"
