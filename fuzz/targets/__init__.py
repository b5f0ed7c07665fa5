"""The targets: a module each, with `one(data)`, SEEDS, WORDS and PACKAGES."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

NAMES = sorted(each.stem for each in Path(__file__).parent.glob("[a-z]*.py"))


class Target(NamedTuple):
    """What a campaign begins with. `packages` beside mailflow are watched, too."""

    seeds: Sequence[bytes]
    words: Sequence[bytes]
    packages: Sequence[str]

    @classmethod
    def of(cls, name: str) -> Target:
        """Read from the module's text: to import it would be to import what is watched."""
        import ast

        tree = ast.parse((Path(__file__).parent / f"{name}.py").read_bytes())
        found = {
            each.targets[0].id: ast.literal_eval(each.value)
            for each in tree.body
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
            and each.targets[0].id in ("SEEDS", "WORDS", "PACKAGES")
        }  # fmt: skip
        return cls(found["SEEDS"], found["WORDS"], found.get("PACKAGES", ()))


def run(name: str, data: bytes) -> None:
    """One input. Raises what the target raises."""
    import_module(f"fuzz.targets.{name}").one(data)
