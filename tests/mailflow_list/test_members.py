"""The members of a list: a file that people edit by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailflow.errors import UnavailableError
from mailflow.testing.engine import LogDouble
from mailflow_list.members import Roll, Rolled


def read(path: Path, text: str | bytes) -> tuple[tuple[str, ...], LogDouble]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    log = LogDouble()
    return Roll(file=str(path)).read(log).addresses, log  # type: ignore[arg-type]


def test_a_file_holds_an_address_a_line_with_names_and_comments(tmp_path: Path) -> None:
    text = """# the members
ann@example.org
Bob Miller <bob@example.net>   # treasurer
  "Lee, Cat" <cat@example.com>

# dan@example.org has left
Team #1 <team@example.org>
"""
    addresses, log = read(tmp_path / "m", text)
    assert addresses == (
        "ann@example.org", "bob@example.net", "cat@example.com", "team@example.org",
    )  # fmt: skip
    assert log.lines == []


def test_a_bad_line_is_said_with_its_file_and_number_and_stops_nobody_else(tmp_path: Path) -> None:
    text = "ann@example.org\nbob\nx@y.org, z@y.org\nLee, Cat <cat@example.com>\ndan@example.org\n"
    addresses, log = read(tmp_path / "m", text)
    assert addresses == ("ann@example.org", "dan@example.org")
    assert [line.level for line in log.lines] == ["warning"] * 3
    assert [line.facts["line"] for line in log.lines] == [2, 3, 4]
    assert {line.facts["file"] for line in log.lines} == {str(tmp_path / "m")}


@pytest.mark.parametrize("line", ["a\0@x.org", "a@x.org\0", "a@x.org\rb@y.org", "a b@x.org",
                                  "a@x.org>\x0b", "\udcff@x.org"])  # fmt: skip
def test_d18_a_line_with_octets_that_no_address_has_is_no_address(
    tmp_path: Path, line: str
) -> None:
    addresses, log = read(tmp_path / "m", line.encode("utf-8", "surrogateescape"))
    assert addresses == ()
    assert len(log.lines) == 1


def test_a_file_from_another_world_is_read(tmp_path: Path) -> None:
    octets = b"\xef\xbb\xbfann@example.org\r\nJos\xe9 <jose@example.org>\r\n"
    assert read(tmp_path / "m", octets)[0] == ("ann@example.org", "jose@example.org")


def test_an_address_written_twice_is_one_member(tmp_path: Path) -> None:
    assert read(tmp_path / "m", "b@x.org\na@x.org\nB@X.ORG\n")[0] == ("b@x.org", "a@x.org")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_octets_are_a_file_of_members(tmp_path: Path, octets: bytes) -> None:
    for address in read(tmp_path / "m", octets)[0]:
        assert "@" in address
        address.encode()


def test_the_file_is_read_again_when_it_changes_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, log = tmp_path / "m", LogDouble()
    path.write_text("ann@example.org\nbad\n")
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    roll = Roll(file=str(path))
    first = roll.read(log)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", None)
        assert roll.read(log) is first  # type: ignore[arg-type]
    path.write_text("bob@example.org\nbad\n")
    assert roll.read(log).addresses == ("bob@example.org",)  # type: ignore[arg-type]
    assert len(log.lines) == 2  # each state of the file is complained of once
    roll.read(log)  # type: ignore[arg-type]
    assert len(log.lines) == 2


def test_a_change_that_the_clock_does_not_show_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same size, within the same tick of the file system's clock."""
    path, log = tmp_path / "m", LogDouble()
    path.write_text("ann@example.org\n")
    status = path.stat()
    monkeypatch.setattr("mailflow_list.members.os.stat", lambda _: status)
    roll = Roll(file=str(path))
    for name in ("ann", "bob", "cat"):
        path.write_text(f"{name}@example.org\n")
        assert roll.read(log).addresses == (f"{name}@example.org",)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_no_empty_list(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UnavailableError, match="cannot read the addresses in") as caught:
            Roll(file=str(path)).read(LogDouble())  # type: ignore[arg-type]
        assert caught.value.temporary


def test_the_toml_holds_addresses_or_the_path_of_a_file(tmp_path: Path) -> None:
    option = Rolled("")
    log = LogDouble()
    roll = option.convert(["ann@example.org", "Bob <b@x.org>", "ANN@example.org"], str(tmp_path))
    assert roll.read(log).addresses == ("ann@example.org", "b@x.org")  # type: ignore[arg-type]
    assert option.convert("m", str(tmp_path)).file == str(tmp_path / "m")


@pytest.mark.parametrize("value", [3, {"a": 1}, ["ann"], [3], ["a@x.org\r\nBcc: y@z.org"],
                                   ["a@x.org, b@x.org"], ""])  # fmt: skip
def test_d18_what_is_no_address_in_the_toml_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        Rolled("").convert(value, ".")
