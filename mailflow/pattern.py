"""Text with placeholders that are filled in for each mail: `{note:folder|.Lists}`.

Rule of the file: a pattern is checked when the pipeline is read; a mail can only lack
what it names, and then that mail is at fault.
"""

from __future__ import annotations

from mailflow.errors import BadMailError
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Mail


class Pattern:
    """A parsed template: `render(mail)` gives its text for one mail."""

    NAMES = ("sender", "recipient", "id", "note", "header")

    def __init__(self, text: str) -> None:
        """Raises ValueError where a brace is not closed or a name not known."""
        self.text = text
        self._parts: list[tuple[str, str, str, str | None]] = []
        rest = text
        while rest:
            literal, brace, rest = rest.partition("{")
            if literal:
                self._parts.append((literal, "", "", None))
            if not brace:
                break
            inside, closed, rest = rest.partition("}")
            if not closed:
                raise ValueError("expected } after {")
            body, bar, default = inside.partition("|")
            kind, _, argument = body.partition(":")
            if kind not in self.NAMES or (kind in ("note", "header")) != bool(argument):
                raise ValueError(
                    "expected {note:NAME}, {header:NAME}, {sender}, {recipient} or {id}; "
                    f"found {{{inside}}}"
                )
            self._parts.append(("", kind, argument, default if bar else None))

    @property
    def fixed(self) -> str | None:
        """The text, where no mail changes it; None where one does."""
        return None if any(kind for _, kind, _, _ in self._parts) else self.text

    def render(self, mail: Mail, *, raw: bool = False) -> str:
        """The text for `mail`. Raises BadMailError where something is not set.

        `raw` leaves encoded words as they are, where addresses are looked for: the comma in
        an encoded name parts none.
        """
        return "".join(
            literal if not kind else self._look_up(mail, kind, argument, default, raw)
            for literal, kind, argument, default in self._parts
        )

    def _look_up(self, mail: Mail, kind: str, argument: str, default: str | None, raw: bool) -> str:
        value: str | None
        if kind == "id":
            value = mail.id
        elif kind == "sender":
            value = mail.envelope.sender
        elif kind == "recipient":  # of a mail to several, nobody can say which
            recipients = mail.envelope.recipients
            value = recipients[0] if len(recipients) == 1 else None
        elif kind == "note":
            value = mail.notes.get(argument)
        else:
            value = mail.header().get(argument) if raw else mail.header().decoded(argument)
        if value is None:
            value = default
        if value is None:
            name = f"{kind}:{argument}" if argument else kind
            raise BadMailError(f"{{{name}}} is not set for this mail; add a default: {{{name}|x}}")
        return value

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"
