"""The envelope of a message on stdin, as mail systems hand it over.

Postfix local(8), qmail, Exim and Dovecot's Sieve set SENDER and RECIPIENT; Postfix,
Exim, sendmail and procmail put an mbox "From " line before the message. Rule of the
file: an address that could end a line or a command elsewhere goes no further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailflow.errors import BadMailError
from mailflow.mail import Envelope

_DAYS = frozenset(b"Mon Tue Wed Thu Fri Sat Sun".split())
_MONTHS = frozenset(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())


def split_from_line(start: bytes) -> tuple[str | None, int]:
    """The sender an mbox "From " line names, and the length of that line.

    (None, 0) where `start`, the first octets of a message, has no such line, with its
    date as asctime(3) gives it: a text may begin with "From here on".
    """
    end = start.find(b"\n") + 1
    if not end or not start.startswith(b"From "):
        return None, 0
    line = start[5:end]
    words = line.split()
    for place in range(len(words) - 4, -1, -1):
        if _is_date(*words[place : place + 4]):
            named = line.rsplit(None, len(words) - place)[0].strip() if place else b""
            address = named.decode("utf-8", "surrogateescape")
            if " " in address and not address.startswith('"'):
                break
            return _sender(address) if address else None, end
    return None, 0


def _is_date(weekday: bytes, month: bytes, day: bytes, clock: bytes) -> bool:
    return weekday in _DAYS and month in _MONTHS and day.isdigit() and clock[2:3] == b":"


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
