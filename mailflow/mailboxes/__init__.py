"""A mailbox as a database: its folders are tables, its messages rows.

    with mailflow.mailbox("work") as box:
        inbox = box.inbox
        for row in inbox((inbox.seen == False) & (inbox.size < 6000)).select(limit=10):
            print(row.created, row.sender, row.subject)

Rule of the package: it knows no protocol. What a server is asked, and how, is a plugin's
(kinds.Mailbox); here are names, decoded fields, and messages made of fields.
"""

from __future__ import annotations

from mailflow.mailboxes.database import Database, Selection, Table
from mailflow.mailboxes.rows import Row

__all__ = ["Database", "Row", "Selection", "Table"]
