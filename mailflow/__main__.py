"""The command `mailflow`: the hook is dispatched before anything heavy is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; ends the process with an exit status from sysexits(3)."""
    if sys.argv[1:2] == ["hook"]:
        from mailflow.cli.hook import main as hook

        hook(sys.argv[2:])
    else:
        from mailflow.cli.root import main as command

        command()


if __name__ == "__main__":
    main()
