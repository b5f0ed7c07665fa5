"""What is installed with mailflow, and whom it asks: what the file names, and nobody else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from ..cli.command import FETCH, HOOK, MAIL, Shop, pop3

ROOT = Path(__file__).parents[2]
PROJECT = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
AT_RUN_TIME = [
    *PROJECT["dependencies"],
    *(each for name in ("filters", "gateway", "keyring", "oauth2") for each in EXTRAS[name]),
]
CALLED = {
    "beautifulsoup4": "bs4", "google-re2": "re2", "pysocks": "socks", "argon2-cffi": "argon2",
}  # fmt: skip
"""What is imported by another name than it is installed by."""


@pytest.mark.parametrize("dependency", AT_RUN_TIME)
def test_a_dependency_has_the_lowest_version_that_was_tried(dependency: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+>=\d[\d.]*(,<\d+)?", dependency)


def test_every_dependency_is_used() -> None:
    """By an import, or by a name that a library is told, such as "lxml"."""
    files = [*(ROOT / "mailflow").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE))
    used |= set(re.findall(r'[(,] ?"(\w+)"', code))
    names = {re.split("[>=]", each)[0] for each in AT_RUN_TIME}
    assert {each for each in names if CALLED.get(each, each) not in used} == set()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


WATCHED = """
import os, sys
def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        name = arguments[0]
        os.write(log, (name if isinstance(name, bytes) else name.encode()) + b"\\n")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        os.write(log, f"{arguments[1][0]}:{arguments[1][1]}\\n".encode())
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
sys.addaudithook(audit)
from mailflow.__main__ import main
main()
"""
"""mailflow, with a list kept of all names that are looked up and all places connected to."""


def watched(shop: Shop, *words: str, stdin: bytes = b"") -> set[str]:
    """Whom a command asks that ends well."""
    log = shop.home / "asked"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-P", "-c", WATCHED, str(log), *words], input=stdin,
        env=shop.environment(), cwd=shop.home, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(log.read_text().splitlines())


@pytest.mark.parametrize(
    "words",
    [["--help"], ["plugins", "webmail"], ["check", "FILE"],
     ["hook", "FILE"], ["run", "FILE"], ["status"], ["webmail", "sites"],
     ["query", "explain", "seen"]],
    ids=" ".join,
)  # fmt: skip
def test_nobody_is_asked_where_no_server_is_named(shop: Shop, words: list[str]) -> None:
    file = shop.write(HOOK)
    words = [file if each == "FILE" else each for each in words]
    assert watched(shop, *words, stdin=MAIL) == set()


def test_only_the_server_that_is_named_is_asked(shop: Shop) -> None:
    with pop3(MAIL.replace(b"\n", b"\r\n")) as server:
        file = shop.write(FETCH, port=server.port, secret=shop.secret())
        assert watched(shop, "run", file) == {"127.0.0.1", f"127.0.0.1:{server.port}"}
    assert shop.maildir == [MAIL]
