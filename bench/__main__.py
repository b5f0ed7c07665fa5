"""The command line of the bench.

    python -m bench                       every row
    python -m bench pop3-loopback hook    these rows
    python -m bench --list

Rule of the file: it measures on a real disk, in a directory that it removes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import install, machine, report, soak
from bench.measure import Launcher
from bench.row import Options
from bench.rows import growth, hook, imap, live, memory, pop3, serve, smtp, spool, webmail

ROWS = {
    row.name: row
    for rows in (pop3, imap, live, memory, hook, smtp, spool, serve, webmail, growth)
    for row in rows.ROWS
}
IN_MEMORY = ("tmpfs", "ramfs")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to run (default: all)")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (3)")
    parser.add_argument("--scale", type=int, default=1, metavar="N", help="N times fewer messages")
    parser.add_argument(
        "--gauges-only", action="store_true", help="leave out peers without a target"
    )
    parser.add_argument(
        "--dir", type=Path, help="where to work: a directory on the disk to measure"
    )
    parser.add_argument("--mailflow", type=Path, metavar="SCRIPT", help="measure this installation")
    parser.add_argument("--peers", type=Path, metavar="VENV", help="use cs.pop3 of this one")
    parser.add_argument("--no-save", action="store_true", help="print only; keep results and page")
    parser.add_argument(
        "--page", action="store_true", help="write the page from saved results, end"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.list:
        for row in ROWS.values():
            print(f"{row.name:20} {row.title}")
        return 0
    if not options.page:
        measure(options)
    if not options.no_save:
        report.publish(report.saved(list(ROWS)), soak.page())
        print(f"written: {report.PAGE}")
    return 0


def measure(options: argparse.Namespace) -> None:
    """Run the rows; each is printed and saved as soon as it is done."""
    base = options.dir or Path(tempfile.gettempdir())
    if machine.file_system(base) in IN_MEMORY:
        base = Path("/var/tmp")
    if machine.file_system(base) in IN_MEMORY:
        raise SystemExit(f"{base} is in memory: give a directory on a disk with --dir")
    with tempfile.TemporaryDirectory(prefix="mailflow-bench-", dir=base) as name, Launcher() as it:
        directory = Path(name)
        directory.chmod(0o711)  # some peers refuse to be root and run as nobody
        machine.spread(directory)
        about = machine.describe(directory)
        print("; ".join(f"{key} {value}" for key, value in about.items()))
        script = options.mailflow or install.mailflow(directory / "mailflow")
        settings = Options(
            launcher=it,
            directory=directory,
            script=script.absolute(),
            peers=(options.peers or install.peers(directory / "peers")).absolute(),
            repetitions=options.repeat,
            scale=options.scale,
            context=not options.gauges_only,
        )
        for row_name in options.rows or ROWS:
            row = ROWS[row_name]
            begin = time.monotonic()
            entry = report.record(row, row.run(row, settings), about)
            print(f"\n{report.as_text(entry)}  ({time.monotonic() - begin:.0f} s)", flush=True)
            if not options.no_save:
                report.save(entry)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
