"""Whether two steps say the same, so that a reload leaves alone what did not change.

Rule of the file: in doubt they differ; what is begun anew harms nobody.
"""

from __future__ import annotations

from mailflow.options import Options, SecretValue
from mailflow.query import Query
from mailflow.typed import Any


def same(one: Any, other: Any) -> bool:
    """Whether two pipelines, steps, or values of options would do the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, SecretValue):
        return _same_secret(one, other)
    if isinstance(one, Query):
        return bool(one.hash == other.hash)
    if isinstance(one, dict):
        return _same_mapping(one, other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Options):
        return _same_mapping(vars(one), vars(other))
    if callable(one):
        return one is other
    if _is_bare(one):  # a value of a plugin's own kind
        return _same_mapping(_attributes(one), _attributes(other))
    return bool(one == other)


def _same_mapping(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)


def _is_bare(one: object) -> bool:
    return not any("__eq__" in vars(each) for each in type(one).__mro__[:-1])


def _attributes(one: object) -> dict[str, Any]:
    slots = [name for each in type(one).__mro__ for name in getattr(each, "__slots__", ())]
    return {name: getattr(one, name, None) for name in slots} | getattr(one, "__dict__", {})


def _same_secret(one: SecretValue, other: SecretValue) -> bool:
    """A file or a command is asked again at each use, so its place says enough."""
    if one.origin != other.origin or one.literal != other.literal:
        return False
    return not one.literal or one.reveal() == other.reveal()
