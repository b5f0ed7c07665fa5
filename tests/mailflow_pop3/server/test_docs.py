"""docs/pop3.rst prints what the tests show of both servers, and not what they once showed."""

from __future__ import annotations

import csv

import pytest

from .tables import AFTER, ANSWERS_FILE, BEFORE, POINTS_FILE, answers_table, points_table

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def answers(server) -> list[str]:
    """The first line of each answer; before the log-in each on a connection of its own, since
    Dovecot closes after three bad commands."""
    found = []
    for line in BEFORE:
        dialogue = server.connect()
        if line == "PASS wrong":
            dialogue.say("USER nobody")
        found.append(dialogue.say(line).line.decode())
        dialogue.drop()
    dialogue = server.enter(server.fill(MAIL, MAIL))
    for line in AFTER:
        answer = dialogue.ask(line) if line.startswith(("RETR", "TOP")) else dialogue.say(line)
        found.append(answer.line.decode())
    return found


def test_the_table_of_points_is_that_of_the_tests(pytestconfig):
    if pytestconfig.getoption("--write-tables", False):
        POINTS_FILE.write_text(points_table(), encoding="utf-8")
    assert POINTS_FILE.read_text(encoding="utf-8") == points_table()


@pytest.mark.interop("dovecot-core", "dovecot-pop3d")
def test_the_table_of_answers_is_what_both_servers_say(pytestconfig, mailflow, dovecot):
    made = answers_table(answers(mailflow), answers(dovecot))
    if pytestconfig.getoption("--write-tables", False):
        ANSWERS_FILE.write_text(made, encoding="utf-8")
    assert ANSWERS_FILE.read_text(encoding="utf-8") == made


def test_every_point_stands_in_the_table_once():
    with POINTS_FILE.open(encoding="utf-8", newline="") as file:
        numbers = [row[0] for row in csv.reader(file)][1:]
    assert numbers == [f"{number:03d}" for number in range(1, 121)]
