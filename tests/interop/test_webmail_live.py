"""A real SqWebMail, where places shift and a second log-in ends the first, live and by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mailflow.kinds import Credentials
from mailflow.lines import to_crlf
from mailflow.mail import read
from mailflow.query import parse
from mailflow.testing.contracts.component import Stage
from mailflow_webmail.mailbox import WebmailMailbox
from mailflow_webmail.maildrop import WebmailDrop

from .webmail_servers import SqWebMailAccount, message

pytestmark = [
    pytest.mark.interop("sqwebmail", "courier-authlib-userdb", "lighttpd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start SqWebMail"),
]

ANN = Credentials("ann", checked=True)

SUBJECTS = [f"n{number}" for number in range(25)]
"""Three pages of the list."""


def stage(component: type[Any], account: SqWebMailAccount, home: Path) -> Stage:
    source = {**account.source()}
    del source["use"]
    return Stage(component, source, home)


def test_pwm_02_a_live_session_reads_and_deletes_where_places_shift(
    at_sqwebmail: SqWebMailAccount, tmp_path: Path
) -> None:
    at_sqwebmail.deliver(*map(message, SUBJECTS))
    maildrop = stage(WebmailDrop, at_sqwebmail, tmp_path).make()
    drop = maildrop.login(ANN)
    items = list(drop.items())
    assert [to_crlf(read(drop.read(item.key))) for item in items] == list(map(message, SUBJECTS))
    assert [item.size for item in items] == [len(message(each)) for each in SUBJECTS]
    at_sqwebmail.deliver(message("late"))
    at_sqwebmail.remove("n3")
    drop.close([items[number].key for number in (0, 3, 24)])
    drop = maildrop.login(ANN)
    left = [each for each in SUBJECTS if each not in ("n0", "n3", "n24")]
    kept = [item.key for item in drop.items()]
    assert len(kept) == len(left) + 1
    assert kept[:-1] == [item.key for item in items if items.index(item) not in (0, 3, 24)]
    drop.close()


def test_pwm_23_messages_are_chosen_and_removed_by_hand_where_places_shift(
    at_sqwebmail: SqWebMailAccount, tmp_path: Path
) -> None:
    at_sqwebmail.deliver(*map(message, SUBJECTS[:12]))
    with stage(WebmailMailbox, at_sqwebmail, tmp_path).make() as box:
        uids = [each.item.uid for each in box.select("INBOX", parse("all"), order="uid")]
        assert len({*uids}) == 12
        assert box.delete("INBOX", parse('subject in ("n2", "n5")')) == 2
        left = [each.item.uid for each in box.select("INBOX", parse("all"), order="uid")]
    assert left == [uid for number, uid in enumerate(uids) if number not in (2, 5)]
