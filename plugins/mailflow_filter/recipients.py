"""`filter.recipients`: who gets a mail, whoever it was addressed to.

Rule of the file: only the envelope changes. What a mail itself says becomes a recipient
only where it is an address, and nothing but addresses; else that mail is at fault.
mailflow.addresses is imported where it is needed: its patterns take a millisecond, which
every hook with a filter would pay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mailflow.errors import BadMailError
from mailflow.log import clean
from mailflow.mail import Envelope
from mailflow.options import ListOf, Options, Template, Text
from mailflow.typed import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Mail
    from mailflow.pattern import Pattern

_MOST = 1000
"""Recipients that one mail may name: more is an attack, or a list's business."""


class RecipientsOptions(Options):
    """What becomes of the recipients, in this order."""

    examples = {"set": ["ann@example.org", "ben@example.org"]}

    set_ = ListOf(
        'Who gets the mail instead of those it was for: addresses, such as "ann@example.org", or'
        ' what the mail says, such as "{header:To}".',
        Template(""), default=(),
    )  # fmt: skip
    remove = ListOf(
        'Who does not get it: addresses, or all of a domain as "*@example.org".',
        Text(""), default=(),
    )  # fmt: skip
    add = ListOf("Who gets it too, given as for `set`.", Template(""), default=())

    def faults(self) -> Iterator[tuple[str, str]]:
        if not (self.set_ or self.remove or self.add):
            yield "set", 'expected something to do, such as set = ["ann@example.org"]'
        for name, patterns in (("set", self.set_), ("add", self.add)):
            for pattern in patterns:
                if "{" not in pattern.text and not _is_address(pattern.text):
                    yield name, f"expected addresses; {pattern.text!r} is none"
        for each in self.remove:
            if not _is_address("x" + each[1:] if each.startswith("*@") else each):
                yield "remove", f'expected addresses or "*@domain"; {each!r} is neither'


class RecipientsFilter:
    """Passes each mail on to other recipients: replaced, added or removed."""

    options: ClassVar[type[Options]] = RecipientsOptions
    pure = True

    def __init__(self, options: RecipientsOptions, runtime: Runtime) -> None:
        from mailflow.addresses import same

        self._set, self._add = options.set_, options.add
        self._removed = frozenset(same(each) for each in options.remove)

    def process(self, mail: Mail, context: Context) -> Iterator[Mail]:
        """Where nobody is left, the mail goes to those [[distribute]] steps that need no
        recipient, such as a Maildir; its story says so."""
        to: Sequence[str] = mail.envelope.recipients
        if self._set:
            to = _rendered("set", self._set, mail)
        to = [each for each in to if not self._is_removed(each)]
        to = _once([*to, *_rendered("add", self._add, mail)])
        yield mail.replace(envelope=Envelope(mail.envelope.sender, tuple(to)))

    def _is_removed(self, address: str) -> bool:
        from mailflow.addresses import same

        normal = same(address)
        return normal in self._removed or f"*@{normal.rpartition('@')[2]}" in self._removed


def _rendered(name: str, patterns: Sequence[Pattern], mail: Mail) -> list[str]:
    """The addresses that the patterns give for one mail. Raises BadMailError."""
    from mailflow.addresses import addresses

    found: list[str] = []
    for pattern in patterns:
        text = pattern.render(mail, raw=True)
        named = addresses(text)
        if not named.clean or not all(each.isprintable() for each in named.found):
            raise BadMailError(f"not only addresses in {name}: {clean(text)[:100]}")
        found += named.found
    if len(found) > _MOST:
        raise BadMailError(f"{len(found)} recipients in {name}, more than {_MOST}")
    return found


def _once(written: Iterable[str]) -> list[str]:
    """Each mailbox once, as it was first written."""
    from mailflow.addresses import same

    each: dict[str, str] = {}
    for address in written:
        each.setdefault(same(address), address)
    return list(each.values())


def _is_address(text: str) -> bool:
    from mailflow.addresses import addresses

    named = addresses(text)
    return named.clean and len(named.found) == 1
