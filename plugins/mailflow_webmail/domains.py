"""Which webmail the addresses of a domain belong to: TOML, the user's over ours.

Rule of the file: a host is only ever taken from these files, never made of what somebody typed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from mailflow.directories import SYSTEM, settings_directory
from mailflow.errors import ConfigError
from mailflow.options import ElementsError, Fault, Text
from mailflow.toml_file import ConfigFaults, Source
from mailflow_webmail.definition.site import site
from mailflow_webmail.definition.wording import Section, Table
from mailflow_webmail.settings import Url

NAME = "domains.toml"

SHIPPED = os.path.join(os.path.dirname(__file__), NAME)


class Domain(Section):
    """Where the mail of a domain is read."""

    site = Text("The webmail's software: one that `mailflow webmail sites` lists.", least=1)
    url = Url(
        "Where it is installed: the address of its login page.",
        "https", "http", example="https://webmail.example.org/",
    )  # fmt: skip
    user = Text(
        "The login name there: {login} is the address, {user} and {domain} are its parts.",
        default="{login}", least=1,
    )  # fmt: skip


def files() -> tuple[str, ...]:
    """Where domains are named, the file that counts first."""
    return (os.path.join(settings_directory(), NAME), os.path.join(SYSTEM, NAME), SHIPPED)


def domain(name: str) -> Domain | None:
    """Where the mail of a domain is read, None where no file says it. Raises ConfigError for a
    file with a fault."""
    for file in files():
        found = read(file).get(name.lower()) if os.path.exists(file) else None
        if found is not None:
            return found
    return None


def read(file: str) -> dict[str, Domain]:
    """The domains of a file, in lower case. Raises ConfigFaults with all that is wrong."""
    source = Source.read(file)
    found: dict[str, Domain] = {}
    faults: list[Fault] = []
    for name, value in source.data.items():
        try:
            found[name.lower()] = Table("The webmail of a domain.", Domain).convert(
                value, source.base
            )
        except ElementsError as error:
            faults += [Fault((name, *where), str(each)) for where, each in error.faults]
        except ValueError as error:
            faults.append(Fault((name,), f'{error} such as ["example.org"]'))
    if faults:
        raise ConfigFaults(source.located(faults))
    return found


def wrong(names: Iterable[str]) -> Iterator[str]:
    """What is wrong with domains that are allowed: no file says where they are, or badly."""
    for name in names:
        try:
            found = domain(name)
            if found is None:
                yield f"{name} stands in none of {', '.join(files())}"
            else:
                site(found.site)
        except ConfigError as error:
            yield error.text
