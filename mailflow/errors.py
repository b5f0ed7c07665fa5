"""The errors of mailflow; `temporary` is the one attribute the engine acts on.

MailflowError
├── ConfigError       78  the file is wrong; nothing was started
├── PluginError       78  a plugin cannot be had, or broke its contract
├── UnavailableError  75  try again later (temporary)
│   ├── InUseError    75  somebody else holds the lock
│   └── CrowdedError  75  it serves us, but takes no more sessions at once
├── LoginError        77  the other side knows us not
├── PeerError         76  the other side broke its protocol (temporary)
├── RefusedError      69  the other side said no for good
├── GoneError         69  what was listed is not there any more
├── BadMailError      65  this one message cannot be handled
└── JournalError      74  durable state cannot be written or read (temporary)

An error's text is one line and never holds a secret.
"""

from __future__ import annotations

import os


class MailflowError(Exception):
    """The root: `text` is one clear line, `fields` are small facts for the log.

    `temporary` says that trying again may help; `exit_code` is from sysexits(3).
    """

    temporary = False
    exit_code = 70

    def __init__(self, text: str, **fields: object) -> None:
        super().__init__(text)
        self.text = text
        self.fields = fields

    def __str__(self) -> str:
        return self.text


class ConfigError(MailflowError):
    """What the user wrote is wrong. Says file, line, dotted path and what to do."""

    exit_code = 78


class PluginError(MailflowError):
    """A plugin is missing, names clash, or it broke the contract of its kind."""

    exit_code = 78


class UnavailableError(MailflowError):
    """The other side, or a resource here, is not to be had now."""

    temporary = True
    exit_code = 75


class InUseError(UnavailableError):
    """Somebody else holds the lock of this mailbox or file."""


class CrowdedError(UnavailableError):
    """The other side takes no session beside those that it has: do with fewer."""


class LoginError(MailflowError):
    """Credentials, or the certificate that must precede them, were refused."""

    exit_code = 77


class PeerError(MailflowError):
    """The other side broke the protocol; `fields["lines"]` keeps its last lines."""

    temporary = True
    exit_code = 76


class RefusedError(MailflowError):
    """A final no (5xx); `fields["code"]` is the enhanced status code where known."""

    exit_code = 69


class GoneError(MailflowError):
    """A message that was listed cannot be had any more."""

    exit_code = 69


class BadMailError(MailflowError):
    """One message cannot be handled; the others can."""

    exit_code = 65


class JournalError(MailflowError):
    """The journal cannot be read or written: disk full, read-only, corrupt."""

    temporary = True
    exit_code = 74


def from_os(error: OSError, doing: str) -> MailflowError:
    """Turn a failed system call into the one line a user can act on.

    `doing` is what was tried ("write /var/x"); the result is temporary, since
    a full disk, a lost mount or a missing directory is mended from outside.
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    return UnavailableError(f"cannot {doing}: {reason}", errno=error.errno)
