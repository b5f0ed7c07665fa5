"""Where the definitions of webmails are, and how one is read: TOML, ours and the user's.

Rule of the file: of several files of one name the first counts, the user's before the
system's before those that come with mailflow; whatever is wrong has a file and a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mailflow.directories import SYSTEM, settings_directory
from mailflow.errors import ConfigError
from mailflow.options import ElementsError, Fault
from mailflow.record import NamedTuple
from mailflow.toml_file import ConfigFaults, Source
from mailflow.values import nearest
from mailflow_webmail.definition.finders import STEPS
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.wording import Table

SHIPPED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "sites")
SUFFIX = ".toml"


class Definition(NamedTuple):
    """A file that describes a webmail. `shadows` are files of that name that do not count."""

    name: str
    path: str
    shadows: tuple[str, ...] = ()

    @property
    def shipped(self) -> bool:
        return os.path.dirname(self.path) == SHIPPED


def directories() -> tuple[str, ...]:
    """Where definitions are, the one that counts first."""
    return (
        os.path.join(settings_directory(), "sites"),
        os.path.join(SYSTEM, "sites"),
        SHIPPED,
    )


def definitions() -> list[Definition]:
    """Every definition there is, by name. Raises ConfigError."""
    found: dict[str, list[str]] = {}
    for directory in directories():
        for name in _names(directory):
            found.setdefault(name, []).append(os.path.join(directory, f"{name}{SUFFIX}"))
    return [Definition(name, first, tuple(more)) for name, (first, *more) in sorted(found.items())]


def site(name: str) -> Site:
    """The site of that name; a path that ends in ".toml" is one, too. Raises ConfigError."""
    return read(find(name))


def find(name: str) -> str:
    """The file that counts. Raises ConfigError."""
    if name.endswith(SUFFIX):
        return name
    for each in definitions():
        if each.name == name:
            return each.path
    names = [each.name for each in definitions()]
    own = os.path.join(settings_directory(), "sites", f"{os.path.basename(name)}{SUFFIX}")
    known = (
        nearest(name, names)
        or f"; there are {', '.join(names)}, and one of your own would be {own}"
    )
    raise ConfigError(f"there is no site {name!r}{known}")


def read(path: str, *, draft: bool = False) -> Site:
    """The site that a file describes; of a `draft`, with guesses that nobody has confirmed.
    Raises ConfigFaults with all that is wrong."""
    source = Source.read(path)
    data = dict(source.data)
    if draft:
        data.pop("guesses", None)
    try:
        found = Table("", Site).convert(data, source.base)
    except ElementsError as error:
        faults = [Fault(where, str(each)) for where, each in error.faults]
        raise ConfigFaults(source.located(faults)) from None
    if found.hook is not None:
        faults = list(_hooked(found, os.path.join(source.base, found.hook)))
        if faults:
            raise ConfigFaults(source.located(faults))
    return found


def guesses(path: str) -> list[str]:
    """What is still to be confirmed of a file. Raises ConfigFaults."""
    found = Source.read(path).data.get("guesses", [])
    return [str(each) for each in found] if isinstance(found, list) else []


def _hooked(site: Site, path: str) -> Iterator[Fault]:
    """Give a site its hook; what is wrong with that."""
    from mailflow_webmail.hook import load

    try:
        site.code = load(path)
    except ConfigError as error:
        yield Fault(("hook",), error.text)
        return
    for name in STEPS:
        if site.code.has(name) and not site.has(name):
            yield Fault(("hook",), f"it has `{name}`, and nothing says what its answer must be")
        elif site.lacks_request(name) and not site.code.has(name):
            yield Fault((name,), "needs `get`, `post` or `query`, or a method of the hook")


def _names(directory: str) -> Iterator[str]:
    """Raises ConfigError where a directory cannot be looked into."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix == SUFFIX and not stem.startswith("."):
                    yield stem
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigError(f"cannot look for sites in {directory}: {error.strerror}") from None


__all__ = [
    "SHIPPED", "Definition", "Site", "definitions", "directories", "find", "guesses", "read",
    "site",
]  # fmt: skip
