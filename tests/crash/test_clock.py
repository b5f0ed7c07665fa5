"""The clock may jump between two runs and in the middle of one: mail is there once."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from .conftest import Open
from .ways import Way, identity

pytestmark = [pytest.mark.crash, pytest.mark.interop("dovecot-pop3d")]

HOUR, YEARS = 3600, 10 * 365 * 86400

SHIFTED = """
import sys, time
right, right_ns, first = time.time, time.time_ns, {shift}
calls = []
def shift():
    calls.append(1)
    return first if len(calls) < {calls} else {then}
time.time = lambda: right() + shift()
time.time_ns = lambda: right_ns() + shift() * 10**9
sys.argv[0] = "mailflow"
from mailflow.__main__ import main
main()
"""
"""The program with a clock that is wrong by `shift` seconds, and after so many looks by
`then`."""

JUMPS = ((0, 0), (YEARS, YEARS), (-HOUR, -HOUR), (YEARS, 0), (0, -HOUR), (0, YEARS), (0, 0))


def message(number: int) -> bytes:
    return b"From: ann@example.org\nTo: red@example.org\nMessage-ID: <%d@clock>\n\nx\n" % number


def run(way: Way, number: int, shift: int, then: int) -> str:
    """Bring one more message, and let the program take it with such a clock."""
    program = SHIFTED.format(shift=shift, then=then, calls=20)
    way.program = [sys.executable, "-c", program]
    if way.name == "hook":
        outcome = way.start(None, "hook", str(way.file), stdin=message(number))
    else:
        way.dovecot.deliver(way.user, message(number))
        outcome = way.start(None, "run", str(way.file))
    del way.program
    return f"{shift}, then {then}: {outcome.stderr}" if outcome.status else ""


@pytest.mark.parametrize("name", ["deliver-first", "hook", "common"])
def test_f29_the_clock_jumps_an_hour_back_and_ten_years_ahead(open_way: Open, name: str) -> None:
    way = open_way(name)
    said = [run(way, number, *jump) for number, jump in enumerate(JUMPS)]
    assert not any(said), said
    found = Counter(identity(octets) for octets in way.stored())
    wanted = [f"<{number}@clock>" for number in range(len(JUMPS))]
    assert {name: found[name] for name in wanted} == dict.fromkeys(wanted, 1)
    if name == "common":
        sent = Counter((identity(m.data), to) for m in way.sink.messages for to in m.recipients)
        assert {sent[each, "bob@example.org"] for each in wanted} == {1}
    if name != "hook":
        assert way.dovecot.messages(way.user) == []
