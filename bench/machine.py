"""What the figures were taken on.

Rule of the file: only what a reader needs to judge a figure, and nothing that names
the machine or its owner.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from bench.fetchers import output_of, version_in


def file_system(directory: Path) -> str:
    """The type of the file system that holds `directory`, as in /proc/mounts."""
    real = str(directory.resolve())
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found = line.split()[:3]
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def describe(directory: Path) -> dict[str, str]:
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return {
        "processor": f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(directory),
        "Dovecot": version_in(output_of("/usr/sbin/dovecot", "--version")),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }
