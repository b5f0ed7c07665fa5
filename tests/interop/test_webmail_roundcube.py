"""Reading a real Roundcube, in each of its skins, through all that befalls it and its mail."""

from __future__ import annotations

import pytest

from mailflow.testing.corpus import AWKWARD
from mailflow.testing.roundcube import SKINS, Roundcube

from .webmail_servers import RoundcubeAccount, message

pytestmark = pytest.mark.interop(
    "dovecot-imapd", "php-cli", "roundcube-core", "roundcube-sqlite3", "roundcube-skin-larry",
    "roundcube-skin-classic",
)  # fmt: skip

DRAFTS = "Entwürfe & mehr"

MAIL = [each.stored for each in AWKWARD if b"\0" not in each.octets]


@pytest.mark.parametrize("skin", SKINS)
def test_every_message_of_every_folder_comes_octet_for_octet(
    at_roundcube: RoundcubeAccount, roundcube: Roundcube, skin: str
) -> None:
    at_roundcube.deliver(*MAIL, *(message(f"n{number}") for number in range(20)))
    at_roundcube.deliver(message("draft"), folder=DRAFTS)
    at_roundcube.deliver(message("old"), message("older"), folder="Archive/2024")
    folders = ["INBOX", DRAFTS, "Archive/2024"]
    with roundcube.configured(skin=f"'{skin}'"):
        assert at_roundcube.run(folders=[at_roundcube.folder(each) for each in folders]) == 0
    wanted = sorted(octets for folder in folders for octets in at_roundcube.there(folder))
    assert at_roundcube.fetched() == wanted
