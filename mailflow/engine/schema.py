"""The JSON Schema of a pipeline file, for editors that complete and check TOML.

Rule of the file: what `mailflow check` accepts the schema accepts. What no editor can
know (whether a file is there, what an expression means) is left to `check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailflow.engine.declared import MEANING, summary, written
from mailflow.engine.pipeline import ENGINE, NAMED, PipelineOptions
from mailflow.engine.registry import KINDS
from mailflow.options import ServerOptions
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailflow.engine.registry import Entry
    from mailflow.options import Option, Options

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The one that TOML editors read; of it only what they complete from."""

NEEDED = ("fetch", "distribute")

ALONE = ("use", "name", "account")
"""What a step says of itself alone."""


def pipeline_schema(entries: Iterable[Entry]) -> dict[str, object]:
    """Of a file whose steps may be these components. Broken ones are left out."""
    known = [entry for entry in entries if entry.component is not None]
    found = {
        table: [_step(table, each) for each in known if each.kind == kind]
        for table, kind in KINDS.items()
        if table in ENGINE
    }
    steps = {table: _steps(table, here) for table, here in found.items() if here}
    return {
        "$schema": DIALECT,
        "title": "A pipeline of mailflow",
        "type": "object",
        "properties": {
            "pipeline": _table(PipelineOptions, "About the whole."),
            **steps,
            "account": _accounts(known),
        },
        "anyOf": [{"required": ["serve"]}, {"required": list(NEEDED)}],
        "additionalProperties": False,
    }


def _accounts(known: Iterable[Entry]) -> dict[str, object]:
    """What an account may say: `use`, where it is a mailbox, and what that or a step takes."""
    mailboxes = [each for each in known if each.kind == KINDS["account"]]
    properties: dict[str, object] = dict(_properties(ServerOptions))
    if mailboxes:
        doc = "The plugin by which `mailflow mail` opens it."
        properties["use"] = {"enum": [each.use for each in mailboxes], "description": doc}
    for each in mailboxes:
        component: Any = each.component
        properties = {**_properties(component.options), **properties}
    return {
        "type": "object",
        "description": "What several steps say of one server; `account` names it.",
        "additionalProperties": {"type": "object", "properties": properties},
    }


def _steps(table: str, found: list[dict[str, object]]) -> dict[str, object]:
    if table in NAMED:
        doc = f"One table for each name: {MEANING[table]}."
        return {"type": "object", "description": doc, "additionalProperties": {"oneOf": found}}
    doc = f"Steps: {MEANING[table]}. Order counts."
    least = {"minItems": 1} if table in NEEDED else {}
    return {"type": "array", "description": doc, "items": {"oneOf": found}, **least}


def defaults_schema(entries: Iterable[Entry]) -> dict[str, object]:
    """Of defaults.toml: what pipelines have in common, such as [fetch.pop3]."""
    known = [entry for entry in entries if entry.component is not None]
    tables: dict[str, Any] = {table: _empty(MEANING[table]) for table in ENGINE}
    for entry in known:
        table = next(name for name, kind in KINDS.items() if kind == entry.kind)
        if table not in ENGINE:
            continue
        inside = tables[table]
        for word in entry.use.split("."):
            inside = inside["properties"].setdefault(word, _empty(f"Every step {entry.use}."))
        step: Any = _step(table, entry)["properties"]
        kept = {key: value for key, value in step.items() if key not in ALONE}
        inside["properties"] |= kept
        inside["description"] = f"What is so for every step with use = {entry.use!r}."
    about = _table(PipelineOptions, "What is so for every pipeline.")
    properties: Any = about["properties"]
    del properties["name"]
    return {
        "$schema": DIALECT,
        "title": "What pipelines of mailflow have in common",
        "type": "object",
        "properties": {"pipeline": about, **tables, "account": _accounts(known)},
        "additionalProperties": False,
    }


def _empty(doc: str) -> dict[str, Any]:
    return {"type": "object", "description": doc, "properties": {}, "additionalProperties": False}


def _step(table: str, entry: Entry) -> dict[str, object]:
    """One component: its own options beside the engine's keys. What it requires may also
    stand in an account or in defaults.toml, so that `use` alone must be here."""
    component: Any = entry.component
    engine, theirs = ENGINE[table][0], component.options
    whole = _table(engine, summary(entry))
    properties: Any = whole["properties"]
    properties |= _properties(theirs)
    properties["use"] = {"const": entry.use, "description": summary(entry)}
    return {"title": entry.use, **whole, "required": ["use"]}


def _table(options: type[Options], doc: str) -> dict[str, object]:
    return {
        "type": "object", "description": doc,
        "properties": _properties(options), "additionalProperties": False,
    }  # fmt: skip


def _properties(options: type[Options]) -> dict[str, object]:
    return {name: _property(option) for name, option in options.declared().items()}


def _property(option: Option[Any]) -> Mapping[str, object]:
    value = None if option.required else written(option, option.default)
    return option.schema() | ({} if value in (None, "", [], {}) else {"default": value})
