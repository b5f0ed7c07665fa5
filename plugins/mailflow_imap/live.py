"""What a live maildrop needs to be set: whose mailbox, which folders, how messages are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailflow.live import faults_of_secret
from mailflow.options import Duration, Flag, ListOf, Text
from mailflow_imap.choice import FolderPattern, is_plain, reads
from mailflow_imap.settings import TOKEN_WAYS, WAYS, ImapAccount
from mailflow_imap.uidl import DEFAULT, UidlFormat, tells_folders_apart


class ImapDropOptions(ImapAccount):
    """A maildrop that is a mailbox on an IMAP server."""

    user = Text.optional(
        "The login name there; {login} stands for that of the client, {user} and {domain} for"
        " its parts. By default it is the same."
    )
    folders = ListOf(
        'The folders that are served, one behind the other: names, with "*" for any letters and'
        ' "%" for any but those that part folders, and what a folder is for, such as'
        r' "\\Junk". What stands after a "!" is left out.',
        FolderPattern("A folder's name, or a pattern."),
        default=("INBOX",),
    )
    uidl = UidlFormat(
        "How messages are called, in Dovecot's words: %u is the UID, %v the UIDVALIDITY, both"
        " in hexadecimal digits where they are %Xu and %Xv; %h is a mark of the folder, nothing"
        ' for INBOX; %m the MD5 of all three. Courier\'s is "%v-%u", Cyrus\' "%v.%u".',
        default=DEFAULT,
    )
    trash = FolderPattern.optional(
        r'A folder that deleted messages are moved to, such as "Trash" or "\\Trash", instead of'
        " being removed for good."
    )
    seen = Flag(
        "Whether what a client has read is marked as seen there, at the end of its session.",
        default=False,
    )
    reuse = Duration(
        "How long a connection stays open for the next session of the same user; as long, a"
        " password that was changed there is still taken here.",
        default=60.0,
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        yield from faults_of_secret(self)
        yield from self.faults_of_ways()
        wanted = [pattern for pattern in self.folders if not pattern.startswith("!")]
        if not wanted:
            yield "folders", 'expected at least one folder to serve, such as "INBOX"'
        several = len(wanted) > 1 or not is_plain(wanted)
        if several and not tells_folders_apart(self.uidl):
            yield "uidl", "expected %h or %m in it: messages of two folders would be called alike"
        if self.trash and self.trash.startswith("!"):
            yield "trash", "expected one folder"
        elif self.trash and reads(self.folders, self.trash):
            yield "trash", f"{self.trash} is served: what is deleted would come again"

    def passing(self, *, by_token: bool) -> Sequence[str]:
        """The ways to log in with what a client gave."""
        known = TOKEN_WAYS if by_token else WAYS
        return [way for way in self.auth if way in known] or known
