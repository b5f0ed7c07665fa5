"""Ten minutes of mixed sessions: is every answer right, and do memory and descriptors stay flat?

    python -m bench.soak                            # ten minutes, seed 1
    python -m bench.soak --minutes 3 --seed 7       # other ones

`mailflow serve` runs a pipeline from a Maildir into the spool, and serves the spool and
Maildirs, in clear, after STLS and over TLS. Each client has a drop of its own and knows what
must be in it. The figures are kept in bench/results/soak.json.

Rule of the file: what a client does comes from the seed and its number alone; a wrong answer
ends the run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import install, machine, processes
from bench.report import RESULTS
from bench.soaking import Client, Installation, SoakError

EVERY = 5.0
"""Seconds between two samples."""

PATH = RESULTS / "soak.json"
TITLE = "The soak: mixed sessions"

SLACK = {"memory": (1.1, 4 << 20), "descriptors": (1.25, 16)}
"""What the last quarter may come to: a multiple of the second one, and so much more. SQLite
fills the caches of its connections for a while; 100 octets a session lost are more. The
answers to those who guess are kept back, and with each a connection."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (10)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what the clients do (1)")
    parser.add_argument("--clients", type=int, default=24, metavar="N", help="at once (24)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (0)")
    parser.add_argument("--mailflow", type=Path, metavar="SCRIPT", help="this installation")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailflow-soak-", dir="/var/tmp") as name:
        directory = Path(name)
        script = options.mailflow or install.mailflow(directory / "mailflow")
        record = soak(options, script.absolute(), directory)
    print(text(record))
    if not options.no_save:
        PATH.write_text(json.dumps(record) + "\n")
        print("`python -m bench --page` writes it into the page")
    return 0 if record["met"] else 1


def soak(options: argparse.Namespace, script: Path, directory: Path) -> dict[str, Any]:
    about = machine.describe(directory)
    installation = Installation(script, directory, options.clients, options.workers)
    stop = threading.Event()
    faults: list[str] = []
    counts: Counter[str] = Counter()

    def work(client: Client) -> None:
        try:
            while not stop.is_set():
                counts[client.turn()] += 1
                stop.wait(client.random.random() * 0.02)
        except (SoakError, OSError, EOFError) as error:
            faults.append(f"{client.name}, after {client.done}: {type(error).__name__}: {error}")
            stop.set()

    samples = []
    with installation:
        threads = [
            threading.Thread(target=work, args=(client,))
            for client in installation.clients(
                lambda number: random.Random(f"{options.seed} {number}")
            )
        ]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        while not stop.is_set() and time.monotonic() < begin + options.minutes * 60:
            stop.wait(EVERY)
            installation.feed()
            samples.append(sample(installation.pid, time.monotonic() - begin, counts.total()))
        stop.set()
        for thread in threads:
            thread.join()
        try:
            installation.settle()
        except SoakError as error:
            faults.append(str(error))
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": about,
        "seed": options.seed,
        "minutes": options.minutes,
        "clients": options.clients,
        "sessions": dict(sorted(counts.items())),
        "fed": installation.fed,
        "faults": faults,
        "columns": ["seconds", "memory", "descriptors", "threads", "sessions"],
        "samples": samples,
        **judged(samples, faults),
    }


def sample(pid: int, seconds: float, sessions: int) -> list[float]:
    return [
        round(seconds, 1),
        processes.memory(pid, "Anonymous"),
        processes.descriptors(pid),
        processes.threads(pid),
        sessions,
    ]


def judged(samples: list[list[float]], faults: list[str]) -> dict[str, Any]:
    """Flat is what lies in the last quarter no higher than in the second one."""
    quarter = max(1, len(samples) // 4)
    found: dict[str, Any] = {"met": not faults and len(samples) >= 4}
    for column, name in ((1, "memory"), (2, "descriptors")):
        early = statistics.median(
            each[column] for each in samples[quarter : 2 * quarter] or samples
        )
        late = statistics.median(each[column] for each in samples[-quarter:])
        found[name] = {"second quarter": early, "last quarter": late}
        times, more = SLACK[name]
        found["met"] = found["met"] and late <= early * times + more
    return found


def text(record: dict[str, Any]) -> str:
    """What it says of itself, for the terminal and for the page."""
    memory, descriptors = record["memory"], record["descriptors"]
    mib = [f"{memory[when] / (1 << 20):.1f} MiB" for when in ("second quarter", "last quarter")]
    held = [f"{descriptors[when]:.0f}" for when in ("second quarter", "last quarter")]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in record["sessions"].items())
    sessions = sum(record["sessions"].values())
    flat = "flat" if record["met"] else "NOT flat"
    lines = [
        f"{record['minutes']:g} minutes, {record['clients']} clients, seed {record['seed']}:",
        f"{sessions:,} sessions ({kinds}); {record['fed']:,} mails through the pipeline.",
        f"Memory of their own {mib[0]} in the second quarter, {mib[1]} in the last one;",
        f"descriptors {held[0]} and {held[1]}: {flat}.",
        *record["faults"],
    ]
    return "\n".join(lines)


def page() -> str:
    """Its section of the page; nothing where it has not been run."""
    if not PATH.exists():
        return ""
    record = json.loads(PATH.read_text())
    about = "; ".join(f"{key} {value}" for key, value in record["machine"].items())
    lines = [TITLE, "~" * len(TITLE), "", text(record), "", f"*{record['date']}: {about}.*", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
