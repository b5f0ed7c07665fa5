"""An [account.NAME] as a mailbox: which one is meant, and all that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailflow.engine.account import read_account
from mailflow.engine.config import load
from mailflow.engine.registry import Registry
from mailflow.errors import ConfigError
from mailflow.mailboxes.opening import Account

WORK = '[account.work]\nuse = "imap"\nhost = "imap.example.org"\nuser = "ann"\n'
PASSWORD = 'password = { env = "SECRET" }\n'
PIPELINE = '[[fetch]]\nuse = "stdin"\n[[distribute]]\nuse = "maildir"\npath = "Mail"\n'


@pytest.fixture
def config(home: Path) -> Path:
    """The user's own directory."""
    directory = home / ".config" / "mailflow"
    directory.mkdir(parents=True)
    return directory


def faults(name: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_account(name, Registry(), None if file is None else str(file))
    return str(caught.value)


def test_an_account_is_found_in_the_user_s_file(config: Path) -> None:
    (config / "defaults.toml").write_text(WORK + PASSWORD)
    use, component, options = read_account("work", Registry())
    assert (use, component.__name__) == ("imap", "ImapMailbox")
    assert (options.host, options.user, options.pool) == ("imap.example.org", "ann", 2)


def test_a_file_that_is_named_comes_first_and_the_user_s_adds_what_it_does_not_say(
    config: Path, tmp_path: Path
) -> None:
    (config / "defaults.toml").write_text(WORK + PASSWORD + "pool = 4\n")
    file = tmp_path / "x.toml"
    file.write_text('[account.work]\nhost = "other.example.org"\n')
    _, _, options = read_account("work", Registry(), str(file))
    assert (options.host, options.user, options.pool) == ("other.example.org", "ann", 4)


def test_an_account_of_a_pipeline_may_serve_its_steps_too(tmp_path: Path) -> None:
    """What only a step takes is left to it."""
    file = tmp_path / "x.toml"
    file.write_text(WORK + PASSWORD + 'on_done = "keep"\n')
    assert read_account("work", Registry(), str(file))[2].host == "imap.example.org"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[account.work]\nhost = "x"\n', ':1: account.work: say what it is, such as use = "imap"'),
        ('[account.work]\nuse = "imp"\n', ":2: account.work.use: there is no plugin `imp`; did"),
        ('[account.work]\nuse = "maildir"\n', ":2: account.work.use: `maildir` is a"),
        (WORK, ":1: account.work.password: expected a password"),
        (WORK + PASSWORD + "pol = 1\n", ":6: account.work.pol: unknown key; did you mean `pool`"),
        (WORK + PASSWORD + "pool = 0\n", ":6: account.work.pool: expected a whole number from 1"),
        ('[account.home]\nuse = "imap"\n', "; there is home"),
        ("account = 3\n", "expected [account.NAME]"),
    ],
)
def test_what_is_wrong_is_told_where_it_stands(config: Path, text: str, said: str) -> None:
    (config / "defaults.toml").write_text(text)
    assert said in faults("work")


def test_where_there_is_no_file_at_all_it_is_said_where_one_could_be(home: Path) -> None:
    said = faults("work")
    assert "there is no [account.work]" in said
    assert "URL" not in said
    assert "; as a URL it would be imaps://ann@example.org" in faults("ann@example.org")
    assert str(home / ".config" / "mailflow" / "defaults.toml") in said


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ('password = "canary-71-x"\n', "password"),
        (
            'oauth2 = { provider = "google", client_id = "x", client_secret = "canary-71-x" }\n',
            "oauth2.client_secret",
        ),
    ],
)
def test_a_secret_in_a_file_that_others_can_read_is_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch, secret: str, key: str
) -> None:
    (config / "defaults.toml").write_text(WORK + secret)
    monkeypatch.setattr("mailflow.engine.layers.readable_by_others", lambda path: "is public")
    said = faults("work")
    assert f":5: account.work.{key}: the secret is in this file, which is public" in said
    assert "canary" not in said


def test_check_looks_at_an_account_that_says_what_it_is(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(PIPELINE + WORK + PASSWORD)
    (pipeline,) = load([str(file)])
    assert pipeline.warnings == ()
    file.write_text(PIPELINE + WORK + PASSWORD + "pool = 0\npol = 1\n")
    with pytest.raises(ConfigError) as caught:
        load([str(file)])
    assert "x.toml:11: account.work.pool: expected a whole number" in str(caught.value)
    assert "x.toml:12: account.work.pol: unknown key; did you mean `pool`" in str(caught.value)


def test_a_step_may_use_an_account_that_is_a_mailbox(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(
        '[[fetch]]\nuse = "imap"\naccount = "work"\n'
        '[[distribute]]\nuse = "maildir"\npath = "Mail"\n' + WORK + PASSWORD
    )
    (pipeline,) = load([str(file)])
    assert pipeline.warnings == ()
    assert pipeline.fetch[0].options.host == "imap.example.org"


def test_a_url_names_a_mailbox_where_a_plugin_has_one() -> None:
    assert Account.find("imaps://ann@imap.example.org", password="x").use == "imap"
    with pytest.raises(ConfigError, match="pop3: is a source, and here stands the mailbox"):
        Account.find("pop3://ann@pop.example.org", password="x")
    with pytest.raises(ConfigError, match="imapp: no mailbox has such URLs; did you mean"):
        Account.find("imapp://ann@pop.example.org", password="x")
