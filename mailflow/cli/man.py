"""mailflow man DIRECTORY: the manual pages of this installation.

One page for the program, one for each command, and mailflow.toml(5) for the file. Rule
of the file: the words come from the declarations; here they only become man(7).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from mailflow import __version__
from mailflow.cli.commands import STATUSES, Command, every
from mailflow.tables import dry_run_option, say

if TYPE_CHECKING:
    from mailflow.engine.declared import Told
    from mailflow.engine.registry import Entry

SYNOPSIS = "Mail from where it arrives to where it should be, and none lost on the way"
FILES = (
    "What comes from where, what becomes of it and where it goes stands in pipeline files; see"
    " mailflow.toml(5)."
)
PIPELINE = (
    "A pipeline is one file in TOML: arrays of steps, in the order in which mail meets them, and"
    " perhaps a table about the whole. It needs at least one `[[fetch]]` and one"
    " `[[distribute]]`, or a `[[serve]]`. `mailflow check` says every fault of a file. What a"
    " step says of its server may stand in a table `[account.NAME]`."
)


@click.command(name="man")
@click.argument("directory", metavar="DIRECTORY", type=click.Path(file_okay=False))
@dry_run_option
def command(directory: str, dry: bool) -> None:
    """Write the manual pages into DIRECTORY, such as ~/.local/share/man.

    They tell of the components and commands that are installed here: write them again
    after a plugin was installed.
    """
    from mailflow.errors import from_os

    for name, text in pages().items():
        path = os.path.join(directory, f"man{name[-1]}", name)
        if not dry:
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _put(path, text)
            except OSError as error:
                raise from_os(error, f"write {path}") from None
        say(f"would write {path}" if dry else path)


def _put(path: str, text: str) -> None:
    """Whole or not at all: somebody may be reading the page."""
    part = f"{path}.part-{os.getpid()}"
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def pages() -> dict[str, str]:
    """Every page by its file's name, such as mailflow-run.1."""
    from mailflow.cli.root import root
    from mailflow.engine.registry import Registry

    commands = list(every(root))
    tops = [each for each in commands if len(each.words) == 1]
    made = {"mailflow.1": _lines(_program(commands[0], tops))}
    for top in tops:
        inner = [each for each in commands if each.words[:1] == top.words and each != top]
        made[f"mailflow-{top.words[0]}.1"] = _lines(_one(top, inner))
    made["mailflow.toml.5"] = _lines(_file(Registry().all()))
    return made


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text that roff shows as it is; `words` in backticks are bold."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    shown = shown.replace("^", "\\(ha").replace("'", "\\(aq")
    shown = re.sub(r"`([^`]+)`", r"\\fB\1\\fP", shown).replace("`", "\\(ga")
    return f"\\&{shown}" if shown.startswith(".") else shown


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    now = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    yield f'.TH "{plain(name)}" {section} "{date}" "mailflow {__version__}" "mailflow"'
    yield ".nh"
    yield ".SH NAME"
    yield f"{plain(name)} \\- {plain(summary.rstrip('.'))}"


def _program(program: Command, tops: Sequence[Command]) -> Iterator[str]:
    yield from _head("mailflow", 1, SYNOPSIS)
    yield ".SH SYNOPSIS"
    yield f"\\fBmailflow\\fP {plain(program.usage)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs((*program.paragraphs, FILES))
    yield from _options(program.options, "OPTIONS")
    yield ".SH COMMANDS"
    for top in tops:
        yield from _item(f"\\fBmailflow\\-{plain(top.words[0])}\\fP(1)", top.summary)
    yield from _statuses()
    yield ".SH FILES"
    for path, text in (
        ("~/.config/mailflow/*.toml", "pipelines that can be named without their directory"),
        ("/etc/mailflow/*.toml", "the same, of the whole system"),
        ("~/.local/state/mailflow", "the journals; of root, /var/lib/mailflow"),
    ):
        yield from _item(f"\\fI{plain(path)}\\fP", text)
    yield ".SH SEE ALSO"
    yield ".BR mailflow.toml (5)"


def _one(top: Command, inner: Sequence[Command]) -> Iterator[str]:
    yield from _head(f"mailflow-{top.words[0]}", 1, top.summary)
    yield ".SH SYNOPSIS"
    for number, each in enumerate(inner or (top,)):
        if number:
            yield ".br"
        yield f"\\fB{plain(each.name)}\\fP {plain(each.usage)}"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(top.paragraphs)
    yield from _options(top.options, "OPTIONS")
    if inner:
        yield ".SH COMMANDS"
    for each in inner:
        yield f'.SS "{plain(each.name)} {plain(each.usage)}"'
        yield from _paragraphs(each.paragraphs)
        yield from _options(each.options)
    if top.words != ("hook",):  # it has three, and its text names them
        yield from _statuses()
    yield ".SH SEE ALSO"
    yield ".BR mailflow (1),"
    yield ".BR mailflow.toml (5)"


def _file(entries: Sequence[Entry]) -> Iterator[str]:
    from mailflow.engine import declared
    from mailflow.engine.registry import KINDS

    yield from _head("mailflow.toml", 5, "a pipeline: where mail comes from and where it goes")
    yield ".SH DESCRIPTION"
    yield plain(PIPELINE)
    for title, meaning, options, without in declared.engine_tables():
        yield f".SH {plain(title.upper() if title[0] != '[' else title)}"
        yield plain(f"{meaning[0].upper()}{meaning[1:]}.")
        yield from _keys(declared.told(options, without=without))
    for table, kind in KINDS.items():
        yield f".SH COMPONENTS OF {plain(declared.title(table))}"
        for entry in entries:
            if entry.kind == kind and entry.component is not None:
                yield f'.SS "{plain(entry.use)}"'
                yield plain(declared.summary(entry))
                yield from _keys(declared.told(entry.component.options))
                yield ".PP"
                yield ".EX"
                example = declared.example(table, entry.use, entry.component.options)
                yield from (plain(line) for line in example.splitlines())
                yield ".EE"
    yield ".SH SEE ALSO"
    yield ".BR mailflow (1),"
    yield ".BR mailflow\\-plugins (1)"


def _keys(options: Iterable[Told]) -> Iterator[str]:
    for option in options:
        yield from _item(
            f"\\fB{plain(option.name)}\\fP",
            f"{option.doc} ({option.expected}; {option.need})",
        )


def _paragraphs(paragraphs: Iterable[str]) -> Iterator[str]:
    for number, paragraph in enumerate(filter(None, paragraphs)):
        if number:
            yield ".PP"
        yield plain(paragraph)


def _options(options: Sequence[tuple[str, str]], title: str = "") -> Iterator[str]:
    if options and title:
        yield f".SH {title}"
    for names, text in options:
        yield from _item(f"\\fB{plain(names)}\\fP", text)


def _item(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield term
    yield plain(text)


def _statuses() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for status, text in STATUSES.items():
        yield from _item(str(status), text)
