"""What the webmail fetcher needs to be set besides how its account is reached."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.options import Choice, ListOf
from mailflow_webmail.choice import FolderPattern
from mailflow_webmail.settings import WebmailOptions


class WebmailSourceOptions(WebmailOptions):
    """Folders that a webmail shows, as a source of mail."""

    folders = ListOf(
        "The folders that are read: names, as their user sees them or as the webmail's links have"
        ' them, with "*" for any letters. What stands after a "!" is left out.',
        FolderPattern("A folder's name, or a pattern."),
        default=("INBOX",),
    )
    on_done = Choice(
        "What becomes of a message at the webmail once it is safe here and the time in `keep`,"
        ' which is "forever" by default, is over.',
        "delete", "trash", "seen", "keep", default="delete",
    )  # fmt: skip

    def look(self) -> Iterator[tuple[str, str]]:
        yield from super().look()
        if self.on_done == "keep":
            return
        from mailflow.errors import MailflowError
        from mailflow_webmail.site import site

        try:
            if not site(self.site).has(self.on_done):
                yield "on_done", f"the site {self.site} does not say how to `{self.on_done}`"
        except (ValueError, MailflowError):
            return
