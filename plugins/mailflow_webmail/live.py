"""What a live maildrop on a webmail needs to be set: whose mailbox, which folders, what is sure."""

from __future__ import annotations

from mailflow.options import Duration, Flag, ListOf, Text
from mailflow_webmail.settings import WebmailOptions


class WebmailDropOptions(WebmailOptions):
    """A maildrop that is an account at a webmail."""

    user = Text.optional(  # type: ignore[assignment]  # the client may say who it is
        "The login name there; {login} stands for that of the client, {user} and {domain} for"
        " its parts. By default it is the same."
    )
    folders = ListOf(
        "The folders that are served, one behind the other.",
        Text("A folder's name.", least=1),
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
        "How long a session there stays open for the next one of the same user; as long, a"
        " password that was changed there is still taken here.",
        default=60.0,
    )
