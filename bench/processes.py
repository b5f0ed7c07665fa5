"""What a server with all of its processes has used: CPU time and memory, from /proc.

Rule of the file: what is shared by several processes counts once (Pss), and the time of
children that have ended stays counted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for number, fields in _stats():
        children.setdefault(int(fields[1]), []).append(number)
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU time of the family, in user and kernel."""
    members = set(family(pid))
    ticks = 0
    for number, fields in _stats():
        if number in members:
            ticks += sum(int(each) for each in fields[11:15])  # utime stime cutime cstime
    return ticks / TICKS


def memory(pid: int, kind: str = "Pss") -> int:
    """Octets of memory of the family; `kind` as in proc(5), smaps_rollup. Pss changes with
    every other process of the same libraries, Anonymous with these alone."""
    total = 0
    for number in family(pid):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith(f"{kind}:"):
                    total += int(line.split()[1]) << 10
    return total


def descriptors(pid: int) -> int:
    """Open descriptors of the family."""
    total = 0
    for number in family(pid):
        with contextlib.suppress(OSError):
            total += len(os.listdir(f"/proc/{number}/fd"))
    return total


def threads(pid: int) -> int:
    """Threads of the family."""
    members = set(family(pid))
    return sum(int(fields[17]) for number, fields in _stats() if number in members)


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Each process, and its fields from the state on (proc(5): field 3)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{name}/stat").read_text()
                yield int(name), text.rpartition(")")[2].split()
