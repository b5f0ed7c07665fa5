"""What `on_done` says, done at the server for messages that the journal answers for.

Rule of the file: only these messages, by their UIDs, in the folder with the UIDVALIDITY that
they were found in; where the server cannot remove single messages, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from mailflow.errors import MailflowError
from mailflow.typed import TYPE_CHECKING, Any
from mailflow_imap.choice import target_of
from mailflow_imap.source import FLAGS

if TYPE_CHECKING:
    from mailflow_imap.answers import Answer
    from mailflow_imap.keys import Place
    from mailflow_imap.session import Session

DELETED = "\\Deleted"


class Settling:
    """What is to be done, and what was asked for. `on_done` and `folders` are as in the options;
    `once` says something that one session says once."""

    def __init__(self, on_done: str, folders: Sequence[str], once: Callable[..., None]) -> None:
        self._on_done = on_done
        self._folders = folders
        self._once = once
        self._due: dict[tuple[str, int], set[int]] = {}
        self._sent: list[Answer[Any]] = []
        self._target: str | None = None
        self._failure: MailflowError | None = None

    def add(self, place: Place) -> None:
        """The journal answers for this one; to say so again changes nothing."""
        if self._on_done != "keep":
            self._due.setdefault((place.folder, place.validity), set()).add(place.uid)

    @property
    def folders(self) -> list[tuple[str, int]]:
        """(name, UIDVALIDITY) of each folder in which something is due."""
        return list(self._due)

    def send(self, session: Session) -> None:
        """Ask for what is due in the open folder; it leaves with whatever is waited for next.
        Raises where the session is lost."""
        selected = session.selected
        if selected is None:
            return
        uids = self._due.pop((selected.folder, selected.uid_validity), None)
        if not uids or self._failure is not None:
            return
        if selected.read_only:
            self._once("on_done is not done: the folder cannot be changed", folder=selected.folder)
            return
        try:
            self._sent.extend(self._asked(session, sorted(uids)))
        except MailflowError as error:
            self._refused(error, lost=session.lost)
        self._hear([answer for answer in self._sent if answer.done])
        self._sent = [answer for answer in self._sent if not answer.done]

    def forget(self, folder: str, validity: int) -> None:
        """That folder is not there any more: its messages are not either."""
        self._due.pop((folder, validity), None)

    def confirm(self) -> None:
        """Wait until all that was asked for is answered. Raises what time may mend, so that it is
        done in the next session; what is refused for good is told."""
        sent, self._sent = self._sent, []
        self._hear(sent)
        if self._failure is not None:
            raise self._failure

    def _hear(self, answers: Iterable[Answer[Any]]) -> None:
        for answer in answers:
            try:
                answer.wait()
            except MailflowError as error:
                self._refused(error, lost=answer.session.lost)

    def _refused(self, error: MailflowError, *, lost: bool) -> None:
        """Nothing more is settled in this session where time may mend it; mail still comes."""
        if lost:
            raise error
        if error.temporary:
            self._failure = error
        else:
            self._once("on_done is not done", error=error.text)

    def _asked(self, session: Session, uids: list[int]) -> Iterator[Answer[Any]]:
        if self._on_done in FLAGS:
            yield session.store(uids, [FLAGS[self._on_done]])
        elif self._on_done == "delete":
            yield from self._removed(session, uids)
        elif (target := self._moved_to(session)) is None:
            return
        elif session.can_move:
            yield session.move(uids, target)
        elif uids := copied(session, uids, target):
            yield from self._removed(session, uids)

    def _removed(self, session: Session, uids: list[int]) -> Iterator[Answer[Any]]:
        yield session.store(uids, [DELETED])
        if session.can_expunge:
            yield session.expunge(uids)
        else:
            self._once(
                "the server cannot remove single messages (it has no UIDPLUS): they are marked as"
                " deleted, and go when somebody expunges the folder"
            )

    def _moved_to(self, session: Session) -> str | None:
        """The folder to move to, made where it is not there; None where it cannot be had."""
        if self._target is None:
            name, self._target = self._on_done.removeprefix("move "), ""
            self._target = found_or_made(session, name, self._folders) or ""
            if not self._target:
                self._once("on_done is not done: there is no such folder", folder=name)
        return self._target or None


def found_or_made(session: Session, name: str, folders: Sequence[str]) -> str | None:
    """The folder to move to, made where there is none of that name; None for a use that none
    has. Raises RefusedError where it is one of `folders`, which are as in the options."""
    found = target_of(name, folders, session.folders().wait())
    if found is None and not name.startswith("\\"):
        session.create(name).wait()
        found = name
    return found


def copied(session: Session, uids: Sequence[int], target: str) -> list[int]:
    r"""Those that lie in `target` too, now. What is \Deleted already does: it was marked
    after it was copied, and must not be copied again."""
    facts = session.facts(uids, size=False, date=False)
    left = [fact.uid for fact in facts if not fact.flags or DELETED not in fact.flags]
    if left:
        session.copy(left, target).wait()
    return left
