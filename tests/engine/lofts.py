"""Pigeons: components of every kind at once, and a registry that knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mailflow.engine.registry import Registry
from mailflow.options import Duration, ListOf, Options, ServerOptions, TableOf, Text

Write = Callable[..., str]


class LoftOptions(ServerOptions):
    loft = Text("The loft it flies to.", default="York")
    grain = TableOf("What it eats.", Duration("How often."), keys=("corn", "peas"), default={})
    rings = ListOf("Its rings.", Text("A ring.", least=1), default=())

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.loft == "Paris" and self.port is None:
            yield "loft", "Paris needs a `port`"


class Pigeon:
    """Every kind of component at once."""

    options = LoftOptions
    knows = ("seen",)
    pure = repeatable = per_recipient = sends = True

    def nothing(self, *anything: object) -> Iterable[Any]:
        return ()

    __enter__ = __exit__ = listing = heads = retrieve = settle = nothing
    process = distribute = react = nothing


class Greedy(Pigeon):
    class options(Options):  # noqa: N801
        name = Text("Not its own to take.")


class Broken(Pigeon):
    class options(Options):  # noqa: N801
        def faults(self) -> Iterator[tuple[str, str]]:
            raise ZeroDivisionError("oh")


class Anxious(Pigeon):
    class options(ServerOptions):  # noqa: N801
        def look(self) -> Iterator[tuple[str, str]]:
            yield from super().look()
            yield "host", "the loft is on fire"


class Loft(Registry):
    """A registry that knows pigeons of every kind."""

    def component(self, table: str, use: str) -> type[Any]:
        birds = {"pigeon": Pigeon, "pigeon.two": Pigeon, "greedy": Greedy, "broken": Broken,
                 "anxious": Anxious}  # fmt: skip
        return birds.get(use) or super().component(table, use)


SMALL = """
[[fetch]]
use = "stdin"
[[distribute]]
use = "maildir"
path = "Maildir"
"""
