"""What tests of accounts have in common: a maildrop, secrets, a log and a clock to look at."""

from __future__ import annotations

from mailflow.log import Logger
from mailflow.options import SecretValue


class Drops:
    """A maildrop whose open drops are the credentials that they were opened with."""

    def __init__(self):
        self.opened = []

    def login(self, who):
        self.opened.append(who)
        return who


class BackEnd(Drops):
    """One that checks passwords and tokens itself: it lets in whoever says sesame."""

    tokens = True

    def login(self, who):
        from mailflow.errors import LoginError

        if "sesame" not in (who.password, who.token):
            raise LoginError("the server at mail.example.org said no")
        return super().login(who)


class Log(Logger):
    """Keeps what is said."""

    __slots__ = ("lines",)

    def __init__(self):
        super().__init__()
        self.lines = []

    def _say(self, level, event, facts):
        self.lines.append((level, event, facts))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def secret(text):
    return SecretValue(lambda: text, "a test", literal=True)
