"""The reason of a verdict: what the file says, with what the mail says put in.

Rule of the file: it is one line of plain text, whatever a header field holds.
"""

from __future__ import annotations

from mailflow.log import clean
from mailflow.options import Options, Template
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Mail

REASON_LIMIT = 300  # characters


class ReasonOptions(Options):
    """What the filters that end a mail's way have in common."""

    reason = Template.optional(
        "Why, for the mail's story and for whoever is told; by default the step's name."
    )

    def said_of(self, mail: Mail, step: str) -> str:
        """The reason for one mail. Raises BadMailError where a placeholder is not set."""
        text = self.reason.render(mail) if self.reason else f"by step {step}"
        return clean(text)[:REASON_LIMIT]
