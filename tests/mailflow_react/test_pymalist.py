"""What pymalist's reactor was promised, by pipelines with real reactors and real servers."""

from __future__ import annotations

import email
from collections.abc import Iterator
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

import mailflow
from mailflow.testing.pop3 import Pop3Server
from mailflow.testing.smtp import SmtpSink

OWNER = "olga@example.org"


def post(number: int, to: str = "bob@example.org") -> bytes:
    return (
        f"From: ann@example.org\r\nTo: {to}\r\nSubject: m{number}\r\n"
        f"Message-ID: <{number}@x>\r\n\r\nbody\r\n"
    ).encode()


class Post:
    """Two mailboxes, red and blue, and a server that sends; a pipeline between them."""

    def __init__(self, directory: Path, sink: SmtpSink, server: Pop3Server) -> None:
        self.directory, self.sink, self.server = directory, sink, server
        self.steps: list[dict[str, Any]] = [
            {"use": "filter.recipients", "set": ["{header:To}"]},
        ]
        self.react: list[dict[str, Any]] = []

    def fetch(self, user: str, port: int | None = None) -> dict[str, Any]:
        return {
            "use": "pop3", "name": user, "host": "127.0.0.1", "port": port or self.server.port,
            "tls": "none", "user": user, "password": "secret", "keep": "0d",
        }  # fmt: skip

    def run(self, *fetch: dict[str, Any]) -> int:
        return mailflow.run(
            {
                "pipeline": {"name": "club", "journal": str(self.directory / "journal.db")},
                "fetch": list(fetch),
                "process": self.steps,
                "distribute": [
                    {"use": "smtp", "host": self.sink.host, "port": self.sink.port,
                     "sender": "club@example.org"},
                ],
                "react": self.react,
            },
            now=True,
        )  # fmt: skip

    @property
    def subjects(self) -> list[str]:
        """Of what was sent to others than the owner, in order."""
        return sorted(str(m["Subject"]) for to, m in self._sent() if OWNER not in to)

    @property
    def told(self) -> list[str]:
        """What the owner was told, in order."""
        return [str(m["Subject"]) for to, m in self._sent() if OWNER in to]

    def _sent(self) -> list[tuple[tuple[str, ...], Any]]:
        return [
            (tuple(each.recipients), email.message_from_bytes(each.data, policy=default))
            for each in self.sink.messages
        ]


NOTIFY = {"use": "react.notify", "to": OWNER}


@pytest.fixture
def club(tmp_path: Path, home: Path) -> Iterator[Post]:
    users = {"red": "secret", "blue": "secret"}
    boxes = {"red": [post(1), post(2)], "blue": [post(3)]}
    with SmtpSink() as sink, Pop3Server(users, boxes) as server:
        yield Post(tmp_path, sink, server)


def test_pml_01_mail_is_fetched_processed_and_distributed_until_there_is_no_more(
    club: Post,
) -> None:
    club.steps.append({"use": "filter.rewrite", "prefix": {"Subject": "[club]"}})
    assert club.run(club.fetch("red"), club.fetch("blue")) == 0
    assert club.subjects == ["[club] m1", "[club] m2", "[club] m3"]


def test_pml_02_the_end_of_a_source_ends_the_run_and_no_reactor_hears_of_it(club: Post) -> None:
    club.react = [NOTIFY]
    assert club.run(club.fetch("red")) == 0
    assert club.run(club.fetch("red")) == 0
    assert club.subjects == ["m1", "m2"]
    assert club.told == []


def test_pml_03_a_source_that_fails_is_told_of_and_the_others_go_on(club: Post) -> None:
    club.react = [NOTIFY]
    assert club.run(club.fetch("red", port=1), club.fetch("blue")) == 75
    club.run(club.fetch("blue"))
    assert club.subjects == ["m3"]
    assert club.told == ["[mailflow] club: nothing can be fetched by red"]


def test_pml_04_a_mail_that_a_step_fails_on_is_told_of_and_the_next_goes_on(club: Post) -> None:
    club.react = [NOTIFY]
    club.steps.append(
        {"use": "filter.tag", "when": 'subject is "m1"', "note": {"x": "{header:X-None}"}}
    )
    assert club.run(club.fetch("red")) == 65
    club.run(club.fetch("blue"))
    assert club.subjects == ["m2", "m3"]
    assert club.told == ["[mailflow] club: filter.tag failed on a mail"]


def test_pml_05_a_mail_that_cannot_be_delivered_is_told_of_and_the_next_goes_on(
    club: Post,
) -> None:
    club.react = [NOTIFY]
    club.sink.on("RCPT", "550 5.1.1 no such user", match="bob@*", times=1)
    assert club.run(club.fetch("red")) == 69
    club.run(club.fetch("blue"))
    assert len(club.subjects) == 2
    assert club.told == ["[mailflow] club: smtp cannot deliver a mail"]


def test_pml_06_a_reactor_that_fails_breaks_no_run_and_the_next_is_asked(
    club: Post, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mailflow_react.notify import NotifyReactor

    def fail(self: object, trouble: object, context: object) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(NotifyReactor, "react", fail)
    club.react = [NOTIFY, {"use": "react.discard"}]
    club.steps.append({"use": "filter.reject", "when": 'subject is "m1"'})
    assert club.run(club.fetch("red")) == 0
    assert club.subjects == ["m2"]
    said = capfd.readouterr().err
    assert "a reactor failed" in said
    assert "ZeroDivisionError: bug" in said


def test_discard_gives_up_what_is_refused_and_the_others_get_it(club: Post) -> None:
    club.react = [{"use": "react.discard", "when": "not error.temporary"}]
    club.sink.on("RCPT", "550 5.1.1 no such user", match="bob@*", times=1)
    assert club.run(club.fetch("red")) == 0
    assert len(club.subjects) == 1


def test_stop_ends_the_run_and_the_next_one_goes_on_where_it_was(club: Post) -> None:
    """What is due stays due; the exit status is that of what went wrong."""
    club.react = [{"use": "react.stop", "reason": "look first"}]
    club.steps.append({"use": "filter.hold", "when": 'subject is "m1"', "reason": "odd"})
    assert club.run(club.fetch("red")) == 65
    assert "m1" not in club.subjects
    club.steps.pop()
    club.react = []
    assert club.run(club.fetch("red")) in (0, 65)
    assert "m2" in club.subjects
