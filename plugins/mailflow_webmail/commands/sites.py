"""`mailflow webmail sites`: which webmails are described, by which file, and how far.

Rule of the file: it reads definitions and asks no webmail.
"""

from __future__ import annotations

import click

from mailflow.errors import ConfigError
from mailflow.record import NamedTuple
from mailflow.tables import json_option, say, show, show_json
from mailflow_webmail.definition.language import Site
from mailflow_webmail.definition.site import Definition, definitions, read
from mailflow_webmail.definition.wording import Table

FAULTY = 78

SCHEMA = "http://json-schema.org/draft-07/schema#"

CAN = ("delete", "trash", "seen", "send")
"""Steps that say what a site can do beside being read."""


class Known(NamedTuple):
    """A definition, and what is in it: a site, or what is wrong."""

    definition: Definition
    site: Site | None
    fault: str

    @property
    def can(self) -> tuple[str, ...]:
        if self.site is None:
            return ()
        return ("fetch", *filter(self.site.has, CAN))


@click.command(name="sites")
@json_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a definition, for editors.")
def sites(as_json: bool, schema: bool) -> int:
    """The webmails that are described, for `site = "NAME"`.

    Your own descriptions, ~/.config/mailflow/sites/NAME.toml, come before those in
    /etc/mailflow/sites, and both before what comes with mailflow. Ends with 78 where one is
    wrong, and says where.
    """
    if schema:
        show_json(
            {"$schema": SCHEMA, "title": "A webmail, for mailflow", **Table("", Site).schema()}
        )
        return 0
    found = [_known(each) for each in definitions()]
    if as_json:
        show_json([_facts(each) for each in found])
    else:
        show(("NAME", "TITLE", "FORMAT", "CAN", "FROM"), map(_row, found))
        for each in found:
            for line in each.fault.splitlines():
                say(f"mailflow: {line}", err=True)
    return FAULTY if any(each.fault for each in found) else 0


def _known(definition: Definition) -> Known:
    try:
        return Known(definition, read(definition.path), "")
    except ConfigError as error:
        return Known(definition, None, error.text)


def _row(known: Known) -> tuple[object, ...]:
    definition, site, fault = known
    where = "mailflow" if definition.shipped else definition.path
    if definition.shadows:
        hidden = ("mailflow's" if _is_shipped(path) else path for path in definition.shadows)
        where += f" instead of {' and '.join(hidden)}"
    if site is None:
        return definition.name, "", "", f"{len(fault.splitlines())} faults, see below", where
    return definition.name, site.name, site.format_, ", ".join(known.can), where


def _facts(known: Known) -> dict[str, object]:
    definition, site, fault = known
    return {
        "name": definition.name, "title": site.name if site else None,
        "format": site.format_ if site else None, "can": known.can, "file": definition.path,
        "shipped": definition.shipped, "instead_of": definition.shadows,
        "faults": fault.splitlines(),
    }  # fmt: skip


def _is_shipped(path: str) -> bool:
    return Definition("", path).shipped
