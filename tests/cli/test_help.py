"""`mailflow help`: the same as --help, for whoever asks in words."""

from __future__ import annotations

import pytest

from .command import Shop


@pytest.mark.parametrize(
    "words", [(), ("run",), ("queue",), ("queue", "list"), ("pop3", "dl"), ("help",)]
)
def test_csp_02_it_says_what_help_says_of_that_command(shop: Shop, words: tuple[str, ...]) -> None:
    assert shop("help", *words) == shop(*words, "--help")
    assert f"Usage: {' '.join(('mailflow', *words))} " in shop("help", *words).out


def test_csp_02_the_hook_s_is_told_too(shop: Shop) -> None:
    assert "ADDRESSes are its" in shop("help", "hook").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "no command 'nosuch'"),
        (("queue", "nosuch"), "'mailflow queue' has no command 'nosuch'"),
        (("run", "list"), "'mailflow run' has no commands"),
    ],
)
def test_a_command_that_there_is_not_is_64(shop: Shop, words: tuple[str, ...], said: str) -> None:
    done = shop("help", *words)
    assert (done.status, done.out) == (64, "")
    assert said in done.err
