"""Every example of README.rst and docs/ is run: each TOML block alone, each page in order."""

from __future__ import annotations

import os
import poplib
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from mailflow.testing.documents import Block, Shell, blocks, commands
from mailflow.testing.example_org import ExampleOrg, post
from mailflow.testing.serving import Serving
from mailflow.testing.trial import Trial

ROOT = Path(__file__).parents[2]
ELSEWHERE_PAGES = {"webmail-sites", "writing-a-plugin"}
"""Pages that have no pipelines, or need what is not installed here: a test of their own follows
them."""

PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
PAGES = [page for page in PAGES if page.stem not in ELSEWHERE_PAGES]
TOML = [block for page in PAGES for block in blocks(page) if block.language == "toml"]
CONSOLE = [page for page in PAGES if any(b.language == "console" for b in blocks(page))]

ELSEWHERE = {
    "$ make test",
    "$ python3 -m venv ~/mailflow",
    "$ ~/mailflow/bin/pip install .",
    "$ export PATH=~/mailflow/bin:$PATH       # and in ~/.profile, to have it tomorrow",
}
"""What other tests of the README run: this one itself, and the installation."""

SETS_UP = {"$ make demo": "$ mailflow demo"}
"""What a target of make runs once it has installed what is installed here."""


class Desk(Shell):
    """A shell, and what runs in other terminals meanwhile."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        super().__init__(home, environment)
        self.others = ExitStack()

    def ask(self, command: str) -> str:
        """What a command prints that the page does not show."""
        (ran,) = self.run(Block("given", 0, "console", f"$ {command}\n"))
        return ran.output


@pytest.fixture
def org(tmp_path: Path) -> Iterator[ExampleOrg]:
    with ExampleOrg(tmp_path / "org") as servers:
        yield servers


def needing(text: str, value: Block | Path, name: str) -> ParameterSet:
    """A case whose mail lies on an IMAP server needs a real one."""
    imap = [pytest.mark.interop("dovecot-imapd")] if "imap.example" in text else []
    return pytest.param(value, marks=imap, id=name)


@pytest.mark.parametrize("block", [needing(block.text, block, block.place) for block in TOML])
def test_the_pipeline_does_what_it_says(block: Block, org: ExampleOrg, home: Path) -> None:
    problems = Trial(org, home, block.text).problems()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", [needing(page.read_text(), page, page.stem) for page in CONSOLE])
def test_the_page_can_be_followed(page: Path, org: ExampleOrg, home: Path) -> None:
    """From top to bottom: files are written where they stand, commands do what is shown."""
    bin_directory = Path(sys.executable).parent
    path = f"{bin_directory}:{os.environ['PATH']}"
    desk = Desk(home, {"PATH": path, "SSL_CERT_FILE": org.ca_file})
    desk.names.update({
        "pop.example.org:995": f"localhost:{org.pop3.port}",
        "smtp.example.org:587": f"localhost:{org.smtp.port}",
        "@pop.example.org": "@localhost",
        '"pop.example.org", "port": 995': f'"localhost", "port": {org.pop3.port}',
    })  # fmt: skip
    if "imap.example" in page.read_text():
        imap = f"localhost:{org.imap.imaps_port}"
        desk.names.update({"imap.example.org:993": imap, "@imap.example.org": f"@{imap}"})
    if "webmail.example" in page.read_text():
        bed = f"127.0.0.1:{org.webmail.port}"
        desk.names.update({
            "webmail.example.org": bed,
            "the site roundcube (Roundcube 1.6)": "the site testbed (mailflow testbed)",
        })  # fmt: skip
    with desk.others:
        for block in blocks(page):
            follow(block, org, desk)


def follow(block: Block, org: ExampleOrg, desk: Desk) -> None:
    """Do what a reader does at this place."""
    if block.language == "given":
        given(block.text, org, desk)
    elif block.language == "console" and not elsewhere(block):
        for before, after in SETS_UP.items():
            block = block._replace(text=block.text.replace(before, after))
        complaints = desk.check(block)
        assert not complaints, "\n".join(complaints)
    elif block.file:
        write(block, org, desk)


def test_every_target_that_the_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"\$ make (\w+)$|``make (\w+)``", (ROOT / "README.rst").read_text(), re.M)
    targets = {"".join(pair) for pair in named}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert f"\n{target}:" in makefile


def elsewhere(block: Block) -> bool:
    return all(f"$ {command.text}" in ELSEWHERE for command in commands(block))


def write(block: Block, org: ExampleOrg, desk: Desk) -> None:
    """The file that a block shows, and what a pipeline needs that the page has not made."""
    assert block.file
    home = Path(desk.home)
    path = Path(block.file.replace("~", str(home), 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    if block.language == "toml":
        org.furnish(home, block.text)
        path.write_text(org.rewrite(block.text))
    elif block.language == "python":
        text = block.text
        for name, here in desk.names.items():
            text = text.replace(name, here)
        path.write_text(text)
    else:
        path.write_text(block.text)


def given(words: str, org: ExampleOrg, desk: Desk) -> None:
    """What a page takes for granted at this place."""
    for pattern, prepare in GIVEN.items():
        if found := re.fullmatch(pattern, words):
            prepare(org, desk, *found.groups())
            return
    pytest.fail(f"nobody knows how to prepare: {words}")


def a_post(org: ExampleOrg, desk: Desk, user: str, subject: str, sender: str) -> None:
    org.pop3.deliver(user, post(f"{user}@example.org", subject, sender))


def a_mail(org: ExampleOrg, desk: Desk, user: str, folder: str, subject: str, sender: str) -> None:
    message = post(f"{user}@example.org", subject, sender)
    org.imap.deliver(user, message, folder=folder)


def on_a_page(
    org: ExampleOrg, desk: Desk, user: str, folder: str, subject: str, sender: str
) -> None:
    org.webmail.put(folder, post(f"{user}@example.org", subject, sender))


def beside(org: ExampleOrg, desk: Desk, port: str, command: str) -> None:
    """Another terminal, in which a server runs until the page ends. It listens elsewhere."""
    here = org.port(int(port))
    desk.names[f"127.0.0.1:{port}"] = f"127.0.0.1:{here}"
    words = shlex.split(command.replace(port, str(here)).replace("~", desk.home))
    process = subprocess.Popen(
        words, env=desk.environment, cwd=desk.home, stderr=subprocess.DEVNULL
    )
    desk.others.callback(process.wait)
    desk.others.callback(process.terminate)
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", here), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"`{command}` does not listen"
            time.sleep(0.05)  # nothing tells when another process listens
        else:
            return


def refused(org: ExampleOrg, desk: Desk, address: str, reply: str) -> None:
    org.smtp.on("RCPT", reply, match=address)


def a_file(org: ExampleOrg, desk: Desk, path: str, text: str) -> None:
    file = Path(path.replace("~", desk.home, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("\\n", "\n"))


def another_when(org: ExampleOrg, desk: Desk, path: str, expression: str) -> None:
    file = Path(path.replace("~", desk.home, 1))
    file.write_text(re.sub(r"when = '.*'", f"when = '{expression}'", file.read_text()))


def an_id(org: ExampleOrg, desk: Desk, name: str, words: str) -> None:
    """The page calls a mail by `name`; it is the one that `queue list` shows with `words`."""
    listed = desk.ask("mailflow queue list")
    (desk.names[name],) = {line.split()[0] for line in listed.splitlines() if words in line}


def served(org: ExampleOrg, desk: Desk, name: str) -> None:
    """Another terminal, in which `mailflow serve NAME` runs until the page ends."""
    for documented, here in org.here.items():
        desk.names[f"127.0.0.1:{documented}"] = f"127.0.0.1:{here}"
    file = Path(desk.home, ".config", "mailflow", f"{name}.toml")
    desk.others.enter_context(Serving(file, environ=desk.environment))


def has_come(org: ExampleOrg, desk: Desk, drop: str) -> None:
    deadline = time.monotonic() + 20
    while not desk.ask(f"mailflow spool list --json {drop}").startswith(("[{", "[\n")):
        assert time.monotonic() < deadline, desk.ask("mailflow status")
        time.sleep(0.05)  # nothing tells another process when mail comes into a drop


def a_program_reads(org: ExampleOrg, desk: Desk, login: str, subject: str) -> None:
    """With a password of its own, since the one that was shown is nowhere any more."""
    password = desk.ask(f"mailflow maildrop add --replace {login} 2>/dev/null").strip()
    box = poplib.POP3("127.0.0.1", org.here[1110], timeout=10)
    box.user(login)
    box.pass_(password)
    assert f"Subject: {subject}".encode() in box.retr(1)[1]
    box.dele(1)
    assert box.quit().startswith(b"+OK")


GIVEN = {
    r"(\w+) is served": served,
    r"a message has come for (\w+)": has_come,
    r'the program of (\w+) reads "(.+)" and deletes it': a_program_reads,
    r'(\w+) has "(.+)" from (.+)': a_post,
    r'(\w+) has in (\S+) on the webmail "(.+)" from (.+)': on_a_page,
    r"on port (\d+) runs (.+)": beside,
    r'(\w+) has in (\S+) on IMAP "(.+)" from (.+)': a_mail,
    r'(\S+) is answered "(.+)"': refused,
    r'(\S+) holds "(.+)"': a_file,
    r'(\S+) says "(.+)"': another_when,
    r'(\S+) is the mail of "(.+)"': an_id,
    r"expressions": lambda org, desk: None,
}
