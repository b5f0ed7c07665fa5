"""Examples of a document, found and run: what a reader would type, and what is shown.

    for block in blocks("README.rst"):
        if block.language == "console":
            problems = shell.check(block)

A block of any language whose first line is a comment with a path ("# ~/x.toml") is
that file. A comment ".. given: WORDS" is a block of language "given": what a test must
prepare, out of the reader's sight. Rule of the file: examples are run as they stand, by
a shell, in a home of their own.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_DIRECTIVE = re.compile(r"(?P<indent> *)\.\. (?:code|code-block):: (?P<language>\w+)\s*$")
_GIVEN = re.compile(r"\s*\.\. given: (?P<words>.+?)\s*$")
_FILE = re.compile(r"[#;] (?P<path>[~/][^\s]*)\s*$")
_PROMPT, _CONTINUED = "$ ", "> "


class Block(NamedTuple):
    """One example. `line` is where its text begins in `document`, from 1."""

    document: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The path that its first line names, such as "~/lists/red.toml"."""
        found = _FILE.match(self.text.partition("\n")[0])
        return found["path"] if found else None

    @property
    def place(self) -> str:
        return f"{os.path.basename(self.document)}:{self.line}"


class Command(NamedTuple):
    """What stands behind a prompt, and what the document shows under it, or ""."""

    text: str
    shown: str


class Ran(NamedTuple):
    """What a command printed, on both outputs, and its exit status."""

    command: Command
    status: int
    output: str


def blocks(document: str | os.PathLike[str]) -> list[Block]:
    """Every code block and every ".. given:" of a reStructuredText file, in order."""
    path = os.fspath(document)
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return list(_blocks(path, lines))


def _blocks(path: str, lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if given := _GIVEN.match(line):
            yield Block(path, number, "given", given["words"])
        directive = _DIRECTIVE.match(line)
        if not directive:
            continue
        indent = len(directive["indent"])
        inside: list[str] = []
        while number < len(lines) and (
            not lines[number].strip() or len(lines[number]) - len(lines[number].lstrip()) > indent
        ):
            inside.append(lines[number])
            number += 1
        start = number - len(inside)
        while inside and (not inside[0].strip() or inside[0].strip().startswith(":")):
            del inside[0]
            start += 1
        yield Block(path, start + 1, directive["language"], _dedented(inside))


def _dedented(lines: list[str]) -> str:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:] for line in lines).rstrip() + "\n"


def commands(block: Block) -> list[Command]:
    """The commands of a console block. Raises ValueError where it begins without one."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith(_PROMPT):
            found.append(Command(line[len(_PROMPT) :], ""))
        elif not found:
            raise ValueError(f"{block.place}: a console block begins with '$ '")
        elif line.startswith(_CONTINUED) and not found[-1].shown:
            text = found[-1].text + "\n" + line[len(_CONTINUED) :]
            found[-1] = Command(text, "")
        else:
            found[-1] = Command(found[-1].text, found[-1].shown + line + "\n")
    return found


class Shell:
    """Runs console blocks in `home`; of the environment there is only what is given.

    `names` are words of the document and what stands for them here: they are replaced
    in what is run, and, the other way round, in what was printed.
    """

    def __init__(self, home: str | os.PathLike[str], environment: Mapping[str, str]) -> None:
        self.home = os.fspath(home)
        self.names = {"/home/ann": self.home}
        state = os.path.join(self.home, ".local", "state")  # root's own is /var/lib
        mine = {"HOME": self.home, "XDG_STATE_HOME": state, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self.environment = {**mine, **environment}

    def run(self, block: Block, timeout: float = 60.0) -> list[Ran]:
        """Run the commands of a block in one shell, and say what each of them did."""
        wanted = commands(block._replace(text=self._here(block.text)))
        script = "".join(
            f"{each.text}\nset -- $?; printf '\\0%d\\0' $1; (exit $1)\n" for each in wanted
        )
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        parts = done.stdout.decode("utf-8", "replace").split("\0")
        if len(parts) != 2 * len(wanted) + 1:
            raise ValueError(f"{block.place}: the shell gave up: {parts}")
        results = zip(wanted, parts[1::2], parts[:-1:2], strict=True)
        return [
            Ran(command, int(status), self._there(output)) for command, status, output in results
        ]

    def _here(self, text: str) -> str:
        for name, here in self.names.items():
            text = text.replace(name, here)
        return text

    def _there(self, text: str) -> str:
        for name, here in self.names.items():
            text = text.replace(here, name)
        return text

    def check(self, block: Block) -> list[str]:
        """Run a block; one line of complaint for each command that does not do as shown.

        A command must succeed, unless the next one shows its status (`echo $?`).
        """
        ran = self.run(block)
        complaints = []
        for number, (command, status, output) in enumerate(ran):
            asked = number + 1 < len(ran) and ran[number + 1].command.text == "echo $?"
            if status and not asked:
                complaints.append(f"{block.place}: `{command.text}` exits {status}:\n{output}")
            elif command.shown and not alike(self._there(command.shown), output):
                complaints.append(
                    f"{block.place}: `{command.text}` shows\n{command.shown}and prints\n{output}"
                )
        return complaints


def alike(shown: str, printed: str) -> bool:
    """Whether a document shows what was printed. "..." stands for anything, alone on a line
    for any lines, none too; moments, spans, sums and how far columns are apart may differ."""
    shown = re.sub(r"^ *\.\.\.\n", "...", _plain(shown), flags=re.MULTILINE)
    return doctest.OutputChecker().check_output(shown, _plain(printed), doctest.ELLIPSIS)


def _plain(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\dZ]*", "2026-01-01", text)
    text = re.sub(r"\b(\d+[dhms] ?)+\b", "0s ", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "00000000", text)
    return re.sub(r"[ \t]+(\n?)", lambda found: found[1] or " ", text)
