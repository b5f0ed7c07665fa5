"""`filter.command`: a program looks at the mail, or prints it anew; its exit status decides.

Rule of the file: no mail is lost by a program. What it prints counts only if it ended with
a status that passes mail on, and if it still looks like a message; what it did not change
stays octet for octet.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from mailflow.errors import RefusedError, UnavailableError, from_os
from mailflow.mail import chunks
from mailflow.options import Choice, Size, Text
from mailflow.program import ProgramOptions, Statuses, failure, run
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Discard, Hold, Reject
from mailflow_filter.reason import REASON_LIMIT

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Verdict
    from mailflow.mail import Content, Mail, Octets
    from mailflow.options import Options
    from mailflow.program import Ended


class CommandFilterOptions(ProgramOptions):
    """The program, and what becomes of the mail."""

    output = Choice(
        "What it prints: the mail from now on, or nothing that matters.",
        "mail", "ignore", default="mail",
    )  # fmt: skip
    status = Statuses(
        "What an exit status means where it is not what sysexits(3) says: pass the mail on;"
        " discard, reject or hold it; trouble that may pass (later), or not (failed).",
        "pass", "discard", "reject", "hold", "later", "failed",
        default={"0": "pass", "77": "reject", "99": "discard"},
    )  # fmt: skip
    note = Text.optional("The name of a note that says the exit status, for later steps.", least=1)
    max_size = Size("A program that prints more octets is ended.", default=1 << 30)


class CommandFilter:
    """Hands each mail to a program, and goes by its exit status and what it prints."""

    options: ClassVar[type[Options]] = CommandFilterOptions
    pure = False
    programs = True

    def __init__(self, options: CommandFilterOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime

    def process(self, mail: Mail, context: Context) -> Iterator[Verdict]:
        """One verdict. Raises what the program's failure means; the mail is then as it was."""
        options = self._options
        ended = self._run(mail)
        try:
            word = options.status.get(str(ended.status), "")
            if word == "later":
                raise UnavailableError(str(ended))
            if word == "failed":
                raise RefusedError(str(ended))
            if word == "discard":
                yield Discard(_reason(ended))
            elif word == "reject" and not context.approved:
                yield Reject(_reason(ended))
            elif word == "hold" and not context.approved:
                yield Hold(_reason(ended))
            elif word:
                yield self._passed(mail, ended, printed=word == "pass")
            else:
                raise failure(ended) or UnavailableError(str(ended))
        finally:
            _remove(ended.output)

    def _run(self, mail: Mail) -> Ended:
        options, runtime = self._options, self._runtime
        words, variables = options.words(mail), options.variables(mail)
        try:
            return run(
                words, options.octets(mail), timeout=options.timeout, halt=runtime.halt,
                scratch=runtime.scratch, environment=variables, directory=runtime.base,
                most=options.max_size,
            )  # fmt: skip
        except OSError as error:
            raise from_os(error, f"read mail {mail.id} for {words[0]}") from None

    def _passed(self, mail: Mail, ended: Ended, *, printed: bool) -> Mail:
        if printed and self._options.output == "mail":
            mail = self._printed(mail, ended)
        if self._options.note is not None:
            mail = mail.noted(**{self._options.note: str(ended.status)})
        return mail

    def _printed(self, mail: Mail, ended: Ended) -> Mail:
        """The mail with the octets that the program printed.

        Those that it left alone stay as they were: all, or the body behind a new header.
        Raises UnavailableError where it printed no message.
        """
        from mailflow.collect import collect
        from mailflow.lines import crlf_pieces, to_crlf, to_lf
        from mailflow.mail import Header, head, is_cut

        old_head = head(mail.content)
        skipped, section = _section(ended.output, skip=not old_head.startswith(b"From "))
        if self._is_given(mail, 0, ended.output, skipped):
            return mail
        new_head = head(section)
        if not section.size or (old_head and not new_head):
            raise UnavailableError(f"what {ended.name} prints is no message")
        was = len(old_head if self._options.line_ends == "crlf" else to_lf(old_head))
        if (
            new_head
            and not (is_cut(section) or is_cut(mail.content))
            and self._is_given(mail, was, ended.output, skipped + len(new_head))
        ):
            return mail.with_header(Header(to_crlf(new_head)))
        pieces = crlf_pieces(_from(chunks(ended.output), skipped))
        return mail.replace(content=collect(pieces, self._runtime.scratch, "filter"))

    def _is_given(self, mail: Mail, was: int, output: Content, now: int) -> bool:
        """Whether what the program got from octet `was` on is what it printed from `now` on."""
        return _same(_from(self._options.lines(mail), was), _from(chunks(output), now))


def _section(output: Content, *, skip: bool) -> tuple[int, Octets]:
    """(octets of a From_ line that a program put before the mail, the octets behind it as
    far as a header section is looked for)."""
    from mailflow.mail import HEADER_LIMIT, Octets

    with output.open() as reader:
        data = reader.read(HEADER_LIMIT + 1)
    end = data.find(b"\n") + 1 if skip and data.startswith(b"From ") else 0
    return end, Octets(data[end:])


def _from(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """The octets from `offset` on; no piece is empty."""
    for piece in pieces:
        if offset < len(piece):
            yield piece[offset:]
        offset = max(0, offset - len(piece))


def _same(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Whether both give the same octets, whatever their pieces."""
    mine = theirs = b""
    while True:
        mine = mine or next(one, b"")
        theirs = theirs or next(other, b"")
        if not (mine and theirs):
            return mine == theirs
        size = min(len(mine), len(theirs))
        if mine[:size] != theirs[:size]:
            return False
        mine, theirs = mine[size:], theirs[size:]


def _reason(ended: Ended) -> str:
    """Why, in the program's own words where it has any."""
    return (ended.said or str(ended))[:REASON_LIMIT]


def _remove(output: Content) -> None:
    """What a program printed has been read; where it is a file nobody else knows it."""
    path = getattr(output, "path", None)
    if path is not None:
        with suppress(OSError):
            os.unlink(path)
