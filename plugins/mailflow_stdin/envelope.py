"""The envelope of a message on stdin, as mail systems hand it over.

Postfix local(8), qmail, Exim and Dovecot's Sieve set SENDER and RECIPIENT; Postfix,
Exim, sendmail and procmail put an mbox "From " line before the message. Rule of the
file: an address that could end a line or a command elsewhere goes no further.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mailflow.errors import BadMailError
from mailflow.mail import Envelope

_FROM_LINE = re.compile(
    rb"From[ \t]++"
    rb'(?:((?:"(?:[^"\\\r\n]|\\[^\r\n])*+")?[^ \t\r\n"]*+)[ \t]++)?'  # perhaps quoted
    rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}[^\r\n]*+\r?\n"
)
"""An mbox separator, asctime(3) and all: a text may begin with "From here on"."""


def split_from_line(start: bytes) -> tuple[str | None, int]:
    """The sender an mbox "From " line names, and the length of that line.

    (None, 0) where `start`, the first octets of a message, has no such line.
    """
    found = _FROM_LINE.match(start)
    if found is None:
        return None, 0
    address = (found.group(1) or b"").decode("utf-8", "surrogateescape")
    return _sender(address) if address else None, found.end()


def envelope(
    sender: str | None,
    recipients: Sequence[str],
    environ: Mapping[str, str],
    from_line: str | None,
) -> Envelope:
    """What the options say comes first, then the environment, then the "From " line.

    Raises BadMailError for a recipient that cannot be used: mail for it must not end
    as mail for nobody. A reverse-path that cannot be used is not known.
    """
    if sender is not None:
        sender = _sender(sender)
    elif "SENDER" in environ:
        sender = _uncensored(_sender(environ["SENDER"]), from_line)
    else:
        sender = from_line
    if not recipients and environ.get("RECIPIENT"):
        recipients = [environ["RECIPIENT"]]
    return Envelope(sender, tuple(dict.fromkeys(_recipient(each) for each in recipients)))


def _sender(value: str) -> str | None:
    """A reverse-path; "" for the null sender, which mail systems spell in many ways."""
    address = value.strip().removeprefix("<").removesuffix(">")
    if address.partition("@")[0].upper() in ("", "MAILER-DAEMON") or address == "#@[]":
        return ""
    return address if _usable(address) else None


def _recipient(value: str) -> str:
    address = value.strip().removeprefix("<").removesuffix(">")
    if not address or not _usable(address):
        raise BadMailError(f"not a recipient: {value[:80]!a}")
    return address


def _usable(address: str) -> bool:
    """No control characters, no octets that are not UTF-8, no space outside quotes."""
    spaceless = " " not in address or address.startswith('"')
    return spaceless and address.isprintable()


def _uncensored(sender: str | None, from_line: str | None) -> str | None:
    """The "From " line's sender, where SENDER is the same after Postfix put _ for what a
    shell might take for its own (local(8), command_expansion_filter)."""
    if sender and from_line and len(sender) == len(from_line):
        alike = all(a in (b, "_") for a, b in zip(sender, from_line, strict=True))
        return from_line if alike else sender
    return sender
