"""`react.command`: real programs hear of a trouble, and say what is done about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mailflow.errors import ConfigError, MailflowError, RefusedError, UnavailableError
from mailflow.kinds import Trouble
from mailflow.log import register_secret
from mailflow.testing.engine import Desk, mail
from mailflow.verdicts import FAILED, Bounce, Discard, Hold, Reject, Report, Retry, Stop
from mailflow_react.command import CommandReactor

ERROR = RefusedError("smtp.example.org: 550 no such user")


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def trouble(**more: Any) -> Trouble:
    one = mail("From: a@x.org\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\n\nx\n", sender="a@x.org")
    told: dict[str, Any] = {"mail": one, "recipients": ("b@x.org",), **more}
    return Trouble("distribute", "smtp", ERROR, **told)


def reacted(scratch: Path, words: list[str], about: Trouble | None = None, **table: object) -> Any:
    desk = Desk("tell", base=str(scratch))
    options: Any = CommandReactor.options.read({"command": words, **table})
    return desk.react(CommandReactor(options, desk.runtime), about or trouble())


@pytest.mark.parametrize(
    ("printed", "reaction"),
    [
        ("retry 10m", Retry(600.0)),
        ("retry", Retry(300.0)),
        ("hold ask Ann first", Hold("ask Ann first")),
        ("hold", Hold("smtp.example.org: 550 no such user")),
        ("bounce no such person", Bounce("no such person")),
        ("discard  spam ", Discard("spam")),
        ("stop the disk is full\nand more", Stop("the disk is full")),
        ("none", None),
        ("", None),
        ("\n\n", None),
    ],
)
def test_what_it_prints_is_the_reaction(tmp_path: Path, printed: str, reaction: object) -> None:
    assert reacted(tmp_path, ["printf", "%s", printed]) == reaction


@pytest.mark.parametrize(
    ("status", "reaction"),
    [(0, None), (1, Retry(7200.0)), (2, Hold("smtp.example.org: 550 no such user"))],
)
def test_an_exit_status_may_be_the_reaction(tmp_path: Path, status: int, reaction: object) -> None:
    table = {"1": "retry", "2": "hold"}
    assert reacted(tmp_path, sh(f"exit {status}"), status=table, after="2h") == reaction


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (sh("echo perhaps"), "sh answers 'perhaps', not retry or hold"),
        (sh("echo retry soon"), "sh answers 'retry soon': expected a duration"),
        (sh("echo hold; exit 3"), "sh exits with status 3"),
        (sh("kill -KILL $$"), "sh was ended by SIGKILL"),
        (["no-such-program"], "cannot run no-such-program"),
        (["yes"], "yes printed more than"),
    ],
)
def test_pml_06_what_is_no_answer_is_an_error_for_the_log(
    tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(UnavailableError, match=said):
        reacted(tmp_path, words)


def test_c03_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"sleep has not ended after 0\.2 s"):
        reacted(tmp_path, ["sleep", "60"], timeout="200ms")


def test_it_hears_all_about_the_trouble(tmp_path: Path) -> None:
    about = trouble(
        attempt=3, age=60.0, verdict=Reject("no"), reports=(Report("b@x.org", FAILED, "5.1.1"),)
    )
    reacted(tmp_path, sh(f"cat > {tmp_path}/got"), about)
    assert about.mail is not None
    assert json.loads((tmp_path / "got").read_text()) == {
        "pipeline": "pipeline", "stage": "distribute", "step": "smtp", "attempt": 3, "age": 60.0,
        "error": "smtp.example.org: 550 no such user", "kind": "RefusedError",
        "temporary": False, "recipients": ["b@x.org"], "verdict": "reject",
        "reports": [{"recipient": "b@x.org", "code": "5.1.1", "text": ""}],
        "id": about.mail.id,
        "mail": {
            "sender": "a@x.org", "size": about.mail.content.size, "notes": {}, "from": "a@x.org",
            "subject": "grüße", "message_id": "",
        },
    }  # fmt: skip


def test_a_shell_script_finds_it_in_the_environment(tmp_path: Path) -> None:
    script = sh(
        'test "$MAILFLOW_STAGE/$MAILFLOW_ATTEMPT" = distribute/1 && echo "hold $MAILFLOW_ERROR"'
    )
    assert reacted(tmp_path, script) == Hold("smtp.example.org: 550 no such user")


def test_a_trouble_of_a_source_has_no_mail(tmp_path: Path) -> None:
    about = Trouble("fetch", "pop3", UnavailableError("pop.example.org: gone"))
    reacted(tmp_path, sh(f"cat > {tmp_path}/got"), about)
    assert "mail" not in json.loads((tmp_path / "got").read_text())
    with pytest.raises(MailflowError, match="is not set"):
        reacted(tmp_path, ["true", "{sender}"], about)


def test_c02_it_hears_no_secret_and_no_control_characters(tmp_path: Path) -> None:
    register_secret("canary77")
    about = trouble()._replace(error=UnavailableError("said canary77\x1b[31m"))
    reacted(tmp_path, sh(f"cat > {tmp_path}/got; env >> {tmp_path}/got"), about)
    got = (tmp_path / "got").read_text()
    assert "canary77" not in got
    assert "\x1b" not in got
    assert "said ********" in got


def test_what_is_wrong_in_the_file_is_told() -> None:
    with pytest.raises(ConfigError, match='expected "retry" or "hold"'):
        CommandReactor.options.read({"command": "x", "status": {"1": "sent"}})
    options = CommandReactor.options.read({"command": "no-such-program"})
    assert list(options.look()) == [("command", "no program no-such-program")]
