"""The file of addresses, changed: what stays, and what a crash or a second hand can do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailflow.errors import UnavailableError
from mailflow_list import edit

FILE = b"# our members\n\nAnn <ann@example.org>\nben@example.com   # since May\n# end\n"


def added(octets: bytes, *addresses: str) -> bytes:
    return edit.with_added(octets, addresses)


def test_an_address_is_added_at_the_end_and_all_else_stays() -> None:
    assert added(FILE, "Cleo <cleo@example.net>") == FILE + b"Cleo <cleo@example.net>\n"
    assert added(b"a@x.org", "b@x.org") == b"a@x.org\nb@x.org\n"
    assert added(b"", "b@x.org") == b"b@x.org\n"


def test_who_is_there_is_not_added_again_whatever_the_case() -> None:
    assert added(FILE, "ANN@example.org", "Ben <ben@EXAMPLE.com>") == FILE
    assert added(b"", "a@x.org", "A@x.org") == b"a@x.org\n"


def test_the_line_ends_of_the_file_are_kept() -> None:
    assert added(b"a@x.org\r\nb@x.org", "c@x.org") == b"a@x.org\r\nb@x.org\r\nc@x.org\r\n"
    assert edit.without(b"a@x.org\r\nb@x.org\r\n", ["a@x.org"]) == b"b@x.org\r\n"


@pytest.mark.parametrize(
    ("octets", "left"),
    [
        (FILE, b"# our members\n\nben@example.com   # since May\n# end\n"),
        (b"ann@example.org\nx@x.org", b"x@x.org"),
        (b"x@x.org\nANN@example.org", b"x@x.org\n"),
        (b"ann@example.org", b""),
        (b"ann@example.org\nAnn <ann@example.org> # twice\n", b""),
        (b"\xef\xbb\xbfann@example.org\nx@x.org\n", b"\xef\xbb\xbfx@x.org\n"),
        (b"# ann@example.org\n#ann@example.org\n", b"# ann@example.org\n#ann@example.org\n"),
        (b"\xff ann@example.org\nann@example.org\n", b"\xff ann@example.org\n"),
    ],
)
def test_only_the_lines_of_an_address_are_removed(octets: bytes, left: bytes) -> None:
    assert edit.without(octets, ["ann@EXAMPLE.org"]) == left


def test_a_line_that_would_be_a_comment_is_written_otherwise() -> None:
    made = added(b"", "#ann@example.org")
    assert made == b"<#ann@example.org>\n"
    assert edit.known(made) == {"#ann@example.org"}


@given(st.binary(max_size=100), st.sampled_from(["a@x.org", "Ann <a@x.org>", "#a@x.org"]))
def test_what_is_added_is_in_it_and_what_is_removed_is_not(octets: bytes, text: str) -> None:
    address = text.removeprefix("Ann <").removesuffix(">")
    there = added(octets, text)
    assert edit.known(there) == edit.known(octets) | {address}
    assert there.startswith(octets)
    gone = edit.without(there, [address])
    assert edit.known(gone) == edit.known(octets) - {address}
    assert edit.without(gone, [address]) == gone


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(FILE)
    before = path.stat()
    assert not edit.change(str(path), lambda octets: octets)
    assert path.stat() == before


def test_the_file_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "m", tmp_path / "link"
    path.write_bytes(FILE)
    path.chmod(0o640)
    link.symlink_to(path)
    assert edit.change(str(link), lambda octets: octets + b"x@x.org\n")
    assert link.is_symlink()
    assert path.read_bytes() == FILE + b"x@x.org\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "m"]


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "m"
    assert edit.change(str(path), lambda octets: octets + b"x@x.org\n")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
def test_d15_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "m"
    path.write_bytes(FILE)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(UnavailableError, match=r"cannot change .*/m: No space left on device"):
        edit.change(str(path), lambda octets: b"")
    assert path.read_bytes() == FILE
    assert os.listdir(tmp_path) == ["m"]


def test_the_file_is_flushed_before_it_takes_its_name_and_the_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut finds the old file or the new one."""
    path = tmp_path / "m"
    path.write_bytes(FILE)
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def flush(descriptor: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def take_name(old: str, new: str) -> None:
        done.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "rename", take_name)
    edit.change(str(path), lambda octets: b"x@x.org\n")
    assert done == ["m.new", "rename", tmp_path.name]


def test_what_a_kill_left_behind_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "m"
    (tmp_path / "m.new").write_bytes(b"half")
    assert edit.change(str(path), lambda octets: b"x@x.org\n")
    assert path.read_bytes() == b"x@x.org\n"
    assert os.listdir(tmp_path) == ["m"]


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "m"
    program = (
        "import sys; from mailflow_list import edit\n"
        "for n in range(40):\n"
        "    edit.change(sys.argv[1], lambda o: edit.with_added(o, [f'{sys.argv[2]}{n}@x.org']))"
    )
    hands = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in "abc"]
    assert [hand.wait() for hand in hands] == [0, 0, 0]
    assert edit.known(path.read_bytes()) == {f"{who}{n}@x.org" for who in "abc" for n in range(40)}
