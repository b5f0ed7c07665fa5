"""Messages of a live drop that come before they are asked for: how they go out, what is asked
for ahead, and what becomes of those that do not come."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.errors import GoneError, UnavailableError
from mailflow.kinds import Credentials
from mailflow.lines import stuff
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import Faults
from mailflow.testing.proxy import Proxy
from mailflow_imap.maildrop import ImapDrop
from mailflow_imap.opened import AHEAD, OpenImap


def message(number: int, octets: int = 20_000) -> bytes:
    line = b".%06d and so on, to the end of a line of text\r\n" % number
    return b"Subject: %d\r\n\r\n" % number + line * (octets // len(line))


@pytest.fixture
def server() -> Iterator[ImapServer]:
    with ImapServer({"ann": "secret"}) as server:
        yield server


@pytest.fixture
def proxy(server: ImapServer) -> Iterator[Proxy]:
    with Proxy((server.host, server.port)) as proxy:
        yield proxy


@pytest.fixture
def drop(server: ImapServer, proxy: Proxy, tmp_path: Path) -> Iterator[OpenImap]:
    """Fifty messages, of which a flight has some dozen; the first two have been read."""
    for number in range(50):
        server.deliver("ann", message(number))
    where = {"host": proxy.host, "port": proxy.port, "tls": "none"}
    stage = Stage(ImapDrop, {**where, "user": "ann", "password": "secret"}, tmp_path)
    drop = stage.make().login(Credentials("ann", checked=True))
    assert [got(drop, index) for index in (0, 1)] == [message(0), message(1)]
    yield drop
    drop.close()
    stage.halt.set()


def key(drop: OpenImap, index: int) -> str:
    return drop.items()[index].key


def got(drop: OpenImap, index: int) -> bytes:
    return read(drop.read(key(drop, index)))


def at_hand(drop: OpenImap, index: int) -> bytes:
    """That message as soon as it has come."""
    deadline = time.monotonic() + 10
    while (found := drop.wire(key(drop, index))) is None:
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.001)  # nobody tells that octets have arrived without taking them
    return found


def asked(server: ImapServer) -> int:
    """The highest UID of a whole message that was asked for."""
    commands = [each for each in server.commands if each.endswith("(UID BODY.PEEK[])")]
    return max(int(uid) for each in commands for uid in re.findall(r"\d+", each.split()[2]))


def test_what_has_come_with_another_one_goes_out_as_pop3_has_it(drop: OpenImap) -> None:
    assert at_hand(drop, 2) == b"+OK message follows\r\n" + stuff(message(2)) + b".\r\n"


def test_what_was_not_asked_for_is_not_at_hand(drop: OpenImap, server: ImapServer) -> None:
    number = asked(server) + 5
    assert drop.wire(key(drop, number)) is None
    assert got(drop, number) == message(number)


def test_the_next_are_asked_for_before_the_last_is_read(drop: OpenImap, server: ImapServer) -> None:
    first = asked(server)
    for index in range(2, first):
        at_hand(drop, index)
    deadline = time.monotonic() + 10
    while asked(server) == first:
        assert time.monotonic() < deadline, "nothing is asked for"
        time.sleep(0.001)  # the server takes commands in its own time


def test_whoever_reads_all_gets_all_without_waiting(drop: OpenImap) -> None:
    for index in range(2, 50):
        assert at_hand(drop, index).count(b"\r\n..%06d and so on" % index) > 300


def test_no_more_is_under_way_than_may_be_held(drop: OpenImap, server: ImapServer) -> None:
    for index in range(2, 30):
        at_hand(drop, index)
        ahead = asked(server) - index - 1
        assert ahead * len(message(0)) <= 2 * AHEAD


def test_a_large_message_is_not_fetched_ahead(
    drop: OpenImap, server: ImapServer, proxy: Proxy, tmp_path: Path
) -> None:
    server.deliver("ann", message(50, AHEAD + 1000))
    server.deliver("ann", message(51))
    drop.close()
    where = {"host": proxy.host, "port": proxy.port, "tls": "none"}
    stage = Stage(ImapDrop, {**where, "user": "ann", "password": "secret"}, tmp_path)
    again = stage.make().login(Credentials("ann", checked=True))
    assert [got(again, index) for index in (38, 39)] == [message(38), message(39)]
    for index in range(40, 50):
        at_hand(again, index)
    assert asked(server) == 50
    assert got(again, 50) == message(50, AHEAD + 1000)
    again.close()
    stage.halt.set()


def test_one_that_is_gone_is_missed_alone(drop: OpenImap, server: ImapServer) -> None:
    number = asked(server) + 3
    with server.lock:
        folder = server.folder("ann")
        folder.messages = [each for each in folder.messages if each.uid != number + 1]
    assert drop._session is not None
    drop._session.noop().wait()  # where this server tells of it
    for index in range(2, number):
        assert drop.wire(key(drop, index)) or got(drop, index) == message(index)
    assert drop.wire(key(drop, number)) is None
    with pytest.raises(GoneError):
        drop.read(key(drop, number))
    for index in range(number + 1, 50):
        assert drop.wire(key(drop, index)) or got(drop, index) == message(index)


def test_a_connection_that_is_lost_takes_nothing_along(drop: OpenImap, proxy: Proxy) -> None:
    at_hand(drop, 2)
    proxy.drop()
    for index in range(3, 50):
        found = drop.wire(key(drop, index))
        whole = b"+OK message follows\r\n" + stuff(message(index)) + b".\r\n"
        assert found == whole if found else got(drop, index) == message(index)
    assert proxy.connections == 2


def test_what_the_server_puts_off_with_others_can_be_had_alone_later(
    server: ImapServer, tmp_path: Path
) -> None:
    for number in range(9):
        server.deliver("ann", message(number))
    server.faults = Faults(answers={"UID FETCH 2:": b"<tag> NO [UNAVAILABLE] later\r\n"})
    where = {"host": server.host, "port": server.port, "tls": "none"}
    stage = Stage(ImapDrop, {**where, "user": "ann", "password": "secret"}, tmp_path)
    drop = stage.make().login(Credentials("ann", checked=True))
    assert got(drop, 0) == message(0)
    with pytest.raises(UnavailableError, match="later"):
        got(drop, 1)
    assert [got(drop, index) for index in (1, 2)] == [message(1), message(2)]
    drop.close()
    stage.halt.set()
