"""A URL names a source or a destination, or one clear line says why it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailflow.engine.registry import SCHEMES, Registry
from mailflow.engine.urls import Named, UrlError, read, wants_password

from .test_registry import Install, install  # noqa: F401  # a fixture

CANARY = "canary-9q"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine pop.example.org login ann password {CANARY}\n")
    netrc.chmod(0o600)
    return tmp_path


@pytest.fixture
def table(home: Path) -> Callable[[str, str], dict[str, object]]:
    return lambda url, side: read(url, side, Registry()).table


@pytest.fixture
def fault(home: Path) -> Callable[..., str]:
    def fault(url: str, side: str = "fetch") -> str:
        with pytest.raises(UrlError) as raised:
            read(url, side, Registry())
        assert raised.value.exit_code == 64
        assert "\n" not in raised.value.text
        assert CANARY not in raised.value.text
        return raised.value.text

    return fault


class TestWhatAUrlSays:
    def test_user_and_host_and_the_scheme_s_options(self, table: Any) -> None:
        assert table("pop3s://ann@pop.example.org", "fetch") == {
            "use": "pop3", "tls": "implicit", "user": "ann", "host": "pop.example.org",
            "password": {"netrc": "pop.example.org"},
        }  # fmt: skip

    def test_a_port_and_options_which_win_over_the_scheme_s(self, table: Any) -> None:
        assert table("pop3://127.0.0.1:1110?tls=none&user=a&password_env=X", "fetch") == {
            "use": "pop3", "tls": "none", "host": "127.0.0.1", "port": 1110, "user": "a",
            "password": {"env": "X"},
        }  # fmt: skip

    def test_percent_codes_and_a_plus_that_is_a_plus(self, table: Any) -> None:
        said = table("pop3s://ann+x%40example.org@pop.example.org", "fetch")
        assert said["user"] == "ann+x@example.org"

    def test_a_user_with_an_at_sign_needs_no_code(self, table: Any) -> None:
        said = table("pop3s://ann@example.org@pop.example.org/", "fetch")
        assert (said["user"], said["host"]) == ("ann@example.org", "pop.example.org")

    def test_an_ipv6_address_in_brackets(self, table: Any) -> None:
        said = table("smtp://[2001:db8::1]:2525", "distribute")
        assert (said["host"], said["port"]) == ("2001:db8::1", 2525)

    @pytest.mark.parametrize(
        ("url", "path"),
        [("maildir:///var/mail/ann", "/var/mail/ann"), ("maildir:~/Mail%20dir", "~/Mail dir"),
         ("maildir:here", "here")],
    )  # fmt: skip
    def test_a_path(self, table: Any, url: str, path: str) -> None:
        assert table(url, "distribute") == {"use": "maildir", "path": path}

    @pytest.mark.parametrize(
        ("url", "folders"),
        [
            ("imaps://ann@pop.example.org", None),
            ("imaps://ann@pop.example.org/", None),
            ("imaps://ann@pop.example.org/Sent", ["Sent"]),
            ("imaps://ann@pop.example.org/Lists/Gr%C3%BC%C3%9Fe", ["Lists/Gr\u00fc\u00dfe"]),
            ("imap://ann@pop.example.org/%5CSent?folders=INBOX", ["\\Sent", "INBOX"]),
        ],
    )
    @pytest.mark.parametrize("side", ["fetch", "maildrop"])
    def test_a_path_at_a_server_is_a_folder(
        self, table: Any, url: str, folders: list[str] | None, side: str
    ) -> None:
        assert table(url, side).get("folders") == folders

    def test_numbers_flags_and_lists_become_what_toml_would_say(self, home: Path) -> None:
        url = "pop3s://a@h?password_env=X&timeout=5s&auth=plain&auth=user&max_size=2MB"
        named = read(url, "fetch", Registry())
        assert named.table["timeout"] == "5s"
        assert named.table["auth"] == ["plain", "user"]
        options: Any = named.options
        assert (options.timeout, options.auth, options.max_size) == (
            5.0,
            ("plain", "user"),
            2_000_000,
        )
        assert read("maildir:x?create=false", "distribute", Registry()).table["create"] is False

    def test_a_password_may_be_handed_over_beside_it(self, home: Path) -> None:
        named = read("pop3s://a@nowhere", "fetch", Registry(), password="x")
        assert named.table["password"] == "x"

    def test_where_a_token_is_named_no_password_is_looked_for(self, home: Path) -> None:
        named = read("pop3s://a@nowhere?token_env=X", "fetch", Registry())
        assert named.table["token"] == {"env": "X"}
        assert "password" not in named.table
        folder = home / ".config" / "mailflow" / "providers"
        folder.mkdir(parents=True)
        (folder / "google.toml").write_text('client_id = "x"')
        named = read("pop3s://a@nowhere?oauth2=google", "fetch", Registry())
        assert named.options.by_token
        assert "password" not in named.table


class TestWhereItIs:
    """`where` names a journal: equal for one place, however it is said."""

    def where(self, url: str, side: str, base: str = ".") -> str:
        return read(url, side, Registry(), base=base).where

    def test_a_path_is_absolute(self, home: Path) -> None:
        assert self.where("maildir:M", "distribute", str(home)) == f"maildir:{home}/M"
        assert self.where("maildir:~/M", "distribute", "/tmp") == f"maildir:{home}/M"

    def test_how_a_server_is_talked_to_is_no_part_of_it(self, home: Path) -> None:
        plain = self.where("pop3s://ann@pop.example.org", "fetch")
        assert plain == self.where("pop3s://ann@pop.example.org/?timeout=9s", "fetch")
        assert plain == "pop3s://ann@pop.example.org"

    def test_a_folder_is(self, home: Path) -> None:
        one, other = (f"maildir:~/M?folder={name}" for name in ("a", "b"))
        assert self.where(one, "distribute") != self.where(other, "distribute")
        one, other = (f"maildir:~/M?folders={name}" for name in ("a", "b"))
        assert self.where(one, "fetch") != self.where(other, "fetch")

    def test_a_server_s_names_are_not(self, home: Path) -> None:
        url = "pop3s://ann@pop.example.org"
        assert self.where(url, "fetch") == self.where(f"{url}?tls_name=other", "fetch")


class TestFaults:
    def test_a_password_is_refused_and_not_repeated(self, fault: Any) -> None:
        text = fault(f"pop3s://ann:{CANARY}@pop.example.org")
        assert text == (
            "pop3s: a password in a URL is seen by others; put it into ~/.netrc, or add"
            " ?password_file=PATH or ?password_env=NAME"
        )
        assert "password_file=PATH" in fault(f"pop3s://ann@pop.example.org?password={CANARY}")
        assert "expected a URL" in fault(f"ann:{CANARY}@pop.example.org".replace(":", " "))

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("~/Maildir", "'~/Maildir' is no URL; write pop3s://USER@HOST, smtp://HOST or"),
            ("pop3x://h", "pop3x: no source has such URLs; did you mean `pop3"),
            ("gopher://h", "gopher: no source has such URLs; there are "),
            ("smtp://h", "smtp: is a destination, and here stands the source"),
            ("pop3s://a@h:pop", "pop3s: expected a port of 1 to 65535 behind the host"),
            ("pop3s://a@h:99999", "pop3s: expected a port of 1 to 65535 behind the host"),
            ("pop3s://a@2001:db8::1", "pop3s: expected a port of 1 to 65535 behind the host"),
            ("pop3s://a@[2001:db8::1", "pop3s: an IPv6 address stands in brackets"),
            ("pop3s:h", "pop3s:h: expected a host: pop3s://HOST"),
            ("pop3s://pop.example.org", "user: expected the login name"),
            ("pop3s://a@h", "no password is known: write `machine h password ...` into ~/.netrc"),
            ("pop3s://a@h/INBOX?password_env=X", "takes no path; found '/INBOX'"),
            ("pop3s://a@h?tsl=none", "'tsl' is none of its options; did you mean `tls`?"),
            ("pop3s://a@h?tls", "'tls' is none of its options"),
            ("pop3s://a@h?tls=no&password_env=X", 'tls: expected "implicit"'),
            ("pop3s://a@h?timeout=soon&password_env=X", "timeout: expected a duration"),
            ("pop3s://a%zz@h", 'pop3s: a "%" in a URL is written %25'),
            ("pop3s://a%ff@h", "what is behind a % is no UTF-8"),
            ("pop3s://a%0a@h", "a control character stands in it"),
            ("pop3s://a b@h", "pop3s: a space or control character in a URL is written %20"),
            ("pop3s://a#b@h", 'pop3s: a "#" in a URL is written %23'),
        ],
    )
    def test_each_is_one_line_that_says_what_to_do(self, fault: Any, url: str, said: str) -> None:
        assert said in fault(url)

    def test_a_host_where_a_path_belongs(self, fault: Any) -> None:
        text = fault("maildir://home/ann", "distribute")
        assert text == "maildir://home/ann: takes no host; three slashes begin a path"
        assert "expected a path: maildir:PATH" in fault("maildir:", "distribute")


class TestSchemes:
    def test_our_table_names_just_what_our_components_say(self) -> None:
        said = {
            (scheme, entry.use.partition(".")[0])
            for entry in Registry().all()
            for scheme in getattr(entry.component, "schemes", ())
            if entry.distribution == "mailflow"
        }
        assert said == set(SCHEMES.items())

    def test_another_s_plugin_brings_a_scheme_of_its_own(
        self,
        install: Install,  # noqa: F811
    ) -> None:
        install(PIGEON)
        named: Named = read("pigeon://york", "fetch", Registry())
        assert named.table == {"use": "pigeon", "host": "york"}


def test_whether_a_password_must_be_asked_for(home: Path) -> None:
    assert wants_password("pop3s://ann@elsewhere")
    assert not wants_password("pop3s://ann@pop.example.org")
    assert not wants_password("pop3s://ann@elsewhere?password_env=X")
    assert not wants_password("pop3s://ann@elsewhere?token_file=X")
    assert not wants_password("pop3s://ann@elsewhere?oauth2=google")
    assert not wants_password("smtp://elsewhere")
    assert not wants_password("nonsense")


PIGEON = '''
from mailflow import hookimpl, Options
from mailflow.options import Text

class PigeonOptions(Options):
    host = Text("The loft.")

class Pigeon:
    """Carries mail."""
    options = PigeonOptions
    schemes = {"pigeon": {}}
    def __init__(self, options, runtime): ...
    def nothing(self, *anything): return ()
    __enter__ = __exit__ = listing = heads = retrieve = settle = nothing

@hookimpl
def mailflow_register(register):
    register.fetcher(Pigeon)
'''
