"""The command `serve`, running in a shop, and what a test asks of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

import mailflow

from ..engine.standing import eventually
from .command import MAIL, Done, Shop

BOX = """
[[fetch]]
use = "maildir"
path = "{home}/in"
[[distribute]]
use = "maildir"
path = "{home}/Maildir"
"""
SERVE = """
[[serve]]
use = "parrot"
port = {port}
"""
DROP = """
[maildrop.ann]
use = "parrot"
secret = {secret}
"""
Begin = Callable[..., "Serving"]


def is_open(path: str) -> bool:
    """Whether anybody may go where it lies."""
    return all(parent.stat().st_mode & 0o001 for parent in Path(path).resolve().parents)


def open_python() -> str | None:
    """A Python that any user may run: ours, or the system's where it is new enough; None where
    there is none, or what it is to run lies where only root may read it, such as in /root."""
    if not all(is_open(str(module.__file__)) for module in (mailflow, structlog)):
        return None
    for each in (sys.executable, "/usr/bin/python3"):
        if os.path.exists(each) and is_open(each):
            new = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([each, "-c", new], check=False).returncode == 0:
                return each
    return None


class Serving:
    """The command `serve`, running in a shop."""

    def __init__(
        self,
        shop: Shop,
        *words: str,
        python: str | None = None,
        env: Mapping[str, str] = {},
        **more: Any,
    ) -> None:
        self.shop = shop
        if python is None:
            self.child = shop.start("serve", *words, env=env, **more)
        else:
            self.child = subprocess.Popen(
                [python, "-m", "mailflow", "serve", *words], env=shop.environment(env),
                cwd=shop.home, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def ended(self) -> Done:
        """How it has ended by itself."""
        return self.shop.end(self.child)

    def end(self) -> Done:
        """Stop it in order; what it has said."""
        if self.child.poll() is None:
            self.signal(signal.SIGTERM)
        return self.shop.end(self.child)


def drop(shop: Shop, name: str = "1.a", mail: bytes = MAIL, box: str = "in") -> None:
    """Mail comes into a Maildir of the shop."""
    for part in ("tmp", "new", "cur"):
        (shop.home / box / part).mkdir(parents=True, exist_ok=True)
    path = shop.home / box / "tmp" / name
    path.write_bytes(mail)
    path.rename(shop.home / box / "new" / name)


def another(number: int) -> bytes:
    """Another mail."""
    return MAIL.replace(b"<1@x>", b"<%d@y>" % number)


def told(shop: Shop) -> dict[str, Any]:
    """What `mailflow status --json` says of the one installation that runs."""

    def ask() -> Any:
        return json.loads(shop("status", "--json").out)["installations"]

    (installation,) = eventually(ask, "the installation")
    found: dict[str, Any] = installation
    return found


def sources(shop: Shop) -> dict[str, Any]:
    """The sources of the pipelines, by step; awaited where they are only about to begin."""

    def ask() -> dict[str, Any]:
        pipelines = told(shop)["pipelines"]
        return {each["step"]: each for one in pipelines for each in one["sources"]}

    found: dict[str, Any] = eventually(ask, "a source")
    return found
