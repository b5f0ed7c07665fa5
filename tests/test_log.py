"""The log: one line, nothing a terminal obeys, no secret, and no cost until the first line."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from textwrap import dedent
from urllib.parse import quote

import pytest

from mailflow import log
from mailflow.log import (
    MASK,
    RECENT,
    clean,
    configure,
    get_logger,
    mask,
    printable,
    register_secret,
)

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """The process's log as it was."""
    kept = log._State.secrets, log._State.pattern
    configure(level="debug")
    yield
    log._State.secrets, log._State.pattern = kept
    configure()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was written since, without its times."""

    def lines() -> list[str]:
        written = capsys.readouterr().err.splitlines()
        return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", "", line) for line in written]

    return lines


class CanaryError(Exception):
    pass


def test_a_line_says_level_event_and_facts(lines: Lines) -> None:
    get_logger(pipeline="red").bind(step="pop").warning("source failed", attempt=3, after=1.5)
    assert lines() == ["[warning] source failed pipeline=red step=pop attempt=3 after=1.5"]


@pytest.mark.parametrize("name", ["error", "text", "reason", "why"])
def test_what_was_said_stands_behind_the_event_where_people_read_it(
    lines: Lines, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    fact = {name: "450 mailbox is full"}
    get_logger(step="smtp").warning("not sent", **fact)
    get_logger().warning("not sent", **fact)
    get_logger().warning("not sent", **{name: ""})
    assert lines() == [
        "[warning] not sent: 450 mailbox is full | step=smtp",
        "[warning] not sent: 450 mailbox is full",
        f"[warning] not sent {name}=",
    ]
    configure(level="debug", json=True)
    get_logger().warning("not sent", **fact)
    assert json.loads(capsys.readouterr().err)[name] == "450 mailbox is full"


def test_a_line_begins_with_its_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger().error("x")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \[error\] x\n", capsys.readouterr().err)


def test_bind_leaves_the_logger_as_it_was(lines: Lines) -> None:
    logger = get_logger(a=1)
    logger.bind(a=2, b=3).info("x")
    logger.info("y")
    assert lines() == ["[info] x a=2 b=3", "[info] y a=1"]


def test_what_is_below_the_level_is_not_written(lines: Lines) -> None:
    configure(level="warning")
    for level in ("debug", "info", "warning", "error"):
        getattr(get_logger(), level)(level)
    assert lines() == ["[warning] warning", "[error] error"]


def test_an_unknown_level_is_told() -> None:
    with pytest.raises(ValueError, match="expected a level of debug, info, warning, error"):
        configure(level="loud")


def test_in_json_a_line_is_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    configure(level="info", json=True)
    get_logger(pipeline="red").info('say "x"\n', size=5, on=True, none=None, name="ü\u202e")
    written = json.loads(capsys.readouterr().err)
    written.pop("timestamp")
    assert written == {
        "event": 'say "x"\\n', "level": "info", "pipeline": "red", "size": 5, "on": True,
        "none": None, "name": "ü\\u202e",
    }  # fmt: skip


def test_facts_may_bear_the_log_s_own_names(capsys: pytest.CaptureFixture[str]) -> None:
    configure(json=True)
    get_logger().error("x", event="e", level="l", timestamp="t", exc_info=True)
    written = json.loads(capsys.readouterr().err)
    assert (written["event"], written["event_"], written["level"]) == ("x", "e", "error")
    assert (written["level_"], written["timestamp_"], written["exc_info_"]) == ("l", "t", True)


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\0b\x7fc\x9bd", "a\\x00b\\x7fc\\x9bd"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066x\u2069\u200f\u061c", "\\u2066x\\u2069\\u200f\\u061c"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\udcff\ud800", "\\udcff\\ud800"),
        ("grüße \U0001f54a", "grüße \U0001f54a"),
    ],
)
def test_g08_what_a_terminal_would_obey_is_escaped(hostile: str, shown: str, lines: Lines) -> None:
    assert clean(hostile) == shown
    get_logger(a=hostile).error(
        hostile, b=ValueError(hostile), c=hostile.encode("utf-8", "replace")
    )
    assert len(lines()) >= 1
    configure(level="error")
    get_logger().error(hostile)
    assert lines() == [f"[error] {shown}"]


def test_a_value_is_written_as_its_text(lines: Lines) -> None:
    get_logger().error("x", error=OSError(2, "gone"), many=("a", 1), raw=b"a\xff", kind=dict)
    [line, *_] = lines()
    assert line == ("[error] x: [Errno 2] gone | many='a, 1' raw=a\\udcff kind=\"<class 'dict'>\"")


def test_a_traceback_is_written_at_debug_level_only(lines: Lines) -> None:
    def fail(password: str) -> None:
        raise CanaryError("it failed")

    try:
        fail("local-canary")
    except CanaryError as error:
        get_logger().error("x", error=error)
        text = "\n".join(lines())
        configure(level="info")
        get_logger().error("x", error=error)
    assert "Traceback (most recent call last):" in text
    assert "in fail" in text
    assert "local-canary" not in text.replace('fail("local-canary")', "")
    assert lines() == ["[error] x: it failed"]


SECRETS = ["hunter2hunter2", "p w:ü%/+\"'\\", "тайна", "s3cr3t-1"]


@pytest.mark.parametrize("secret", SECRETS)
def test_c02_a_secret_is_masked_in_every_form_it_takes(secret: str) -> None:
    register_secret(secret)
    octets = secret.encode()
    forms = [secret, repr(secret), repr(octets), quote(secret, safe=""), f"x{secret}y"]
    for user in ("", "a", "an", "ann", "ann@example.org"):
        forms.append(base64.b64encode(f"\0{user}\0{secret}".encode()).decode())
        forms.append(base64.b64encode(f"\0{user}\0{secret}".encode()).decode().rstrip("="))
    forms.append(base64.b64encode(octets).decode())
    for form in forms:
        masked = mask(f"before {form} after")
        assert MASK in masked, form
        assert masked.startswith("before "), form
        assert masked.endswith(" after"), form
        assert secret not in masked


def test_c02_a_secret_is_masked_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("canary-in-the-log")
    for as_json in (False, True):
        configure(level="debug", json=as_json)
        try:
            raise CanaryError("no login for canary-in-the-log\nreally")
        except CanaryError as error:
            get_logger(bound="canary-in-the-log").error(
                "said canary-in-the-log",
                error=error, raw=b"canary-in-the-log", many=["canary-in-the-log"],
                nested={"canary-in-the-log": 1}, kind=CanaryError("canary-in-the-log"),
            )  # fmt: skip
    written = capsys.readouterr().err
    assert "canary" not in written
    assert written.count(MASK) > 10


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    register_secret("abc")
    assert mask("abc, x=abc, abcd") == f"{MASK}, x={MASK}, abcd"


def test_a_secret_within_another_leaves_nothing_of_the_longer() -> None:
    register_secret("canary")
    register_secret("canary-and-more")
    assert mask("canary-and-more canary") == f"{MASK} {MASK}"


def test_a_source_that_renews_its_secret_for_years_does_not_fill_the_log() -> None:
    register_secret("of-the-file-itself")
    register_secret("of-another-source", "file /another")
    for number in range(100):
        register_secret(f"token-number-{number:03}", "file /token")
    pattern = log._State.pattern
    assert pattern is not None
    size = len(pattern.pattern)
    for number in range(100, 200):
        register_secret(f"token-number-{number:03}", "file /token")
    assert log._State.pattern is not None
    assert len(log._State.pattern.pattern) == size
    newest = [f"token-number-{number:03}" for number in range(200 - RECENT, 200)]
    for secret in ("of-the-file-itself", "of-another-source", *newest):
        assert mask(secret) == MASK
    assert mask("token-number-100") == "token-number-100"


def test_a_secret_that_is_used_again_counts_as_new() -> None:
    for number in range(3 * RECENT):
        register_secret("in-use-all-the-time", "file /token")
        register_secret(f"token-number-{number:03}", "file /token")
    assert mask("in-use-all-the-time") == MASK


def test_no_secret_masks_nothing() -> None:
    register_secret("")
    assert mask("a b") == "a b"


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_c07_a_stderr_that_cannot_be_written_stops_nothing(
    stream: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    broken = None if stream is None else Broken()
    if stream == "closed" and broken is not None:
        broken.close()
    monkeypatch.setattr(sys, "stderr", broken)
    get_logger().error("x", error=ValueError("y"))


def test_a_fact_whose_text_raises_stops_nothing() -> None:
    class Rude:
        def __str__(self) -> str:
            raise ZeroDivisionError

    get_logger().error("x", rude=Rude())


def test_lines_of_many_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    def talk(number: int) -> None:
        for _ in range(50):
            get_logger(thread=number).info("x" * 200)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 400
    assert all(re.search(r" \[info\] x{200} thread=\d$", line) for line in written)


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True
    ).stdout


def test_structlog_is_imported_at_the_first_line_that_is_written() -> None:
    assert (
        run("""
        import sys
        from mailflow.log import get_logger, register_secret
        register_secret("x" * 9)
        get_logger(a=1).bind(b=2).info("not written")
        print("structlog" in sys.modules)
        get_logger().warning("written")
        print("structlog" in sys.modules, "rich" in sys.modules)
    """)
        == "False\nTrue False\n"
    )


def test_a_line_is_written_where_structlog_cannot_be_read() -> None:
    done = subprocess.run(
        [sys.executable, "-c", dedent("""
        import sys
        from mailflow.log import get_logger, register_secret
        sys.modules["structlog"] = None
        register_secret("hunter2hunter2")
        get_logger(step="pop3").error("service failed", text="hunter2hunter2 is wrong")
        """)], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.startswith("[error] service failed: ******** is wrong | {'step': 'pop3'} (")


def test_rich_can_be_imported_after_the_first_line() -> None:
    pytest.importorskip("rich")
    assert (
        run("""
        from mailflow.log import get_logger
        get_logger().error("x")
        import rich
        print(rich.__name__)
    """)
        == "rich\n"
    )


def test_the_application_s_own_structlog_is_left_alone() -> None:
    assert (
        run("""
        import structlog
        from mailflow.log import get_logger
        get_logger().error("x")
        print(structlog.is_configured())
    """)
        == "False\n"
    )


def test_c02_no_part_of_a_secret_is_left_where_a_long_answer_is_cut() -> None:
    token = "ya29." + "x" * 300
    register_secret(token)
    assert printable(b"no such token: " + token.encode()) == f"no such token: {MASK}..."


def test_what_a_server_said_is_one_line_of_a_bounded_length() -> None:
    assert printable(b" hello\x1b[2J\r\n") == "hello?[2J??"
    assert printable(b"x" * 100, 80) == "x" * 80 + "..."
