"""A maildrop on an IMAP server, live: each POP3 session is a session there.

Rule of the file: nothing is stored here, and nothing is removed there before our client has
said QUIT. Messages are named by UIDVALIDITY and UID, so that a connection that is lost can be
opened again and go on with the same snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailflow.errors import LoginError, PeerError, UnavailableError
from mailflow.kinds import Credentials, Runtime
from mailflow.live import Hold, Spares, missing_secret, passed_on, secret_of, user_of
from mailflow.options import Options
from mailflow.record import NamedTuple
from mailflow.sasl import Credentials as Login
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow_imap.choice import chosen, is_plain
from mailflow_imap.live import ImapDropOptions
from mailflow_imap.login import connect, log_in
from mailflow_imap.names import canonical
from mailflow_imap.opened import OpenImap, Taken, take
from mailflow_imap.settings import SCHEMES

if TYPE_CHECKING:
    from mailflow_imap.answers import Folders
    from mailflow_imap.opened import Asked
    from mailflow_imap.session import Session


class Entered(NamedTuple):
    """A session after its log-in, with what lies in the folders."""

    session: Session
    taken: list[Taken]


class ImapDrop:
    """Serves mailboxes of an IMAP server, each session one there."""

    options: ClassVar[type[Options]] = ImapDropOptions
    schemes = SCHEMES
    url_folder: ClassVar[str] = "folders"
    passthrough = True
    tokens = True

    def __init__(self, options: ImapDropOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._spares: Spares[Session] = Spares(
            options.reuse, lambda session: session.part(), runtime.halt
        )

    def login(self, who: Credentials) -> OpenImap:
        """Raises LoginError, InUseError, UnavailableError, PeerError."""
        options, runtime = self._options, self._runtime
        user = user_of(options.user or "{login}", who.login)
        key = "" if who.checked else f"{'token' if who.token else 'password'} {passed_on(who)}"
        hold = Hold(
            runtime.scratch, "imap", options.host, str(options.number), user, *options.folders
        )
        if who.checked:
            hold.take()
        try:
            entered = self._again(user, key) or self._enter(who, user)
            try:
                if not who.checked:
                    hold.take()  # not before: who does not know the password learns nothing
                return OpenImap(
                    options, runtime, hold, entered.session, entered.taken,
                    enter=lambda: self._enter(who, user, list_them=False).session,
                    keep=lambda session: self._spares.keep(
                        user, key, session, None if who.checked else session.logged_in_at
                    ),
                )  # fmt: skip
            except BaseException:
                entered.session.part()
                raise
        except BaseException:
            hold.release(runtime.log)
            raise

    def _again(self, user: str, key: str) -> Entered | None:
        """By the connection of the session before, if it is still there."""
        session = self._spares.take(user, key)
        if session is None:
            return None
        try:
            return Entered(session, self._taken(session, self._ask(session)))
        except (UnavailableError, PeerError):
            session.close()
            return None
        except BaseException:
            session.close()
            raise

    def _enter(self, who: Credentials, user: str, *, list_them: bool = True) -> Entered:
        """By a new connection, with what the file has or what the client gave."""
        options = self._options
        if not who.checked:
            ways = options.passing(by_token=bool(who.token))
            return self._log_in(Login(user, passed_on(who)), ways, list_them, passing=True)
        secret = secret_of(options, user)
        if secret is not None:
            return secret.use(lambda text: self._log_in(Login(user, text), options.ways, list_them))
        if options.certificate is None:
            raise missing_secret(options)
        return self._log_in(Login(user, ""), options.ways, list_them)

    def _log_in(
        self, login: Login, ways: Sequence[str], list_them: bool, *, passing: bool = False
    ) -> Entered:
        session = connect(self._options, self._runtime)
        try:
            if passing and session.preauthenticated:
                raise LoginError(f"{session.peer} asks nobody for a password: none can be passed")
            if not list_them:
                log_in(session, login, ways, lambda: None)
                return Entered(session, [])
            asked = log_in(session, login, ways, lambda: self._ask(session))
            return Entered(session, self._taken(session, asked))
        except BaseException:
            session.close()
            raise

    def _ask(self, session: Session) -> Folders | list[Asked]:
        """For what lies in the folders, or for their names where those must be known first."""
        if is_plain(self._options.folders):
            return take(session, list(dict.fromkeys(map(canonical, self._options.folders))))
        return session.folders()

    def _taken(self, session: Session, asked: Folders | list[Asked]) -> list[Taken]:
        if not isinstance(asked, list):
            asked = take(session, chosen(self._options.folders, asked.wait()))
        return [each.wait(self._runtime.log) for each in asked]
