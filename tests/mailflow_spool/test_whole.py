"""From a source through the spool to a client, by the program that a user runs."""

from __future__ import annotations

import poplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mailflow
from mailflow.kinds import Runtime
from mailflow.log import Logger
from mailflow.testing.gateway import Gateway
from mailflow.testing.pop3 import Pop3Server
from mailflow_spool.maildrop import MaildropOptions, SpoolMaildrop

from .conftest import LARGE, Spool, text


class Home:
    """An old mailbox, a pipeline that empties it into a drop, and a gateway."""

    def __init__(self, path: Path, server: Pop3Server) -> None:
        self.path = path
        self.server = server
        self.spool = path / "spool"
        (path / "secret").touch(0o600)
        (path / "secret").write_text("secret\n")

    def fetch(self, name: str = "home", drop: str = "ann") -> None:
        status = mailflow.run(
            {
                "pipeline": {"name": name, "journal": str(self.path / f"{name}.db")},
                "fetch": [
                    {
                        "use": "pop3", "host": self.server.host, "port": self.server.port,
                        "tls": "none", "user": "ann", "keep": "0d",
                        "password": {"file": str(self.path / "secret")},
                    }
                ],
                "distribute": [{"use": "spool", "drop": drop, "path": str(self.spool)}],
            }
        )  # fmt: skip
        assert status == 0

    @contextmanager
    def gateway(self, *names: str) -> Iterator[Gateway]:
        options = MaildropOptions.read({"path": str(self.spool)})
        runtime = Runtime("ann", "test", None, Logger(), "")  # type: ignore[arg-type]
        with Gateway({name: SpoolMaildrop(options, runtime) for name in names}) as gateway:
            yield gateway


@contextmanager
def home(path: Path, *messages: bytes) -> Iterator[Home]:
    with Pop3Server({"ann": "secret"}, {"ann": messages}) as server:
        yield Home(path, server)


def session(gateway: Gateway, name: str = "ann") -> poplib.POP3:
    client = poplib.POP3(gateway.host, gateway.port, timeout=20)
    client.user(name)
    client.pass_("secret")
    return client


def listed(client: poplib.POP3) -> list[str]:
    return [line.decode().split(" ")[1] for line in client.uidl()[1]]


def test_pwm_02_any_client_of_pop3_reads_what_came_from_anywhere(tmp_path: Path) -> None:
    with home(tmp_path, text(1), LARGE, b"Subject: dots\r\n\r\n.\r\n..\r\n") as place:
        place.fetch()
        assert place.server.messages("ann") == []
        with place.gateway("ann") as gateway:
            client = session(gateway)
            count, octets = client.stat()
            found = [b"\r\n".join(client.retr(n)[1]) + b"\r\n" for n in range(1, count + 1)]
            assert found == [text(1), LARGE, b"Subject: dots\r\n\r\n.\r\n..\r\n"]
            assert octets == sum(len(each) for each in found)
            client.dele(2)
            client.quit()
            client = session(gateway)
            assert client.stat()[0] == 2
            client.quit()


def test_pwm_15_each_mailbox_is_a_section_of_its_own_and_a_drop_of_its_own(tmp_path: Path) -> None:
    with home(tmp_path, text(1)) as place:
        place.fetch("one", drop="ann")
        place.server.deliver("ann", text(2))
        place.fetch("two", drop="bob")
        with place.gateway("ann", "bob") as gateway:
            for name, octets in (("ann", text(1)), ("bob", text(2))):
                client = session(gateway, name)
                assert client.stat()[0] == 1
                assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == octets
                client.quit()


def test_pwm_14_the_drops_and_what_they_hold_are_kept_over_restarts(tmp_path: Path) -> None:
    with home(tmp_path, text(1), text(2)) as place:
        place.fetch()
        before: list[list[str]] = []
        for _ in range(2):
            with place.gateway("ann") as gateway:
                client = session(gateway)
                before.append(listed(client))
                client.quit()
            Spool(place.spool).close()
        assert before[0] == before[1]
        assert len(before[0]) == 2


def test_pwm_28_mail_is_downloaded_in_the_background_while_a_client_reads(tmp_path: Path) -> None:
    """What comes meanwhile waits for the client's next session, and disturbs nobody."""
    with home(tmp_path, text(1)) as place:
        place.fetch()
        with place.gateway("ann") as gateway:
            client = session(gateway)
            assert client.stat()[0] == 1
            place.server.deliver("ann", LARGE)
            fetching = threading.Thread(target=place.fetch)
            fetching.start()
            fetching.join()
            assert client.stat()[0] == 1
            assert len(client.retr(1)[1]) == 3
            client.dele(1)
            client.quit()
            client = session(gateway)
            assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == LARGE
            client.quit()


def test_pwm_12_what_is_in_the_spool_is_served_while_every_source_is_out_of_reach(
    tmp_path: Path,
) -> None:
    with home(tmp_path, text(1)) as place:
        place.fetch()
    with place.gateway("ann") as gateway:
        client = session(gateway)
        assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == text(1)
        client.quit()


def test_several_sources_fill_one_drop(tmp_path: Path) -> None:
    with home(tmp_path / "", text(1)) as place:
        place.fetch("one")
        place.server.deliver("ann", text(2))
        place.fetch("two")
        with place.gateway("ann") as gateway:
            client = session(gateway)
            assert len(set(listed(client))) == 2
            client.quit()


def test_a_deleted_message_does_not_come_back_by_the_next_fetch(tmp_path: Path) -> None:
    with home(tmp_path, text(1)) as place:
        place.fetch()
        with place.gateway("ann") as gateway:
            client = session(gateway)
            client.dele(1)
            client.quit()
            place.fetch()
            client = session(gateway)
            assert client.stat()[0] == 0
            client.quit()


def test_status_is_told_what_lies_in_the_drops_that_a_maildrop_serves(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")

    def standing(name: str, **table: object) -> list[tuple[str, int, int]]:
        options = MaildropOptions.read({"path": str(spool.path), **table})
        runtime = Runtime(name, "test", None, Logger(), "")  # type: ignore[arg-type]
        return list(SpoolMaildrop(options, runtime).standing())

    assert standing("ann") == []
    spool.fill(text(1))
    spool.fill(text(2), text(3), drop="bob")
    octets = len(text(1))
    assert standing("ann") == [("", 1, octets)]
    assert standing("*") == [("ann", 1, octets), ("bob", 2, 2 * octets)]
    assert standing("cleo", drop="bob") == [("", 2, 2 * octets)]
    spool.close()
