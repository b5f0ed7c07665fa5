"""How a command ends: what it says of an error, and its exit status (sysexits(3)).

Rule of the file: what cannot be written any more changes no status.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from mailflow.errors import MailflowError
from mailflow.typed import TextIO

INTERRUPTED = 130


def open_streams() -> None:
    """Whoever started us may have closed stdout or stderr."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def status_of(error: BaseException) -> int:
    """Say what ended the command, and give its exit status; what is no error goes on."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, MailflowError):
        return complain(error)
    if isinstance(error, OSError):
        return complain(MailflowError(f"cannot go on: {error.strerror or error}"), 74)
    if not isinstance(error, Exception):
        raise error
    text = " ".join(str(error).split())  # a fault of ours: a line for the user
    return complain(MailflowError(f"internal error: {type(error).__name__}: {text}"))


def complain(error: MailflowError, status: int = 0) -> int:
    """Say what is wrong on stderr, a line each, with what points at it; gives the exit
    status."""
    from mailflow.log import clean, mask

    with suppress(OSError):
        for line in getattr(error, "detailed", error.text).splitlines():
            sys.stderr.write(f"mailflow: {mask(clean(line))}\n")
        sys.stderr.flush()
    return status or error.exit_code
