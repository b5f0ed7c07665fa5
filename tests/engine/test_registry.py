"""Plugins are found by name, loaded one by one, and harm nobody but themselves."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from mailflow.engine.registry import BUILT_IN, KINDS, Registry
from mailflow.errors import ConfigError, MailflowError, PluginError

ROOT = Path(__file__).parents[2]

PIGEON = """
from mailflow import hookimpl
from mailflow.options import Options

class Pigeon:
    options = Options
    repeatable, per_recipient, sends = True, False, True
    def __init__(self, options, runtime): pass
    def __enter__(self): return self
    def __exit__(self, *error): pass
    def distribute(self, mail, ticket): return ()

@hookimpl
def mailflow_register(register):
    register.distributor(Pigeon)
"""

UNLOADABLE = "plugin `pigeon` (mailflow-pigeon) cannot be loaded:"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution that brings a plugin, for this test."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(code: str, *, name: str = "pigeon", distribution: str = "mailflow-pigeon") -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(dedent(code))
        information = tmp_path / f"{module}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[mailflow]\n{name} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def fault(table: str, use: str, registry: Registry | None = None) -> str:
    with pytest.raises(MailflowError) as raised:
        (registry or Registry()).component(table, use)
    assert isinstance(raised.value, PluginError | ConfigError)
    return str(raised.value)


def test_the_table_of_our_own_plugins_is_that_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["mailflow"] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_plugin_of_our_own_loads_and_keeps_its_contract(name: str) -> None:
    registry = Registry()
    registry.load(name)
    assert [entry for entry in registry.all() if entry.use.partition(".")[0] == name]


def test_our_own_plugins_cost_no_scan_of_what_is_installed() -> None:
    program = """
        import sys
        from mailflow.engine.registry import Registry
        registry = Registry()
        registry.component("fetch", "stdin"), registry.component("distribute", "maildir")
        registry.event("mail.done", mail="m1")
        heavy = {"importlib.metadata", "pluggy", "structlog", "mailflow_smtp"}
        print(*sorted(heavy & set(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True
    )
    assert run.stdout == "\n"


def test_a_component_is_had_by_plugin_kind_and_name() -> None:
    component = Registry().component("distribute", "maildir")
    assert component.__name__ == "MaildirDistributor"


@pytest.mark.parametrize(
    ("table", "use", "said"),
    [
        ("fetch", "stdn", "there is no plugin `stdn`; did you mean `stdin`?"),
        ("fetch", "carrier", "there is no plugin `carrier`; is it installed here?"),
        (
            "fetch",
            "smtp",
            "`smtp` is a distributor, not a fetcher; it stands under [[distribute]]",
        ),
        ("process", "list.pst", "there is no processor `list.pst`; did you mean `list.post`?"),
        ("process", "list", "there is no processor `list`; did you mean `list.post`?"),
        ("process", "smtp.x", "plugin `smtp` has no processor"),
        ("react", "retry", "there is no plugin `retry`; did you mean `react.retry`?"),
        ("distribute", "lmtp", "there is no plugin `lmtp`; did you mean `smtp.lmtp`?"),
        (
            "react",
            "command",
            "`command` is a distributor, not a reactor; did you mean `react.command`?",
        ),
    ],
)
def test_pml14_a_wrong_name_is_told_with_the_nearest_right_one(
    table: str, use: str, said: str
) -> None:
    assert fault(table, use) == said


def test_somebody_else_s_plugin_is_found_by_its_entry_point(install: Install) -> None:
    install(PIGEON)
    assert Registry().component("distribute", "pigeon").__name__ == "Pigeon"


def test_a_built_in_name_cannot_be_taken(install: Install) -> None:
    install(PIGEON, name="maildir")
    assert Registry().component("distribute", "maildir").__name__ == "MaildirDistributor"


def test_two_distributions_with_one_name_are_both_named(install: Install) -> None:
    install(PIGEON, distribution="mailflow-pigeon")
    install(PIGEON, distribution="mailflow-dove")
    said = fault("distribute", "pigeon")
    assert said.startswith("plugin `pigeon` comes from ")
    assert "mailflow-pigeon" in said
    assert "mailflow-dove" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import nowhere",
            f"{UNLOADABLE} ModuleNotFoundError: No module named 'nowhere'",
        ),
        (
            "raise SystemExit('enough')",
            f"{UNLOADABLE} SystemExit: enough",
        ),
        (
            "raise ValueError('a\\nb')",
            f"{UNLOADABLE} ValueError: a\\nb",
        ),
        ("", "plugin `pigeon` has no mailflow_register"),
        (
            PIGEON.replace("options = Options", ""),
            "distributor `pigeon` has no `options`, a class made from Options",
        ),
        (
            PIGEON.replace("def distribute(", "def deliver("),
            "distributor `pigeon` has no distribute()",
        ),
        (
            PIGEON.replace("repeatable, per_recipient, sends", "repeatable, _, sends"),
            "distributor `pigeon` does not say per_recipient = True or False",
        ),
        (
            PIGEON + "    register.distributor(Pigeon)\n",
            "plugin `pigeon` registers distributor `pigeon` twice",
        ),
        (
            PIGEON.replace("register.distributor", "register.carrier"),
            f"{UNLOADABLE} AttributeError: '_Register' object has no attribute 'carrier'",
        ),
    ],
)
def test_c05_a_broken_plugin_is_one_line_that_names_it(
    install: Install, code: str, said: str
) -> None:
    install(code)
    registry = Registry()
    assert fault("distribute", "pigeon", registry) == said
    assert registry.component("distribute", "maildir")


def test_c05_what_a_plugin_prints_while_it_loads_is_no_output_of_ours(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("print('hello')\n" + PIGEON)
    Registry().component("distribute", "pigeon")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "hello\n")


def test_a_missing_extra_is_told_with_the_command_to_run(install: Install) -> None:
    install(PIGEON.replace("options =", "requires, extra = ('seed', 'sys'), 'loft'\n    options ="))
    registry = Registry()
    said = "`pigeon` needs seed: pip install 'mailflow-pigeon[loft]'"
    assert fault("distribute", "pigeon", registry) == said
    assert [entry.fault for entry in registry.all() if entry.use == "pigeon"] == [said]


def test_all_lists_every_component_and_why_a_plugin_gives_none(install: Install) -> None:
    install("1 / 0")
    entries = Registry().all()
    maildir = next(entry for entry in entries if entry.use == "maildir")
    assert (maildir.kind, maildir.distribution, maildir.fault) == ("distributor", "mailflow", "")
    pigeon = next(entry for entry in entries if entry.use == "pigeon")
    assert pigeon.component is None
    assert pigeon.fault.endswith("cannot be loaded: ZeroDivisionError: division by zero")
    assert {entry.kind for entry in entries if entry.kind} == set(KINDS.values())


def test_a_hook_is_what_a_plugin_has_marked_and_a_broken_plugin_has_none(install: Install) -> None:
    install(PIGEON + "\n@hookimpl\ndef mailflow_explain(query):\n    return [query]\n")
    install(
        PIGEON + "\ndef mailflow_explain(query):\n    return []\n",
        name="dove", distribution="mailflow-dove",
    )  # fmt: skip
    install("1 / 0", name="dodo", distribution="mailflow-dodo")
    found = dict(Registry().hooks("mailflow_explain"))
    assert found.keys() == {"imap", "pigeon"}
    assert found["pigeon"](query="x") == ["x"]
    with pytest.raises(PluginError):
        Registry().hook("dodo", "mailflow_explain")


LISTENER = (
    PIGEON
    + """
told = []

@hookimpl
def mailflow_event(event, facts):
    told.append((event, facts))
"""
)


def test_a_plugin_that_listens_is_told_what_happens(install: Install) -> None:
    install(LISTENER)
    registry = Registry()
    registry.load("pigeon")
    registry.event("mail.done", mail="m1", name="x")
    assert sys.modules["mailflow_pigeon"].told == [("mail.done", {"mail": "m1", "name": "x"})]


def test_a_listener_may_leave_out_what_it_does_not_need(install: Install) -> None:
    install(LISTENER.replace("(event, facts):", "(event):").replace("(event, facts)", "event"))
    registry = Registry()
    registry.load("pigeon")
    registry.event("run.ended", pipeline="red")
    assert sys.modules["mailflow_pigeon"].told == ["run.ended"]


def test_what_a_listener_raises_is_logged_and_the_next_is_told(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(LISTENER.replace("told.append", "raise OSError"))
    install(LISTENER, name="dove", distribution="mailflow-dove")
    registry = Registry()
    registry.load("pigeon")
    registry.load("dove")
    registry.event("mail.done", mail="m1")
    assert sys.modules["mailflow_dove"].told == [("mail.done", {"mail": "m1"})]
    assert "a listener failed" in capsys.readouterr().err


def test_without_a_listener_pluggy_is_not_loaded(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(PIGEON)
    monkeypatch.setitem(sys.modules, "pluggy", None)
    registry = Registry()
    registry.load("pigeon")
    registry.event("mail.done", mail="m1")
