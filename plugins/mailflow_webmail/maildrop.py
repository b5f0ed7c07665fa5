"""A maildrop at a webmail, live: each POP3 session reads the pages themselves.

Rule of the file: nothing of anybody's mail is stored here, and nothing removed there before
our client has said QUIT. A session there is kept for a while for the next one here, since to
log in by a page is slow, and what locks accounts.
"""

from __future__ import annotations

import time

from mailflow.errors import LoginError
from mailflow.kinds import Credentials, Runtime
from mailflow.live import Hold, Spares, passed_on, user_of
from mailflow.options import Options, SecretValue
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow_webmail.live import WebmailDropOptions
from mailflow_webmail.opened import OpenWebmail, part
from mailflow_webmail.session import opened
from mailflow_webmail.settings import WebmailOptions

if TYPE_CHECKING:
    from mailflow_webmail.session import Session


class Place(NamedTuple):
    """Which account, at which webmail."""

    site: str
    url: str
    user: str


class Spare(NamedTuple):
    """A session there, and when its password was checked, in seconds of the monotonic clock."""

    session: Session
    since: float


class WebmailDrop:
    """Serves accounts at a webmail, each session one there."""

    options: ClassVar[type[Options]] = WebmailDropOptions
    passthrough = True

    def __init__(self, options: WebmailDropOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._spares: Spares[Spare] = Spares(
            options.reuse, lambda spare: part(spare.session), runtime.halt
        )

    def login(self, who: Credentials) -> OpenWebmail:
        """Raises LoginError, InUseError, UnavailableError, PeerError."""
        options, runtime = self._options, self._runtime
        place = self._place(who.login)
        secret = self._secret(who)
        key = "" if who.checked else passed_on(who)
        account = f"{place.url} {place.user}"
        hold = Hold(runtime.scratch, "webmail", place.url, place.user, *options.folders)
        if who.checked:
            hold.take()
        try:
            spare = self._spares.take(account, key) or self._enter(place, secret)
            try:
                if not who.checked:
                    hold.take()  # not before: who does not know the password learns nothing
                return OpenWebmail(
                    options, runtime, hold, spare.session,
                    keep=lambda: self._spares.keep(
                        account, key, spare, None if who.checked else spare.since
                    ),
                )  # fmt: skip
            except BaseException:
                part(spare.session)
                raise
        except BaseException:
            hold.release(runtime.log)
            raise

    def _place(self, login: str) -> Place:
        options = self._options
        return Place(options.site, options.url, user_of(options.user or "{login}", login))

    def _secret(self, who: Credentials) -> SecretValue:
        """What the file has to log in with, or what the client gave."""
        if not who.checked:
            given = passed_on(who)
            return SecretValue(lambda: given, "the client")
        if self._options.password is None:
            raise LoginError(
                f"nothing to log in with at {self._options.url}: set a `password`, or"
                ' login = "passthrough"'
            )
        return self._options.password

    def _enter(self, place: Place, secret: SecretValue) -> Spare:
        options = self._options
        common = WebmailOptions.declared().keys()
        values = {name: each for name, each in vars(options).items() if name in common}
        account = WebmailOptions({**values, **place._asdict(), "password": secret})
        session = opened(account, self._runtime.halt, self._runtime.scratch)
        try:
            since = time.monotonic()
            session.log_in()
        except BaseException:
            part(session)
            raise
        return Spare(session, since)
