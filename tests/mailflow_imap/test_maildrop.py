"""The live maildrop over IMAP, through the POP3 server and by itself, with Dovecot behind it."""

from __future__ import annotations

import os
import poplib
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from imapclient import IMAPClient

from mailflow.errors import ConfigError, GoneError, LoginError, RefusedError, UnavailableError
from mailflow.kinds import Credentials
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage
from mailflow.testing.corpus import Large
from mailflow.testing.dovecot import Dovecot
from mailflow.testing.gateway import Clients
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import Faults
from mailflow.testing.proxy import Proxy
from mailflow_imap.live import ImapDropOptions
from mailflow_imap.maildrop import ImapDrop

pytestmark = pytest.mark.interop("dovecot-imapd", "dovecot-pop3d")

PASSWORD = "there"
ANN = Credentials("ann", checked=True)


def message(text: str) -> bytes:
    return f"Subject: {text}\r\n\r\n{text}\r\n".encode()


@pytest.fixture(scope="module")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(tmp_path_factory.mktemp("dovecot"), imap=True) as dovecot:
        yield dovecot


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    with Dovecot(
        tmp_path_factory.mktemp("bare"), imap=True, without=["UIDPLUS", "MOVE"]
    ) as dovecot:
        yield dovecot


class Place:
    """A mailbox of a Dovecot, reached through `proxy`, and maildrops that serve it."""

    def __init__(self, dovecot: Dovecot, proxy: Proxy, home: Path) -> None:
        self.dovecot = dovecot
        self.proxy = proxy
        self.user = f"u{os.urandom(6).hex()}"
        dovecot.add_user(self.user, PASSWORD)
        self._home = home
        self._stages: list[Stage] = []

    def put(self, *texts: str, folder: str = "INBOX") -> None:
        self.dovecot.deliver(self.user, *map(message, texts), folder=folder)

    def stage(self, **options: object) -> Stage:
        table = {
            "host": self.proxy.host, "port": self.proxy.port, "tls": "none", "user": self.user,
            "password": PASSWORD, **options,
        }  # fmt: skip
        made = Stage(ImapDrop, {k: v for k, v in table.items() if v is not None}, self._home)
        self._stages.append(made)
        return made

    def maildrop(self, **options: object) -> ImapDrop:
        made: ImapDrop = self.stage(**options).make()
        return made

    def imap(self) -> IMAPClient:
        """Another client."""
        client = IMAPClient(self.dovecot.host, self.dovecot.imap_port, ssl=False)
        client.login(self.user, PASSWORD)
        return client

    def flags(self, folder: str = "INBOX") -> list[set[bytes]]:
        with self.imap() as client:
            client.select_folder(folder, readonly=True)
            uids = client.search()
            found = client.fetch(uids, ["FLAGS"]) if uids else {}
            return [{*each[b"FLAGS"]} - {b"\\Recent"} for each in found.values()]

    def close(self) -> None:
        for stage in self._stages:
            stage.halt.set()


@pytest.fixture
def place(dovecot: Dovecot, tmp_path: Path) -> Iterator[Place]:
    with Proxy((dovecot.host, dovecot.imap_port)) as proxy:
        made = Place(dovecot, proxy, tmp_path)
        yield made
        made.close()


def texts(drop: Any) -> list[str]:
    return [
        read(drop.read(item.key)).decode().rpartition("\r\n\r\n")[2][:-2] for item in drop.items()
    ]


@pytest.fixture
def serve() -> Iterator[Clients]:
    with Clients() as clients:
        yield clients


def log_in(client: poplib.POP3, name: str = "ann", password: str = "secret") -> poplib.POP3:
    client.user(name)
    client.pass_(password)
    return client


# Who is let in


def test_p3s_08_user_and_pass_are_those_of_the_imap_server(place: Place, serve: Clients) -> None:
    place.put("hello")
    maildrop = place.maildrop(user=None, password=None)
    client = log_in(serve(maildrop, "*", passthrough=True), place.user, PASSWORD)
    assert client.retr(1)[1] == [b"Subject: hello", b"", b"hello"]
    client.quit()


def test_p3s_08_a_password_that_is_wrong_there_is_wrong_here(place: Place, serve: Clients) -> None:
    """Also while a connection of the right one is kept."""
    maildrop = place.maildrop(user=None, password=None)
    log_in(serve(maildrop, "*", passthrough=True), place.user, PASSWORD).quit()
    again = serve.again()
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\] no such login name"):
        log_in(again, place.user, "wrong")
    assert place.proxy.connections == 2


def test_p3s_08_the_port_is_143_and_the_time_out_what_the_file_says() -> None:
    options = ImapDropOptions.read({"host": "imap.example.org", "tls": "starttls", "timeout": "5s"})
    assert (options.number, options.timeout) == (143, 5.0)


def test_p3s_08_a_part_of_the_name_may_be_the_user_there(place: Place) -> None:
    place.put("hello")
    maildrop = place.maildrop(user="{user}")
    drop = maildrop.login(Credentials(f"{place.user}@example.org", checked=True))
    assert texts(drop) == ["hello"]
    drop.close()


def test_p3s_08_a_bearer_token_goes_through_to_the_server(tmp_path: Path) -> None:
    with ImapServer({}, tokens={"ann": "token-1"}) as server:
        server.deliver("ann", message("hello"))
        table = {"host": server.host, "port": server.port, "tls": "none"}
        stage = Stage(ImapDrop, table, tmp_path)
        drop = stage.make().login(Credentials("ann", token="token-1"))
        assert texts(drop) == ["hello"]
        drop.close()
        with pytest.raises(LoginError):
            stage.make().login(Credentials("ann", token="token-2"))
        assert "token-1" not in stage.said
        stage.halt.set()


def test_p3s_09_tls_comes_first_and_the_certificate_is_checked(
    dovecot: Dovecot, place: Place
) -> None:
    place.put("hello")
    secure: dict[str, object] = {"port": dovecot.imaps_port, "tls": "implicit", "host": "localhost"}
    drop = place.maildrop(**secure, ca_file=dovecot.ca_file).login(ANN)
    assert texts(drop) == ["hello"]
    drop.close()
    with pytest.raises(LoginError, match=r"certificate of .* is refused"):
        place.maildrop(**secure).login(ANN)


def test_p3s_09_elsewhere_it_is_on_unless_the_file_says_otherwise() -> None:
    options = ImapDropOptions.read({"host": "imap.example.org"})
    assert (options.protection, options.number) == ("implicit", 993)


def test_a_server_that_asks_for_no_password_lets_nobody_through(
    place: Place, tmp_path: Path
) -> None:
    script = tmp_path / "preauth"
    script.write_text(
        "#!/bin/sh\nprintf '* PREAUTH [CAPABILITY IMAP4rev1] hello\\r\\n'\ncat >/dev/null\n"
    )
    script.chmod(0o700)
    maildrop = place.maildrop(user=None, password=None, port=None, command=[str(script)])
    with pytest.raises(LoginError, match="asks nobody for a password"):
        maildrop.login(Credentials("ann", password="anything"))


def test_without_a_password_of_the_server_nobody_is_let_in(place: Place) -> None:
    with pytest.raises(LoginError, match='set a `password`, or login = "passthrough"'):
        place.maildrop(password=None).login(ANN)


@pytest.mark.parametrize("password", ["", "a\r\nb", "a\0b"])
def test_a_password_that_cannot_be_sent_is_wrong(place: Place, password: str) -> None:
    maildrop = place.maildrop(user=None, password=None)
    with pytest.raises(LoginError):
        maildrop.login(Credentials(place.user, password=password))
    assert place.proxy.connections == 0


# Which folders


def test_p3s_10_folders_are_served_one_behind_the_other(place: Place) -> None:
    place.put("one", "two")
    place.put("three", folder="Bücher/Ä & Ö")
    place.put("not this", folder="Other")
    maildrop = place.maildrop(folders=["INBOX", place.dovecot.folder("Bücher/*")])
    drop = maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    assert texts(drop) == ["one", "two", "three"]
    assert len({*keys}) == 3
    assert [len(key) for key in keys] == [16, 16, 24], "a mark of the folder"
    drop.close([keys[0], keys[2]])
    assert place.dovecot.messages(place.user) == [message("two")]
    assert place.dovecot.messages(place.user, "Bücher/Ä & Ö") == []
    drop = maildrop.login(ANN)
    assert [item.key for item in drop.items()] == [keys[1]]
    drop.close()


def test_p3s_10_another_folder_than_inbox_can_be_chosen(place: Place) -> None:
    place.put("one")
    place.put("two", folder="Junk")
    drop = place.maildrop(folders="\\Junk").login(ANN)
    assert texts(drop) == ["two"]
    drop.close()


def test_p3s_10_a_folder_that_is_not_there_is_told(place: Place) -> None:
    with pytest.raises(RefusedError, match="'Nowhere'"):
        place.maildrop(folders=["INBOX", "Nowhere"]).login(ANN)
    drop = place.maildrop().login(ANN)
    drop.close()


# What is deleted


def test_p3s_11_dele_marks_here_alone_and_quit_removes(place: Place, serve: Clients) -> None:
    place.put("one", "two", "three")
    client = log_in(serve(place.maildrop()))
    client.dele(1)
    client.dele(2)
    assert place.flags() == [set(), set(), set()]
    client.rset()
    client.dele(2)
    client.quit()
    assert place.dovecot.messages(place.user) == [message("one"), message("three")]
    assert place.flags() == [set(), set()]


def test_p3s_11_a_connection_that_is_lost_removes_nothing(place: Place, serve: Clients) -> None:
    place.put("one")
    client = log_in(serve(place.maildrop()))
    client.dele(1)
    client.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # until the server has seen it
        again = serve.again()
        with suppress(poplib.error_proto):
            assert log_in(again).stat()[0] == 1
            return
    raise AssertionError("it stays locked")


def test_p3s_11_without_uidplus_what_others_have_marked_stays(
    bare: Dovecot, tmp_path: Path
) -> None:
    with Proxy((bare.host, bare.imap_port)) as proxy:
        place = Place(bare, proxy, tmp_path)
        place.put("one", "two", "three")
        with place.imap() as other:
            other.select_folder("INBOX")
            other.add_flags([1], [b"\\Deleted"])
        stage = place.stage()
        drop = stage.make().login(ANN)
        assert texts(drop) == ["two", "three"]
        drop.close([drop.items()[0].key])
        assert place.flags() == [{b"\\Deleted"}, {b"\\Deleted", b"\\Seen"}, set()]
        assert "it has no UIDPLUS" in stage.said
        drop = stage.make().login(ANN)
        assert texts(drop) == ["three"]
        drop.close()
        place.close()


def test_what_is_deleted_may_go_to_a_folder(place: Place) -> None:
    place.put("one", "two")
    maildrop = place.maildrop(trash="\\Trash")
    drop = maildrop.login(ANN)
    drop.close([drop.items()[0].key])
    assert place.dovecot.messages(place.user) == [message("two")]
    assert place.dovecot.messages(place.user, "Trash") == [message("one")]


def test_without_move_what_is_deleted_is_copied_first(bare: Dovecot, tmp_path: Path) -> None:
    with Proxy((bare.host, bare.imap_port)) as proxy:
        place = Place(bare, proxy, tmp_path)
        place.put("one")
        drop = place.maildrop(trash="Gone").login(ANN)
        drop.close([drop.items()[0].key])
        assert place.dovecot.messages(place.user, "Gone") == [message("one")]
        assert place.flags() == [{b"\\Deleted", b"\\Seen"}]
        place.close()


def test_a_folder_that_was_made_anew_loses_nothing(place: Place) -> None:
    """F14: its UIDs may be those of other messages."""
    place.put("one", "two", folder="Box")
    drop = place.maildrop(folders="Box", reuse="0s").login(ANN)
    keys = [item.key for item in drop.items()]
    place.proxy.drop()
    with place.imap() as other:
        other.delete_folder("Box")
        other.create_folder("Box")
        for text in ("three", "four"):
            other.append("Box", message(text))
    with pytest.raises(GoneError):
        drop.read(keys[0])
    with pytest.raises(UnavailableError, match="made anew"):
        drop.close(keys)
    there = [octets.replace(b"\n", b"\r\n") for octets in place.dovecot.messages(place.user, "Box")]
    assert there == [message("three"), message("four")]


def test_a_folder_that_cannot_be_changed_says_so(tmp_path: Path) -> None:
    with ImapServer({"ann": PASSWORD}, {"ann": [message("one")]}) as server:
        server.faults = Faults(
            answers={"SELECT": lambda right: right.replace(b"[READ-WRITE]", b"[READ-ONLY]")}
        )
        table = {"host": server.host, "port": server.port, "tls": "none", "password": PASSWORD}
        stage = Stage(ImapDrop, table, tmp_path)
        drop = stage.make().login(ANN)
        with pytest.raises(UnavailableError, match="cannot be changed"):
            drop.close([drop.items()[0].key])
        assert server.messages("ann") == [message("one")]
        stage.halt.set()


def test_what_was_read_is_seen_where_that_is_wanted(place: Place) -> None:
    place.put("one", "two")
    for seen, flags in ((False, [set(), set()]), (True, [{b"\\Seen"}, set()])):
        drop = place.maildrop(seen=seen).login(ANN)
        read(drop.read(drop.items()[0].key))
        drop.close()
        assert place.flags() == flags


# How messages are called


def test_p3s_12_uidls_are_those_of_dovecot(place: Place) -> None:
    place.put("one", "two")
    theirs = poplib.POP3(place.dovecot.host, place.dovecot.pop3_port)
    log_in(theirs, place.user, PASSWORD)
    wanted = [line.split()[1].decode() for line in theirs.uidl()[1]]
    theirs.quit()
    drop = place.maildrop().login(ANN)
    assert [item.key for item in drop.items()] == wanted
    drop.close()


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("%v-%u", "{validity}-{uid}"),
        ("%v.%u", "{validity}.{uid}"),
        ("%08Xv%08Xu", "{validity:08x}{uid:08x}"),
        ("%u%%%v", "{uid}%{validity}"),
    ],
)
def test_p3s_12_the_format_can_be_chosen(place: Place, form: str, wanted: str) -> None:
    place.put("one", "two")
    drop = place.maildrop(uidl=form).login(ANN)
    with place.imap() as other:
        validity = other.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"]
    assert [item.key for item in drop.items()] == [
        wanted.format(uid=uid, validity=validity) for uid in (1, 2)
    ]
    drop.close()


def test_p3s_12_an_md5_is_of_what_never_changes(place: Place) -> None:
    """Of equal messages, too, each has its own; and it stays when flags change."""
    place.put("one", "one")
    maildrop = place.maildrop(uidl="%m", reuse="0s")
    found = []
    for _ in range(2):
        drop = maildrop.login(ANN)
        found.append([item.key for item in drop.items()])
        drop.close()
        with place.imap() as other:
            other.select_folder("INBOX")
            other.add_flags([1, 2], [b"\\Flagged"])
    assert found[0] == found[1]
    assert len({*found[0]}) == 2
    assert {len(key) for key in found[0]} == {32}


@pytest.mark.parametrize("form", ["%u", "%v", "x", "%q", "%u %v", "%0999u%v", 7])
def test_p3s_12_a_format_that_would_use_a_uidl_again_is_none(form: object) -> None:
    with pytest.raises(ConfigError, match="uidl"):
        ImapDropOptions.read({"host": "imap.example.org", "uidl": form})


def test_p3s_12_of_several_folders_the_format_tells_which(tmp_path: Path) -> None:
    table = {"host": "imap.example.org", "folders": ["INBOX", "Sent"], "uidl": "%v.%u"}
    with pytest.raises(ConfigError, match="uidl: expected %h or %m in it"):
        ImapDropOptions.read(table)
    ImapDropOptions.read({**table, "uidl": "%v.%u.%h"})


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"password": "a", "token": "b"}, "token: a `password` is given too"),
        ({"folders": ["!INBOX"]}, "folders: expected at least one folder"),
        ({"folders": ["*"], "trash": "Trash"}, "trash: Trash is served"),
        ({"folders": ["\\Trash"], "trash": "\\Trash", "uidl": "%m"}, "trash: .* is served"),
        ({"trash": "!Trash"}, "trash: expected one folder"),
    ],
)
def test_options_that_cannot_stand_together_are_told(table: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        ImapDropOptions.read({"host": "imap.example.org", **table})


# Sizes, beginnings, large messages


def test_a_size_is_exact_once_the_message_was_read_and_is_kept(place: Place) -> None:
    place.dovecot.deliver(place.user, b"Subject: one\r\n\r\nno end")
    place.put("two")
    said = []
    for _ in range(2):
        drop = place.stage().make().login(ANN)
        said.append([item.size for item in drop.items()])
        texts(drop)
        drop.close()
    assert said == [[22, 21], [24, 21]]


def test_top_of_a_large_message_fetches_its_beginning(place: Place) -> None:
    place.dovecot.deliver(place.user, b"".join(Large(4 << 20).pieces()))
    drop = place.maildrop().login(ANN)
    before = place.proxy.to_client
    content = drop.top(drop.items()[0].key, 5)
    with content.open() as file:
        assert len(file.read(2000)) == 2000
    assert place.proxy.to_client - before < 64 << 10
    drop.close()


def test_headers_that_are_asked_for_one_after_the_other_come_together(
    place: Place, serve: Clients
) -> None:
    place.put(*map(str, range(40)))
    with ImapServer({"ann": PASSWORD}) as server:
        for number in range(40):
            server.deliver("ann", message(str(number)))
        maildrop = place.maildrop(port=server.port, user="ann")
        client = log_in(serve(maildrop))
        before = server.flights
        heads = [client.top(number, 0)[1] for number in range(1, 41)]
        assert heads == [[b"Subject: %d" % number, b""] for number in range(40)]
        assert server.flights - before <= 5
        assert [client.retr(number)[1][2] for number in range(1, 41)] == [
            b"%d" % number for number in range(40)
        ]
        assert server.flights - before <= 10
        client.quit()


def test_a_large_message_is_passed_on_while_it_comes(place: Place) -> None:
    """A client hears of it long before all is here; and nothing of it is on the disk."""
    octets = b"".join(Large(8 << 20).pieces())
    place.dovecot.deliver(place.user, octets)
    stage = place.stage()
    drop = stage.make().login(ANN)
    before = place.proxy.to_client
    with drop.read(drop.items()[0].key).open() as file:
        begin = file.read(1000)
        assert place.proxy.to_client - before < 2 << 20
        assert begin + file.read() == octets
    assert [path for path in Path(stage.runtime.scratch).iterdir() if path.is_file()] == []
    drop.close()


# Connections


def test_the_next_session_of_a_user_has_the_same_connection(place: Place) -> None:
    maildrop = place.maildrop()
    for text in ("one", "two"):
        place.put(text)
        drop = maildrop.login(ANN)
        assert texts(drop)[-1] == text
        drop.close([drop.items()[0].key])
    assert place.proxy.connections == 1
    assert place.dovecot.messages(place.user) == []


def test_p3s_27_a_connection_is_kept_for_its_own_user_alone(place: Place) -> None:
    other = Place(place.dovecot, place.proxy, place._home)
    place.put("mine")
    other.put("theirs")
    maildrop = place.maildrop(user="{login}")
    for _ in range(2):
        for each, text in ((place, "mine"), (other, "theirs")):
            drop = maildrop.login(Credentials(each.user, checked=True))
            assert texts(drop) == [text]
            drop.close()
    assert place.proxy.connections == 2


def test_a_kept_connection_that_is_lost_is_opened_again(place: Place) -> None:
    maildrop = place.maildrop()
    maildrop.login(ANN).close()
    place.proxy.drop(reset=True)
    place.put("one")
    drop = maildrop.login(ANN)
    assert texts(drop) == ["one"]
    drop.close()


def test_a_connection_that_is_lost_in_a_session_is_opened_again(
    place: Place, serve: Clients
) -> None:
    """Numbers and deletions stay; what has come or gone meanwhile changes nothing."""
    place.put("one", "two", "three")
    client = log_in(serve(place.maildrop()))
    client.dele(1)
    place.proxy.drop()
    place.put("four")
    assert client.retr(3)[1][-1] == b"three"
    place.proxy.drop()
    client.quit()
    assert place.dovecot.messages(place.user) == list(map(message, ("two", "three", "four")))


def test_a_server_that_is_gone_at_quit_is_told_and_nothing_is_lost(
    place: Place, serve: Clients
) -> None:
    place.put("one")
    client = log_in(serve(place.maildrop()))
    client.dele(1)
    place.proxy.target = ("127.0.0.1", 1)
    place.proxy.drop()
    with pytest.raises(poplib.error_proto, match=r"-ERR \[SYS/TEMP\]"):
        client.quit()
    assert place.dovecot.messages(place.user) == [message("one")]
