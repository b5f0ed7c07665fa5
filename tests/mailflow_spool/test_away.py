"""The disk of a spool in use may be away for a while: nothing is begun in its place."""

from __future__ import annotations

import pytest

from mailflow.errors import UnavailableError
from mailflow.kinds import Credentials
from mailflow.verdicts import LATER
from mailflow_spool.maildrop import MaildropOptions, SpoolMaildrop

from .conftest import LARGE, Spool, text


def test_mail_waits_while_the_spool_is_away(spool: Spool) -> None:
    spool.fill(text(1))
    spool.path.rename(spool.path.with_name("away"))
    for content in (text(2), LARGE):
        (report,) = spool.deliver(content)
        assert report.outcome is LATER
        assert "gone" in report.text
    assert not spool.path.exists()
    spool.path.with_name("away").rename(spool.path)
    spool.fill(text(2))
    assert spool.messages() == [text(1), text(2)]


def test_mail_waits_while_the_place_of_the_spool_is_an_empty_directory(spool: Spool) -> None:
    """As where a disk is mounted."""
    spool.fill(text(1))
    with spool.distributor() as distributor:
        list(distributor.distribute_many([]))
        spool.path.rename(spool.path.with_name("away"))
        spool.path.mkdir(mode=0o700)
        (report,) = spool.deliver(text(2))
        assert report.outcome is LATER
    assert list(spool.path.iterdir()) == []


def test_no_client_sees_an_empty_drop_while_the_spool_is_away(spool: Spool) -> None:
    """It would forget which messages it has, and fetch all of them again."""
    spool.fill(text(1))
    options = MaildropOptions.read({"path": str(spool.path)})
    maildrop = SpoolMaildrop(options, spool.runtime)
    ann = Credentials("ann", checked=True)
    drop = maildrop.login(ann)
    key = drop.items()[0].key
    drop.close()
    spool.path.rename(spool.path.with_name("away"))
    with pytest.raises(UnavailableError):
        maildrop.login(ann)
    spool.path.mkdir(mode=0o700)
    with pytest.raises(UnavailableError):
        maildrop.login(ann)
    spool.path.rmdir()
    spool.path.with_name("away").rename(spool.path)
    drop = maildrop.login(ann)
    assert [item.key for item in drop.items()] == [key]
    drop.close()
