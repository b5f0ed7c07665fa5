"""`mailflow serve` as a process: it fetches, delivers and serves until it is told to end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .command import MAIL, Done, Shop

BOX = """
[[fetch]]
use = "maildir"
path = "{home}/in"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""
PATIENCE = 20.0


def eventually(holds: Callable[[], Any], what: str = "it") -> Any:
    """What `holds` gives once that is true; nothing is slept through that can be seen."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)
    return found


class Serving:
    """The command `serve`, running in a shop."""

    def __init__(self, shop: Shop, *words: str, **more: Any) -> None:
        self.shop = shop
        self.child = shop.start(*words, **more)

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def end(self) -> Done:
        """Stop it in order; what it has said."""
        if self.child.poll() is None:
            self.signal(signal.SIGTERM)
        return self.shop.end(self.child)


@pytest.fixture
def begin(shop: Shop) -> Iterator[Callable[..., Serving]]:
    """Start `mailflow WORDS`; whatever still runs in the end is killed."""
    begun: list[Serving] = []

    def start(*words: str, **more: Any) -> Serving:
        begun.append(Serving(shop, *words, **more))
        return begun[-1]

    yield start
    for each in begun:
        if each.child.poll() is None:
            each.child.kill()
            each.child.communicate()


def drop(shop: Shop, name: str = "1.a", mail: bytes = MAIL, box: str = "in") -> None:
    """Mail comes into a Maildir of the shop."""
    for part in ("tmp", "new", "cur"):
        (shop.home / box / part).mkdir(parents=True, exist_ok=True)
    path = shop.home / box / "tmp" / name
    path.write_bytes(mail)
    path.rename(shop.home / box / "new" / name)


def test_what_comes_while_it_runs_is_delivered(shop: Shop, begin: Callable[..., Serving]) -> None:
    shop.write(BOX)
    drop(shop, "1.a", MAIL)
    serving = begin("serve", shop.file)
    eventually(lambda: len(shop.maildir) == 1, "the first mail")
    drop(shop, "2.b", MAIL.replace(b"one", b"two").replace(b"<1@x>", b"<2@x>"))
    eventually(lambda: len(shop.maildir) == 2, "the second mail")
    assert serving.end().status == 0


def test_sigterm_ends_it_in_order(shop: Shop, begin: Callable[..., Serving]) -> None:
    shop.write(BOX)
    drop(shop)
    serving = begin("serve", shop.file)
    eventually(lambda: shop.maildir)
    done = serving.end()
    assert (done.status, done.err) == (0, "")
    assert not list(Path(f"{shop.journal}.d").glob("*/lock"))


def told(shop: Shop) -> dict[str, Any]:
    """What `mailflow status --json` says of the one installation that runs."""
    done = shop("status", "--json")
    (installation,) = json.loads(done.out)["installations"]
    found: dict[str, Any] = installation
    return found


def test_a_source_that_is_only_fetched_when_asked_is_fetched_when_it_is_poked(
    shop: Shop, begin: Callable[..., Serving]
) -> None:
    shop.write(BOX.replace('path = "{home}/in"', 'path = "{home}/in"\nauto = "no"'))
    drop(shop)
    begin("serve", shop.file)
    eventually(lambda: shop("poke", "--dry-run", "maildir").status == 0)
    assert told(shop)["pipelines"][0]["sources"][0]["state"] == "off"
    assert not shop.maildir
    assert shop("poke", "maildir") == (0, "", "")
    eventually(lambda: shop.maildir)
