"""Run a program: octets in, an exit status and what it printed, within a time.

    ended = run(["bogofilter", "-p"], chunks(mail.content), timeout=60, halt=halt)
    if error := failure(ended): ...

Rule of the file: a program that is cut is ended with all that it started; an exit status
means what sysexits(3) says, and one that says nothing may pass.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from mailflow.errors import BadMailError, MailflowError, RefusedError, UnavailableError
from mailflow.options import Choice, Duration, Flag, Option, Options, Pattern, TableOf, Template
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, NoReturn
from mailflow.values import path

if TYPE_CHECKING:
    from subprocess import Popen

    from mailflow.halt import Halt
    from mailflow.mail import Content, Mail

MOST = 1 << 30
"""A program that prints more octets than this is ended."""

SAID = 1 << 13
"""So many octets of the end of stderr are kept."""

MERCY = 2.0
"""Seconds between the word that a program is to end, and its end."""

PASSING = (71, 72, 73, 74, 75)
"""What sysexits(3) calls an error of the system: the mail is not at fault."""

SYSEXITS = {
    64: ("5.3.5", "wrong usage"),
    65: ("5.6.0", "data format error"),
    66: ("5.3.0", "cannot open input"),
    67: ("5.1.1", "addressee unknown"),
    68: ("5.1.2", "host name unknown"),
    69: ("5.3.0", "service unavailable"),
    70: ("5.3.0", "internal error"),
    71: ("4.3.0", "system error"),
    72: ("4.3.0", "a file of the system is missing"),
    73: ("4.2.0", "cannot create its output"),
    74: ("4.3.0", "input or output error"),
    75: ("4.3.0", "temporary failure"),
    76: ("5.5.0", "protocol error"),
    77: ("5.7.0", "permission denied"),
    78: ("5.3.5", "configuration error"),
}
"""Exit status -> (enhanced status code, what it means)."""


class NotStartedError(UnavailableError):
    """The program could not be started: it has done nothing."""


class Ended(NamedTuple):
    """How a program ended. `status` is its exit status, or minus the signal that ended it;
    `output` what it printed, `said` the last line on its stderr, fit for a log."""

    name: str
    status: int
    output: Content
    said: str = ""

    def __str__(self) -> str:
        said = f": {self.said}" if self.said else ""
        return f"{self.name} {_ended_by(self.status)}{said}"


def failure(ended: Ended) -> MailflowError | None:
    """What an exit status means, None for 0. `fields["code"]` is an enhanced status code.

    Temporary: PASSING, signals, and every status that sysexits(3) does not know, since
    scripts and shells exit so for all kinds of reasons.
    """
    if ended.status == 0:
        return None
    code, _ = SYSEXITS.get(ended.status, ("4.3.0", ""))
    kind: type[MailflowError] = UnavailableError
    if code.startswith("5"):
        kind = BadMailError if ended.status == 65 else RefusedError
    return kind(str(ended), code=code, status=ended.status)


def _ended_by(status: int) -> str:
    if status < 0:
        import signal

        with suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
        return f"was ended by signal {-status}"
    _, meaning = SYSEXITS.get(status, ("", ""))
    return f"exits with status {status}" + (f" ({meaning})" if meaning else "")


class CommandLine:
    """A program and its arguments, filled in for each mail. No shell reads them."""

    def __init__(self, words: Sequence[str]) -> None:
        """Raises ValueError where a word is no pattern."""
        self.words = tuple(words)
        self._patterns = [None if word == "{recipients}" else Pattern(word) for word in words]

    @property
    def program(self) -> str:
        return self.words[0]

    def render(self, mail: Mail) -> list[str]:
        """The words for one mail; "{recipients}" becomes a word for each of them.

        Raises BadMailError where something is not set, holds control characters, or would
        be taken for an option that the file did not write.
        """
        rendered: list[str] = []
        for word, pattern in zip(self.words, self._patterns, strict=True):
            texts = mail.envelope.recipients if pattern is None else (pattern.render(mail),)
            for text in texts:
                if text != word:
                    _check_word(text, word)
                rendered.append(text)
        return rendered

    def missing(self) -> str:
        """Why the program cannot be run, as far as can be seen now; "" if it can."""
        from shutil import which

        if which(self.program) is not None:
            return ""
        known = os.path.exists(self.program) if "/" in self.program else False
        return f"{self.program} is not executable" if known else f"no program {self.program}"

    def __repr__(self) -> str:
        return f"CommandLine({list(self.words)!r})"


_CONTROLS = re.compile("[\x00-\x1f\x7f]")


def _check_word(text: str, word: str) -> None:
    from mailflow.log import clean

    if _CONTROLS.search(text):
        raise BadMailError(f"control characters in {word}: {clean(text)[:100]}")
    if text.startswith("-") and not word.startswith("-"):
        raise BadMailError(f"{word} would be an option: {clean(text)[:100]}")


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise BadMailError for a value that no program should meet in a variable."""
    for name, text in environment.items():
        if _CONTROLS.search(text):
            from mailflow.log import clean

            raise BadMailError(f"control characters in {name}: {clean(text)[:100]}")


class Command(Option[CommandLine]):
    """A program and its arguments, an array, or text that is split as a shell would."""

    expected = 'a command such as ["procmail", "-f", "{sender}"]'
    json_type = {"type": ["array", "string"]}

    def convert(self, value: object, base: str) -> CommandLine:
        words = value if isinstance(value, list) else _split(value)
        if not words or not all(isinstance(each, str) and "\0" not in each for each in words):
            raise self.reject()
        program, *arguments = words
        if not program or "{" in program:
            raise ValueError(f"expected {self.expected}: the program's name comes first")
        if "/" in program:
            program = path(program, base)
        return CommandLine([program, *arguments])


def _split(value: object) -> list[str]:
    import shlex

    try:
        return shlex.split(value) if isinstance(value, str) else []
    except ValueError:
        raise ValueError("expected a command whose quotes are closed") from None


class ProgramOptions(Options):
    """What every component that hands mail to a program has, under the same words."""

    examples = {"command": ["/usr/local/bin/program", "--option"]}

    command = Command(
        "The program and its arguments, an array. No shell reads them; {sender}, {recipient},"
        ' {note:NAME} and others may stand in them, and "{recipients}" becomes one for each.'
    )
    environment = TableOf(
        "Variables it gets besides SENDER, RECIPIENT, LOCAL, EXTENSION, DOMAIN and MAILFLOW_ID.",
        Template(""),
        default={},
    )
    timeout = Duration("How long it may take; then it is ended.", default=300.0)
    line_ends = Choice(
        "How the lines of the mail end on its stdin.", "lf", "crlf", default="lf"
    )  # fmt: skip
    from_line = Flag('Whether an mbox "From " line stands before the mail.', default=False)

    def look(self) -> Iterator[tuple[str, str]]:
        if missing := self.command.missing():
            yield "command", missing

    def words(self, mail: Mail) -> list[str]:
        """The program and its arguments for one mail. Raises BadMailError."""
        return self.command.render(mail)

    def variables(self, mail: Mail) -> dict[str, str | None]:
        """What its environment says of a mail, as mail servers tell it; None: not set.

        Raises BadMailError for control characters.
        """
        given = {name: pattern.render(mail) for name, pattern in self.environment.items()}
        given["MAILFLOW_ID"] = mail.id
        told: dict[str, str | None] = dict.fromkeys(TOLD)
        if mail.envelope.sender is not None:
            given["SENDER"] = mail.envelope.sender
        if len(mail.envelope.recipients) == 1:
            [recipient] = mail.envelope.recipients
            local, _, domain = recipient.rpartition("@")
            local = local or domain
            given.update(
                RECIPIENT=recipient, ORIGINAL_RECIPIENT=recipient, LOCAL=local,
                EXTENSION=local.partition("+")[2], DOMAIN=domain if "@" in recipient else "",
            )  # fmt: skip
        check_environment(given)
        return {**told, **given}

    def octets(self, mail: Mail) -> Iterator[bytes]:
        """What the program gets on its stdin."""
        if self.from_line:
            from mailflow.mbox import from_line

            line = from_line(mail.envelope.sender, time.time())
            yield line.replace(b"\n", b"\r\n") if self.line_ends == "crlf" else line
        yield from self.lines(mail)

    def lines(self, mail: Mail) -> Iterator[bytes]:
        """The mail with the line ends that the program gets."""
        from mailflow.lines import lf_pieces
        from mailflow.mail import chunks

        pieces = chunks(mail.content)
        return pieces if self.line_ends == "crlf" else lf_pieces(pieces)


TOLD = ("SENDER", "RECIPIENT", "ORIGINAL_RECIPIENT", "LOCAL", "EXTENSION", "DOMAIN")
"""The variables in which mail servers tell a program about a mail (Postfix local(8))."""


class Statuses(TableOf[str]):
    """A table from exit statuses to words, such as { "1" = "hold" }."""

    def __init__(self, doc: str, *words: str, default: Mapping[str, str]) -> None:
        super().__init__(doc, Choice("", *words), default=default)
        self.expected = f"a table of exit statuses, each value {self.element.expected}"

    def convert(self, value: object, base: str) -> Mapping[str, str]:
        if isinstance(value, dict):
            for status in value:
                if not re.fullmatch("0|[1-9][0-9]{0,2}", status) or int(status) > 255:
                    raise ValueError(f"expected exit statuses from 0 to 255; found {status!r}")
        return {**self.default, **super().convert(value, base)}


def run(
    words: Sequence[str],
    pieces: Iterable[bytes] = (),
    *,
    timeout: float,
    halt: Halt,
    scratch: str = ".",
    environment: Mapping[str, str | None] = {},
    directory: str | None = None,
    most: int = MOST,
    grace: float = 0.0,
) -> Ended:
    """Run a program to its end, with `pieces` on its stdin; it need not read them all.

    Its environment is ours without secrets, and `environment`, in which None takes a
    variable away. `scratch` takes output too large for memory. When the engine stops it
    has `grace` seconds more. Raises NotStartedError; UnavailableError where it was cut:
    it took too long, printed more than `most` octets, or the engine stops; and whatever
    `pieces` raises.
    """
    if halt.is_set():
        raise NotStartedError("stopped on request")
    process = _start(words, environment, directory)
    name = os.path.basename(words[0])
    try:
        talk = _Talk(process, name, iter(pieces), timeout, halt, most, grace)
        from mailflow.collect import collect

        output = collect(talk.output(), scratch, "program")
        return Ended(name, process.returncode, output, talk.said())
    finally:
        _end(process)


def _start(
    words: Sequence[str], environment: Mapping[str, str | None], directory: str | None
) -> Popen[bytes]:
    import subprocess

    from mailflow.secrets import child_environment

    given = {**child_environment(), **environment}
    try:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=directory if directory and os.path.isdir(directory) else None,
            env={name: text for name, text in given.items() if text is not None},
            start_new_session=True, bufsize=0,
        )  # fmt: skip
    except FileNotFoundError:
        raise NotStartedError(f"cannot run {words[0]}: no such program") from None
    except (OSError, ValueError) as error:
        reason = (
            os.strerror(getattr(error, "errno", 0) or 0) if isinstance(error, OSError) else error
        )
        raise NotStartedError(f"cannot run {words[0]}: {reason}") from None


class _Talk:
    """What goes in and comes out of one program while it runs."""

    def __init__(
        self, process: Popen[bytes], name: str, pieces: Iterator[bytes], timeout: float,
        halt: Halt, most: int, grace: float,
    ) -> None:  # fmt: skip
        self._process = process
        self._name = name
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._halt = halt
        self._grace = grace
        self._halted = False
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._left = most
        self._most = most
        self._complaint = b""
        self._in, self._out, self._err = (
            pipe.fileno() for pipe in (process.stdin, process.stdout, process.stderr) if pipe
        )
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)

    def said(self) -> str:
        from mailflow.log import clean

        lines = self._complaint.decode("utf-8", "replace").strip().splitlines() or [""]
        return clean(lines[-1].strip())[:200]

    def output(self) -> Iterator[bytes]:
        """What it prints, until it has ended. What it left running is not waited for."""
        from select import POLLIN, POLLOUT, poll

        ending = _pidfd(self._process.pid)
        poller = poll()
        poller.register(self._in, POLLOUT)
        for descriptor in (self._out, self._err, self._halt.fileno(), ending):
            if descriptor >= 0:
                poller.register(descriptor, POLLIN)
        open_ = {self._in, self._out, self._err}
        try:
            while open_:
                ready = dict(poller.poll(self._patience()))
                if self._halt.fileno() in ready:
                    poller.unregister(self._halt.fileno())
                    self._stop()
                if self._in in ready and not self._feed():
                    poller.unregister(self._in)
                    open_.discard(self._in)
                    self._process.stdin.close()  # type: ignore[union-attr]  # a pipe
                heard = ready.keys() & {self._out, self._err}
                for descriptor in heard:
                    piece = self._take(descriptor)
                    if piece == b"":
                        poller.unregister(descriptor)
                        open_.discard(descriptor)
                    elif piece and descriptor == self._out:
                        yield piece
                if ending in ready and not heard:
                    break
        finally:
            if ending >= 0:
                os.close(ending)
        self._wait()

    def _patience(self) -> float:
        """Milliseconds to wait. Raises UnavailableError at the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            self._late()
        return min(left, 1e6) * 1000

    def _late(self) -> NoReturn:
        if self._halted:
            raise UnavailableError(f"{self._name} was stopped on request")
        raise UnavailableError(f"{self._name} has not ended after {self._timeout:g} s")

    def _stop(self) -> None:
        self._halted = True
        self._deadline = min(self._deadline, time.monotonic() + self._grace)

    def _feed(self) -> bool:
        """Write what it takes now; False where there is no more, or it wants no more."""
        try:
            while not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return False
                self._rest = memoryview(piece)
            self._rest = self._rest[os.write(self._in, self._rest) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return True

    def _take(self, descriptor: int) -> bytes | None:
        """Octets, b"" at the end, None for nothing yet."""
        try:
            piece = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return None
        if descriptor == self._err:
            self._complaint = (self._complaint + piece)[-SAID:]
            return piece
        self._left -= len(piece)
        if self._left < 0:
            raise UnavailableError(f"{self._name} printed more than {self._most} octets")
        return piece

    def _wait(self) -> None:
        """Both outputs are closed, or it has ended."""
        from subprocess import TimeoutExpired

        while True:
            if self._halt.is_set() and not self._halted:
                self._stop()
            left = self._deadline - time.monotonic()
            if left <= 0 and self._process.poll() is None:
                self._late()
            try:
                self._process.wait(max(0.0, min(left, 0.2)))
            except TimeoutExpired:
                continue
            return


def _pidfd(pid: int) -> int:
    """A descriptor that is readable once the process has ended; -1 where there is none."""
    opened = getattr(os, "pidfd_open", None)
    try:
        return -1 if opened is None else int(opened(pid))
    except OSError:
        return -1


def _end(process: Popen[bytes]) -> None:
    """Leave nothing of a program that was cut. Its stdin stays open to the last: at its end
    it would take the octets so far for a whole message."""
    if process.poll() is None:
        _kill(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _kill(process: Popen[bytes]) -> None:
    import signal
    from subprocess import TimeoutExpired

    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(TimeoutExpired):
        process.wait(MERCY)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
