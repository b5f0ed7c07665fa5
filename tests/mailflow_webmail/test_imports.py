"""What reads pages is loaded by those alone who read pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.webmail import TestBed

READS_PAGES = (
    "bs4",
    "lxml",
    "mechanicalsoup",
    "mailflow_webmail",
    "regex",
    "requests",
    "soupsieve",
    "urllib3",
)
SERVES_PAGES = ("flask", "werkzeug", "jinja2", "mailflow_webmail.testbed")

PROGRAM = """
import os, sys
def tell(status):
    os.write(1, " ".join(sys.modules).encode())
    leave(status)
leave, os._exit = os._exit, tell
from mailflow.__main__ import main
sys.exit(main())
"""


def loaded(tmp_path: Path, fetch: dict[str, object]) -> set[str]:
    """The modules that `mailflow run` has loaded in the end, from a source into a Maildir."""
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in fetch.items())
    file = tmp_path / "run.toml"
    file.write_text(
        f'[[fetch]]\n{lines}[[distribute]]\nuse = "maildir"\npath = "{tmp_path}/Maildir"\n'
    )
    file.chmod(0o600)
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", str(file)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 1
    return set(done.stdout.split())


def of(names: tuple[str, ...], modules: set[str]) -> list[str]:
    return [each for each in sorted(modules) if any(f"{each}.".startswith(f"{n}.") for n in names)]


def test_a_run_from_pop3_loads_nothing_that_reads_pages(tmp_path: Path) -> None:
    with Pop3Server({"ann": "secret"}) as server:
        server.deliver("ann", b"Subject: x\r\n\r\nhello\r\n")
        modules = loaded(
            tmp_path,
            {"use": "pop3", "host": server.host, "port": server.port, "tls": "none",
             "user": "ann", "password": "secret"},
        )  # fmt: skip
    assert of(READS_PAGES + SERVES_PAGES, modules) == []


def test_a_run_from_a_webmail_loads_nothing_that_serves_pages(tmp_path: Path) -> None:
    with TestBed(["INBOX"]) as bed:
        bed.put("INBOX", b"Subject: x\r\n\r\nhello\r\n")
        modules = loaded(tmp_path, dict(bed.source()))
    assert of(SERVES_PAGES, modules) == []


def test_to_name_a_webmail_in_a_file_loads_nothing_that_reads_pages() -> None:
    program = "import json, sys, mailflow_webmail.fetcher; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = tuple(name for name in READS_PAGES if name != "mailflow_webmail")
    assert of(heavy + SERVES_PAGES, set(json.loads(done.stdout))) == []
