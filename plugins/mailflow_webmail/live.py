"""What a live maildrop on a webmail needs to be set: whose mailbox, which folders, what is sure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailflow.options import Duration, Flag, ListOf, Text
from mailflow_webmail.choice import FolderPattern
from mailflow_webmail.settings import Url, WebmailOptions

_DOMAIN = re.compile(r"[^\s@/*?\[\]:]+\.[^\s@/*?\[\]:]+")


class DomainName(Text):
    """A domain, in lower case."""

    def convert(self, value: object, base: str) -> str:
        name = super().convert(value, base).lower()
        if not _DOMAIN.fullmatch(name):
            raise ValueError('expected a domain such as "example.org"')
        return name


class WebmailDropOptions(WebmailOptions):
    """A maildrop that is an account at a webmail."""

    site = Text.optional(  # type: ignore[assignment]  # the domain may say it
        "The webmail's software: one that `mailflow webmail sites` lists. Without it and `url`,"
        " the domain of the login name says both: see `allow`.",
        least=1,
    )
    url = Url.optional(  # type: ignore[assignment]
        "Where it is installed: the address of its login page.",
        "https", "http", example="https://webmail.example.org/",
    )  # fmt: skip
    allow = ListOf(
        "Domains whose addresses may log in, each at the webmail that domains.toml names for it;"
        " no others, and by default none.",
        DomainName("A domain."),
        default=(),
    )
    user = Text.optional(  # type: ignore[assignment]  # the client may say who it is
        "The login name there; {login} stands for that of the client, {user} and {domain} for"
        " its parts. By default it is the same."
    )
    folders = ListOf(
        'The folders that are served, one behind the other: names, with "*" for any letters.'
        ' What stands after a "!" is left out.',
        FolderPattern("A folder's name, or a pattern."),
        default=("INBOX",),
    )
    trash = Flag(
        "Whether deleted messages are moved to the webmail's trash instead of being removed for"
        " good.",
        default=False,
    )
    seen = Flag(
        "Whether what a client has read is marked as read there, at the end of its session.",
        default=False,
    )
    reuse = Duration(
        "How long a session there stays open for the next one of the same user, where the site"
        " says that an account may have several; as long, a password that was changed there is"
        " still taken here.",
        default=60.0,
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from super().faults()
        if not self.allow:
            for name in ("site", "url"):
                if getattr(self, name) is None:
                    yield name, "expected which webmail it is; or `allow`, for several by domain"
        elif self.site is not None or self.url is not None:
            yield "allow", "`site` and `url` are given: every login goes there"
        elif self.cookies is not None:
            yield "cookies", "cookies are one account's; `allow` is for many"
        if all(pattern.startswith("!") for pattern in self.folders):
            yield "folders", 'expected at least one folder to serve, such as "INBOX"'

    def look(self) -> Iterator[tuple[str, str]]:
        from mailflow_webmail.domains import wrong

        yield from super().look()
        for text in wrong(self.allow):
            yield "allow", text
