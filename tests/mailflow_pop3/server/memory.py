"""How much memory this process takes at most between two moments.

Rule of the file: the kernel counts (proc(5), clear_refs 5), so that what was given back
meanwhile counts too.
"""

from __future__ import annotations

import re
from pathlib import Path


class Memory:
    """`grown` is, after the `with`, by how many octets the resident set grew at most."""

    def __init__(self, pid: int | str = "self") -> None:
        self._process = Path(f"/proc/{pid}")
        self.grown = 0

    def __enter__(self) -> Memory:
        (self._process / "clear_refs").write_text("5")
        self._before = self._octets("VmRSS")
        return self

    def __exit__(self, *exception: object) -> None:
        self.grown = self._octets("VmHWM") - self._before

    def _octets(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", (self._process / "status").read_text(), re.M)
        assert found
        return int(found[1]) * 1024
