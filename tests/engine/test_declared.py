"""What is told of options, and the schema of a file: from the declarations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from mailflow.engine.config import load, load_dict
from mailflow.engine.declared import Told, default, example, octets, span, told, toml, written
from mailflow.engine.registry import KINDS, Entry, Registry
from mailflow.engine.schema import defaults_schema, pipeline_schema
from mailflow.errors import ConfigError
from mailflow.options import (
    Address,
    Choice,
    Duration,
    Integer,
    ListOf,
    Options,
    Secret,
    Size,
    TableOf,
    Template,
    Text,
    duration,
    size,
)
from mailflow.pattern import Pattern
from mailflow.testing.documents import blocks

ROOT = Path(__file__).parents[2]
ENTRIES = [entry for entry in Registry().all() if entry.distribution == "mailflow"]
TABLES = {kind: table for table, kind in KINDS.items()}
VALIDATOR = Draft7Validator(pipeline_schema(ENTRIES))
DOCUMENTED = [
    block.text
    for page in (ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst")))
    for block in blocks(page)
    if block.language == "toml"
    and "pigeon" not in block.text  # a plugin that a page writes
    and page.stem != "webmail-sites"  # definitions, which have a schema of their own
]


class Pigeon(Options):
    """Every shape that a default has."""

    loft = Text("The loft.", least=1)
    speed = Integer("Metres a second.", default=20)
    rest = Duration("Between flights.", default=7200.0)
    legs = ListOf("Pauses.", Duration(""), default=(60.0, 90.0))
    home = Address("Whose it is.", default=Address("").convert("Ann <ann@example.org>", "."))
    rings = TableOf("Rings.", Template(""), default={"left leg": Pattern("{id}")})
    word = Secret.optional("The password.")


def test_defaults_are_told_as_a_file_says_them() -> None:
    assert {name: default(option) for name, option in Pigeon.declared().items()} == {
        "loft": "",
        "speed": "20",
        "rest": '"2h"',
        "legs": '["1m", "90s"]',
        "home": '"Ann <ann@example.org>"',
        "rings": '{ "left leg" = "{id}" }',
        "word": "",
    }


def test_each_option_says_what_it_expects_and_whether_it_is_needed() -> None:
    assert told(Pigeon)[0] == Told("loft", "a string that is not empty", True, "", "The loft.")
    assert [each.need for each in told(Pigeon)][:3] == ["required", "default 20", 'default "2h"']
    assert told(Pigeon)[-1].need == "optional"
    assert "loft" not in [each.name for each in told(Pigeon, without=("loft",))]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: each.use)
def test_every_default_can_be_written_into_a_file_and_is_the_same_then(entry: Entry) -> None:
    component: Any = entry.component
    for option in component.options.declared().values():
        if text := default(option):
            value = tomli.loads(f"x = {text}")["x"]
            assert written(option, option.convert(value, "/")) == written(option, option.default)


@given(st.floats(0, 1e9).map(lambda each: round(each, 1)))
def test_a_span_is_read_back_as_it_was(seconds: float) -> None:
    assert duration(span(seconds)) == pytest.approx(seconds, rel=1e-5)


@given(st.integers(0, 1 << 40) | st.integers(0, 99).map(lambda each: each << 20))
def test_a_size_is_read_back_as_it_was(number: int) -> None:
    assert size(octets(number)) == number


def test_a_size_is_told_in_the_largest_unit() -> None:
    assert [octets(n) for n in (0, 4096, 1 << 30, 2 * 10**6, 1001)] == [
        0, "4KiB", "1GiB", "2MB", 1001,
    ]  # fmt: skip


def test_for_good_is_a_span() -> None:
    assert span(float("inf")) == "forever"


@given(
    st.recursive(
        st.text() | st.integers(-(2**53), 2**53) | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_what_is_written_as_toml_is_read_back(value: object) -> None:
    assert tomli.loads(f"x = {toml(value)}")["x"] == value


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: each.use)
def test_the_example_of_a_component_can_be_copied(entry: Entry, home: Path) -> None:
    """With all its comments taken as options too."""
    (home / "lists").mkdir()
    (home / "lists" / "red.members").write_text("ann@example.org\n")
    component: Any = entry.component
    text = example(TABLES[entry.kind], entry.use, component.options)
    for form in (text, text.replace("\n# ", "\n")):
        (tables,) = tomli.loads(form).values()
        (table,) = tables.values() if entry.kind in ("maildrop", "mailbox") else tables
        assert table.pop("use") == entry.use
        component.options.read(table, str(home))


def valid(text: str) -> bool:
    return not list(VALIDATOR.iter_errors(tomli.loads(text)))


def test_options_may_bring_examples_of_their_own() -> None:
    class Loft(Options):
        examples = {"path": "~/loft", "birds": ["Ann", "Ben"]}

        path = Text("Where it is.")
        birds = ListOf("Who flies.", Text("A name."))

    assert example("distribute", "pigeon", Loft) == (
        '[[distribute]]\nuse = "pigeon"\npath = "~/loft"\nbirds = ["Ann", "Ben"]\n'
    )


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.toml")), ids=lambda p: p.stem)
def test_the_schema_takes_every_pipeline_that_we_ship(path: Path) -> None:
    assert list(VALIDATOR.iter_errors(tomli.loads(path.read_text()))) == []


def test_the_schema_takes_what_the_documentation_shows() -> None:
    for text in DOCUMENTED:
        data = {"fetch": [{"use": "stdin"}], "distribute": [{"use": "maildir", "path": "x"}]}
        assert list(VALIDATOR.iter_errors(data | tomli.loads(text))) == [], text


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(VALIDATOR.schema)


SMALL = '[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\npath = "x"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[[fetch]]\nuse = "stdin"\n',
        SMALL + "[piepline]\n",
        SMALL + '[pipeline]\nhistory = "a while"\n',
        SMALL + "[pipeline]\nlinger = 20\n",
        SMALL + '[[process]]\nuse = "filter.discrad"\n',
        SMALL + '[[process]]\nwhen = "seen"\n',
        SMALL + '[[process]]\nuse = "maildir"\npath = "x"\n',
        SMALL + '[[process]]\nuse = "filter.hold"\nreasons = "x"\n',
        SMALL + '[[distribute]]\nuse = "smtp"\nhost = ""\n',
        SMALL + '[[distribute]]\nuse = "smtp"\nhost = "a"\nport = 70000\n',
        SMALL + '[[distribute]]\nuse = "smtp"\nhost = "a"\ntls = "yes"\n',
        SMALL + '[[distribute]]\nuse = "smtp"\nhost = "a"\npassword = { fiel = "x" }\n',
        SMALL + '[[distribute]]\nuse = "smtp"\nhost = "a"\npassword = { file = "x", env = "y" }\n',
        SMALL + '[[process]]\nuse = "list.post"\nmax_size = "2 pounds"\n',
        SMALL + '[[process]]\nuse = "list.post"\nposting = { others = "maybe" }\n',
        SMALL + '[[process]]\nuse = "list.post"\nowner = "ann"\n',
    ],
)
def test_the_schema_refuses_what_check_refuses(text: str, tmp_path: Path) -> None:
    assert not valid(text)
    with pytest.raises(ConfigError):
        load_dict(tomli.loads(text), base=str(tmp_path))


def test_what_a_step_needs_may_stand_in_an_account_or_in_another_file() -> None:
    step = '[[distribute]]\nname = "b"\nuse = "smtp"\naccount = "club"\n'
    assert valid(SMALL + step + '[account.club]\nhost = "smtp.example.org"\n')
    assert valid(SMALL + '[[distribute]]\nname = "b"\nuse = "smtp"\n')


DEFAULTS = Draft7Validator(defaults_schema(ENTRIES))


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        ('[fetch.pop3]\ntimeout = "30s"\nkeep = "14d"\n', True),
        ('[process.list.post]\nmax_size = "2MB"\n[process.filter.tag]\nnote = { a = "b" }\n', True),
        ("[distribute.smtp]\nparallel = 2\n[distribute.smtp.lmtp]\nparallel = 3\n", True),
        ('[pipeline]\nhistory = "90d"\n[account.club]\nhost = "pop.example.org"\n', True),
        ('[fetch.pop3]\nname = "x"\n', False),
        ('[fetch.pop]\ntimeout = "30s"\n', False),
        ('[fetch]\nkeep = "14d"\n', False),
        ('[[fetch]]\nuse = "pop3"\n', False),
        ('[pipeline]\nname = "x"\n', False),
        ('[distribute.smtp]\nhelp = "x"\n', False),
    ],
)
def test_the_schema_of_defaults_takes_what_pipelines_have_in_common(
    text: str, takes: bool, tmp_path: Path
) -> None:
    assert DEFAULTS.is_valid(tomli.loads(text)) == takes
    (tmp_path / "defaults.toml").write_text(text)
    file = tmp_path / "red.toml"
    file.write_text(
        '[[fetch]]\nuse = "pop3"\naccount = "club"\n[[distribute]]\nuse = "smtp"\n'
        'host = "localhost"\n[account.club]\nhost = "localhost"\nuser = "ann"\npassword = "x"\n'
    )
    try:
        warned = load([str(file)], thorough=True)[0].warnings
    except ConfigError:
        assert not takes
    else:
        assert takes or any("defaults.toml" in str(each) for each in warned)


NUMBERS = st.integers(0, 10**6).map(str) | st.floats(0, 1e6).map(lambda each: f"{each:.3f}")
UNITS = st.sampled_from(
    ["", "b", "k", "K", "kB", "KiB", "MB", "m", "ms", "s", "H", "d", "w", "G", "x", "kk", "bi"]
)


@given(NUMBERS, st.sampled_from(["", " "]), UNITS)
def test_the_schema_takes_the_spans_and_sizes_that_are_read(
    number: str, space: str, unit: str
) -> None:
    text = f"{number}{space}{unit}"
    for option, read in ((Duration(""), duration), (Size(""), size)):
        try:
            read(text)
            readable = True
        except ValueError:
            readable = False
        assert Draft7Validator(option.schema()).is_valid(text) == readable


@pytest.mark.parametrize(
    ("option", "takes", "refuses"),
    [
        (Duration(""), [0, "forever", "2h"], [5, -1, "", "h", True]),
        (Size(""), [0, 4096, "64k"], [-1, "", "k", True]),
        (Text("", least=1), ["a"], ["", 5]),
        (Choice("", "a", "b"), ["a"], ["c", ["a"]]),
        (Address(""), ["a@b", "A <a@b>"], ["a", 5]),
        (ListOf("", Address("")), ["a@b", ["a@b", "c@d"], []], ["a", ["a"]]),
        (
            Secret(""),
            ["x", {"file": "x"}, {"command": ["a", "b"]}, {"command": "a b"}],
            ["", {}, {"file": 5}, {"fiel": "x"}, {"command": [5]}, ["x"]],
        ),
    ],
)
def test_the_schema_of_each_shape(option: Any, takes: list[object], refuses: list[object]) -> None:
    validator = Draft7Validator(option.schema())
    assert [each for each in takes if not validator.is_valid(each)] == []
    assert [each for each in refuses if validator.is_valid(each)] == []
