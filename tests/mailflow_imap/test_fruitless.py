"""What is said of an entry of `folders` for which the server has no folder."""

from __future__ import annotations

from mailflow.kinds import Runtime
from mailflow.query import Query
from mailflow.testing.imap import ImapServer
from mailflow_imap.fetcher import ImapFetcher
from mailflow_imap.source import ImapSourceOptions

from .conftest import SECRET, Log


def test_a_use_that_no_folder_has_is_told_once_and_an_empty_pattern_is_not(
    runtime: Runtime, log: Log
) -> None:
    with ImapServer({"red": SECRET}, {"red": [b"Subject: one\r\n\r\n"]}) as server:
        table = {
            "host": server.host, "port": server.port, "user": "red", "password": SECRET,
            "folders": ["INBOX", "\\All", "Listen/*", "!\\Junk"],
        }  # fmt: skip
        with ImapFetcher(ImapSourceOptions.read(table), runtime) as fetcher:
            for _ in range(2):
                assert [item.key.partition(";")[0] for item in fetcher.listing(Query.always)] == [
                    "INBOX"
                ]
    (told,) = log.warnings()
    assert told.endswith("has no folder for \\All")
