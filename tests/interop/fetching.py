"""A pipeline from somebody's account to a Maildir of his, and what it has brought."""

from __future__ import annotations

import email
from abc import ABC, abstractmethod
from pathlib import Path

import mailflow


class Fetching(ABC):
    """`home` is where the journal and the Maildir lie."""

    home: Path

    @abstractmethod
    def source(self, **options: object) -> dict[str, object]:
        """A [[fetch]] of this account."""

    def run(self, **options: object) -> int:
        """One run of the pipeline; gives its exit status."""
        pipeline = {
            "pipeline": {"name": "ann", "journal": str(self.home / "journal.db")},
            "fetch": [self.source(**options)],
            "distribute": [{"use": "maildir", "path": str(self.home / "Maildir")}],
        }
        return mailflow.run(pipeline, now=True)

    def fetched(self) -> list[bytes]:
        """What has come so far, as it lies in the Maildir, sorted."""
        files = (self.home / "Maildir").glob("new/*")
        return sorted(file.read_bytes() for file in files)

    def subjects(self) -> list[str]:
        """Of what has come so far, sorted."""
        return sorted(email.message_from_bytes(each)["Subject"] for each in self.fetched())
