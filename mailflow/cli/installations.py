"""The installations that run here, as far as this user may ask them.

Rule of the file: a socket that nobody answers is no installation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mailflow.engine import control
from mailflow.errors import MailflowError, UnavailableError


class Answers(NamedTuple):
    """What those that were asked have said, and why others have refused."""

    given: list[Any]
    refusals: list[MailflowError]


def ask_all(request: Mapping[str, object]) -> Answers:
    """Ask each installation that runs; where none does, nobody answers."""
    answers = Answers([], [])
    for path in control.running():
        try:
            answers.given.append(control.ask(path, request))
        except control.NotRunningError:
            continue
        except MailflowError as error:
            answers.refusals.append(error)
    return answers


def ask(request: Mapping[str, object]) -> Answers:
    """The same, where at least one must answer. Raises UnavailableError."""
    answers = ask_all(request)
    if answers == ([], []):
        raise UnavailableError("nothing runs here; `mailflow serve FILE` starts it")
    return answers
