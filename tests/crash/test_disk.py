"""A disk that dies under `serve`, and comes back (D8)."""

from __future__ import annotations

import json
import signal
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
        child: Any = shop.start("serve", shop.file)
        try:
            eventually(lambda: len(delivered()) == 1, "the first mail")
            disk.off()
            drop(shop, 2)
            if dies == "journal":
                eventually(lambda: state(shop) == "broken", "the break")
            else:
                eventually(lambda: shop.rows("SELECT * FROM mail"), "the mail in the journal")
            assert child.poll() is None
            _on(disk)
            eventually(lambda: len(delivered()) == 2, "the second mail")
        finally:
            child.send_signal(signal.SIGTERM)
            done = shop.end(child)
        assert done.status == 0
        assert len(set(delivered())) == len(delivered()) == 2


def _on(disk: power.Disk) -> None:
    """As soon as nobody has a file open: what is tried meanwhile fails."""
    import subprocess

    def mounted() -> bool:
        try:
            disk.on()
        except subprocess.CalledProcessError:
            return False
        return True

    eventually(mounted, "the disk")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
