"""Every input that fuzzing kept, and some near them, go through every target."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import NAMES, Target, run

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"


def kept(name: str) -> list[bytes]:
    return [each.read_bytes() for each in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_kept_is_taken(name: str) -> None:
    inputs = [*Target.of(name).seeds, *kept(name)]
    assert len(inputs) > len(Target.of(name).seeds)
    for data in inputs:
        run(name, data)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_near_it_is_taken(name: str) -> None:
    words = st.sampled_from([*Target.of(name).words, *kept(name), *Target.of(name).seeds])
    octets = st.lists(words | st.binary(max_size=12), max_size=12).map(b"".join)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(octets)
    def taken(data: bytes) -> None:
        run(name, data)

    taken()
