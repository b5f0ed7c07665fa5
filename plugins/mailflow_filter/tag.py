"""`filter.tag`: notes for later steps, and header fields for whoever reads the mail.

Rule of the file: what a mail says about itself becomes a note or a field only if it
is one line without control characters; else that mail is at fault, and not passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailflow.options import Options, TableOf, Template
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.words import encoded
from mailflow_filter.fields import is_field_name, line

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Mail


class TagOptions(Options):
    """What is noted, and what is written."""

    examples = {"note": {"folder": "Lists"}}

    note = TableOf(
        "Notes to make: `when` asks for them, and {note:NAME} puts them into other options.",
        Template(""),
        default={},
    )
    header = TableOf(
        "Header fields to set, each in the place of those that have its name.",
        Template(""),
        default={},
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        if not self.note and not self.header:
            yield "note", 'expected something to do, such as note = { folder = ".Lists" }'
        for name in self.note:
            if not _NOTE_NAME.fullmatch(name):
                yield "note", f"expected names of letters, digits and _; found {name!r}"
        for name in self.header:
            if not is_field_name(name):
                yield "header", f"expected names of header fields; found {name!r}"


_NOTE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class TagFilter:
    """Passes each mail on, with notes made and header fields set."""

    options: ClassVar[type[Options]] = TagOptions
    pure = True

    def __init__(self, options: TagOptions, runtime: Runtime) -> None:
        self._options = options

    def process(self, mail: Mail, context: Context) -> Iterator[Mail]:
        notes = {name: line(name, pattern, mail) for name, pattern in self._options.note.items()}
        tagged = mail.noted(**notes)
        if self._options.header:
            header = mail.header()
            for name, pattern in self._options.header.items():
                header.set(name, encoded(line(name, pattern, mail)))
            tagged = tagged.with_header(header)
        yield tagged
