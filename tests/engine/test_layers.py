"""What pipelines have in common: the more specific table wins, then the nearer file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mailflow.engine import layers, source
from mailflow.engine.config import ConfigFaults, load, load_dict, settings
from mailflow.engine.registry import Registry

PIPELINE = """
    [[fetch]]
    use = "pop3"
    {step}
    [[distribute]]
    use = "maildir"
    path = "Maildir"
    {account}
"""
FULL = 'host = "h"\nuser = "u"\npassword = { env = "X" }\n'

Say = Callable[..., str]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The directories of the project, the user and the system."""
    found = {name: tmp_path / name / "mailflow" for name in ("project", "user", "system")}
    for directory in found.values():
        directory.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(source, "SYSTEM", str(found["system"]))
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
def say(places: dict[str, Path]) -> Say:
    """Write the pipeline, and defaults by place; gives the pipeline's path."""

    def say(step: str = "", account: str = "", **defaults: str) -> str:
        for place, text in defaults.items():
            (places[place] / "defaults.toml").write_text(dedent(text))
        path = places["project"] / "red.toml"
        path.write_text(dedent(PIPELINE).replace("{step}", step).replace("{account}", account))
        return str(path)

    return say


def value(path: str, key: str) -> Any:
    [pipeline] = load([path])
    return getattr(pipeline.fetch[0].options, key)


def fault(path: str) -> str:
    with pytest.raises(ConfigFaults) as raised:
        load([path])
    return str(raised.value)


def test_pwm06_defaults_lie_beside_the_file_or_with_the_user_or_the_system(say: Say) -> None:
    system, user, project = (f'[fetch.pop3]\n{FULL}timeout = "{n}s"\n' for n in (1, 2, 3))
    assert value(say(system=system), "timeout") == 1.0
    assert value(say(system=system, user=user), "timeout") == 2.0
    assert value(say(system=system, user=user, project=project), "timeout") == 3.0


def test_pwm08_what_the_step_says_wins_over_all(say: Say) -> None:
    path = say(FULL + 'timeout = "9s"', project='[fetch.pop3]\ntimeout = "3s"\n')
    assert value(path, "timeout") == 9.0


def test_pwm08_a_more_specific_table_of_a_farther_file_wins_over_a_nearer_general_one(
    say: Say,
) -> None:
    """The trap of the ancestor: a service's own default lost to a nearer file's general one."""
    path = say(
        'account = "club"',
        system='[account.club]\nhost = "club"\ntimeout = "1s"\n',
        project=f'[fetch.pop3]\n{FULL}timeout = "3s"\n',
    )
    assert value(path, "timeout") == 1.0
    assert value(path, "host") == "club"
    assert value(path, "user") == "u"


def test_pwm08_an_account_is_merged_from_all_files_the_nearer_winning_key_by_key(say: Say) -> None:
    path = say(
        'account = "club"',
        account='[account.club]\nhost = "near"\n',
        user='[account.club]\nhost = "far"\nuser = "ann"\npassword = { env = "X" }\n',
    )
    assert (value(path, "host"), value(path, "user")) == ("near", "ann")


def test_the_engine_s_own_keys_and_those_of_the_pipeline_have_defaults_too(say: Say) -> None:
    [pipeline] = load([
        say(project=f'[pipeline]\nhistory = "1d"\n[fetch.pop3]\n{FULL}keep = "2d"\n')
    ])  # fmt: skip
    assert (pipeline.history, pipeline.fetch[0].keep) == (86400.0, 2 * 86400.0)


def test_a_path_starts_at_the_directory_of_the_file_that_says_it(
    say: Say, places: dict[str, Path]
) -> None:
    path = say(FULL, user='[fetch.pop3]\nca_file = "club.pem"\n')
    assert value(path, "ca_file") == str(places["user"] / "club.pem")


def test_a_fault_is_told_with_the_file_and_line_of_the_defaults(
    say: Say, places: dict[str, Path]
) -> None:
    path = say(FULL, user='\n[fetch.pop3]\ntimeout = "soon"\ntimeuot = "1s"\n')
    first, second = sorted(fault(path).splitlines())
    where = places["user"] / "defaults.toml"
    assert first.startswith(f"{where}:3: fetch.pop3.timeout: expected a duration")
    assert second == f"{where}:4: fetch.pop3.timeuot: unknown key; did you mean `timeout`?"


def test_an_account_of_another_file_is_known_to_whoever_mistypes_it(say: Say) -> None:
    path = say('account = "clbu"', user=f"[account.club]\n{FULL}")
    assert "fetch[1].account: unknown account; did you mean `club`?" in fault(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fecth.pop3]\n", "1: fecth: unknown table; did you mean `fetch`?"),
        ("[[fetch]]\nuse = 'pop3'\n", "1: fetch: expected [fetch.NAME]"),
        ("[fetch]\npop3 = 5\n", "2: fetch.pop3: expected [fetch.pop3], a table"),
        ("[fetch.pop3]\nuse = 'x'\n", "2: fetch.pop3.use: unknown key"),
        ("[pipeline]\nname = 'x'\n", "2: pipeline.name: unknown key"),
        ("x = \n", "1: not TOML"),
    ],
)
def test_a_file_of_the_wrong_form_is_told(say: Say, text: str, said: str) -> None:
    assert f"defaults.toml:{said}" in fault(say(FULL, project=text))


def test_what_no_step_takes_is_a_warning(say: Say) -> None:
    path = say(
        'account = "club"',
        project=f"[account.club]\n{FULL}recipients_max = 5\n[distribute.smpt]\nport = 25\n",
    )
    [pipeline] = load([path], thorough=False)
    assert ["takes this key" in warning.text for warning in pipeline.warnings] == [True]
    os.environ["X"] = "x"
    try:
        [pipeline] = load([path], thorough=True)
    finally:
        del os.environ["X"]
    assert [warning.line for warning in pipeline.warnings] == [5, 6]
    assert "smpt" in pipeline.warnings[1].text


def test_defaults_of_a_component_s_component_are_its_own(say: Say) -> None:
    path = say(FULL, project='[process.filter.hold]\nreason = "look"\n')
    text = Path(path).read_text() + '[[process]]\nuse = "filter.hold"\n'
    Path(path).write_text(text)
    [pipeline] = load([path])
    assert vars(pipeline.process[0].options)["reason"].text == "look"


def test_c01_defaults_of_a_stranger_are_refused(
    say: Say, monkeypatch: pytest.MonkeyPatch, places: dict[str, Path]
) -> None:
    path = say(FULL, project="[fetch.pop3]\nport = 1\n")
    if os.geteuid() != 0:
        pytest.skip("only root may give files away")
    os.chown(places["project"] / "defaults.toml", 1234, -1)
    assert "belongs to another user (uid 1234), who must not decide" in fault(path)


def test_c01_a_secret_in_defaults_that_others_can_read_is_a_fault_there(
    say: Say, places: dict[str, Path], tmp_path: Path
) -> None:
    path = say('host = "h"\nuser = "u"', user='[fetch.pop3]\npassword = "hunter2"\n')
    os.chmod(places["user"] / "defaults.toml", 0o600)
    [pipeline] = load([path])
    assert pipeline.warnings[0].file == str(places["user"] / "defaults.toml")
    assert "hunter2" not in str(pipeline.warnings)


def test_pwm06_config_names_the_one_file_with_defaults(say: Say, tmp_path: Path) -> None:
    path = say(FULL, user="[fetch.pop3]\nport = 1\n")
    other = tmp_path / "other.toml"
    other.write_text('[fetch.pop3]\ntimeout = "4s"\n')
    layers.use_only(str(other))
    try:
        assert (value(path, "port"), value(path, "timeout")) == (None, 4.0)
    finally:
        layers.use_only(None)


def test_what_a_program_says_is_all_there_is(
    say: Say, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(FULL, project="[fetch.pop3]\nport = 1\n")
    monkeypatch.chdir(places["project"])
    pipeline = load_dict({
        "fetch": [{"use": "pop3", "host": "h", "user": "u", "password": {"env": "X"}}],
        "distribute": [{"use": "maildir", "path": "M"}],
    })  # fmt: skip
    assert getattr(pipeline.fetch[0].options, "port") is None  # noqa: B009


def test_pwm08_every_value_in_force_is_told_with_its_place(
    say: Say, places: dict[str, Path]
) -> None:
    path = say(
        'account = "club"\nport = 7', account='[account.club]\nhost = "near"',
        user='[account.club]\nuser = "ann"\n[fetch.pop3]\npassword = { env = "X" }\n',
    )  # fmt: skip
    told = {each.key: each for each in settings(path, Registry()) if each.kind == "fetch"}
    place = {
        key: (os.path.basename(each.given.source.file), each.given.table)
        for key, each in told.items()
        if each.given is not None
    }
    assert place == {
        "use": ("red.toml", ("fetch", 0)), "account": ("red.toml", ("fetch", 0)),
        "port": ("red.toml", ("fetch", 0)), "host": ("red.toml", ("account", "club")),
        "user": ("defaults.toml", ("account", "club")),
        "password": ("defaults.toml", ("fetch", "pop3")),
    }  # fmt: skip
    assert told["timeout"].given is None
    assert told["timeout"].value == 60.0
