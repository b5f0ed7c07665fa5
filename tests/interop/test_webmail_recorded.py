"""A definition that is drafted of a recording works at the webmail that was recorded.

`roundcube-chromium.har` was saved by Debian's Chromium, through which chromium.py clicked; it
clicks once more, so that a browser of today is read, too.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailflow.testing.roundcube import Roundcube
from mailflow_webmail.commands.record import record
from mailflow_webmail.definition.site import read
from mailflow_webmail.recorded.draft import Draft
from mailflow_webmail.recorded.har import exchanges
from mailflow_webmail.recorded.visit import understood

from . import chromium
from .webmail_servers import PASSWORD, RoundcubeAccount, message

pytestmark = pytest.mark.interop(
    "dovecot-imapd", "php-cli", "roundcube-core", "roundcube-sqlite3",
)  # fmt: skip

KEPT = Path(__file__).parent / "roundcube-chromium.har"

GUESSES = (
    "login.expect", "folders.rows", "list.rows", "list.total", "list.next", "raw.expect",
    "trash.post", "trash.data",
)  # fmt: skip
"""What its user confirms, and mends none of."""


def confirmed(har: Path, site: Path) -> Path:
    """The draft, with every guess confirmed as it is."""
    draft = Draft(understood(exchanges(str(har)), str(har)))
    text = draft.toml()
    assert tuple(draft.guesses) == GUESSES
    site.write_text(re.sub(r"(?m)^guesses = .*\n", "", text))
    read(str(site))
    return site


def works(site: Path, account: RoundcubeAccount) -> None:
    """All is fetched, over two pages, and one message removed."""
    account.deliver(*(message(f"n{number}") for number in range(70)))
    assert account.run(site=str(site)) == 0
    assert account.fetched() == sorted(account.there())
    with account.session(site=str(site)) as session:
        rows = session.listing("INBOX")
        session.remove(rows[:1], "trash")
    assert len(account.there()) == 69


def test_pwm_34_a_recording_of_chromium_gives_a_definition_that_fetches_all_and_removes_one(
    at_roundcube: RoundcubeAccount, tmp_path: Path
) -> None:
    works(confirmed(KEPT, tmp_path / "drafted.toml"), at_roundcube)


@pytest.mark.interop("chromium")
def test_so_does_one_that_chromium_saves_now(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, tmp_path: Path
) -> None:
    at_roundcube.deliver(*chromium.MAIL)
    at_roundcube.deliver(message("old"), folder="Archive")
    with roundcube.configured(mail_pagesize="10"):
        chromium.visit(roundcube.url, at_roundcube.user, tmp_path / "now.har")
    other = RoundcubeAccount(roundcube, tmp_path)
    works(confirmed(tmp_path / "now.har", tmp_path / "drafted.toml"), other)


def test_nothing_of_the_recording_that_is_secret_stands_in_the_draft() -> None:
    shown = CliRunner().invoke(record, [str(KEPT)], standalone_mode=False).output
    said = KEPT.read_text()
    assert PASSWORD not in shown
    secrets = set(re.findall(r'"request_token\\":\\"(\w+)|_token=(\w{20,})|_sessid=(\w+)', said))
    values = {each for found in secrets for each in found if each}
    assert len(values) >= 3
    assert not any(each in shown for each in values)
