"""`mailflow webmail check` and `login` at real webmails: each step of the shipped sites holds."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailflow_webmail.commands.check import check
from mailflow_webmail.commands.login import login

from .webmail_servers import PASSWORD, RoundcubeAccount, SqWebMailAccount, WebAccount, message

ROUNDCUBE = pytest.param(
    "at_roundcube",
    marks=pytest.mark.interop("dovecot-imapd", "php-cli", "roundcube-core", "roundcube-sqlite3"),
)
SQWEBMAIL = pytest.param(
    "at_sqwebmail",
    marks=[
        pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd"),
        pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail"),
    ],
)


@pytest.fixture(params=[ROUNDCUBE, SQWEBMAIL])
def account(request: pytest.FixtureRequest) -> WebAccount:
    found: RoundcubeAccount | SqWebMailAccount = request.getfixturevalue(request.param)
    found.deliver(*(message(f"n{number}") for number in range(4)))
    return found


def words(account: WebAccount, tmp_path: Path) -> list[str]:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    return [account.site, account.url, "--user", account.user, "--password", f"file:{secret}"]


def test_every_step_that_is_tried_holds_and_nothing_changes(
    account: WebAccount, tmp_path: Path
) -> None:
    before = account.there()
    result = CliRunner().invoke(
        check, [*words(account, tmp_path), "--json"], standalone_mode=False
    )  # fmt: skip
    assert (result.exception, result.return_value) == (None, 0), result.output
    found = {each["step"]: each["holds"] for each in json.loads(result.stdout)}
    assert all(found[step] for step in ("login", "folders", "list", "raw", "compose", "logout"))
    assert found["delete"] is None
    assert account.there() == before
    assert not any("S" in flags for flags in account.flags()) or account.site == "sqwebmail"


def test_pwm_33_an_account_is_tried_and_what_to_write_is_printed(
    account: WebAccount, tmp_path: Path
) -> None:
    result = CliRunner().invoke(login, words(account, tmp_path), standalone_mode=False)
    assert result.exception is None, result.output
    table, _, text = result.stdout.partition("\n\n")
    assert any(line.split()[1:2] == ["4"] for line in table.splitlines())
    assert PASSWORD not in result.output
    (fetch,) = tomllib.loads(text)["fetch"]
    secret = fetch.pop("password")
    assert fetch == {
        "use": "webmail", "site": account.site, "url": account.url, "user": account.user,
    }  # fmt: skip
    assert secret == {"file": str(tmp_path / "secret")}
