"""The reference, made of the declarations while Sphinx builds: five directives.

    .. keys:: fetch              the engine's keys of a table ("step": of every step)
    .. components:: fetch        each component of that table, with its options
    .. commands::                each command
    .. statuses::                the exit statuses
    .. language:: list           the keys of that table in a webmail's definition

Rule of the file: it only sets words in reStructuredText; they come from the options of
the components and from the commands themselves.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mailflow.cli.commands import STATUSES, every
from mailflow.cli.root import root
from mailflow.engine import declared
from mailflow.engine.pipeline import ENGINE, PipelineOptions, StepOptions
from mailflow.engine.registry import KINDS, Entry, Registry
from mailflow_webmail.definition import finders, language
from mailflow_webmail.definition.wording import Section


def rst(text: str) -> str:
    """Text as it is, with what stands in backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts = [text]
    return "".join(
        f"``{part}``" if number % 2 else re.sub(r"([\\*|_`])", r"\\\1", part)
        for number, part in enumerate(parts)
    )


def items(terms: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A definition list; the terms are reStructuredText, their texts plain."""
    for term, text in terms:
        yield term
        yield f"   {rst(text)}"
        yield ""


def options(found: Iterable[declared.Told]) -> Iterator[str]:
    yield from items(
        (f"``{each.name}`` : {rst(each.expected)}; {rst(each.need)}", each.doc) for each in found
    )


class Generated(SphinxDirective, ABC):
    """Parses what `lines` gives, sections too."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        word = self.arguments[0] if self.arguments else ""
        return self.parse_text_to_nodes("\n".join(self.lines(word)), allow_section_headings=True)

    @abstractmethod
    def lines(self, word: str) -> Iterator[str]:
        """reStructuredText, for the directive's one argument."""


class Keys(Generated):
    def lines(self, word: str) -> Iterator[str]:
        without: Iterable[str] = ()
        if word in ENGINE:
            found: type[declared.Options] = ENGINE[word][0]
            without = StepOptions.declared()
        else:
            found = {"step": StepOptions, "pipeline": PipelineOptions}[word]
        yield from options(declared.told(found, without=without))


class Components(Generated):
    def lines(self, word: str) -> Iterator[str]:
        for entry in Registry().all():
            if entry.kind == KINDS[word] and entry.distribution == "mailflow":
                yield from self.component(word, entry)

    def component(self, table: str, entry: Entry) -> Iterator[str]:
        if entry.component is None:
            raise self.error(f"{entry.use}: {entry.fault}")
        title = f"``{entry.use}``"
        label = entry.use.replace(".", "-")
        yield from (f".. _{table}-{label}:", "", title, "-" * len(title), "")
        yield from (rst(declared.summary(entry)), "")
        yield from options(declared.told(entry.component.options))
        yield from (".. code-block:: toml", "")
        example = declared.example(table, entry.use, entry.component.options)
        yield from (f"   {line}" for line in example.splitlines())
        yield ""


class Commands(Generated):
    def lines(self, word: str) -> Iterator[str]:
        for command in every(root):
            title = f"``{command.name}``"
            yield from (title, "-" * len(title), "")
            for paragraph in command.paragraphs:
                yield from (rst(paragraph), "")
            yield from (".. code-block:: text", "", f"   {command.name} {command.usage}", "")
            yield from items((f"``{names}``", text) for names, text in command.options)


TABLES: Mapping[str, tuple[type[Section], type[Section] | None]] = {
    "site": (language.Site, None),
    "step": (language.Step, None),
    "folders": (language.FoldersStep, language.Step),
    "list": (language.ListStep, language.Step),
    "raw": (language.RawStep, language.Step),
    "removal": (language.RemovalStep, language.Step),
    "attach": (language.AttachStep, language.Step),
    "sent": (language.SentStep, language.Step),
    "next": (finders.Next, None),
    "finder": (finders.Finder, None),
    "fact": (finders.Fact, finders.Finder),
    "total": (finders.Total, finders.Finder),
    "rows": (finders.Rows, None),
    "condition": (finders.Condition, finders.Finder),
    "signal": (finders.Signal, finders.Condition),
}
"""The tables of a webmail's definition, and what each has in common with one told before."""


class Language(Generated):
    def lines(self, word: str) -> Iterator[str]:
        table, common = TABLES[word]
        without = () if common is None else common.declared()
        yield from options(declared.told(table, without=without))


class Statuses(Generated):
    def lines(self, word: str) -> Iterator[str]:
        yield from items((f"``{status}``", text) for status, text in STATUSES.items())


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("keys", Keys)
    app.add_directive("components", Components)
    app.add_directive("commands", Commands)
    app.add_directive("statuses", Statuses)
    app.add_directive("language", Language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
