"""From visit to visit, whatever another program does to the mailbox meanwhile: each message that a
visit could have, and none twice, told by a model of the mailbox that knows no UIDs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from .imap_servers import Account, message

FOLDERS = ("INBOX", "Work/2026 ✓")
VISITS = 9

WANTED = {
    "all": lambda there: True,
    "not seen": lambda there: "\\Seen" not in there.flags,
    "flagged or size > 5000": lambda there: "\\Flagged" in there.flags or there.large,
    'subject contains "7"': lambda there: "7" in there.subject,
}
"""What `where` says -> whether a message is meant."""


@dataclass
class There:
    """A message as the model has it."""

    subject: str
    large: bool
    flags: set[str] = field(default_factory=set)


class Model:
    """Both folders, changed in the same way here and at the server."""

    def __init__(self, account: Account, seed: int) -> None:
        self.account = account
        self.random = random.Random(seed)
        self.folders: dict[str, list[There]] = {folder: [] for folder in FOLDERS}
        self.made = 0

    def change(self) -> None:
        folder = self.random.choice(FOLDERS)
        there = self.folders[folder]
        often = [self.deliver, self.deliver, self.mark, self.mark, self.remove]
        act = self.random.choice([*often, self.renumber])
        if not there and act != self.deliver:
            act = self.deliver
        act(folder, there)

    def deliver(self, folder: str, there: list[There]) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.made += 1
            new = There(f"n{self.made:03d}", self.random.random() < 0.3)
            there.append(new)
            body = b"x" * (6000 if new.large else 60) + b"\r\n"
            self.account.deliver(message(new.subject, body), folder=folder)

    def mark(self, folder: str, there: list[There]) -> None:
        number = self.random.randrange(len(there))
        flag = self.random.choice(["\\Seen", "\\Flagged", "\\Answered"])
        with self.account.program(folder) as session:
            if flag in there[number].flags:
                session.store(str(number + 1), "-FLAGS.SILENT", flag)
            else:
                session.store(str(number + 1), "+FLAGS.SILENT", flag)
        there[number].flags ^= {flag}

    def remove(self, folder: str, there: list[There]) -> None:
        number = self.random.randrange(len(there))
        with self.account.program(folder) as session:
            session.store(str(number + 1), "+FLAGS.SILENT", "\\Deleted")
            session.expunge()
        del there[number]

    def renumber(self, folder: str, there: list[There]) -> None:
        """The second folder gets other UIDs, and there the flags are lost."""
        self.account.server.renumber(self.account.user, FOLDERS[1])
        for each, flags in zip(
            self.folders[FOLDERS[1]], self.account.flags(FOLDERS[1]), strict=True
        ):
            each.flags = set(flags)

    @property
    def messages(self) -> list[There]:
        return [each for there in self.folders.values() for each in there]


@pytest.mark.parametrize("where", WANTED)
@pytest.mark.parametrize("seed", [2, 3])
def test_each_message_that_is_meant_at_a_visit_comes_once(
    account: Account, where: str, seed: int
) -> None:
    model = Model(account, seed)
    for folder in FOLDERS:
        model.deliver(folder, model.folders[folder])
    folders = [account.server.folder(folder) for folder in FOLDERS]
    wanted: set[str] = set()
    for visit in range(VISITS):
        for _ in range(model.random.randint(0, 3)):
            model.change()
        wanted |= {each.subject for each in model.messages if WANTED[where](each)}
        assert account.run(where=where, folders=folders) == 0
        assert account.subjects() == sorted(wanted), f"visit {visit}"


def test_what_a_limit_leaves_comes_later_and_what_is_done_leaves_the_folder(
    account: Account,
) -> None:
    model = Model(account, 3)
    folders = [account.server.folder(folder) for folder in FOLDERS]
    for folder in FOLDERS:
        model.deliver(folder, model.folders[folder])
    made: set[str] = set()
    for _ in range(VISITS):
        folder = model.random.choice(FOLDERS)
        model.deliver(folder, model.folders[folder])
        made |= {each.subject for each in model.messages}
        account.run(folders=folders, keep="0d", on_done="delete", limit=2)
    for _ in range(len(made)):
        if len(account.subjects()) < len(made):
            account.run(folders=folders, keep="0d", on_done="delete", limit=2)
    assert account.subjects() == sorted(made)
    account.run(folders=folders, keep="0d", on_done="delete")
    assert [account.left(folder) for folder in FOLDERS] == [[], []]
