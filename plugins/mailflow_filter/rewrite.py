"""`filter.rewrite`: header fields set, added, removed, renamed, or given a prefix.

Rule of the file: fields are edited on their raw lines, and every other octet of the mail
stays. What a mail says about itself becomes a field only if it is one line without
control characters; else that mail is at fault, and not passed on.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.options import ListOf, Options, TableOf, Template, Text
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.words import encoded
from mailflow_filter.fields import is_field_name, line

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Header, Mail


class RewriteOptions(Options):
    """What is done, in this order."""

    examples = {"remove": ["X-Spam-*"]}

    remove = ListOf(
        'Fields to remove, each as often as it is there; "X-Spam-*" is all that begin so.',
        Text(""), default=(),
    )  # fmt: skip
    rename = TableOf(
        "Fields to give another name, such as { X-Old = \"X-New\" }; their values stay.",
        Text(""), default={},
    )  # fmt: skip
    prefix = TableOf(
        "Text to put before the value of a field that is there and has it not yet, such as"
        ' { Subject = "[club]" }.',
        Template(""), default={},
    )  # fmt: skip
    set_ = TableOf(
        "Fields to set, each in the place of those that have its name.", Template(""), default={}
    )
    add = TableOf(
        "Fields to add behind those there are, whether one has that name or not.",
        Template(""), default={},
    )  # fmt: skip

    def faults(self) -> Iterator[tuple[str, str]]:
        if not (self.remove or self.rename or self.prefix or self.set_ or self.add):
            yield "set", 'expected something to do, such as set = { X-Folder = "lists" }'
        for option, names in (
            ("remove", [name.removesuffix("*") for name in self.remove if name != "*"]),
            ("rename", [*self.rename, *self.rename.values()]),
            ("prefix", self.prefix), ("set", self.set_), ("add", self.add),
        ):  # fmt: skip
            for name in names:
                if not is_field_name(name):
                    yield option, f"expected names of header fields; found {name!r}"
        if "*" in self.remove:
            yield "remove", "`*` would leave no header; name the fields"


class RewriteFilter:
    """Passes each mail on with its header edited; templates see it as it came."""

    options: ClassVar[type[Options]] = RewriteOptions
    pure = True

    def __init__(self, options: RewriteOptions, runtime: Runtime) -> None:
        self._options = options

    def process(self, mail: Mail, context: Context) -> Iterator[Mail]:
        options = self._options
        header = mail.header()
        for name in options.remove:
            _remove(header, name)
        for old, new in options.rename.items():
            header.rename(old, new)
        for name, pattern in options.prefix.items():
            _prefix(header, name, line(name, pattern, mail).strip())
        for name, pattern in options.set_.items():
            header.set(name, encoded(line(name, pattern, mail)))
        for name, pattern in options.add.items():
            header.add(name, encoded(line(name, pattern, mail)))
        yield mail.with_header(header)


def _remove(header: Header, name: str) -> None:
    if not name.endswith("*"):
        header.remove(name)
        return
    begin = name[:-1].lower()
    for each in {each for each in header.names() if each.lower().startswith(begin)}:
        header.remove(each)


def _prefix(header: Header, name: str, text: str) -> None:
    """As a list does with its subject: whatever the case, once."""
    shown = header.decoded(name)
    if shown is None or not text or text.lower() in shown.lower():
        return
    if not text.isascii() and (header.get(name) or "").startswith("=?"):
        text += " "  # the space between two encoded words is not shown
    header.prepend(name, encoded(text))
