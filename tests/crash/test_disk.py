"""A disk that dies under `serve`, and comes back (D8)."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailflow.testing import power

from ..cli.command import MAIL, Shop
from ..engine.standing import eventually

BOX = """
[[fetch]]
use = "maildir"
path = "{home}/in"
every = "1s"
[[distribute]]
use = "{use}"
path = "{where}"
[[react]]
use = "react.retry"
after = ["2s"]
"""


def drop(shop: Shop, number: int) -> None:
    for part in ("tmp", "new", "cur"):
        (shop.home / "in" / part).mkdir(parents=True, exist_ok=True)
    path = shop.home / "in" / "tmp" / f"{number}.x"
    path.write_bytes(MAIL.replace(b"<1@x>", b"<%d@x>" % number))
    path.rename(shop.home / "in" / "new" / path.name)


def state(shop: Shop) -> str:
    """How the one pipeline fares."""
    done = shop("status", "--json")
    for one in json.loads(done.out)["installations"] if done.out else ():
        for each in one["pipelines"]:
            return str(each["state"])
    return ""


@contextmanager
def serving(shop: Shop) -> Iterator[Any]:
    """`serve` at work, which ends with 0 in the end."""
    child: Any = shop.start("serve", shop.file)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        done = shop.end(child)
    assert done.status == 0


@pytest.mark.skipif(bool(power.obstacle("ext4")), reason=power.obstacle("ext4") or "-")
@pytest.mark.parametrize("dies", ["journal", "destination"])
def test_d8_it_stays_up_and_goes_on_once_the_disk_is_back(
    shop: Shop, tmp_path: Path, dies: str
) -> None:
    with power.Disk(tmp_path / "disk", "ext4") as disk:
        where = disk.path / "box" if dies == "destination" else shop.home / "box"
        shop.write(BOX, use="maildir", where=where)
        if dies == "journal":
            shop.journal = disk.path / "journal.db"
            shop.write(BOX, use="maildir", where=where)

        def delivered() -> list[bytes]:
            return sorted(path.read_bytes() for path in where.glob("new/*"))

        drop(shop, 1)
        with serving(shop) as child:
            eventually(lambda: len(delivered()) == 1, "the first mail")
            disk.off()
            drop(shop, 2)
            if dies == "journal":
                eventually(lambda: state(shop) == "broken", "the break")
            else:
                eventually(lambda: len(shop.rows("SELECT * FROM mail")) == 2, "the second mail")
            assert child.poll() is None
            _on(disk)
            eventually(lambda: len(delivered()) == 2, "the second mail")
        assert len(set(delivered())) == len(delivered()) == 2


@pytest.mark.skipif(bool(power.obstacle("ext4")), reason=power.obstacle("ext4") or "-")
@pytest.mark.parametrize("use", ["maildir", "mbox"])
def test_d8_nothing_is_made_in_the_place_of_a_disk_that_is_away(
    shop: Shop, tmp_path: Path, use: str
) -> None:
    """It would be hidden beneath the disk when that is back."""
    with power.Disk(tmp_path / "disk", "ext4") as disk:
        where = disk.path / "box"
        shop.write(BOX, use=use, where=where)

        def subjects() -> int:
            files = [*where.glob("new/*")] if use == "maildir" else [*disk.path.glob("box")]
            return sum(path.read_bytes().count(b"Message-ID") for path in files)

        def attempts() -> int:
            found = shop.rows("SELECT max(attempt) FROM delivery WHERE state != 'sent'")
            return found[0][0] or 0

        drop(shop, 1)
        with serving(shop):
            eventually(lambda: subjects() == 1, "the first mail")
            disk.off()
            drop(shop, 2)
            eventually(lambda: attempts() > 0, "a failure at the dead disk")
            eventually(lambda: _away(disk), "the disk to be away")
            before = attempts()
            eventually(lambda: attempts() > before, "a failure without the disk")
            assert not list(disk.path.iterdir())
            disk.on()
            eventually(lambda: subjects() == 2, "the second mail")


def _away(disk: power.Disk) -> bool:
    """Whether it is unmounted, as soon as nobody has a file open."""
    try:
        disk.away()
    except subprocess.CalledProcessError:
        return False
    return True


def _on(disk: power.Disk) -> None:
    """As soon as nobody has a file open: what is tried meanwhile fails."""
    eventually(lambda: _away(disk), "the disk to be away")
    disk.on()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
