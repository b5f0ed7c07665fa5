"""Options: how TOML becomes a value, and what is said where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailflow.errors import ConfigError
from mailflow.options import (
    FOREVER,
    Address,
    Choice,
    Duration,
    Flag,
    Integer,
    ListOf,
    Mailbox,
    Option,
    Options,
    Path,
    Query,
    Secret,
    ServerOptions,
    Size,
    TableOf,
    Template,
    Text,
)


class Loft(Options):
    name = Text("What it is called.", least=1)
    speed = Integer("Metres a second.", default=20, least=1, most=40)
    home = Path.optional("Where it sleeps.")
    rings = ListOf("Its rings.", Text("A ring."), default=())
    from_ = Text("From where.", default="York")


class TestOptions:
    def test_are_made_of_a_table_and_their_defaults(self) -> None:
        loft = Loft.read({"name": "x", "rings": "a", "from": "Paris"}, "/base")
        assert (loft.name, loft.speed, loft.home) == ("x", 20, None)
        assert (loft.rings, loft.from_) == (("a",), "Paris")

    def test_say_all_that_is_wrong_at_once(self) -> None:
        with pytest.raises(ConfigError) as raised:
            Loft.read({"name": "", "speed": 50, "rings": ["a", 1], "hone": "x"})
        assert str(raised.value) == (
            'name: expected a string that is not empty; found ""; '
            "speed: expected a whole number from 1 to 40; found 50; "
            "rings[2]: expected a string; found 1; "
            "hone: unknown option; did you mean `home`?"
        )

    def test_say_what_is_missing_and_what_it_is_for(self) -> None:
        with pytest.raises(ConfigError, match=r"`name` is missing: What it is called\."):
            Loft.read({})

    def test_check_the_rules_that_join_several(self) -> None:
        class Fast(Loft):
            def faults(self) -> Iterator[tuple[str, str]]:
                if self.speed > 30 and not self.home:
                    yield "speed", "so fast it needs a `home`"

        with pytest.raises(ConfigError, match=r"^speed: so fast it needs a `home`$"):
            Fast.read({"name": "x", "speed": 31})

    def test_cannot_be_set_once_made(self) -> None:
        loft = Loft.read({"name": "x"})
        with pytest.raises(AttributeError, match="option `speed` cannot be set"):
            loft.speed = 30

    def test_that_are_not_declared_are_a_mistake_of_the_caller(self) -> None:
        with pytest.raises(TypeError, match="Loft has no option sped"):
            Loft({"name": "x", "sped": 3})

    def test_that_are_required_are_never_half_there(self) -> None:
        with pytest.raises(AttributeError, match="required option `name` was not given"):
            _ = Loft({}).name

    def test_that_a_subclass_has_settled_are_options_no_more(self) -> None:
        class Slow(Loft):
            speed = 1

        assert "speed" not in Slow.declared()
        assert Slow.read({"name": "York"}).speed == 1
        with pytest.raises(ConfigError, match="speed"):
            Slow.read({"name": "York", "speed": 2})

    def test_are_declared_in_order_bases_first_by_the_names_in_toml(self) -> None:
        class More(Loft):
            speed = Integer("Other.", default=1)
            extra = Flag("More.", default=False)

        assert list(More.declared()) == ["name", "speed", "home", "rings", "from", "extra"]
        assert More.declared()["speed"].doc == "Other."

    def test_of_a_class_are_the_declarations(self) -> None:
        assert isinstance(Loft.speed, Integer)
        assert not Loft.speed.required
        assert Loft.name.required

    def test_know_which_are_optional(self) -> None:
        assert Choice.optional("x", "a", "b").convert("a", ".") == "a"
        assert ListOf.optional("x", Text("y")).default is None


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        (Text(""), "grüße", "grüße"),
        (Flag(""), True, True),
        (Integer(""), 0, 0),
        (Choice("", "a", "b"), "b", "b"),
        (Duration(""), "10m", 600.0),
        (Duration(""), "forever", FOREVER),
        (Size(""), "2MB", 2_000_000),
        (Path(""), "a/../b", "/base/b"),
        (Path(""), "/a", "/a"),
        (Address(""), "Ann Other <ann@example.org>", Mailbox("Ann Other", "ann@example.org")),
        (ListOf("", Size("")), ["1k", 2], (1024, 2)),
        (ListOf("", Size("")), "1k", (1024,)),
        (TableOf("", Duration("")), {"a": "1s"}, {"a": 1.0}),
        (Option(""), {"any": ["thing"]}, {"any": ["thing"]}),
    ],
)
def test_a_value_is_converted(option: Option[Any], given: object, value: object) -> None:
    assert option.convert(given, "/base") == value


SECRET = 'expected a secret such as { file = "~/.config/mailflow/x.secret" }'


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        (Text(""), 5, "expected a string"),
        (Text(""), "a\nb", "expected a string on one line, without control characters"),
        (Text("", least=1), "", "expected a string that is not empty"),
        (Flag(""), 1, "expected true or false"),
        (Flag(""), "true", "expected true or false"),
        (Integer("", least=1), True, "expected a whole number from 1"),
        (Integer("", least=1, most=3), 4, "expected a whole number from 1 to 3"),
        (Integer(""), 1.5, "expected a whole number from 0"),
        (Choice("", "a", "b"), "c", 'expected "a" or "b"'),
        (Choice("", "a", "b"), ["a"], 'expected "a" or "b"'),
        (Path(""), "", "expected a path"),
        (Path(""), "a\0b", "expected a path"),
        (Query(""), 5, 'expected an expression such as "size < 2MB"'),
        (TableOf("", Text("")), [], "expected a table, each value a string"),
        (Template(""), 5, None),
        (Secret(""), 5, f"{SECRET}, with one of file, env, command, netrc, keyring"),
    ],
)
def test_what_cannot_be_converted_is_told(
    option: Option[Any], given: object, said: str | None
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the text is the point
        option.convert(given, ".")
    assert str(raised.value) == (said or option.reject().args[0])


def test_elements_are_told_each_by_its_place() -> None:
    class Nested(Options):
        table = TableOf("x", ListOf("y", Integer("z", most=3)), keys=("first", "second"))

    with pytest.raises(ConfigError) as raised:
        Nested.read({"table": {"first": [1, 4, "x"], "secnd": 1, "second": 9}})
    assert str(raised.value) == (
        "table.first[2]: expected a whole number from 0 to 3; found 4; "
        'table.first[3]: expected a whole number from 0 to 3; found "x"; '
        "table.secnd: unknown key; did you mean `second`?; "
        "table.second: expected a whole number from 0 to 3; found 9"
    )


def test_what_was_found_is_shown_in_short_as_toml_says_it() -> None:
    class One(Options):
        one = Flag("x")

    for value, shown in (({}, "a table"), ([], "an array"), ("x" * 99, '"' + "x" * 56 + "...")):
        with pytest.raises(ConfigError, match=f"found {shown}$"):
            One.read({"one": value})


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("pop.example.org:995", 'write host = "pop.example.org" and port = 995'),
        ("pop3s://pop.example.org", "expected a server's name alone, no URL"),
        ("", "not empty"),
    ],
)
def test_a_host_is_a_name_alone(host: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServerOptions.read({"host": host})


@pytest.mark.parametrize("host", ["pop.example.org", "192.0.2.7", "2001:db8::7", "::1", "/run/x:1"])
def test_a_host_is_a_name_an_address_or_a_path(host: str) -> None:
    assert ServerOptions.read({"host": host}).host == host


def test_c02_what_was_found_for_a_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        ServerOptions.read({"host": "x", "password": ["hunter2"]})
    assert "hunter2" not in str(raised.value)


def test_c02_an_options_object_shows_no_secret() -> None:
    options = ServerOptions.read({"host": "x", "password": "hunter2"})
    assert "hunter2" not in repr(vars(options))
    assert options.password is not None
    assert options.password.reveal() == "hunter2"


def test_a_schema_is_what_toml_editors_read() -> None:
    assert ServerOptions.port.schema() == {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
        "description": "Its port; by default the one that belongs to `tls`.",
    }
    assert TableOf("x", Flag("y"), keys=("a",)).schema() == {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "additionalProperties": False,
        "description": "x",
    }
    assert ListOf("x", Choice("y", "a")).schema() == {
        "anyOf": [
            {"type": "string", "enum": ["a"]},
            {"type": "array", "items": {"type": "string", "enum": ["a"]}},
        ],
        "description": "x",
    }
