"""What a webmail can tell us other than what was asked for."""

from __future__ import annotations

from mailflow.errors import LoginError, PeerError, UnavailableError


class LayoutError(PeerError):
    """A page is not as the site's definition says."""


class ExpiredError(UnavailableError):
    """The session has ended; a new one may be begun."""


class ChallengeError(LoginError):
    """The webmail asks for a human."""
