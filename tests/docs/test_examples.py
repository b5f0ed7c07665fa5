"""Every example of README.rst and docs/ is run: each TOML block alone, each page in order."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.documents import Block, Shell, blocks, commands
from mailflow.testing.example_org import ExampleOrg, post
from mailflow.testing.trial import Trial

ROOT = Path(__file__).parents[2]
ELSEWHERE_PAGES = {"writing-a-plugin"}
"""Pages that need what is not installed here: a test of their own follows them."""

PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
PAGES = [page for page in PAGES if page.stem not in ELSEWHERE_PAGES]
TOML = [block for page in PAGES for block in blocks(page) if block.language == "toml"]
CONSOLE = [page for page in PAGES if any(b.language == "console" for b in blocks(page))]

ELSEWHERE = {"$ make test", "$ python3 -m venv ~/mailflow", "$ ~/mailflow/bin/pip install ."}
"""What other tests of the README run: this one itself, and the installation."""

SETS_UP = {"$ make demo": "$ mailflow demo"}
"""What a target of make runs once it has installed what is installed here."""


@pytest.fixture
def org(tmp_path: Path) -> Iterator[ExampleOrg]:
    with ExampleOrg(tmp_path / "org") as servers:
        yield servers


@pytest.mark.parametrize("block", TOML, ids=lambda block: block.place)
def test_the_pipeline_does_what_it_says(block: Block, org: ExampleOrg, home: Path) -> None:
    problems = Trial(org, home, block.text).problems()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", CONSOLE, ids=lambda page: page.stem)
def test_the_page_can_be_followed(page: Path, org: ExampleOrg, home: Path) -> None:
    """From top to bottom: files are written where they stand, commands do what is shown."""
    bin_directory = Path(sys.executable).parent
    path = f"{bin_directory}:{os.environ['PATH']}"
    shell = Shell(home, {"PATH": path, "SSL_CERT_FILE": org.ca_file})
    shell.names.update({
        "pop.example.org:995": f"localhost:{org.pop3.port}",
        "smtp.example.org:587": f"localhost:{org.smtp.port}",
        "@pop.example.org": "@localhost",
        '"pop.example.org", "port": 995': f'"localhost", "port": {org.pop3.port}',
    })  # fmt: skip
    for block in blocks(page):
        if block.language == "given":
            given(block.text, org, shell)
        elif block.language == "console" and not elsewhere(block):
            for before, after in SETS_UP.items():
                block = block._replace(text=block.text.replace(before, after))
            complaints = shell.check(block)
            assert not complaints, "\n".join(complaints)
        elif block.file:
            write(block, org, shell)


def test_every_target_that_the_readme_names_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"\$ make (\w+)$|``make (\w+)``", (ROOT / "README.rst").read_text(), re.M)
    targets = {"".join(pair) for pair in named}
    assert {"demo", "test"} <= targets
    for target in targets:
        assert f"\n{target}:" in makefile


def elsewhere(block: Block) -> bool:
    return all(f"$ {command.text}" in ELSEWHERE for command in commands(block))


def write(block: Block, org: ExampleOrg, shell: Shell) -> None:
    """The file that a block shows, and what a pipeline needs that the page has not made."""
    assert block.file
    home = Path(shell.home)
    path = Path(block.file.replace("~", str(home), 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    if block.language == "toml":
        org.furnish(home, block.text)
        path.write_text(org.rewrite(block.text))
    elif block.language == "python":
        text = block.text
        for name, here in shell.names.items():
            text = text.replace(name, here)
        path.write_text(text)
    else:
        path.write_text(block.text)


def given(words: str, org: ExampleOrg, shell: Shell) -> None:
    """What a page takes for granted at this place."""
    for pattern, prepare in GIVEN.items():
        if found := re.fullmatch(pattern, words):
            prepare(org, shell, *found.groups())
            return
    pytest.fail(f"nobody knows how to prepare: {words}")


def a_post(org: ExampleOrg, shell: Shell, user: str, subject: str, sender: str) -> None:
    org.pop3.deliver(user, post(f"{user}@example.org", subject, sender))


def refused(org: ExampleOrg, shell: Shell, address: str, reply: str) -> None:
    org.smtp.on("RCPT", reply, match=address)


def a_file(org: ExampleOrg, shell: Shell, path: str, text: str) -> None:
    file = Path(path.replace("~", shell.home, 1))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("\\n", "\n"))


def another_when(org: ExampleOrg, shell: Shell, path: str, expression: str) -> None:
    file = Path(path.replace("~", shell.home, 1))
    file.write_text(re.sub(r"when = '.*'", f"when = '{expression}'", file.read_text()))


def an_id(org: ExampleOrg, shell: Shell, name: str, words: str) -> None:
    """The page calls a mail by `name`; it is the one that `queue list` shows with `words`."""
    listed = shell.run(Block("given", 0, "console", "$ mailflow queue list\n"))[0].output
    (shell.names[name],) = {line.split()[0] for line in listed.splitlines() if words in line}


GIVEN = {
    r'(\w+) has "(.+)" from (.+)': a_post,
    r'(\S+) is answered "(.+)"': refused,
    r'(\S+) holds "(.+)"': a_file,
    r'(\S+) says "(.+)"': another_when,
    r'(\S+) is the mail of "(.+)"': an_id,
    r"expressions": lambda org, shell: None,
}
