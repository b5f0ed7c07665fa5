"""Opening a mailbox as a database: the URL, the connections, the folders as tables."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

import mailflow
from mailflow.errors import (
    ConfigError,
    UnavailableError,
)
from mailflow.mailboxes import Database
from mailflow.mailboxes.opening import Account
from mailflow.net import Wire

from .user import SECRET, User, post, sent

pytestmark = pytest.mark.interop("dovecot-imapd")


class TestOpening:
    def test_dal_01_a_url_names_the_server_the_user_and_the_protection(self, user: User) -> None:
        user.deliver(post())
        trust = f"ca_file={user.dovecot.ca_file}&timeout=20s"
        for url in (
            f"imaps://{user.name}@localhost:{user.dovecot.imaps_port}?{trust}",
            f"imap://{user.name}@localhost:{user.dovecot.imap_port}?{trust}",
        ):
            with mailflow.mailbox(url, password=SECRET) as box:
                assert box.folder("INBOX")().count() == 1

    def test_dal_01_imap_is_starttls_and_imaps_is_tls_from_the_first_octet(self) -> None:
        found = {
            scheme: Account.find(f"{scheme}://ann@imap.example.org", password=SECRET).options
            for scheme in ("imap", "imaps")
        }
        assert {scheme: (each.protection, each.number) for scheme, each in found.items()} == {
            "imap": ("starttls", 143),
            "imaps": ("implicit", 993),
        }

    def test_dal_01_a_password_in_a_url_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(ConfigError, match="a password in a URL is seen by others") as caught:
            mailflow.mailbox(f"imaps://ann:{SECRET}@imap.example.org")
        assert SECRET not in caught.value.text

    def test_dal_01_a_token_takes_the_place_of_the_password(self, tmp_path: Path) -> None:
        file = tmp_path / "x.toml"
        file.write_text(
            '[account.work]\nuse = "imap"\nhost = "imap.example.org"\nuser = "ann"\n'
            'token = { command = ["oauth-token", "work"] }\n'
        )
        options = Account.find("work", file=str(file)).options
        assert options.ways == ("oauthbearer", "xoauth2")

    def test_dal_03_an_ipv6_host_stands_in_brackets(self) -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            server.settimeout(20)
            port = server.getsockname()[1]

            def greet() -> None:
                with server.accept()[0] as client:
                    client.sendall(b"* BYE come back\r\n")

            thread = threading.Thread(target=greet)
            thread.start()
            try:
                url = f"imap://ann@[::1]:{port}?tls=none"
                with (
                    pytest.raises(UnavailableError, match="come back"),
                    mailflow.mailbox(url, password=SECRET) as box,
                ):
                    box.folders()
            finally:
                thread.join()


class TestPool:
    def test_dal_02_a_connection_that_has_died_is_replaced(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user.deliver(post())
        wires: list[Wire] = []
        connect = Wire.connect

        def connected(*words: object, **named: object) -> Wire:
            wires.append(connect(*words, **named))  # type: ignore[arg-type]
            return wires[-1]

        monkeypatch.setattr(Wire, "connect", connected)
        with user.open() as box:
            inbox = box.folder("INBOX")
            assert inbox().count() == inbox().count() == 1
            assert len(wires) == 1, "a connection that works is used again"
            wires[0]._sock.shutdown(socket.SHUT_RDWR)
            assert inbox().count() == 1
            assert len(wires) == 2

    def test_dal_02_no_more_connections_are_kept_than_are_wanted(
        self, user: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user.deliver(post())
        made: list[object] = []
        connect = Wire.connect

        def connected(*words: object, **named: object) -> Wire:
            made.append(1)
            return connect(*words, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Wire, "connect", connected)
        with user.open("&pool=3") as box:
            inbox = box.folder("INBOX")
            threads = [threading.Thread(target=lambda: inbox().count()) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert 1 <= len(made) <= 3

    def test_a_selection_needs_no_connection_while_its_rows_are_looked_at(self, user: User) -> None:
        user.deliver(*(post(f"{number}") for number in range(5)))
        with user.open("&pool=1") as box:
            inbox = box.folder("INBOX")
            assert [inbox().count() for _ in inbox().select("email")] == [5] * 5


class TestTables:
    def test_dal_04_each_folder_that_can_be_opened_is_a_table(
        self, user: User, box: Database
    ) -> None:
        program = user.program()
        for folder in ("Lists.Red", '"Entw&APw-rfe 2"', "9.lives"):
            assert program.create(folder)[0] == "OK"
        program.logout()
        tables = box.define_tables()
        assert {"inbox": "INBOX", "lists_red": "Lists.Red", "entwürfe_2": "Entwürfe 2"}.items() <= (
            tables.items()
        )
        assert tables["_9_lives"] == "9.lives"
        assert "Lists" not in tables.values(), r"\Noselect"

    def test_dal_04_no_two_folders_have_one_name(self, user: User, box: Database) -> None:
        program = user.program()
        program.create("a-b")
        program.create("a_b")
        program.logout()
        folders = box.mailboxes
        assert {folders["a_b"], folders["a_b_2"]} == {"a-b", "a_b"}

    def test_dal_05_tables_that_are_named_once_for_all_need_no_list(
        self, user: User, said: list[str]
    ) -> None:
        user.deliver(post())
        with user.open(tables={"post": "INBOX"}) as box:
            assert box.mailboxes == {"post": "INBOX"}
            assert box.post().count() == 1
            assert box.define_tables({"trash": "Trash"}) == {"trash": "Trash"}
            assert box.tables == ["trash"]
        assert sent(said, "LIST") == []

    def test_dal_06_a_table_knows_its_folder_and_the_box_its_tables(self, box: Database) -> None:
        assert box.inbox.mailbox == box["INBOX"].mailbox == box.INBOX.mailbox == "INBOX"
        assert box.mailboxes["sent"] == "Sent"
        assert "inbox" in box.tables
        assert [table.mailbox for table in box] == list(box.mailboxes.values())
        with pytest.raises(AttributeError, match="nowhere"):
            box.nowhere  # noqa: B018
        with pytest.raises(KeyError):
            box["nowhere"]
