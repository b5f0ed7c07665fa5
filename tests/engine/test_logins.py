"""Whose login at a provider a word names."""

from __future__ import annotations

from pathlib import Path

from mailflow.engine.logins import meant

OPEN = """
[[fetch]]
use = "pop3"
host = "localhost"
oauth2 = { provider = "google", client_id = "our-own" }
"""


def test_who_is_left_open_in_a_file_logs_in_as_the_client_that_it_names(
    home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "red.toml"
    file.write_text(OPEN)
    access, user = meant("google/eve@example.org", str(file))
    assert (access.provider.client_id, user) == ("our-own", "eve@example.org")
