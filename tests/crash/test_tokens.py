"""A refresh of a token, killed before each of its steps, and the power cut there.

Rule of the file: what is kept is what was there before or what the provider gave, whole; a
token that anybody has used is kept. Where the provider has given another refresh token and
the crash came before it was written, the user must log in again: the only loss, and told.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailflow.testing import kill, power
from mailflow.testing.kill import Outcome, Step
from mailflow.testing.oauth2 import CLIENT, OAuth2Server, Token

PROGRAM = """
import json, sys
from mailflow.oauth2 import access
print(access(json.loads(sys.argv[1]), ".").token("ann@example.org").reveal(), flush=True)
"""

Place = Callable[[], Path]


@pytest.fixture
def server() -> Iterator[OAuth2Server]:
    with OAuth2Server() as running:
        yield running


class Refresh:
    """A login whose access token has ended, in a state directory of its own."""

    def __init__(self, state: Path, settings: Path, server: OAuth2Server) -> None:
        self.state, self.server = state, server
        folder = settings / "mailflow" / "providers"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine.toml").write_text("")
        table = {"provider": "mine", **server.provider()}
        self.command = [sys.executable, "-c", PROGRAM, json.dumps(table)]
        self.env = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_CONFIG_HOME": str(settings)}
        server.tokens.clear()
        server.tokens.append(Token(CLIENT, "ann@example.org", "mail", "old", "first", 0.0))
        self.before = self._keep()

    def _keep(self) -> dict[str, Any]:
        """What a login has left, flushed as a login flushes it."""
        program = (
            "from mailflow.oauth2.store import Store, Tokens\n"
            "store = Store('mine', 'ann@example.org')\n"
            "with store.locked(): store.save(Tokens(client_id='mailflow-test',"
            " access_token='old', obtained=1.0, expires=2.0, refresh_token='first'))\n"
        )
        kill.undisturbed([sys.executable, "-c", program], env=self.env)
        return self.kept()

    def kept(self) -> dict[str, Any]:
        [path] = self.state.glob("mailflow/oauth2/*.tokens")
        found: dict[str, Any] = json.loads(path.read_bytes())
        assert path.stat().st_mode & 0o777 == 0o600
        return found

    def judge(self, outcome: Outcome) -> str:
        """What became of it: "old" or "new" is kept. Raises AssertionError."""
        kept = self.kept()
        given = {each.access_token: each for each in self.server.tokens}
        assert kept["access_token"] in given, kept
        assert kept["refresh_token"] == (given[kept["access_token"]].refresh_token or "first")
        used = outcome.stdout.strip()
        assert not used or used == kept["access_token"], "a token was used that is not kept"
        return "old" if kept == self.before else "new"

    def go_on(self, outcome: Outcome) -> None:
        """The next program has a token, or says what to do."""
        fate = self.judge(outcome)
        lost = fate == "old" and len(self.server.tokens) > 1 and self.server.rotate
        done = kill.watch(self.command, env=self.env)
        if lost:
            assert "invalid_grant" in done.stderr, done.stderr
            assert "run: mailflow auth login mine/ann@example.org" in done.stderr
        else:
            assert done.status == 0, done.stderr
            assert done.stdout.strip() == self.kept()["access_token"]


@pytest.fixture
def begin(tmp_path: Path, server: OAuth2Server, watched: None) -> Callable[[Path], Refresh]:
    return lambda state: Refresh(state, tmp_path / "settings", server)


def _points(refresh: Refresh) -> list[int]:
    """The steps that change what is kept, or leave for the provider; one after the last."""
    steps = kill.undisturbed(refresh.command, env=refresh.env)
    return [step.number for step in steps if _counts(step)] + [len(steps)]


def _counts(step: Step) -> bool:
    return ".tokens" in step.target or step.call in ("sendto", "fsync", "rename")


@pytest.mark.crash
@pytest.mark.parametrize("rotate", [True, False])
def test_c08_a_refresh_that_is_killed_keeps_the_old_tokens_or_the_new(
    begin: Callable[[Path], Refresh], tmp_path: Path, server: OAuth2Server, rotate: bool
) -> None:
    server.rotate = rotate
    fates = []
    for turn, number in enumerate(_points(begin(tmp_path / "undisturbed"))):
        refresh = begin(tmp_path / f"state{turn}")
        outcome = kill.run_killed(refresh.command, number, env=refresh.env)
        fates.append(refresh.judge(outcome))
        refresh.go_on(outcome)
    assert fates[0] == "old"
    assert fates[-1] == "new"


@pytest.mark.crash
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_c08_what_a_power_cut_leaves_is_whole_and_what_was_used_is_kept(
    begin: Callable[[Path], Refresh], tmp_path: Path, server: OAuth2Server, kind: str
) -> None:
    if reason := power.obstacle(kind):
        pytest.skip(reason)
    points = _points(begin(tmp_path / "undisturbed"))
    fates = []
    with power.Disk(tmp_path / "disk", kind) as disk:
        for turn, number in enumerate(points):
            refresh = begin(disk.path / f"state{turn}")
            outcome = kill.run_killed(
                refresh.command, number, env=refresh.env, before_kill=disk.off
            )
            if outcome.status == 0:
                disk.off()
            disk.on()
            fates.append(refresh.judge(outcome))
            refresh.go_on(outcome)
    assert fates[0] == "old"
    assert fates[-1] == "new"
