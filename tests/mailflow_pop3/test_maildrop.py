"""The live maildrop over POP3: what old clients see of another server, whatever becomes of it."""

from __future__ import annotations

import poplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.accounts import Account, Accounts, Pace
from mailflow.errors import ConfigError, GoneError, InUseError, LoginError, UnavailableError
from mailflow.kinds import Credentials
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage
from mailflow.testing.corpus import Large
from mailflow.testing.gateway import Gateway
from mailflow.testing.pop3 import Faults, Pop3Server
from mailflow.testing.proxy import Proxy
from mailflow_pop3.maildrop import Pop3Drop, Pop3DropOptions

PASSWORD = "there"
ANN = Credentials("ann", checked=True)
AT_ONCE = Pace(first=0.0, most=0.0, address=10_000, account=10_000)


def message(text: str) -> bytes:
    return f"Subject: {text}\r\n\r\n{text}\r\n".encode()


@pytest.fixture
def server() -> Iterator[Pop3Server]:
    with Pop3Server({"ann": PASSWORD}) as server:
        for text in ("one", "two", "three"):
            server.deliver("ann", message(text))
        yield server


@pytest.fixture
def proxy(server: Pop3Server) -> Iterator[Proxy]:
    with Proxy((server.host, server.port)) as proxy:
        yield proxy


@pytest.fixture
def stage(proxy: Proxy, tmp_path: Path) -> Iterator[Stage]:
    table = {"host": proxy.host, "port": proxy.port, "tls": "none", "password": PASSWORD}
    stage = Stage(Pop3Drop, table, tmp_path)
    yield stage
    stage.halt.close()


def texts(drop: Any) -> list[bytes]:
    return [read(drop.read(item.key)) for item in drop.items()]


def test_the_password_of_a_client_is_that_of_the_server(stage: Stage) -> None:
    del stage.table["password"]  # type: ignore[attr-defined]
    maildrop = stage.make()
    account = Account("*", maildrop, login="passthrough")
    with Gateway({}) as gateway:
        gateway.service_host.accounts = Accounts([account], pace=AT_ONCE)
        for password, welcome in ((PASSWORD, True), ("wrong", False)):
            client = poplib.POP3(gateway.host, gateway.port)
            client.user("ann")
            if welcome:
                client.pass_(password)
                assert client.retr(2)[1] == [b"Subject: two", b"", b"two"]
                client.quit()
            else:
                with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
                    client.pass_(password)
                client.close()


def test_without_a_password_of_the_server_nobody_is_let_in(stage: Stage) -> None:
    del stage.table["password"]  # type: ignore[attr-defined]
    with pytest.raises(LoginError, match='or login = "passthrough"'):
        stage.make().login(ANN)


def test_only_ways_that_a_password_goes_with_are_tried_with_one() -> None:
    options = Pop3DropOptions.read({"host": "h", "auth": ["apop", "xoauth2"]})
    assert options.ways_of(by_token=False) == ["apop"]
    assert options.ways_of(by_token=True) == ["xoauth2"]
    plain = Pop3DropOptions.read({"host": "h"})
    assert plain.ways_of(by_token=True) == ("oauthbearer", "xoauth2")


def test_one_thing_to_log_in_with_is_enough() -> None:
    with pytest.raises(ConfigError, match="token: a `password` is given too"):
        Pop3DropOptions.read({"host": "h", "password": "a", "token": "b"})


def test_nothing_is_deleted_there_before_the_end(server: Pop3Server, stage: Stage) -> None:
    drop = stage.make().login(ANN)
    keys = [item.key for item in drop.items()]
    assert texts(drop) == list(map(message, ("one", "two", "three")))
    assert not any(line.startswith("DELE") for line in server.commands)
    drop.close(keys[:2])
    assert server.messages("ann") == [message("three")]


def test_a_mailbox_is_the_same_one_whether_its_usual_port_is_named_or_not(
    proxy: Proxy, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pop3DropOptions, "ports", {"none": proxy.port})
    drop = stage.make().login(ANN)
    del stage.table["port"]  # type: ignore[attr-defined]
    with pytest.raises(InUseError, match=r"\Aanother session has"):  # the server says more
        stage.make().login(ANN)
    drop.close()


def test_top_asks_for_no_more_than_that(server: Pop3Server, stage: Stage) -> None:
    server.deliver("ann", b"".join(Large(2 << 20).pieces()))
    drop = stage.make().login(ANN)
    assert read(drop.top(drop.items()[3].key, 2)).count(b"\n") < 30
    assert "TOP 4 2" in server.commands
    assert not any(line.startswith("RETR") for line in server.commands)
    drop.close()


def test_a_server_without_top_gives_the_message(server: Pop3Server, stage: Stage) -> None:
    server.faults = Faults(answers={"TOP": b"-ERR what?\r\n"})
    drop = stage.make().login(ANN)
    assert read(drop.top(drop.items()[0].key, 0)) == message("one")
    drop.close()


def test_a_large_message_is_passed_on_while_it_comes(
    server: Pop3Server, proxy: Proxy, stage: Stage
) -> None:
    octets = b"".join(Large(32 << 20).pieces())
    server.deliver("ann", octets)
    proxy.bound = 1 << 16
    drop = stage.make().login(ANN)
    content = drop.read(drop.items()[3].key)
    with content.open() as file:
        begin = file.read(1000)
        assert proxy.to_client < 24 << 20
        assert begin + file.read() == octets
    assert content.size == len(octets)
    drop.close()


def test_a_message_that_nobody_reads_to_its_end_harms_no_other(
    server: Pop3Server, stage: Stage
) -> None:
    server.deliver("ann", b"".join(Large(2 << 20).pieces()))
    drop = stage.make().login(ANN)
    keys = [item.key for item in drop.items()]
    with drop.read(keys[3]).open() as file:
        file.read(10)
    assert read(drop.read(keys[0])) == message("one")
    drop.close(keys[3:])
    assert len(server.messages("ann")) == 3


def test_a_message_that_is_cut_off_is_not_whole(
    server: Pop3Server, proxy: Proxy, stage: Stage
) -> None:
    server.deliver("ann", b"".join(Large(32 << 20).pieces()))
    proxy.bound = 1 << 16
    drop = stage.make().login(ANN)
    with drop.read(drop.items()[3].key).open() as file:
        file.read(1000)
        proxy.drop()
        with pytest.raises(UnavailableError):
            file.read()
    assert read(drop.read(drop.items()[0].key)) == message("one"), "on another connection"
    drop.close()


def test_a_connection_that_is_lost_is_opened_again_and_uidls_are_found(
    server: Pop3Server, proxy: Proxy, stage: Stage
) -> None:
    """Numbers there are others then, and the right messages are deleted all the same."""
    drop = stage.make().login(ANN)
    keys = [item.key for item in drop.items()]
    proxy.drop()
    box = server.mailbox("ann")
    del box.messages[0]
    assert read(drop.read(keys[2])) == message("three")
    with pytest.raises(GoneError):
        drop.read(keys[0])
    proxy.drop()
    drop.close([keys[0], keys[1]])
    assert server.messages("ann") == [message("three")]


def test_a_quit_whose_answer_is_lost_is_said_again(
    server: Pop3Server, proxy: Proxy, stage: Stage
) -> None:
    """F13: what is gone by then is not missed, and nothing else goes."""
    drop = stage.make().login(ANN)
    keys = [item.key for item in drop.items()]
    (session,) = server.links
    session.faults = Faults(cut_before=["QUIT"])
    drop.close([keys[1]])
    assert server.messages("ann") == [message("one"), message("three")]


def test_what_the_server_has_no_more_need_not_be_deleted_there(
    server: Pop3Server, stage: Stage
) -> None:
    server.faults = Faults(answers={"RETR 2": b"-ERR gone\r\n", "DELE 2": b"-ERR gone\r\n"})
    drop = stage.make().login(ANN)
    keys = [item.key for item in drop.items()]
    with pytest.raises(GoneError):
        drop.read(keys[1])
    drop.close(keys)
    assert server.messages("ann") == [message("two")]


def test_what_the_server_does_not_delete_is_told(server: Pop3Server, stage: Stage) -> None:
    server.faults = Faults(answers={"DELE 2": b"-ERR not this one\r\n"})
    drop = stage.make().login(ANN)
    with pytest.raises(UnavailableError, match="does not delete 1 message: not this one"):
        drop.close([item.key for item in drop.items()])
    assert server.messages("ann") == [message("two")]


def test_a_quit_that_is_refused_is_told(server: Pop3Server, stage: Stage) -> None:
    server.faults = Faults(answers={"QUIT": b"-ERR [SYS/TEMP] some not removed\r\n"})
    drop = stage.make().login(ANN)
    with pytest.raises(UnavailableError, match="some not removed"):
        drop.close([drop.items()[0].key])


def test_f06_messages_with_one_unique_id_have_their_own_here(
    server: Pop3Server, stage: Stage
) -> None:
    for text in ("four", "five"):
        server.deliver("ann", message(text), uidl="x" * 70)
    found = []
    for _ in range(2):
        drop = stage.make().login(ANN)
        found.append([item.key for item in drop.items()])
        assert texts(drop)[3:] == [message("four"), message("five")]
        drop.close()
    assert found[0] == found[1]
    assert len({*found[0]}) == 5
    assert all(len(key) <= 70 for key in found[0])


def test_f05_a_size_is_exact_once_the_message_was_read(server: Pop3Server, stage: Stage) -> None:
    server.faults = Faults(size_error=5)
    right = [len(message(text)) for text in ("one", "two", "three")]
    for wanted in ([size + 5 for size in right], right):
        drop = stage.make().login(ANN)
        assert [item.size for item in drop.items()] == wanted
        texts(drop)
        drop.close()
