"""The options of a webmail as a source of mail."""

from __future__ import annotations

from collections.abc import Iterator

from mailflow.options import Choice, ListOf
from mailflow_webmail.choice import FolderPattern
from mailflow_webmail.settings import WebmailOptions

SAYING = {
    "delete": "delete a message for good",
    "trash": "move a message to the trash",
    "seen": "mark a message as read",
}
"""What a site is asked to do for each `on_done`, which is the name of its step, too."""


class WebmailSourceOptions(WebmailOptions):
    """An account at a webmail whose messages are fetched."""

    folders = ListOf(
        'The folders that are read: names as the page shows them, with "*" for any letters. What'
        ' stands after a "!" is left out.',
        FolderPattern("A folder's name, or a pattern."),
        default=("INBOX",),
    )
    on_done = Choice(
        "What becomes of a message at the webmail once it is safe here and the time in `keep`,"
        ' which is "forever" by default, is over: it is deleted for good, moved to the trash,'
        " marked as read, or kept as it is.",
        "delete", "trash", "seen", "keep", default="delete",
    )  # fmt: skip

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if self.password is None and self.cookies is None:
            yield "password", "expected the password, or the `cookies` of a browser"
        if all(pattern.startswith("!") for pattern in self.folders):
            yield "folders", 'expected at least one folder to read, such as "INBOX"'

    def look(self) -> Iterator[tuple[str, str]]:
        from mailflow_webmail.definition.site import site

        wrong = list(super().look())
        yield from wrong
        if self.on_done not in SAYING or any(option == "site" for option, _ in wrong):
            return
        found = site(self.site)
        if not found.has(self.on_done):
            known = ", ".join(f'"{word}"' for word in (*filter(found.has, SAYING), "keep"))
            text = f"the site {self.site} does not say how to {SAYING[self.on_done]}; it knows"
            yield "on_done", f"{text} {known}"
