"""What is wrong with a file as a whole is one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailflow.engine.source import find
from mailflow.toml_file import ConfigFaults, Source


def told(path: Path | str, octets: bytes | None = None) -> str:
    """What is said of a file, without its name."""
    if octets is not None:
        Path(path).write_bytes(octets)
    with pytest.raises(ConfigFaults) as raised:
        Source.read(str(path))
    assert len(raised.value.faults) == 1
    return str(raised.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"a = 1\nb = x\n", ":2: not TOML at column 5: invalid value; text stands in quotes"),
        (b"[[", ":1: not TOML at column 3: expected the name of a key or table"),
        (b"a = 1\na = 2\n", ":2: not TOML at column 6: this key is there twice"),
        (b"[a.b]\n[a.b]\n", ":2: not TOML at column 5: [a.b] is there twice"),
        (
            b"[[fetch]\n",
            ":1: not TOML at column 8: expected ']]' at the end of an array declaration",
        ),
        (b"a = 1 b = 2\n", None),
        (b"x = 1\na = 'b\nc = 1\n", ":2: not TOML: a text is not closed"),
        (b'x = 1\na = "b\nc = 1\n', ":2: not TOML: a text is not closed"),
        (
            b'a = "\\d"\n',
            ":1: not TOML at column 8: a \\ in a text is written \\\\, or the text stands in '...'",
        ),
        (
            b"a = 1 b\n",
            ":1: not TOML at column 7: expected the end of the line behind the value",
        ),
        (b"x = 1\na = '''\nb\nc = 1\n", ":2: not TOML: a text is not closed"),
        (b'x = 1\na = """\nb\nc = 1\n', ":2: not TOML: a text is not closed"),
        (b"x = 1\na = [\n1,\n2\n", ":2: not TOML: an array is not closed"),
        (b"x = 1\na = [\n1,\n2,\n", ":2: not TOML: a value is not complete"),
        (b"x = 1\na =", ":2: not TOML: a value is not complete"),
        (b"x = 1\na = { b = 1\nc = 2\n", ":2: not TOML: an inline table is not closed"),
        (b"\xef\xbb\xbfa = 1\n", ":1: begins with a byte order mark; save it as UTF-8 without one"),
        ("a = 1\n".encode("utf-16"), ":1: is UTF-16; save it as UTF-8"),
        (
            b"# ok\n# caf\xe9\n",
            ":2: octet 0xe9 is not UTF-8; save the file as UTF-8",
        ),
        (b"#" * (10 << 20), ": is larger than 1048576 octets, too large for such a file"),
        (b"a = " + b"[" * 9000, ": arrays and tables are nested too deep"),
        (b"a = 0x" + b"f" * 9000 + b"g", None),
    ],
)
def test_c04_a_malformed_file_is_one_line(tmp_path: Path, octets: bytes, said: str | None) -> None:
    found = told(tmp_path / "red.toml", octets)
    assert len(found.splitlines()) == 1
    assert found.startswith(":1: not TOML at column ") if said is None else found == said


def test_c04_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert told(tmp_path / "no.toml") == ": cannot be read: No such file or directory"
    assert told(tmp_path) == ": cannot be read: Is a directory"


def test_c04_a_file_that_may_not_be_read_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "red.toml"
    path.touch(0o000)
    user = os.geteuid()
    try:
        if user == 0:  # root reads everything
            os.seteuid(65534)
        assert told(path) == ": cannot be read: Permission denied"
    finally:
        os.seteuid(user)


def test_pwm06_a_name_is_looked_for_here_in_the_user_s_and_in_the_system_s_directory(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = home / ".config/mailflow"
    with pytest.raises(ConfigFaults) as raised:
        find("red")
    assert str(raised.value) == (
        f"red: there is no such pipeline; looked for red.toml, {config}/red.toml,"
        " /etc/mailflow/red.toml"
    )
    config.mkdir(parents=True)
    (config / "red.toml").touch()
    assert find("red") == str(config / "red.toml")
    (tmp_path / "red.toml").touch()
    assert find("red") == "red.toml"


def test_pwm06_xdg_config_home_is_the_user_s_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg/mailflow").mkdir(parents=True)
    (tmp_path / "xdg/mailflow/red.toml").touch()
    assert find("red") == str(tmp_path / "xdg/mailflow/red.toml")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    for path in ("./red", "red.toml", "/nowhere/red"):
        assert find(path) == path


def test_c07_a_lost_working_directory_does_not_matter_to_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "red.toml"
    path.touch()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert Source.read(str(path)).base == str(tmp_path)
    assert told("red.toml") == ": cannot be read: No such file or directory"
