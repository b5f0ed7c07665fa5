"""Every damage is found and said, and what is whole is not complained of."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

import pytest

from mailflow.errors import UnavailableError
from mailflow_spool.files import name_of
from mailflow_spool.store import Store

from .conftest import LARGE, Spool, text


@pytest.fixture
def filled(spool: Spool) -> Spool:
    """Two small messages in the index, three large ones in a file, of which one is gone."""
    spool.fill(text(1), text(2))
    spool.fill(LARGE, LARGE, LARGE, LARGE)
    spool.delete(spool.uidls()[2])
    return spool


def test_a_whole_spool_has_no_damage(filled: Spool) -> None:
    assert filled.damage() == []


def flip(spool: Spool) -> None:
    path = spool.bodies()[0]
    octets = bytearray(path.read_bytes())
    octets[-50] ^= 1
    path.write_bytes(octets)


def cut(spool: Spool) -> None:
    os.truncate(spool.bodies()[0], len(LARGE))


def lose(spool: Spool) -> None:
    spool.bodies()[0].unlink()


def tell(spool: Spool, *statements: str) -> None:
    index = sqlite3.connect(spool.path / "index.db", isolation_level=None)
    for statement in statements:
        index.execute(statement)
    index.close()


def lose_row(spool: Spool) -> None:
    tell(spool, "DELETE FROM bodies WHERE id = 1")


def change_row(spool: Spool) -> None:
    tell(spool, "UPDATE bodies SET octets = zeroblob(length(octets)) WHERE id = 1")


def extra_row(spool: Spool) -> None:
    tell(spool, "INSERT INTO bodies (octets) VALUES (x'00')")


def wrong_size(spool: Spool) -> None:
    tell(spool, "UPDATE messages SET size = size + 1 WHERE number = 1")


def wrong_live(spool: Spool) -> None:
    tell(spool, "UPDATE files SET live = live + 1")


def no_drop(spool: Spool) -> None:
    tell(spool, "DELETE FROM drops")


def old_number(spool: Spool) -> None:
    tell(spool, "UPDATE drops SET next = 2")


def no_file(spool: Spool) -> None:
    tell(spool, "DELETE FROM files")


def bad_uidl(spool: Spool) -> None:
    tell(spool, "UPDATE messages SET uidl = 'a b' WHERE number = 1")


def overlap(spool: Spool) -> None:
    tell(spool, "UPDATE messages SET start = start - 1 WHERE number = 6")


def orphan(spool: Spool) -> None:
    (spool.path / "bodies" / name_of(77)).touch(0o600)


def stranger(spool: Spool) -> None:
    (spool.path / "bodies" / "README").touch(0o600)


def opened(spool: Spool) -> None:
    spool.path.joinpath("bodies").chmod(0o755)


def readable(spool: Spool) -> None:
    spool.path.joinpath("index.db").chmod(0o644)


DAMAGES: dict[Callable[[Spool], None], str] = {
    flip: "are not those that were written",
    cut: "ends before it does",
    lose: "is gone",
    lose_row: "octets are missing",
    change_row: "are not those that were written",
    extra_row: "is no message's",
    wrong_size: "is no whole message",
    wrong_live: "are said to be in use",
    no_drop: "which is missing",
    old_number: "is taken",
    no_file: "does not know the file",
    bad_uidl: "its UIDL is none",
    overlap: "it lies over another one",
    orphan: "is no message's",
    stranger: "is no file of the spool",
    opened: "others can get into",
    readable: "can be read by others",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_every_damage_is_said(filled: Spool, damage: Callable[[Spool], None]) -> None:
    store = filled.store
    damage(filled)
    from mailflow_spool.verify import verify

    said = [str(each) for each in verify(store)]
    assert any(DAMAGES[damage] in each for each in said), said


def test_a_damaged_index_is_said(filled: Spool) -> None:
    filled.store.close()
    path = filled.path / "index.db"
    tell(filled, "PRAGMA wal_checkpoint(TRUNCATE)")
    octets = bytearray(path.read_bytes())
    octets[4096:] = os.urandom(len(octets) - 4096)
    path.write_bytes(octets)
    with pytest.raises(UnavailableError, match="damaged") as told:
        filled.messages()
    assert str(path) in told.value.text


def test_another_programs_database_is_left_alone(spool: Spool) -> None:
    spool.path.mkdir(mode=0o700)
    other = sqlite3.connect(spool.path / "index.db")
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = (spool.path / "index.db").read_bytes()
    with pytest.raises(UnavailableError, match="another program"):
        Store(str(spool.path))
    assert (spool.path / "index.db").read_bytes()[100:] == before[100:]


def test_the_index_of_a_newer_program_is_left_alone(filled: Spool) -> None:
    tell(filled, "PRAGMA user_version = 99")
    with pytest.raises(UnavailableError, match="newer"):
        Store(str(filled.path))
