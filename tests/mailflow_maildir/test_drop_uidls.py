"""What a Maildir behind the gateway tells of its messages: UIDLs that stay, exact sizes."""

from __future__ import annotations

import pytest

from mailflow.errors import (
    ConfigError,
    UnavailableError,
)
from mailflow.mail import chunks, read
from mailflow_maildir import ledger
from mailflow_maildir.maildrop import MaildirDropOptions

from .conftest import LIST, Drop, rest

# UIDLs


def test_071_a_uidl_outlives_renames_flags_and_a_new_process(drop: Drop) -> None:
    file = drop.add("new/1700000000.M1P2.host,S=18")
    before = drop.listed()
    file = file.rename(drop.path / "cur" / f"{file.name}:2,")
    assert drop.listed() == before
    file.rename(file.with_name(file.name + "FS"))
    assert drop.listed() == before == {"1700000000.M1P2.host": 21}


def test_071_a_uidl_outlives_the_loss_of_the_list(drop: Drop) -> None:
    drop.add("cur/1700000000.M1P2.host:2,S")
    drop.add("new/" + "long" * 30)
    before = drop.listed()
    (drop.path / LIST).unlink()
    assert drop.listed() == before


def test_069_a_name_that_is_no_unique_id_gives_a_digest(drop: Drop) -> None:
    for name in ("ü", "with space", "x" * 71):
        drop.add(f"new/{name}")
    for key in drop.listed():
        assert len(key) == 32
        assert key.isalnum()


def test_070_names_that_differ_in_flags_or_sizes_alone_have_uidls_of_their_own(drop: Drop) -> None:
    for name in ("new/1,S=17", "new/1,S=18", "cur/1,S=17:2,S", "new/1"):
        drop.add(name, name.encode())
    before = drop.listed()
    assert len(before) == 4
    assert drop.listed() == before


def test_071_twins_keep_their_uidls_when_one_of_them_moves(drop: Drop) -> None:
    drop.add("new/1", b"one")
    drop.add("cur/1:2,S", b"two")

    def by_content() -> dict[bytes, str]:
        session = drop.enter()
        found = {read(session.read(item.key)): item.key for item in session.items()}
        session.close()
        return found

    before = by_content()
    (drop.path / "cur" / "1:2,S").rename(drop.path / "cur" / "1:2,FS")
    assert by_content() == before


def test_071_of_two_files_with_one_name_none_ever_gets_the_uidl_of_the_other(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that has the one would never fetch the other."""
    monkeypatch.setattr(ledger, "SLACK", 0)
    drop.add("new/1", b"one")
    (first,) = drop.listed()
    second_file = drop.add("cur/1:2,S", b"two")
    one, two = drop.listed()
    assert first not in (one, two)
    session = drop.enter()
    content = {item.key: read(session.read(item.key)) for item in session.items()}
    assert content in ({one: b"one\r\n", two: b"two\r\n"}, {one: b"two\r\n", two: b"one\r\n"})
    mine = next(key for key, octets in content.items() if octets == b"two\r\n")
    (drop.path / "new" / "1").unlink()
    assert read(session.read(mine)) == b"two\r\n"
    session.close()
    for _ in range(3):  # the list is written anew meanwhile
        rest(drop)
        assert list(drop.listed()) == [mine]
    drop.delete(mine)
    assert not second_file.exists()
    assert drop.add("new/1").exists()
    assert first not in drop.listed()


def test_070_a_uidl_that_another_message_has_from_dovecot_is_not_given_twice(drop: Drop) -> None:
    for name in ("new/a", "new/b"):
        drop.add(name)
    (drop.path / "dovecot-uidlist").write_text("3 V1 N9\n7 Px :a\n8 Px :b\n")
    assert list(drop.listed()) == ["x", "0000000800000001"]


def test_what_dovecot_lists_later_keeps_the_uidl_that_was_told(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N1\n")
    assert list(drop.listed()) == ["1"]
    drop.add("new/2")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N3\n1 :1\n2 :2\n")
    assert list(drop.listed()) == ["1", "00000002000000ff"]


def test_a_new_uidvalidity_of_dovecot_changes_nothing_that_was_told(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N2\n1 :1\n")
    before = drop.listed()
    (drop.path / "dovecot-uidlist").write_text("3 V256 N2\n1 :1\n")
    assert drop.listed() == before == {"00000001000000ff": 21}


@pytest.mark.parametrize(
    "text", ["", "3 V1 N2\n1 :1", "3 V1 N2\nx :1\n", "3 V1 N2\n\0\0\0", "9 V1\n", "3\n1 1\n"]
)
def test_a_list_of_dovecot_that_is_cut_or_strange_tells_nothing_wrong(
    drop: Drop, text: str
) -> None:
    """A clear error, or the UIDL of the name; never half a UIDL."""
    drop.add("new/1")
    (drop.path / "dovecot-uidlist").write_text(text)
    try:
        keys = list(drop.listed())
    except UnavailableError as error:
        keys = []
        assert "dovecot-uidlist" in error.text  # noqa: PT017
    assert keys in ([], ["1"])


@pytest.mark.parametrize(
    ("uidl", "key"),
    [
        ("%08Xu%08Xv", "00000001000000ff"), ("%u", "1"), ("%v-%u", "255-1"), ("%v.%u", "255.1"),
        ("%f", "1,S=17"), ("UID%u-%v", "UID1-255"), ("%%%u", "%1"), ("%03u", "001"),
        ("%1v.%u", "2.1"), ("%Mf", "c9a6bd8c0ba5e7c2b33fb2cb0be2ef16"),
    ],
)  # fmt: skip
def test_the_format_is_that_of_dovecot(drop: Drop, uidl: str, key: str) -> None:
    import hashlib

    key = hashlib.md5(b"1,S=17", usedforsecurity=False).hexdigest() if uidl == "%Mf" else key
    drop.add("new/1,S=17")
    (drop.path / "dovecot-uidlist").write_text("3 V255 N2 Gaffe\n1 W20 :1,S=17:2,S\n")
    assert list(drop.listed(uidl=uidl)) == [key]


@pytest.mark.parametrize("uidl", ["", "x", "%v", "%", "%u%", "%x", "%8XMu", "%Xf", "%g", 5])
def test_a_format_that_gives_no_unique_ids_is_a_fault(uidl: object) -> None:
    with pytest.raises(ConfigError, match="uidl: expected"):
        MaildirDropOptions.read({"path": "/x", "uidl": uidl})


def test_a_list_of_somebody_else_is_not_touched(drop: Drop) -> None:
    drop.add("new/1")
    (drop.path / LIST).write_text("something else\n")
    with pytest.raises(UnavailableError, match="no list that this mailflow can read"):
        drop.enter()
    assert drop.told == "something else\n"


# Sizes


@pytest.mark.parametrize(
    ("name", "data", "size"),
    [
        ("1,S=6,W=9", b"a\n\nbc\n", 9), ("1,S=5,W=9", b"a\n\nbc\n", 9), ("1,S=5", b"a\n\nb\n", 8),
        ("1,W=8", b"a\n\nb\n", 8), ("1,S=5,W=8", b"a\n\nb\n", 8), ("1,S=9,W=9", b"a\n\nb\n", 8),
        ("1,S=5,W=4", b"a\n\nb\n", 8), ("1,S=5,W=99", b"a\n\nb\n", 8), ("1", b"", 0),
        ("1,S=4,W=6", b"a\n\nb", 8), ("1", b"a\r\n\r\nb\r\n", 8), ("1,S=1,W=1", b"x", 3),
    ],
)  # fmt: skip
def test_064_a_size_counts_the_octets_of_retr(
    drop: Drop, name: str, data: bytes, size: int
) -> None:
    """Also for names that lie about the file: those of W alone can be believed."""
    drop.add(f"new/{name}", data)
    assert list(drop.listed().values()) == [size]


def test_064_a_name_that_lies_is_found_out_when_it_is_read(drop: Drop) -> None:
    drop.add("new/1,S=5,W=7", b"a\n\nb\n")
    session = drop.enter()
    (item,) = session.items()
    assert (item.size, read(session.read(item.key))) == (7, b"a\r\n\r\nb\r\n")
    session.close()
    assert drop.log.said("warning") == ["a message has another size than its name says"]
    assert drop.listed() == {"1": 8}


def test_a_size_is_measured_once(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    drop.add("new/1")
    before = drop.listed()
    monkeypatch.setattr("mailflow_maildir.taking.open_message", None)
    assert drop.listed() == before


def test_025_a_large_message_takes_no_memory(drop: Drop) -> None:
    line = b"x" * 99 + b"\n"
    drop.add("new/1", line * 200_000)
    session = drop.enter()
    (item,) = session.items()
    content = session.read(item.key)
    pieces = list(chunks(content))
    session.close()
    assert sum(map(len, pieces)) == content.size == item.size == 200_000 * 101
    assert max(map(len, pieces)) <= 1 << 18
    assert pieces[-1].endswith(b"x\r\n")
