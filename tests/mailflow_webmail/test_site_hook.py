"""Code beside a definition: who may write it, what it must be, and what its errors say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import ConfigError, PluginError, RefusedError
from mailflow_webmail.definition.site import read
from mailflow_webmail.hook import load
from mailflow_webmail.web.page import Page

from .test_site import GOOD

HEAD = """\
from mailflow.errors import RefusedError
from mailflow_webmail.hook import Asks, Facts, Hook, Page


class Example(Hook):
"""
ANSWER = 'Page("http://a/", 200, {"Content-Type": "text/html"}, b"x")'

Write = Callable[[str], str]


class Nobody:
    """A browser that nothing is asked of."""

    url = "http://a/"

    def page(self, method: str, url: str, **what: Any) -> Page:
        raise AssertionError(url)

    def submit(self, *_: object) -> Page | None:
        raise AssertionError


@pytest.fixture
def write(tmp_path: Path) -> Write:
    tmp_path.chmod(0o755)

    def written(body: str, head: str = HEAD) -> str:
        (tmp_path / "example.py").write_text(head + body)
        return str(tmp_path / "example.py")

    return written


def method(name: str, *lines: str) -> str:
    return f"    def {name}(self, browser: Asks, facts: Facts) -> Page:\n" + "".join(
        f"        {line}\n" for line in lines
    )


def test_a_method_does_the_step_of_its_name_and_no_other(write: Write) -> None:
    hook = load(write(method("login", 'assert facts["user"] == "ann"', f"return {ANSWER}")))
    assert hook.has("login")
    assert not hook.has("list")
    assert hook.ask("login", Nobody(), {"user": "ann"}).octets == b"x"


def test_its_errors_say_where_and_nothing_that_it_was_told(write: Write) -> None:
    path = write(method("login", "x = 1", 'raise ValueError(facts["password"])'))
    with pytest.raises(PluginError) as raised:
        load(path).ask("login", Nobody(), {"password": "s3cret"})
    assert raised.value.text == f"{path}:8: `login` failed: ValueError"


def test_an_error_of_mailflow_stays_what_it_is(write: Write) -> None:
    hook = load(write(method("login", 'raise RefusedError("the account is closed")')))
    with pytest.raises(RefusedError, match="the account is closed"):
        hook.ask("login", Nobody(), {})


def test_what_is_no_page_is_no_answer(write: Write) -> None:
    path = write(method("login", "return None"))
    with pytest.raises(PluginError, match=r"example\.py: `login` gave NoneType and no Page$"):
        load(path).ask("login", Nobody(), {})


@pytest.mark.parametrize(
    ("body", "head", "said"),
    [
        (method("send", "pass"), HEAD,
         "example.py: mail is sent by forms, and no code does `send`"),
        (method("lgoin", "pass"), HEAD,
         "example.py: there is no step `lgoin`; did you mean `login`?"),
        ("    pass\nclass Other(Hook): pass\n", HEAD,
         "example.py: expected one class that is a Hook, found 2"),
        ("x = 1\n", "", "example.py: expected one class that is a Hook, found 0"),
        ("x = (\n", "", "example.py:1: '(' was never closed"),
        ("\nimport nothing_of_that_name\n", "", "example.py:2: ModuleNotFoundError"),
        ("    def __init__(self):\n        1 / 0\n", HEAD, "example.py:7: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_hook_is_one_line(
    write: Callable[..., str], body: str, head: str, said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write(body, head))
    assert raised.value.text.endswith(said)


@pytest.mark.parametrize("what", ["example.py", "."])
def test_code_that_others_can_write_is_not_run(write: Write, tmp_path: Path, what: str) -> None:
    path = write("    raise SystemExit\n")
    (tmp_path / what).chmod(0o777)
    with pytest.raises(ConfigError, match="others can write to it, and it is code that would be"):
        load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_code_of_another_user_is_not_run(write: Write) -> None:
    path = write("    raise SystemExit\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="others can write to it"):
        load(path)


@pytest.mark.parametrize(
    ("body", "change", "said"),
    [
        (method("raw", "return None"), ("[folders]\nget", "[folders]\nbefore"),
         "folders: needs `get`, `post` or `query`, or a method of the hook"),
        (method("trash", "return None"), None,
         "hook: it has `trash`, and nothing says what its answer must be"),
        (method("raw", "return None"), ('"example.py"', '"../example.py"'),
         'hook: expected the name of a file beside this one, such as "example.py"'),
        (method("raw", "return None"), ('"example.py"', '"exmaple.py"'),
         "exmaple.py: No such file or directory"),
    ],
)  # fmt: skip
def test_a_hook_and_its_definition_must_fit(
    write: Write, tmp_path: Path, body: str, change: tuple[str, str] | None, said: str
) -> None:
    write(body)
    text = GOOD.replace('name = "Example 3"', 'name = "Example 3"\nhook = "example.py"')
    if change is not None and "before" in change[1]:
        text = text.replace('[folders]\nget = "folders"\n', "[folders]\n")
    elif change is not None:
        text = text.replace(*change)
    (tmp_path / "example.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read(str(tmp_path / "example.toml"))
    assert said in raised.value.text
    assert raised.value.text.startswith(f"{tmp_path}/example.toml:")


def test_a_step_of_a_hook_needs_no_request_of_its_own(write: Write, tmp_path: Path) -> None:
    write(method("folders", "return None"))
    text = GOOD.replace('name = "Example 3"', 'name = "Example 3"\nhook = "example.py"')
    text = text.replace('[folders]\nget = "folders"\n', "[folders]\n")
    (tmp_path / "example.toml").write_text(text)
    site = read(str(tmp_path / "example.toml"))
    assert site.code is not None
    assert site.code.has("folders")
