"""How a plugin meets the engine: registering, and hearing what has happened."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pluggy
import pytest

from mailflow.engine.registry import Registry
from mailflow.hooks import Hooks, hookimpl

from .cli.command import HOOK, MAIL, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


LISTENER = """
import json, os
from mailflow import hookimpl

@hookimpl
def mailflow_register(register):
    pass

@hookimpl
def mailflow_event(event, facts):
    with open(os.environ["EVENTS"], "a") as file:
        print(json.dumps([event, facts]), file=file)
    if os.environ.get("RAISE"):
        raise {"SystemExit": SystemExit, "ZeroDivisionError": ZeroDivisionError}[
            os.environ["RAISE"]
        ]("a bug")
"""


def manager(plugin: types.ModuleType) -> pluggy.PluginManager:
    found = pluggy.PluginManager("mailflow")
    found.add_hookspecs(Hooks)
    found.register(plugin)
    found.check_pending()
    return found


def test_our_mark_is_one_that_pluggy_knows() -> None:
    plugin = types.ModuleType("pigeon")
    heard: list[str] = []

    def mailflow_event(event: str, facts: dict[str, object]) -> None:
        heard.append(event)

    plugin.mailflow_event = hookimpl(mailflow_event)  # type: ignore[attr-defined]
    manager(plugin).hook.mailflow_event(event="run.started", facts={})
    assert heard == ["run.started"]


def test_a_plugin_may_use_pluggys_mark_as_well() -> None:
    plugin = types.ModuleType("mailflow_pigeon")
    heard: list[str] = []

    def mailflow_event(event: str) -> None:  # pluggy lets it take fewer
        heard.append(event)

    plugin.mailflow_event = pluggy.HookimplMarker("mailflow")(mailflow_event)  # type: ignore[attr-defined]
    manager(plugin).hook.mailflow_event(event="run.started", facts={})
    assert heard == ["run.started"]


def test_a_hook_of_a_name_that_is_none_is_found_out() -> None:
    plugin = types.ModuleType("pigeon")
    plugin.mailflow_evnet = hookimpl(lambda event: None)  # type: ignore[attr-defined]
    with pytest.raises(pluggy.PluginValidationError, match="unknown hook"):
        manager(plugin)


def test_the_mark_costs_no_import() -> None:
    program = "import sys, mailflow.hooks; print('pluggy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_without_listeners_an_event_costs_nothing() -> None:
    Registry().event("mail.done", mail="x")  # and raises nothing


@pytest.mark.parametrize("command", ["hook", "run"])
def test_a_plugin_that_is_named_hears_what_is_durable(shop: Shop, command: str) -> None:
    shop.plugin("ear", LISTENER)
    file = shop.write('plugins = ["ear"]\n' + HOOK)
    events = shop.root / "events"
    done = shop(command, file, stdin=MAIL, env={"EVENTS": str(events)})
    assert done == (0, "", "")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    names = [event for event, _ in told]
    assert names == (["mail.done"] if command == "hook" else ["run.started", "run.ended"])
    assert all(facts["pipeline"] == "red" for _, facts in told)


@pytest.mark.parametrize("error", ["ZeroDivisionError", "SystemExit"])
@pytest.mark.parametrize("command", ["hook", "run"])
def test_one_that_raises_is_logged_and_breaks_nothing(shop: Shop, error: str, command: str) -> None:
    shop.plugin("ear", LISTENER)
    file = shop.write('plugins = ["ear"]\n' + HOOK)
    env = {"EVENTS": str(shop.root / "events"), "RAISE": error}
    done = shop(command, file, stdin=MAIL, env=env)
    assert done.status == 0
    assert len(shop.maildir) == (command == "hook")
    assert "a listener failed" in done.err
    assert "a bug" in done.err


def test_one_that_is_not_there_is_a_fault_of_the_file(shop: Shop) -> None:
    done = shop("check", shop.write('plugins = ["eer"]\n' + HOOK))
    assert done.status == 78
    assert "pipeline.plugins[1]: there is no plugin `eer`" in done.err
