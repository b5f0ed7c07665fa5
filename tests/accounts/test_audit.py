"""What `mailflow check` says of maildrops before anybody logs in."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mailflow import hookimpl
from mailflow.accounts.verifiers import app_verifier
from mailflow.engine.config import ConfigFaults, load_dict
from mailflow.engine.registry import BUILT_IN, Registry
from mailflow.options import Options

SERVE = {"serve": [{"use": "pop3"}]}


class Drop:
    options = Options

    def __init__(self, options, runtime): ...

    def login(self, who): ...


class BackEnd(Drop):
    passthrough = True


@pytest.fixture(autouse=True)
def _plugin(monkeypatch):
    """`use = "double"` is a drop of ours, "double.back" one with a back end."""
    module = ModuleType("double_of_a_maildrop")

    @hookimpl
    def mailflow_register(register):
        register.maildrop(Drop)
        register.maildrop(BackEnd, "back")

    module.mailflow_register = mailflow_register
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(BUILT_IN, "double", module.__name__)


def said(drops, thorough=True):
    """(faults, warnings), each as "path: text"."""
    tables = {name: {"use": "double", **table} for name, table in drops.items()}
    try:
        pipeline = load_dict({"maildrop": tables, **SERVE}, Registry(), thorough=thorough)
    except ConfigFaults as error:
        return [f"{each.path}: {each.text}" for each in error.faults], []
    return [], [
        f"{each.path}: {each.text}" for each in pipeline.warnings if "in this file" not in each.text
    ]


@pytest.fixture
def file(tmp_path):
    def make(text, mode=0o600):
        path = tmp_path / "passwords"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return make


def test_with_a_secret_that_can_be_used_nothing_is_said(file):
    path = file(f"bob:{app_verifier('x')}\n")
    assert said({
        "ann": {"secret": app_verifier("x")}, "bob": {"passwords": path},
        "*@example.org": {"use": "double.back", "login": "passthrough"},
        "*": {"passwords": path, "networks": ["127.0.0.0/8", "::1"]},
    }) == ([], [])  # fmt: skip


def test_a_secret_that_is_none_is_a_fault():
    [fault], _ = said({"ann": {"secret": "{FOO}canary"}})
    assert fault.startswith("maildrop.ann.secret: {FOO} is no scheme that is known here")
    assert "canary" not in fault


def test_pwm_19_a_drop_that_nobody_can_reach_is_told_with_what_to_do(file):
    path = file("bob:\n")
    assert said({"ann": {"passwords": path}, "bob": {"passwords": path}}) == ([], [
        (f"maildrop.ann: nobody can log in: no secret, and none in {path};"
        " run: mailflow maildrop add ann"),
        (f"maildrop.bob: nobody can log in: no secret, and none in {path};"
        " run: mailflow maildrop add bob"),
    ])  # fmt: skip
    empty = file("")
    [warning] = said({"*": {"passwords": empty}})[1]
    assert warning.startswith("maildrop.*: nobody can log in")


def test_who_of_many_cannot_log_in_is_told(file):
    path = file("ann:x\nben:{CRAM-MD5}canary\n")
    faults, [warning] = said({"*": {"passwords": path}})
    assert not faults
    assert warning.startswith(
        f"maildrop.*: {path}:2: 'ben' cannot log in: {{CRAM-MD5}} is no scheme that is known here"
    )
    assert "canary" not in warning


def test_a_name_that_no_login_name_can_be_is_a_fault(file):
    path = file("ann:x\n")
    for name in ("", "a\nb"):
        [fault] = said({name: {"passwords": path}}, thorough=False)[0]
        assert fault.endswith("expected a login name, or a glob over login names")


def test_a_glob_that_is_cut_short_is_told(file):
    path = file("ann:x\n")
    for name in ("[ann", "x[]", "[!]"):
        [warning] = said({name: {"passwords": path}})[1]
        assert warning == f"maildrop.{name}: its [ has no ], and so stands for itself"
    for name in ("[[]*", "[]a]*", "[!]]", "[a-z]*"):
        assert said({name: {"passwords": path}}) == ([], [])


def test_the_command_that_helps_can_be_copied(file):
    [warning] = said({"ann b": {"passwords": file("")}})[1]
    assert warning.endswith("run: mailflow maildrop add 'ann b'")


def test_a_file_of_passwords_that_others_read_is_a_fault(file):
    path = file("ann:x\n", 0o644)
    [fault], _ = said({"ann": {"passwords": path}})
    assert fault == (
        f"maildrop.ann.passwords: passwords file {path} is open to others (mode 0644);"
        f" run: chmod 600 {path}"
    )


def test_lines_of_it_that_are_wrong_are_faults(file):
    path = file("ann:{SSHA256}canary\nbroken\n")
    faults, _ = said({"ann": {"passwords": path}})
    assert faults == [
        f"maildrop.ann.passwords: {path}:2: is not login:secret",
        f"maildrop.ann: {path}:1: {{SSHA256}} is not base64",
    ]


def test_one_that_is_missing_is_a_fault_but_for_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    [fault], _ = said({"ann": {"passwords": str(tmp_path / "none")}})
    assert "there is no file" in fault
    assert said({"ann": {}})[0] == []


def test_a_password_for_many_is_told():
    [warning] = said({"*": {"secret": "x"}})[1]
    assert warning.startswith("maildrop.*.secret: one password opens every maildrop")


def test_passthrough_needs_a_back_end_and_asks_for_no_secret_of_ours():
    [fault], _ = said({"ann": {"login": "passthrough"}}, thorough=False)
    assert fault.startswith("maildrop.ann.login: it has no back end that could check a password")
    [warning] = said({"*": {"use": "double.back", "login": "passthrough", "secret": "x"}})[1]
    assert warning == "maildrop.*.secret: nobody asks for it, since login is passthrough"


def test_one_name_for_two_maildrops_is_a_fault():
    drops = {"ann": {"aliases": ["a", "bob"]}, "bob": {"aliases": ["a"]}}
    assert said(drops, thorough=False)[0] == [
        "maildrop.ann.aliases: 'bob' is a login name of `bob` already",
        "maildrop.bob.aliases: 'a' is a login name of `ann` already",
    ]


def test_what_is_no_network_is_a_fault():
    [fault], _ = said({"ann": {"secret": "x", "networks": ["::1", "home"]}}, thorough=False)
    assert fault.startswith("maildrop.ann.networks: 'home' is no network; expected such as")


@pytest.mark.parametrize("use", ["imap", "pop3"])
def test_who_has_a_server_behind_it_needs_a_password_there_or_passes_one_on(use):
    table = {"use": use, "host": "mail.example.org", "secret": app_verifier("x")}
    [fault], _ = said({"ann": table}, thorough=False)
    assert fault == (
        "maildrop.ann.password: expected a password for mail.example.org, a `token` or `oauth2`,"
        ' or login = "passthrough"'
    )
    assert said({"ann": {**table, "password": "there"}}, thorough=False) == ([], [])
    del table["secret"]
    assert said({"*": {**table, "login": "passthrough"}}, thorough=False) == ([], [])
    faults, [warning] = said(
        {"*": {**table, "login": "passthrough", "password": "there"}}, thorough=False
    )
    assert not faults
    assert warning.endswith("the password there is never used, since login is passthrough")
