"""The public API: what a plugin may use, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import mailflow


@pytest.mark.parametrize("name", mailflow.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(mailflow, name) is not None


def test_the_lists_of_names_agree() -> None:
    assert sorted(mailflow.__all__) == sorted(mailflow._HOME_OF)
    assert len(set(mailflow.__all__)) == len(mailflow.__all__)


def test_each_name_is_the_one_of_its_module() -> None:
    for name, home in mailflow._HOME_OF.items():
        module = importlib.import_module(f"mailflow.{home}")
        assert getattr(mailflow, name) is getattr(module, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mailflow' has no attribute 'nothing'"):
        mailflow.nothing  # noqa: B018


def modules_after(statement: str) -> set[str]:
    """The modules of a new interpreter after a statement, without those it starts with."""
    program = (
        f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_it_imports_nothing_else() -> None:
    ours = {name for name in modules_after("import mailflow") if name.startswith("mailflow")}
    assert ours == {"mailflow"}


@pytest.mark.parametrize(
    "names",
    ["Mail, Envelope, Octets", "Hold, Reject, Discard, Retry, Bounce, Stop, Report", "hookimpl",
     "Options", "UnavailableError, BadMailError", "Ticket, Trouble, Item, Fetched, Runtime"],
)  # fmt: skip
def test_a_plugins_imports_load_nothing_heavy(names: str) -> None:
    heavy = {"asyncio", "click", "dataclasses", "email", "inspect", "json", "logging", "pluggy",
             "smtplib", "ssl", "structlog", "subprocess", "sqlite3", "tomli"}  # fmt: skip
    assert modules_after(f"from mailflow import {names}") & heavy == set()


def test_errors_are_one_tree_with_a_status_and_a_word_on_trying_again() -> None:
    expected = {
        "ConfigError": (78, False), "PluginError": (78, False), "UnavailableError": (75, True),
        "InUseError": (75, True), "LoginError": (77, False), "PeerError": (76, True),
        "RefusedError": (69, False), "GoneError": (69, False), "BadMailError": (65, False),
        "JournalError": (74, True),
    }  # fmt: skip
    for name, (status, temporary) in expected.items():
        kind = getattr(mailflow, name)
        error = kind("one line", host="x")
        assert issubclass(kind, mailflow.MailflowError)
        assert (error.exit_code, error.temporary) == (status, temporary), name
        assert (str(error), error.fields) == ("one line", {"host": "x"})
    assert issubclass(mailflow.InUseError, mailflow.UnavailableError)


def test_words_of_the_contract_are_values() -> None:
    """Frozen, equal by value, with the fields that the contract names."""
    assert mailflow.Hold("x") == mailflow.Hold("x")
    assert mailflow.Report("a@x", mailflow.SENT).code == ""
    mail = mailflow.Mail("1", mailflow.Envelope("a@x", ("b@x",)), mailflow.Octets(b"x"))
    assert mail.replace(notes={"n": "1"}).noted(m="2").notes == {"n": "1", "m": "2"}
    with pytest.raises(AttributeError):
        mail.id = "2"  # type: ignore[misc]
