"""What a webmail can tell other than what was asked for.

Rule of the file: each says what its user can do; `temporary` is what the engine acts on.
"""

from __future__ import annotations

from mailflow.errors import LoginError, PeerError, UnavailableError


class LayoutError(PeerError):
    """A page is not as the site's definition says. Its fields: `site`, `step`, `key` (what of
    the definition did not hold) and, where the page was saved, `saved`."""


class ExpiredError(UnavailableError):
    """The session has ended; a new one may be begun."""


class ThrottledError(UnavailableError):
    """The webmail asks to be left alone; `delay` in its fields says for how many seconds."""


class ChallengeError(LoginError):
    """The webmail asks for a human: a CAPTCHA, a second factor, terms to agree to."""
