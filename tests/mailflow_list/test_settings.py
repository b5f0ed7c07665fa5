"""What can be wrong with a list in TOML, and how it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from mailflow.errors import ConfigError
from mailflow_list.settings import PostOptions

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("", "address: expected the list's address"),
        ('address = "red@example.org"', "members: expected a file with an address a line"),
        ('address = "red"\nmembers = []', "address: expected an address"),
        ('address = "r@x.org"\nmembers = ["a@x.org", "b"]', "members[2]: expected an address"),
        ('address = "r@x.org"\nmembers = []\nposting = { guests = "hold" }', "guests"),
        ('address = "r@x.org"\nmembers = []\nposting = { others = "ask" }', '"accept" or "hold"'),
        ('address = "r@x.org"\nmembers = []\nlist_id = "red"', "list_id: expected words with dots"),
        ('address = "r@x.org"\nmembers = []\narchive = "www.x.org"', "archive: expected a URL"),
        ('address = "r@x.org"\nmembers = []\narchive = "https://x.org/> <a:b"', "archive: expec"),
        ('address = "r@x.org"\n[[list]]\naddress = "s@x.org"\nmembers = []', "address: belongs to"),
        ('members = []\n[[list]]\nprefix = "x"', "list: a list: address: expected"),
        ('[[list]]\naddress = "r@x.org"', "list: r@x.org: members: expected"),
        ('[[list]]\nadress = "r@x.org"', "list[1].adress: unknown option; did you mean `address`?"),
        ('[[list]]\nprefix = 3\n[[list]]\nmax_size = "x"', "list[2].max_size: expected a size"),
        ('[[list]]\nprefix = 3\n[[list]]\nmax_size = "x"', "list[1].prefix: expected a string"),
        ("list = []", "list: expected tables"),
        ("list = 3", "list: expected tables"),
        (
            (
                'members = []\n[[list]]\naddress = "r@x.org"\n[[list]]\naddress = "s@x.org"\n'
                'aliases = ["R@x.org"]'
            ),
            "list: s@x.org: address: another list has r@x.org",
        ),
        (
            (
                'members = []\nunaddressed = "accept"\n[[list]]\naddress = "r@x.org"\n[[list]]\n'
                'address = "s@x.org"'
            ),
            "unaddressed: expected hold, reject or discard, where there are two lists",
        ),
    ],
)
def test_a_fault_is_said_where_it_is(step: Make, toml: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        step(toml)
    assert said in caught.value.text
    assert "\n" not in caught.value.text


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('members = "none"', ["members: cannot read {}/none: No such file or directory; it is"]),
        ('members = "good"\nmoderators = "none"', ["moderators: cannot read {}/none: No such"]),
        ('members = "empty"', ["members: {}/empty holds no address, so that no post goes out"]),
        ('members = "good"\nmoderators = "empty"', []),
        ('members = "odd"', ["members: {}/odd:2: not an address, and so left out: b\\x1b[2J",
                             "members: {}/odd:4: not an address, and so left out: c d"]),
        ('members = []', []),
        ('members = "."', ["members: cannot read {}: Is a directory"]),
    ],
)  # fmt: skip
def test_check_looks_into_the_files(tmp_path: Path, toml: str, said: list[str]) -> None:
    (tmp_path / "good").write_text("a@x.org\n")
    (tmp_path / "empty").write_text("# nobody yet\n\n")
    (tmp_path / "odd").write_text("a@x.org\nb\x1b[2J\n# c\nc d\n")
    table = tomli.loads(f'address = "r@x.org"\n{toml}')
    found = [f"{key}: {text}" for key, text in PostOptions.read(table, str(tmp_path)).look()]
    assert len(found) == len(said)
    for each, expected in zip(found, said, strict=True):
        assert each.startswith(expected.format(tmp_path))


def test_check_says_which_lists_file_is_at_fault(tmp_path: Path) -> None:
    table = tomli.loads('[[list]]\naddress = "r@x.org"\nmembers = "none"')
    ((key, text),) = PostOptions.read(table, str(tmp_path)).look()
    assert (key, text.startswith("r@x.org: members: cannot read ")) == ("list", True)


def test_what_the_step_says_holds_for_each_list_that_does_not_say_otherwise() -> None:
    options = PostOptions.read(
        {
            "owner": "olga@example.org",
            "prefix": "[Club]",
            "members": ["ann@example.org"],
            "list": [
                {"address": "red@example.org"},
                {"address": "green@example.org", "prefix": "[Green]", "reply_to": "author"},
            ],
        }
    )
    red, green = options.lists()
    assert red.owner == green.owner
    assert red.owner is not None
    assert (red.prefix, green.prefix) == ("[Club]", "[Green]")
    assert (red.reply_to, green.reply_to) == ("list", "author")
    assert red.members is green.members


def test_one_table_is_a_list_too(step: Make) -> None:
    one = step('[list]\naddress = "red@example.org"\nmembers = []')
    assert one.post is not None
    assert len(PostOptions.read({"list": {"address": "r@x.org", "members": []}}).lists()) == 1


def test_paths_start_at_the_directory_of_the_file(step: Make, tmp_path: Path) -> None:
    (tmp_path / "red.members").write_text("ann@example.org\n")
    one = step('[[list]]\naddress = "red@example.org"\nmembers = "red.members"')
    text = "From: ann@example.org\nTo: red@example.org\n\nbody\n"
    assert one.made(text).envelope.recipients == ("ann@example.org",)


def test_every_option_has_a_meaning_and_a_schema() -> None:
    for name, option in PostOptions.declared().items():
        assert option.doc, name
        assert option.schema()["description"] == option.doc
    table = PostOptions.declared()["list"].schema()["items"]
    assert isinstance(table, dict)
    assert "prefix" in table["properties"]
