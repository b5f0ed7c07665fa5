"""Where tokens are kept: for this user alone, whole, by one process at a time."""

from __future__ import annotations

import os
import stat
import threading
import types

import pytest

from mailflow import ConfigError, UnavailableError
from mailflow.oauth2 import store as module
from mailflow.oauth2.store import Store, Tokens, logins

from .conftest import ANN

TOKENS = Tokens(client_id="c", access_token="access-1", refresh_token="refresh-1", expires=5.5)


def keep(where: Store, tokens: Tokens = TOKENS) -> None:
    with where.locked():
        where.save(tokens)


def test_what_is_kept_comes_back():
    keep(Store("mine", ANN))
    assert Store("mine", ANN).load() == TOKENS


def test_nothing_is_there_before_a_login():
    assert Store("mine", ANN).load() is None
    assert logins() == []


def test_only_the_user_can_read_it_whatever_the_umask():
    before = os.umask(0)
    try:
        keep(Store("mine", ANN))
    finally:
        os.umask(before)
    path = Store("mine", ANN).path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{path}.lock").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700


def test_what_a_crash_left_behind_is_in_nobodys_way():
    keep(Store("mine", ANN))
    with open(f"{Store('mine', ANN).path}.new", "w") as file:
        file.write("x" * 9999)
    keep(Store("mine", ANN), TOKENS._replace(access_token="access-2"))
    assert Store("mine", ANN).load().access_token == "access-2"


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("b", "a")), (("a", "x/y"), ("a", "x_y")), (("a", "Ann"), ("a", "ann")),
     (("a", "x" * 300), ("a", "x" * 301)), (("a", "ü"), ("a", "ö"))],
)  # fmt: skip
def test_each_login_has_a_file_of_its_own(one, other):
    keep(Store(*one))
    keep(Store(*other), TOKENS._replace(access_token="another"))
    assert Store(*one).load() == TOKENS
    assert logins() == sorted([one, other])


def test_no_user_name_leads_out_of_the_directory():
    for user in ("../../x", "/etc/passwd", "..", "a\0b", "x\n"):
        path = Store("mine", user).path
        assert os.path.dirname(path) == module.directory()
        assert path.isprintable()


def test_one_holds_the_lock_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    with (
        Store("mine", ANN).locked(),
        pytest.raises(UnavailableError, match=r"keeps .* locked"),
        Store("mine", ANN).locked(),
    ):
        pass


def test_the_lock_is_waited_for():
    order = []

    def second():
        with Store("mine", ANN).locked():
            order.append("second")

    with Store("mine", ANN).locked():
        thread = threading.Thread(target=second)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_the_lock_is_no_way_to_write_elsewhere(tmp_path):
    keep(Store("mine", ANN))
    path = Store("mine", ANN).path
    os.unlink(f"{path}.lock")
    os.symlink(tmp_path / "elsewhere", f"{path}.lock")
    with pytest.raises(UnavailableError, match="cannot lock"):
        keep(Store("mine", ANN))
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_is_not_read(tmp_path):
    keep(Store("mine", ANN))
    path = Store("mine", ANN).path
    os.rename(path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(UnavailableError, match="cannot read"):
        Store("mine", ANN).load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused():
    keep(Store("mine", ANN))
    os.chown(Store("mine", ANN).path, 12345, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        Store("mine", ANN).load()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_damaged_file_is_told(text):
    keep(Store("mine", ANN))
    with open(Store("mine", ANN).path, "w") as file:
        file.write(text)
    with pytest.raises(ConfigError, match="is damaged"):
        Store("mine", ANN).load()


def test_what_is_of_another_type_is_not_known():
    keep(Store("mine", ANN))
    path = Store("mine", ANN).path
    with open(path, "w") as file:
        file.write('{"access_token": 7, "expires": "soon", "refresh_token": "r", "new": 1}')
    assert Store("mine", ANN).load() == Tokens(refresh_token="r")


def test_what_is_forgotten_is_gone():
    keep(Store("mine", ANN))
    with Store("mine", ANN).locked():
        assert Store("mine", ANN).forget()
        assert not Store("mine", ANN).forget()
    assert Store("mine", ANN).load() is None
    assert logins() == []


class Ring:
    """A keyring in memory, behind the module's own functions."""

    def __init__(self) -> None:
        class KeyringError(Exception):
            pass

        class PasswordDeleteError(KeyringError):
            pass

        self.errors = types.SimpleNamespace(
            KeyringError=KeyringError, PasswordDeleteError=PasswordDeleteError
        )
        self.passwords: dict[tuple[str, str], str] = {}
        self.closed = False

    def _check(self) -> None:
        if self.closed:
            raise self.errors.KeyringError("the keyring is locked")

    def get_password(self, service, name):
        self._check()
        return self.passwords.get((service, name))

    def set_password(self, service, name, text):
        self._check()
        self.passwords[service, name] = text

    def delete_password(self, service, name):
        self._check()
        if self.passwords.pop((service, name), None) is None:
            raise self.errors.PasswordDeleteError("not there")


class TestKeyring:
    @pytest.fixture
    def ring(self, monkeypatch):
        ring = Ring()
        monkeypatch.setattr(module, "_keyring_module", lambda: ring)
        return ring

    def test_tokens_are_in_the_keyring_and_the_file_says_so(self, ring):
        keep(Store("mine", ANN, keyring=True))
        with open(Store("mine", ANN).path) as file:
            text = file.read()
        assert "access-1" not in text
        assert "refresh-1" not in text
        assert Store("mine", ANN, keyring=True).load() == TOKENS
        assert list(ring.passwords) == [("mailflow oauth2", f"mine/{ANN}")]
        assert logins() == [("mine", ANN)]

    def test_a_closed_keyring_is_not_there_for_now(self, ring):
        keep(Store("mine", ANN, keyring=True))
        ring.closed = True
        with pytest.raises(UnavailableError, match="the keyring is locked"):
            Store("mine", ANN, keyring=True).load()
        with pytest.raises(UnavailableError):
            keep(Store("mine", ANN, keyring=True))

    def test_forgetting_takes_it_out_of_the_keyring(self, ring):
        keep(Store("mine", ANN, keyring=True))
        with Store("mine", ANN, keyring=True).locked():
            assert Store("mine", ANN, keyring=True).forget()
        assert ring.passwords == {}
        assert Store("mine", ANN, keyring=True).load() is None

    def test_who_moves_out_of_the_keyring_leaves_nothing_there(self, ring):
        keep(Store("mine", ANN, keyring=True))
        keep(Store("mine", ANN))
        assert ring.passwords == {}
        assert Store("mine", ANN).load() == TOKENS

    def test_what_is_in_the_keyring_is_forgotten_though_no_file_says_keyring_any_more(self, ring):
        keep(Store("mine", ANN, keyring=True))
        with Store("mine", ANN).locked():
            assert Store("mine", ANN).forget()
        assert ring.passwords == {}

    def test_who_moves_to_the_keyring_leaves_nothing_in_the_file(self, ring):
        keep(Store("mine", ANN))
        keep(Store("mine", ANN, keyring=True))
        with open(Store("mine", ANN).path) as file:
            assert "refresh-1" not in file.read()

    def test_a_missing_extra_is_named_with_the_command(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "keyring", None)
        with pytest.raises(ConfigError, match=r"pip install 'mailflow\[keyring\]'"):
            keep(Store("mine", ANN, keyring=True))
