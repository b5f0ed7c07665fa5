"""The live maildrop over IMAP where the other server, or the way to it, fails at every turn: what a
client was given is right, and what is gone it had deleted by QUIT."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import (
    GoneError,
    InUseError,
    LoginError,
    MailflowError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from mailflow.kinds import Credentials
from mailflow.mail import read
from mailflow.testing.contracts.component import Stage, lasting
from mailflow.testing.imap import ImapServer
from mailflow.testing.imap_link import NO_FAULTS, Faults
from mailflow.testing.proxy import Fault, Proxy
from mailflow_imap.maildrop import ImapDrop

ANN = Credentials("ann", checked=True)
CUTS = 40


def message(text: str, octets: int = 0) -> bytes:
    body = b"".join(b"%07d\r\n" % number for number in range(octets // 9))
    return f"Subject: {text}\r\n\r\n{text}\r\n".encode() + body


MESSAGES = [message("one"), message("two"), message("large", 600_000), message("three")]


class Trial:
    """A mailbox with the messages, behind a proxy."""

    def __init__(self, server: ImapServer, proxy: Proxy, home: Path) -> None:
        self.server = server
        self.proxy = proxy
        table = {"host": proxy.host, "port": proxy.port, "tls": "none", "password": "there"}
        self.stage = Stage(ImapDrop, {**table, "timeout": "1s", "reuse": "0s"}, home)
        self.maildrop: ImapDrop = self.stage.make()

    @property
    def left(self) -> list[bytes]:
        return self.server.messages("ann")


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    with (
        ImapServer({"ann": "there"}, {"ann": MESSAGES}) as server,
        Proxy((server.host, server.port)) as proxy,
    ):
        made = Trial(server, proxy, tmp_path)
        yield made
        made.stage.halt.close()


def session(trial: Trial) -> str:
    """Read all, delete the first two; how it ended."""
    drop = trial.maildrop.login(ANN)
    delete: list[str] = []
    try:
        items = list(drop.items())
        for item, wanted in zip(items, MESSAGES, strict=True):
            assert read(drop.read(item.key)) == wanted
        delete = [item.key for item in items[:2]]
    except BaseException:
        drop.close()
        raise
    drop.close(delete)
    return "deleted"


def undisturbed(tmp_path: Path) -> int:
    """The octets that a session is sent."""
    with (
        ImapServer({"ann": "there"}, {"ann": MESSAGES}) as server,
        Proxy((server.host, server.port)) as proxy,
    ):
        assert session(Trial(server, proxy, tmp_path)) == "deleted"
        return proxy.to_client


@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.parametrize("every", [False, True], ids=["once", "always"])
def test_f01_cut_at_any_octet_nothing_is_half_and_nothing_else_is_gone(
    tmp_path: Path, kind: Any, every: bool
) -> None:
    total = undisturbed(tmp_path)
    chosen = random.Random(7)
    small = [chosen.randrange(3000) for _ in range(CUTS // 2)]
    for after in small + [chosen.randrange(total) for _ in range(CUTS // 2)]:
        with (
            ImapServer({"ann": "there"}, {"ann": MESSAGES}) as server,
            Proxy((server.host, server.port)) as proxy,
        ):
            trial = Trial(server, proxy, tmp_path)
            proxy.faults = [Fault(kind, after=after, connection=None if every else 1)]
            ended = ""
            with suppress(MailflowError):
                ended = session(trial)
            wanted = MESSAGES[2:] if ended else MESSAGES
            if ended or trial.left != MESSAGES[2:]:  # what was asked for may be done, unheard
                assert trial.left == wanted, f"cut after {after} octets"
            proxy.faults = []
            drop = trial.maildrop.login(ANN)
            assert [read(drop.read(item.key)) for item in drop.items()] == trial.left
            drop.close()
            trial.stage.halt.close()


def test_f16_an_expunge_between_shifts_nothing(trial: Trial) -> None:
    """Whatever the server says of sequence numbers meanwhile."""
    said = b"* 1 EXPUNGE\r\n* 1 EXPUNGE\r\n* 9 EXISTS\r\n* 1 FETCH (FLAGS (\\Seen))\r\n"
    trial.server.faults = Faults(before={"UID FETCH": said, "UID STORE": said})
    assert session(trial) == "deleted"
    assert trial.left == MESSAGES[2:]


def test_f16_mail_that_comes_and_goes_meanwhile_shifts_nothing(trial: Trial) -> None:
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    folder = trial.server.folder("ann")
    del folder.messages[0]
    trial.server.deliver("ann", message("new"))
    with suppress(GoneError):  # it is for the server to say how long it has it for us
        assert read(drop.read(keys[0])) == MESSAGES[0]
    assert read(drop.read(keys[1])) == MESSAGES[1]
    drop.close(keys[:2])
    assert trial.left == [*MESSAGES[2:], message("new")]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"<tag> OK FETCH completed\r\n", GoneError),
        (b"<tag> NO [EXPUNGEISSUED] gone\r\n", MailflowError),
        (b"* 2 FETCH (UID 2 BODY[] NIL)\r\n<tag> OK done\r\n", UnavailableError),
        (b"* 3 FETCH (UID 3 BODY[] {3}\r\nabc)\r\n<tag> OK done\r\n", GoneError),
        (b"* 2 FETCH (BODY[] {3}\r\nabc)\r\n<tag> OK done\r\n", GoneError),
    ],
)
def test_f17_an_answer_without_the_message_is_told_and_the_others_are_read(
    trial: Trial, answer: bytes, error: type[Exception]
) -> None:
    trial.server.faults = Faults(answers={"UID FETCH 2 (": answer})
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    with pytest.raises(error):
        drop.read(keys[1])
    assert read(drop.read(keys[3])) == MESSAGES[3]
    assert read(drop.read(keys[0])) == MESSAGES[0]
    drop.close()
    assert trial.left == MESSAGES


@pytest.mark.parametrize("command", ["UID STORE", "UID EXPUNGE"])
def test_f12_a_deletion_that_is_refused_is_told(trial: Trial, command: str) -> None:
    trial.server.faults = Faults(answers={command: b"<tag> NO you may not\r\n"})
    with pytest.raises(RefusedError, match="you may not"):
        session(trial)
    assert trial.left[-2:] == MESSAGES[2:]
    trial.server.faults = NO_FAULTS
    drop = trial.maildrop.login(ANN)
    drop.close()


def test_f12_a_server_that_asks_for_patience_is_temporary(trial: Trial) -> None:
    trial.server.faults = Faults(answers={"SELECT": b"<tag> NO [UNAVAILABLE] later\r\n"})
    with pytest.raises(UnavailableError, match="later"):
        trial.maildrop.login(ANN)


def test_f12_a_server_that_turns_away_at_the_log_in_is_temporary(trial: Trial) -> None:
    trial.server.faults = Faults(answers={"": b"* BYE too many connections\r\n"})
    with pytest.raises(UnavailableError, match="too many connections"):
        trial.maildrop.login(ANN)


def test_f18_a_server_that_says_goodbye_in_a_session_is_asked_again(trial: Trial) -> None:
    trial.server.faults = Faults(before={"UID FETCH 1 (": b"* BYE restarting\r\n"})
    drop = trial.maildrop.login(ANN)
    trial.server.faults = NO_FAULTS
    key = drop.items()[0].key
    assert read(drop.read(key)) == MESSAGES[0]
    drop.close([key])
    assert trial.left == MESSAGES[1:]


@pytest.mark.parametrize("after", [0, 60, 1500])
def test_f04_a_server_that_falls_silent_keeps_nobody_for_good(trial: Trial, after: int) -> None:
    trial.server.faults = Faults(stall_at=after)
    with pytest.raises(UnavailableError):
        lasting(lambda: session(trial))
    assert trial.left == MESSAGES


def test_f14_a_folder_with_another_uidvalidity_is_another_folder(trial: Trial) -> None:
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    trial.proxy.drop()
    trial.server.renumber("ann")
    with pytest.raises(GoneError, match="made anew"):
        drop.read(keys[0])
    with pytest.raises(UnavailableError, match="nothing was deleted"):
        drop.close(keys)
    assert trial.left == MESSAGES
    drop = trial.maildrop.login(ANN)
    assert not {item.key for item in drop.items()} & {*keys}
    drop.close()


def test_f14_a_large_message_is_not_read_from_another_folder_of_that_name(trial: Trial) -> None:
    """What was found to be made anew is still open on the new connection."""
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    trial.proxy.drop()
    trial.server.renumber("ann")
    for key in keys:
        with pytest.raises(GoneError, match="made anew"):
            drop.read(key)
    drop.close()


def test_f14_nothing_is_read_or_deleted_where_uids_went_back(trial: Trial) -> None:
    """As in a folder that was made anew by a server whose clock stands still."""
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    trial.proxy.drop()
    folder = trial.server.folder("ann")
    folder.messages, folder.uid_next = [], 1
    trial.server.deliver("ann", message("new"))
    with pytest.raises(GoneError, match="made anew"):
        drop.read(keys[0])
    with pytest.raises(UnavailableError, match="nothing was deleted"):
        drop.close(keys)
    assert trial.left == [message("new")]


def test_f05_a_size_that_lies_harms_nothing(trial: Trial) -> None:
    for lie in (b"RFC822.SIZE 3", b"RFC822.SIZE 9000000", b"RFC822.SIZE 500000"):
        trial.server.faults = Faults(
            answers={
                "UID FETCH 1:*": lambda right, lie=lie: re.sub(rb"RFC822.SIZE \d+", lie, right)
            }
        )
        drop = trial.maildrop.login(ANN)
        assert [read(drop.read(item.key)) for item in drop.items()] == MESSAGES
        drop.close()
        trial.server.faults = NO_FAULTS
        drop = trial.maildrop.login(ANN)
        assert [item.size for item in drop.items()] == list(map(len, MESSAGES))
        drop.close()
    assert [path for path in Path(trial.stage.runtime.scratch).iterdir() if path.is_file()] == []


def test_a_folder_without_uidvalidity_has_no_uidls(trial: Trial) -> None:
    trial.server.faults = Faults(
        answers={"SELECT": lambda right: re.sub(rb"\* OK \[UIDVALIDITY [^\n]*\n", b"", right)}
    )
    with pytest.raises(PeerError, match="no UIDVALIDITY"):
        trial.maildrop.login(ANN)


def test_a_server_that_gives_new_uids_each_time_is_told(trial: Trial) -> None:
    trial.server.faults = Faults(before={"SELECT": b"* NO [UIDNOTSTICKY] not kept\r\n"})
    trial.maildrop.login(ANN).close()
    assert "new UIDs each time" in trial.stage.said


def test_a_log_in_that_fails_gives_the_lock_back(trial: Trial) -> None:
    no = b"<tag> NO [AUTHENTICATIONFAILED] no\r\n"
    trial.server.faults = Faults(answers={"LOGIN": no, "AUTHENTICATE": no})
    with pytest.raises(LoginError):
        trial.maildrop.login(ANN)
    trial.server.faults = NO_FAULTS
    assert session(trial) == "deleted"


def test_who_does_not_know_the_password_does_not_learn_that_somebody_is_there(
    trial: Trial,
) -> None:
    table = {k: v for k, v in trial.stage.table.items() if k != "password"}
    trial.stage.table = table
    maildrop = trial.stage.make()
    drop = maildrop.login(Credentials("ann", password="there"))
    with pytest.raises(LoginError):
        maildrop.login(Credentials("ann", password="wrong"))
    with pytest.raises(InUseError):
        maildrop.login(Credentials("ann", password="there"))
    drop.close()


def test_f05_a_large_message_that_was_said_to_be_small_leaves_nothing_behind(trial: Trial) -> None:
    """It came with others, and nobody has asked for it."""
    trial.server.faults = Faults(
        answers={
            "UID FETCH 1:*": lambda right: re.sub(rb"RFC822.SIZE \d+", b"RFC822.SIZE 9", right)
        }
    )
    drop = trial.maildrop.login(ANN)
    keys = [item.key for item in drop.items()]
    assert [read(drop.read(keys[number])) for number in (0, 1, 3)] == [
        MESSAGES[number] for number in (0, 1, 3)
    ]
    drop.close()
    assert [path for path in Path(trial.stage.runtime.scratch).iterdir() if path.is_file()] == []


def whole(number: int, origin: bytes = b"") -> bytes:
    octets = MESSAGES[number - 1]
    head = b"* %d FETCH (UID %d BODY[]%b {%d}\r\n" % (number, number, origin, len(octets))
    return head + octets + b")\r\n<tag> OK done\r\n"


def test_a_server_that_gives_no_parts_of_messages_gives_them_whole(trial: Trial) -> None:
    trial.server.faults = Faults(answers={"UID FETCH 3 (UID BODY": whole(3)})
    drop = trial.maildrop.login(ANN)
    try:
        assert read(drop.read(drop.items()[2].key)) == MESSAGES[2]
    finally:
        drop.close()


@pytest.mark.parametrize("origin", [b"<0>", b"<5>", b"<262144>"])
def test_f17_another_part_of_a_message_than_was_asked_for_is_not_taken(
    trial: Trial, origin: bytes
) -> None:
    trial.server.faults = Faults(answers={"UID FETCH 3 (UID BODY": whole(3, origin)})
    drop = trial.maildrop.login(ANN)
    try:
        with pytest.raises(PeerError, match="another part"):
            read(drop.read(drop.items()[2].key))
    finally:
        drop.close()


def test_a_changed_password_does_not_stay_good_for_who_goes_on_using_it(
    trial: Trial, tmp_path: Path
) -> None:
    table = {"host": trial.server.host, "port": trial.server.port, "tls": "none", "reuse": "60s"}
    stage = Stage(ImapDrop, table, tmp_path / "reused")
    drop, old = stage.make(), Credentials("ann", password="there")
    drop.login(old).close()
    drop.login(old).close()
    assert trial.server.connections == 1
    trial.server.users["ann"] = "new"
    opened = drop.login(old)
    opened._session.logged_in_at -= 61
    opened.close()
    with pytest.raises(LoginError):
        drop.login(old)
    stage.halt.close()


def test_what_is_deleted_goes_to_no_folder_that_is_served(trial: Trial) -> None:
    """What a use stands for is known only there."""
    trial.server.deliver("ann", message("old"), "Gone")
    trial.server.folder("ann", "Gone").attributes = ["\\Trash"]
    trial.stage.table |= {"folders": ["\\Trash"], "trash": "Gone"}
    drop = trial.stage.make().login(ANN)
    with pytest.raises(RefusedError, match="would come again"):
        drop.close([drop.items()[0].key])
    assert trial.server.folder("ann", "Gone").uid_next == 2


def test_without_move_what_is_copied_to_the_trash_before_a_cut_is_not_copied_again(
    trial: Trial,
) -> None:
    trial.server.capabilities = [c for c in trial.server.capabilities if c != "MOVE"]
    trial.stage.table |= {"trash": "Gone"}
    trial.server.faults = Faults(cut_before=["UID EXPUNGE"])
    drop = trial.stage.make().login(ANN)
    trial.server.faults = NO_FAULTS
    drop.close([drop.items()[0].key])
    assert trial.left == MESSAGES[1:]
    assert trial.server.messages("ann", "Gone") == MESSAGES[:1]
