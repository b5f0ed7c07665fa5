"""The command `mailflow`: what starts often is dispatched before anything heavy is imported."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line; ends the process with an exit status from sysexits(3)."""
    try:
        _dispatch()
    except KeyboardInterrupt:  # while modules are imported; later each command sees to it
        sys.exit(75 if sys.argv[1:2] == ["hook"] else 130)


def _dispatch() -> None:
    _keep_output_apart()
    _leave_no_core()
    if sys.argv[1:2] == ["hook"]:
        from mailflow.cli.hook import main as hook

        hook(sys.argv[2:])
    elif sys.argv[1:2] == ["run"] and _names_only(sys.argv[2:]):
        from mailflow.cli.plain import main as run

        run(sys.argv[2:])
    else:
        from mailflow.cli.root import main as command

        command()


def _leave_no_core() -> None:
    """A crash of a library must not write passwords and mail into a core file."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    with suppress(OSError, ValueError):  # a sandbox may forbid it, and sets LimitCORE=
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def _names_only(words: list[str]) -> bool:
    return bool(words) and not any(word.startswith("-") for word in words)


def _keep_output_apart() -> None:
    """Where whoever started us has closed stdout or stderr, no file of ours may take
    its number, and a line that was meant for them."""
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)


if __name__ == "__main__":
    main()
