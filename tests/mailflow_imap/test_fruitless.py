"""What is said of an entry of `folders` for which the server has no folder."""

from __future__ import annotations

import pytest

from mailflow.kinds import Runtime
from mailflow.query import Query
from mailflow.testing.imap import ImapServer
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.source import ImapSourceOptions

from .conftest import SECRET, Log


@pytest.mark.parametrize("entry", ["\\All", "Listen/*"])
def test_one_of_several_that_brings_no_folder_is_told_once(
    runtime: Runtime, log: Log, entry: str
) -> None:
    with ImapServer({"red": SECRET}, {"red": [b"Subject: one\r\n\r\n"]}) as server:
        table = {
            "host": server.host, "port": server.port, "user": "red", "password": SECRET,
            "folders": ["INBOX", entry, "!\\Junk"],
        }  # fmt: skip
        with ImapFetcher(ImapSourceOptions.read(table), runtime) as fetcher:
            for _ in range(2):
                assert [item.key.partition(";")[0] for item in fetcher.listing(Query.always)] == [
                    "INBOX"
                ]
    (told,) = log.warnings()
    assert told.endswith(f"has no folder like {entry}")
