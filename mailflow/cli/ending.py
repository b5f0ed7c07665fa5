"""How a command ends: what it says of an error, and its exit status (sysexits(3)).

Rule of the file: what cannot be written any more changes no status.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper

from mailflow.errors import MailflowError, UnavailableError
from mailflow.typed import TextIO

INTERRUPTED = 130
USAGE = 64


def open_streams() -> None:
    """Whoever started us may have closed stdout or stderr, or speak a language that lacks
    letters of a file's name or a subject: those are written as \\xNN and so on."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # open to the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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
    if not isinstance(error, Exception):
        raise error
    return complain(told(error), 74 if isinstance(error, OSError) else 0)


def aborted(error: BaseException) -> int:
    """The exit status where a question had no answer: ^C, or the end of stdin, which is told."""
    if isinstance(error.__context__, EOFError):
        with suppress(OSError):
            sys.stderr.write("\n")  # below the question
        return complain(MailflowError("stdin ended before it answered"), USAGE)
    return INTERRUPTED


def told(error: BaseException) -> MailflowError:
    """What ended a command, as an error whose text a user can act on."""
    if isinstance(error, MailflowError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return UnavailableError("stopped on request")
    if isinstance(error, OSError):
        what = "write to stdout" if _is_of_stdout(error) else "go on"
        where = "" if error.filename is None else f" {os.fsdecode(error.filename)}:"
        return MailflowError(f"cannot {what}:{where} {error.strerror or error}")
    text = " ".join(str(error).split())  # a fault of ours: a line for the user
    return MailflowError(f"internal error: {type(error).__name__}: {text}")


def _is_of_stdout(error: OSError) -> bool:
    """Whether it was stdout that failed: what it did not take is still to be written."""
    if error.filename is not None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        return True
    except (ValueError, AttributeError):  # closed
        return False
    return False


def complain(error: MailflowError, status: int = 0) -> int:
    """Say what is wrong on stderr, a line each, with what points at it; gives the exit
    status."""
    from mailflow.log import clean, mask

    with suppress(OSError):
        for line in getattr(error, "detailed", error.text).splitlines():
            sys.stderr.write(f"mailflow: {mask(clean(line))}\n")
        sys.stderr.flush()
    return status or error.exit_code
