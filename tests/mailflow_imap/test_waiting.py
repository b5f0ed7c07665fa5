"""How the IMAP fetcher hears of new mail between two visits."""

from __future__ import annotations

import pytest

from mailflow.errors import UnavailableError
from mailflow.query import Query
from mailflow.testing.imap import CAPABILITIES, ImapServer
from mailflow.testing.imap_link import Faults
from mailflow_imap import fetcher as module

from .conftest import MAIL, SECRET, Make, message, modseq, visit


def test_a_wait_without_idle_keeps_no_connection(server: ImapServer, make: Make) -> None:
    with make(idle=False) as fetcher:
        assert not fetcher.wait(0.01)
    assert server.connections == 0


def test_where_the_server_cannot_tell_no_connection_is_kept(fetcher_of: Make) -> None:
    poor = [each for each in CAPABILITIES if each != "IDLE"]
    server = ImapServer({"red": SECRET}, {"red": MAIL}, capabilities=poor)
    with server, fetcher_of(server) as fetcher:
        assert not fetcher.wait(0.01)
        assert fetcher._session is None  # nothing else tells


def test_folders_that_are_not_open_are_asked_for_while_one_is_waited_for(
    server: ImapServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND", 0.05)
    server.deliver("red", MAIL[0], "Lists")
    fetcher = make(folders=["INBOX", "Lists"])
    mark = ""
    with fetcher:
        list(fetcher.listing(Query.always))
        mark = fetcher.mark
    with fetcher:
        assert not fetcher.wait(0.2)
        server.deliver("red", MAIL[1], "Lists")
        assert fetcher.wait(10)
        assert [item.folder for item in fetcher.listing(Query.always, mark)] == ["Lists"]


def test_what_was_told_once_is_no_news_again(server: ImapServer, make: Make) -> None:
    """A folder that cannot be listed must not keep us busy."""
    fetcher = make()
    visit(fetcher)
    server.deliver("red", message(6))
    with fetcher:
        assert fetcher.wait(10)
        assert not fetcher.wait(0.01)


def test_a_flag_that_changes_is_news_where_it_is_asked_for(server: ImapServer, make: Make) -> None:
    fetcher = make()
    visit(fetcher, where="flagged")
    change = b"* 1 FETCH (FLAGS (\\Flagged) UID 1)\r\n"
    server.faults = Faults(before={"IDLE": change})
    with fetcher:
        assert fetcher.wait(10)
    other = make()
    visit(other)
    with other:
        assert not other.wait(0.1)


def test_a_flag_that_has_changed_before_the_wait_is_news(server: ImapServer, make: Make) -> None:
    fetcher = make()
    server.faults = Faults(before=modseq(700))
    visit(fetcher, where="flagged")
    with fetcher:
        assert not fetcher.wait(0.01)
    server.faults = Faults(before=modseq(701))
    with fetcher:
        assert fetcher.wait(0.01)


def test_a_connection_that_is_lost_after_a_long_wait_is_worth_a_look(
    server: ImapServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else mail that comes after each restart of a server would lie there for a minute."""
    monkeypatch.setattr(module, "BACKSTOP", 0.1)
    monkeypatch.setattr(module, "LASTED", 0.05)
    fetcher = make(timeout="1s")
    visit(fetcher)
    before = server.connections
    server.faults = Faults(answers={"IDLE": b"+ idling\r\n"})
    with fetcher:
        assert fetcher.wait(20)
        server.faults = Faults()
        assert not fetcher.wait(0.2)  # by a connection that works
    assert server.connections == before + 2


def test_a_silent_server_ends_the_wait_with_an_error(
    server: ImapServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKSTOP", 0.1)
    fetcher = make(timeout="1s")
    visit(fetcher)
    server.faults = Faults(answers={"IDLE": b"+ idling\r\n"})
    with pytest.raises(UnavailableError, match="silent"), fetcher:
        fetcher.wait(20)
