"""Real Postfix calls the hook, as the tutorial sets it up, and believes its exit status."""

from __future__ import annotations

import importlib.metadata
import os
import pwd
import shutil
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailflow.testing.documents import blocks
from mailflow.testing.postfix import Postfix

pytestmark = [
    pytest.mark.interop("postfix", "dovecot-pop3d"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Postfix"),
]

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
ANN = "ann@example.org"

PIPELINE = """\
[[fetch]]
use = "stdin"

[[process]]
use = "filter.reject"
when = 'subject is "refuse me"'
reason = "no such thing here"

[[process]]
use = "filter.tag"
header = { "X-Sender" = "{sender}" }

[[distribute]]
use = "maildir"
path = "Maildir"
"""

SETTINGS = """\
relay_domains = hook.example
transport_maps = inline:{{ hook.example=mailflow: }}
mydestination = alias.example
alias_maps = hash:{aliases}
"""


class Installation:
    """mailflow where `nobody` can run it, which .venv need not be."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.chmod(0o755)
        packages = base / "lib"
        shutil.copytree(ROOT / "mailflow", packages / "mailflow")
        for plugin in (ROOT / "plugins").iterdir():
            shutil.copytree(plugin, packages / plugin.name)
        for path in importlib.metadata.files("tomli") or ():
            if path.suffix in (".py", ".so"):
                (packages / path).parent.mkdir(exist_ok=True)
                shutil.copy(path.locate(), packages / path)
        self.command = base / "mailflow"
        self.command.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={packages} XDG_STATE_HOME={base}/home/state\n"
            f'exec {PYTHON} -m mailflow "$@"\n'
        )
        self.command.chmod(0o755)
        self.home = base / "home"
        self.file = self.home / "red.toml"

    def furnish(self) -> None:
        """A home with the pipeline in it, and no mail."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(mode=0o755)
        self.file.write_text(PIPELINE)
        self.file.chmod(0o644)
        nobody = pwd.getpwnam("nobody")
        os.chown(self.home, nobody.pw_uid, nobody.pw_gid)

    def here(self, text: str) -> str:
        """An example of the tutorial, with the paths and the user of this test."""
        for name in ("red", "domain"):
            text = text.replace(f"/etc/mailflow/{name}.toml", str(self.file))
        return text.replace("/opt/mailflow/bin/mailflow", str(self.command)).replace(
            "user=mail", "user=nobody"
        )

    def delivered(self) -> list[bytes]:
        return [path.read_bytes() for path in (self.home / "Maildir" / "new").glob("*")]


def example(start: str) -> str:
    """The block of the tutorial that begins so."""
    tutorial = blocks(ROOT / "docs" / "tutorial-hook.rst")
    return next(block.text for block in tutorial if block.text.startswith(start))


@pytest.fixture(scope="module")
def installed() -> Iterator[Installation]:
    known = "import sys; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([PYTHON, "-c", known], check=False).returncode:
        pytest.skip(f"{PYTHON} is older than 3.11")
    with tempfile.TemporaryDirectory(prefix="hook-") as base:
        yield Installation(Path(base))


@pytest.fixture(scope="module")
def postfix(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postfix]:
    aliases = installed.base / "aliases"
    aliases.write_text(installed.here(example("red:")))
    subprocess.run(["/usr/sbin/postalias", f"hash:{aliases}"], check=True)
    with Postfix(
        tmp_path_factory.mktemp("postfix"),
        [ANN],
        settings=SETTINGS.format(aliases=aliases),
        services=installed.here(example("mailflow ")) + "local unix - n n - - local\n",
    ) as running:
        yield running


@pytest.fixture
def installation(installed: Installation) -> Installation:
    installed.furnish()
    return installed


class Letter:
    """One message on its way through Postfix."""

    def __init__(
        self, postfix: Postfix, to: str, subject: str = "hello", sender: str = ANN
    ) -> None:
        self._postfix = postfix
        self._start = len(postfix.log)
        with smtplib.SMTP(postfix.host, postfix.port) as client:
            text = f"From: ann@example.org\r\nSubject: {subject}\r\n\r\n.\r\ntext\r\n"
            client.sendmail(sender, [to], text)

    @property
    def log(self) -> str:
        """What Postfix has said since it was sent."""
        return self._postfix.log[self._start :]

    def await_status(self, status: str, *, flush: bool = False) -> None:
        """Until Postfix says so; `flush` makes it try again meanwhile."""
        deadline = time.monotonic() + 30
        while f"status={status}" not in self.log:
            assert time.monotonic() < deadline, self.log
            if flush:
                self._postfix.flush()  # what is still being delivered it skips
            time.sleep(0.5 if flush else 0.02)  # nothing tells when a line is written


WAYS = pytest.mark.parametrize("to", ["ann@hook.example", "red@alias.example"])


@WAYS
def test_the_message_is_delivered_with_its_sender(
    postfix: Postfix, installation: Installation, to: str
) -> None:
    Letter(postfix, to).await_status("sent")
    (mail,) = installation.delivered()
    assert mail.endswith(b"\n\n.\ntext\n")
    assert b"\nX-Sender: ann@example.org\n" in mail


@WAYS
def test_the_null_sender_stays_null(postfix: Postfix, installation: Installation, to: str) -> None:
    Letter(postfix, to, sender="<>").await_status("sent")
    (mail,) = installation.delivered()
    assert b"\nX-Sender: \n" in mail


@WAYS
def test_what_cannot_be_taken_waits_in_the_queue(
    postfix: Postfix, installation: Installation, to: str
) -> None:
    installation.file.rename(installation.base / "away.toml")
    letter = Letter(postfix, to)
    letter.await_status("deferred")
    (installation.base / "away.toml").rename(installation.file)
    letter.await_status("sent", flush=True)
    assert len(installation.delivered()) == 1
    assert "status=bounced" not in letter.log


@WAYS
def test_what_is_rejected_goes_back_to_its_sender_with_the_reason(
    postfix: Postfix, installation: Installation, to: str
) -> None:
    before = len(postfix.messages(ANN))
    Letter(postfix, to, "refuse me").await_status("bounced")
    report = postfix.messages(ANN, before + 1)[-1]
    assert b"no such thing here" in report
    assert installation.delivered() == []
