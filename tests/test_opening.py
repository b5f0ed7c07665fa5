"""`mailflow.open`: a mailbox in a program's own hands."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import mailflow
from mailflow.mail import read
from mailflow.testing.pop3 import Pop3Server

MAILS = [f"Subject: {n}\r\nMessage-ID: <{n}@x>\r\n\r\n{n}\r\n".encode() for n in ("a", "bb")]


@pytest.fixture
def server() -> Iterator[Pop3Server]:
    with Pop3Server({"red": "secret"}, {"red": MAILS}) as server:
        yield server


def url(server: Pop3Server) -> str:
    return f"pop3://red@127.0.0.1:{server.port}?tls=none"


def test_it_is_iterated_over_and_nothing_is_changed(server: Pop3Server) -> None:
    with mailflow.open(url(server), password="secret") as box:
        assert [read(message.content) for message in box] == MAILS
        assert box.missed == []
        assert box.source == "red@127.0.0.1"
    assert len(server.messages("red")) == 2


def test_what_is_settled_is_deleted_when_it_is_left_in_order(server: Pop3Server) -> None:
    with mailflow.open(url(server), password="secret") as box:
        first, second = box.listing()
        for _ in box.retrieve([first.key]):
            box.settle(first.key)
    assert len(server.messages("red")) == 1
    assert second.size == len(MAILS[1])


def test_an_error_of_the_program_deletes_nothing(server: Pop3Server) -> None:
    def work() -> None:
        with mailflow.open(url(server), password="secret") as box:
            for message in box:
                box.settle(message.key)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert len(server.messages("red")) == 2


def test_a_listing_is_narrowed_by_what_it_says(server: Pop3Server) -> None:
    with mailflow.open(url(server), password="secret") as box:
        (found,) = box.listing(f"size > {len(MAILS[0])}")
        assert found.size == len(MAILS[1])
        (header,) = box.heads([found.key])
        assert b"Subject: bb" in read(header.content)


def test_a_wrong_password_is_a_login_error(server: Pop3Server) -> None:
    box = mailflow.open(url(server), password="wrong")
    with pytest.raises(mailflow.LoginError), box:
        box.listing()


def test_a_wrong_url_is_a_config_error_at_once() -> None:
    with pytest.raises(mailflow.ConfigError, match="no source has such URLs"):
        mailflow.open("pigeonpost://york")


def test_its_scratch_is_gone_afterwards(
    server: Pop3Server, tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.fspath(tmp_path))
    with mailflow.open(url(server), password="secret"):
        assert os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []
