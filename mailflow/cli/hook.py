"""mailflow hook FILE [ADDRESS...]: one message on stdin, from an MTA or procmail.

Rule of the file: it imports nothing that one message does not need, and whatever
goes wrong ends with 75, so that the MTA keeps the mail.
"""

from __future__ import annotations

import gc
import os
import sys

USAGE = """\
Usage: mailflow hook FILE [ADDRESS...]

  Take one message on stdin through the pipeline in FILE. ADDRESSes are its
  recipients. Ends with 0 when the mail is durable, 77 when it is rejected, and
  75 for everything else, so that the MTA tries again.
"""

TEMPFAIL = 75
NOPERM = 77


def main(arguments: list[str]) -> None:
    """Never returns: the process ends at once, with the truth."""
    gc.disable()  # the process ends before a collection would pay
    try:
        if not arguments:
            status = _say(_usage_error())
        elif arguments[0] in ("-h", "--help"):
            status = 0
            if sys.stdout is not None:  # whoever started us may have closed it
                sys.stdout.write(USAGE)
        else:
            status = _run(arguments[0], arguments[1:])
    except BaseException as error:  # noqa: BLE001  # whatever it is, the MTA keeps the mail
        status = _say(error)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # closed by whoever started us
    os._exit(status)


def _run(path: str, recipients: list[str]) -> int:
    from mailflow.engine.config import load
    from mailflow.engine.hook import hook
    from mailflow.engine.registry import Registry

    sys.stdout = sys.stderr  # what a plugin prints is no answer to the MTA
    registry = Registry()
    (pipeline,) = load([path], registry)
    hook(pipeline, registry, recipients)
    return 0


def _usage_error() -> Exception:
    from mailflow.errors import ConfigError

    return ConfigError("hook: which FILE? `mailflow hook --help` says more")


def _say(error: BaseException) -> int:
    from mailflow.cli.ending import told
    from mailflow.errors import RefusedError
    from mailflow.log import clean, mask

    try:
        for line in told(error).text.splitlines():
            sys.stderr.write(f"mailflow: {mask(clean(line))}\n")
    except (OSError, ValueError, AttributeError):
        pass  # closed by whoever started us
    return NOPERM if isinstance(error, RefusedError) else TEMPFAIL
