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
from mailflow_webmail.account.session import opened
from mailflow_webmail.domains import domain
from mailflow_webmail.live import WebmailDropOptions
from mailflow_webmail.opened import OpenWebmail, part, served
from mailflow_webmail.settings import WebmailOptions

if TYPE_CHECKING:
    from mailflow_webmail.account.session import Session


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
        hold = Hold(
            runtime.scratch, "webmail", place.url, place.user, str(options.max_size),
            *options.folders,
        )  # fmt: skip
        if who.checked:
            hold.take()
        try:
            spare = self._spares.take(account, key)
            if spare is None:
                spare = self._enter(place, secret, passing=not who.checked)
            try:
                if not who.checked:
                    hold.take()  # not before: who does not know the password learns nothing
                since = None if who.checked else spare.since
                return OpenWebmail(
                    options, runtime, hold, spare.session,
                    keep=lambda: self._keep(account, key, spare, since),
                )  # fmt: skip
            except BaseException:
                part(spare.session)
                raise
        except BaseException:
            hold.release(runtime.log)
            raise

    def messages(self, login: str) -> int:
        """How many there are; none of them is loaded."""
        who = Credentials(login, checked=True)
        spare = self._enter(self._place(login), self._secret(who), passing=False)
        try:
            session, folders = spare.session, self._options.folders
            return sum(len(session.listing(each)) for each in served(session, folders))
        finally:
            part(spare.session)

    def _keep(self, account: str, key: str, spare: Spare, since: float | None) -> None:
        """For the next one, unless others who want to log in to the account would meet it."""
        if spare.session.site.shared:
            self._spares.keep(account, key, spare, since)
        else:
            part(spare.session)

    def _place(self, login: str) -> Place:
        """Where this login name is read. Raises LoginError for one of a domain that is not
        allowed, ConfigError."""
        options = self._options
        if options.url is not None and options.site is not None:
            return Place(options.site, options.url, user_of(options.user or "{login}", login))
        name = login.rpartition("@")[2].lower()
        found = domain(name) if "@" in login and name in options.allow else None
        if found is None:
            raise LoginError(f"no webmail is allowed for the domain of {login!a}")
        return Place(found.site, found.url, user_of(options.user or found.user, login))

    def _secret(self, who: Credentials) -> SecretValue | None:
        """What the file has to log in with, None for cookies; or what the client gave."""
        if not who.checked:
            given = passed_on(who)
            return SecretValue(lambda: given, "the client")
        if self._options.password is None and self._options.cookies is None:
            raise LoginError(
                'nothing to log in with at the webmail: set a `password`, or login = "passthrough"'
            )
        return self._options.password

    def _enter(self, place: Place, secret: SecretValue | None, *, passing: bool) -> Spare:
        """Log in there."""
        session = opened(
            self._account(place, secret, passing), self._runtime.halt, self._runtime.scratch
        )
        try:
            since = time.monotonic()
            session.log_in()
        except BaseException:
            part(session)
            raise
        return Spare(session, since)

    def _account(self, place: Place, secret: SecretValue | None, passing: bool) -> WebmailOptions:
        """Cookies would let in whoever asks: they are for those whom we have checked."""
        given = vars(self._options)
        left_out = {"cookies"} if passing else set()
        common = WebmailOptions.declared().keys() - left_out
        values = {name: given[name] for name in common & given.keys()}
        return WebmailOptions({**values, **place._asdict(), "password": secret})
