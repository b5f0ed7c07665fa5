"""Every processor of ours keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mailflow.mail import Envelope, Mail, Octets
from mailflow.testing.contracts import ProcessorContract
from mailflow_filter.command import CommandFilter
from mailflow_filter.discard import DiscardFilter
from mailflow_filter.hold import HoldFilter
from mailflow_filter.recipients import RecipientsFilter
from mailflow_filter.reject import RejectFilter
from mailflow_filter.rewrite import RewriteFilter
from mailflow_filter.tag import TagFilter
from mailflow_list.post import Post


class TestDiscard(ProcessorContract):
    component = DiscardFilter


class TestHold(ProcessorContract):
    component = HoldFilter


class TestReject(ProcessorContract):
    component = RejectFilter


class TestTag(ProcessorContract):
    component = TagFilter

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {
            "note": {"folder": "{header:Subject|none}", "from": "{sender|nobody}"},
            "header": {"X-Subject": "{header:Subject|none}", "To": "red@example.org"},
        }


class TestRewrite(ProcessorContract):
    component = RewriteFilter

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {
            "remove": ["X-*", "Received"],
            "rename": {"Cc": "X-Cc"},
            "prefix": {"Subject": "[x]"},
            "set": {"To": "red@example.org"},
            "add": {"X-From": "{header:From|nobody}"},
        }


class TestRecipients(ProcessorContract):
    component = RecipientsFilter

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"set": ["{header:To|ann@example.org}"], "remove": ["*@example.net"],
                "add": ["Cleo <cleo@example.org>", "{header:Cc|dan@example.org}"]}  # fmt: skip


class TestCommand(ProcessorContract):
    """A program that changes some mail, discards some, and fails with some."""

    component = CommandFilter
    every = 6

    @pytest.fixture
    def table(self) -> dict[str, object]:
        script = "sed 's/^Subject: /&[x] /' | tee /dev/stderr | grep -q '^X-' 2>&1; exit 99"
        return {"command": ["/bin/sh", "-c", script], "output": "ignore"}


class TestCommandThatChanges(TestCommand):
    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {"command": ["/bin/sed", "s/^Subject: /&[x] /"]}


class TestListPost(ProcessorContract):
    component = Post

    @pytest.fixture
    def table(self) -> dict[str, object]:
        return {
            "address": "Red <red@example.org>",
            "members": ["ann@example.org", "bob@example.org"],
            "posting": {"members": "accept", "others": "hold"},
            "prefix": "[Red]",
        }

    @pytest.fixture
    def mails(self) -> Sequence[Mail]:
        """Posts of members and of others, one of them twice."""
        return [
            Mail(
                "",
                Envelope(sender, ("red@example.org",)),
                Octets(
                    f"From: {sender}\r\nTo: red@example.org\r\nSubject: {subject}\r\n"
                    f"Message-ID: <{subject}@example.org>\r\n\r\nhello\r\n".encode()
                ),
            )
            for sender, subject in [
                ("ann@example.org", "one"),
                ("ann@example.org", "one"),
                ("bob@example.org", "two"),
                ("eve@example.net", "three"),
            ]
        ]
