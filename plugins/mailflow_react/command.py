"""`react.command`: a program hears of each trouble, and may say what is done about it.

Rule of the file: what a program does not clearly say is no reaction; one that fails, hangs
or answers in other words is logged, and the next reactor decides.
"""

from __future__ import annotations

from mailflow.errors import UnavailableError
from mailflow.log import clean
from mailflow.mail import Envelope, Mail, Octets, read
from mailflow.options import Duration, Options
from mailflow.program import Command, Statuses, failure, run
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.values import duration
from mailflow.verdicts import Bounce, Discard, Hold, Retry, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailflow.kinds import Context, Runtime, Trouble
    from mailflow.program import Ended
    from mailflow.verdicts import Reaction

WORDS = ("retry", "hold", "bounce", "discard", "stop", "none")
SHOWN = 1000
"""So many recipients are told, and so many characters of a text."""

NO_MAIL = Mail("", Envelope(), Octets(b""))
PRINTED = 1 << 16


class CommandReactorOptions(Options):
    """The program, and what its exit status means."""

    examples = {"command": ["/usr/local/bin/program", "--option"]}

    command = Command(
        "The program and its arguments, an array. No shell reads them; {sender}, {id} and others"
        " may stand in them. The trouble comes as JSON on its stdin."
    )
    status = Statuses(
        "What an exit status means where the program prints nothing.",
        *WORDS, default={"0": "none"},
    )  # fmt: skip
    after = Duration("How long to wait where it says retry and not when.", default=300.0)
    timeout = Duration("How long it may take; then it is ended.", default=30.0)

    def look(self) -> Iterator[tuple[str, str]]:
        if missing := self.command.missing():
            yield "command", missing


class CommandReactor:
    """Tells a program of each trouble; what it prints may be the reaction."""

    options: ClassVar[type[Options]] = CommandReactorOptions
    programs = True

    def __init__(self, options: CommandReactorOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime

    def react(self, trouble: Trouble, context: Context) -> Reaction | None:
        """What the first line on its stdout says, else its exit status.

        Raises UnavailableError where it fails or answers in other words: the engine says so
        in the log, and asks the next.
        """
        from json import dumps

        facts = described(trouble, context)
        variables = {f"MAILFLOW_{name.upper()}": str(facts[name]) for name in _VARIABLES}
        ended = run(
            self._options.command.render(trouble.mail or NO_MAIL), [dumps(facts).encode(), b"\n"],
            timeout=self._options.timeout, halt=self._runtime.halt, scratch=self._runtime.scratch,
            environment=variables, directory=self._runtime.base, most=PRINTED,
        )  # fmt: skip
        return self._reaction(ended, trouble)

    def _reaction(self, ended: Ended, trouble: Trouble) -> Reaction | None:
        line = read(ended.output).decode("utf-8", "replace").strip().partition("\n")[0]
        word = self._options.status.get(str(ended.status))
        if word is None:
            raise failure(ended) or UnavailableError(str(ended))
        argument = ""
        if line:
            word, _, argument = line.partition(" ")
        argument = clean(argument.strip())[:SHOWN]
        if word == "none":
            return None
        if word == "retry":
            return Retry(self._wait(ended, argument))
        kinds: dict[str, type[Hold | Bounce | Discard | Stop]] = {
            "hold": Hold, "bounce": Bounce, "discard": Discard, "stop": Stop,
        }  # fmt: skip
        if word not in kinds:
            said = clean(line)[:100]
            raise UnavailableError(f"{ended.name} answers {said!r}, not {' or '.join(WORDS)}")
        return kinds[word](argument or clean(trouble.error.text)[:SHOWN])

    def _wait(self, ended: Ended, argument: str) -> float:
        if not argument:
            return self._options.after
        try:
            return duration(argument)
        except ValueError as error:
            raise UnavailableError(
                f"{ended.name} answers 'retry {argument[:50]}': {error}"
            ) from None


_VARIABLES = ("pipeline", "stage", "step", "attempt", "error", "temporary", "id")


def described(trouble: Trouble, context: Context) -> dict[str, object]:
    """A trouble as JSON has it; texts are on one line and without secrets."""
    mail = trouble.mail
    facts: dict[str, object] = {
        "pipeline": context.pipeline,
        "stage": trouble.stage,
        "step": trouble.step,
        "attempt": trouble.attempt,
        "age": trouble.age,
        "error": _line(trouble.error.text),
        "kind": type(trouble.error).__name__,
        "temporary": trouble.error.temporary,
        "recipients": [_line(each) for each in trouble.recipients[:SHOWN]],
        "verdict": type(trouble.verdict).__name__.lower() if trouble.verdict else None,
        "reports": [
            {"recipient": _line(each.recipient), "code": each.code, "text": _line(each.text)}
            for each in trouble.reports[:SHOWN]
        ],
        "id": mail.id if mail else "",
    }
    if mail is not None:
        header = mail.header()
        facts["mail"] = {
            "sender": None if mail.envelope.sender is None else _line(mail.envelope.sender),
            "size": mail.content.size,
            "notes": {_line(name): _line(text) for name, text in mail.notes.items()},
            "from": _line(header.decoded("From") or ""),
            "subject": _line(header.decoded("Subject") or ""),
            "message_id": _line(header.get("Message-ID") or ""),
        }
    return facts


def _line(text: str) -> str:
    return clean(text)[:SHOWN]
