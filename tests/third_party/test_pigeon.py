"""A plugin of somebody else does all that ours do, and its own tests show it."""

from __future__ import annotations

import json
import os
import poplib
import socket
from pathlib import Path

import pytest

from mailflow.testing import kill
from mailflow.testing.serving import Serving, free_ports

from .conftest import PIGEON, Environment

MESSAGE = b"Subject: coo\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"

PIPELINE = """
[[fetch]]
use = "pigeon"
loft = "near"
keep = "0d"

[[process]]
use = "pigeon.once"

[[distribute]]
use = "pigeon"
loft = "far"

[[react]]
use = "pigeon.rest"
after = "1s"
"""


@pytest.fixture
def file(pigeon: Environment, tmp_path: Path) -> Path:
    """A pipeline between two lofts, with two pigeons that carry the same message."""
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    for number in range(2):
        (tmp_path / "near" / f"{number}.eml").write_bytes(MESSAGE)
    path = tmp_path / "pigeons.toml"
    path.write_text(f'[pipeline]\njournal = "{tmp_path}/journal.db"\n{PIPELINE}')
    return path


def there(file: Path, loft: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((file.parent / loft).glob("*.eml"))]


def test_what_runs_is_what_was_installed(pigeon: Environment) -> None:
    where = pigeon("python", "-c", "import mailflow, mailflow_pigeon as p; print(mailflow, p)")
    assert where.count(str(pigeon.path)) == 2


def test_it_keeps_the_contracts_of_all_kinds(pigeon: Environment) -> None:
    said = pigeon("python", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                  PIGEON / "tests" / "test_contracts.py")  # fmt: skip
    assert " passed" in said


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(kill.obstacle()), reason=kill.obstacle())
@pytest.mark.interop("xfsprogs", "e2fsprogs")
@pytest.mark.parametrize("which", ["step and not Once", "step and Once", "time", "power"])
def test_d04_d05_killed_at_any_step_or_cut_off_it_loses_and_doubles_nothing(
    pigeon: Environment, which: str
) -> None:
    said = pigeon("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", which,
                  PIGEON / "tests" / "test_kills.py")  # fmt: skip
    assert "1 passed" in said or (which == "power" and os.geteuid() and "1 skipped" in said)


def test_plugins_shows_its_components_and_their_options(pigeon: Environment) -> None:
    listed = json.loads(pigeon("mailflow", "plugins", "--json"))
    theirs = {(each["use"], each["kind"]): each for each in listed if "pigeon" in each["use"]}
    assert theirs.keys() == {
        ("pigeon", "fetcher"), ("pigeon", "distributor"), ("pigeon.once", "processor"),
        ("pigeon.rest", "reactor"), ("pigeon", "maildrop"), ("pigeon", "service"),
    }  # fmt: skip
    assert {each["distribution"] for each in theirs.values()} == {"mailflow-pigeon"}
    assert "The directory in which the pigeons sit" in pigeon("mailflow", "plugins", "pigeon")


def test_check_knows_its_options(pigeon: Environment, file: Path) -> None:
    pigeon("mailflow", "check", file)
    file.write_text(file.read_text().replace("loft =", "lofd =", 1))
    said = pigeon("mailflow", "check", file, status=78)
    assert "fetch[1].lofd" in said
    assert "did you mean `loft`" in said


def test_run_takes_its_mail_through_its_steps(pigeon: Environment, file: Path) -> None:
    said = pigeon("mailflow", "-v", "run", file)
    assert (there(file, "near"), there(file, "far")) == ([], [MESSAGE])
    assert said.count("a pigeon has landed") == 1, "its listener is told of every delivery"


def test_its_errors_are_lines_of_its_own(pigeon: Environment, file: Path) -> None:
    (file.parent / "near" / ".keeper").write_text("secret word\n")
    said = pigeon("mailflow", "run", file, status=77)
    assert "the keeper of" in said
    assert "Traceback" not in said
    assert len(there(file, "near")) == 2


def test_its_commands_are_commands_of_mailflow(pigeon: Environment, file: Path) -> None:
    near, far = file.parent / "near", file.parent / "far"
    assert pigeon("mailflow", "pigeon", "count", near) == "2\n"
    pigeon("mailflow", "pigeon", "fly", near, far)
    assert pigeon("mailflow", "pigeon", "count", near) == "0\n"
    assert there(file, "far") == [MESSAGE] * 2
    assert "Say how many pigeons sit in LOFT" in pigeon("mailflow", "pigeon", "--help")


COTE = """
[maildrop.ann]
use = "pigeon"
loft = "near"
secret = "secret"

[[serve]]
use = "pop3"
listen = "127.0.0.1:{0}"

[[serve]]
use = "pigeon"
listen = "127.0.0.1:{1}"
"""


def test_p3s_07_its_maildrop_is_read_over_pop3_and_its_service_serves(
    pigeon: Environment, file: Path
) -> None:
    """What a back end of a POP3 server is: who may log in, what is there, read it, delete it."""
    ports = free_ports(2)
    cote = file.with_name("cote.toml")
    cote.write_text(COTE.format(*ports))
    program = [f"{pigeon.path}/bin/mailflow"]
    with Serving(cote, environ=pigeon.environment, program=program) as serving:
        assert said(ports[1], b"ann secret\n") == b"2 pigeons\n"
        assert said(ports[1], b"ann wrong\n") == b"no\n"
        client = poplib.POP3("127.0.0.1", ports[0], timeout=20)
        client.user("ann")
        client.pass_("secret")
        assert said(ports[1], b"ann secret\n") == b"no\n", "another session has it"
        assert client.stat() == (2, 2 * len(MESSAGE))
        assert b"\r\n".join(client.retr(2)[1]) + b"\r\n" == MESSAGE
        client.dele(1)
        client.quit()
        assert said(ports[1], b"ann secret\n") == b"1 pigeons\n"
        status = json.loads(pigeon("mailflow", "status", "--json"))
        assert "'clients': " in str(status), status
        assert "secret" not in serving.said
    assert there(file, "near") == [MESSAGE]


def said(port: int, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(line)
        with client.makefile("rb") as answer:
            return answer.read()
