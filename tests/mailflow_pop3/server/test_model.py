"""Any order of commands, deliveries and losses, against a maildrop as simple as can be.

Rule of the file: the model says every octet that matters before it is asked for: which
answers are good, each number, size, unique-id and body; nothing is taken from the server
but the unique-ids of what is new, which must stay what they were.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from .dialogue import Answer, Dialogue
from .servers import Drop, Server

BODIES = st.lists(
    st.sampled_from([b"\r\n", b".", b"..\r\n", b"x", b"\r\n.\r\n", b"line\r\n", b"\0\xff", b"\r"]),
    max_size=8,
).map(b"".join)

NUMBERS = st.integers(0, 7)

COMMANDS = st.one_of(
    st.sampled_from(["STAT", "LIST", "UIDL", "RSET", "NOOP", "CAPA", "XYZZY", "TOP 1", "DELE x"]),
    st.builds("{} {}".format, st.sampled_from(["LIST", "UIDL", "RETR", "DELE"]), NUMBERS),
    st.builds("TOP {} {}".format, NUMBERS, st.integers(0, 4)),
)


def served(octets: bytes) -> bytes:
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


class Model:
    """A maildrop: messages in order, and one session's view of them."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.names: list[bytes | None] = []  # unique-ids, once they were seen
        self.used: set[bytes] = set()
        self.view = 0  # how many there were at the log-in
        self.deleted: set[int] = set()

    def begin(self) -> None:
        self.view, self.deleted = len(self.messages), set()

    def commit(self) -> None:
        kept = [n for n in range(len(self.messages)) if n + 1 not in self.deleted]
        self.messages = [self.messages[n] for n in kept]
        self.names = [self.names[n] for n in kept]

    def there(self) -> list[int]:
        return [number for number in range(1, self.view + 1) if number not in self.deleted]

    def size(self, number: int) -> int:
        return len(served(self.messages[number - 1]))

    def check(self, command: str, answer: Answer) -> None:
        """Compare an answer with the one that is due."""
        keyword, *words = command.split(" ")
        number = int(words[0]) if words and words[0].isdigit() else 0
        bad = command in ("XYZZY", "TOP 1", "DELE x")
        if bad or (words and number not in self.there()):
            assert not answer.ok, command
        else:
            assert answer.ok, (command, answer.line)
            getattr(self, f"_{keyword.lower()}")(number, words, answer)

    def _noop(self, number: int, words: list[str], answer: Answer) -> None: ...
    def _capa(self, number: int, words: list[str], answer: Answer) -> None: ...

    def _rset(self, number: int, words: list[str], answer: Answer) -> None:
        self.deleted.clear()

    def _dele(self, number: int, words: list[str], answer: Answer) -> None:
        self.deleted.add(number)

    def _stat(self, number: int, words: list[str], answer: Answer) -> None:
        sizes = [self.size(each) for each in self.there()]
        assert answer.line == b"+OK %d %d" % (len(sizes), sum(sizes))

    def _list(self, number: int, words: list[str], answer: Answer) -> None:
        lines = [b"%d %d" % (each, self.size(each)) for each in self.there()]
        if words:
            assert answer.line == b"+OK %d %d" % (number, self.size(number))
        else:
            assert answer.lines == lines

    def _uidl(self, number: int, words: list[str], answer: Answer) -> None:
        lines = [answer.line[4:]] if words else answer.lines
        wanted = [number] if words else self.there()
        assert [int(line.split(b" ")[0]) for line in lines] == wanted
        for each, line in zip(wanted, lines, strict=True):
            name = line.split(b" ")[1]
            known = self.names[each - 1]
            if known is None:
                assert name not in self.used, "a unique-id is used again"
                self.used.add(name)
                self.names[each - 1] = name
            else:
                assert name == known

    def _retr(self, number: int, words: list[str], answer: Answer) -> None:
        assert answer.octets == served(self.messages[number - 1])

    def _top(self, number: int, words: list[str], answer: Answer) -> None:
        whole = served(self.messages[number - 1])
        head, blank, body = whole.partition(b"\r\n\r\n")
        lines = body.split(b"\r\n")[: int(words[1])]
        rest = b"".join(line + b"\r\n" for line in lines)
        assert answer.octets == (head + blank + rest if blank else whole)[: len(whole)]


MULTILINE = ("CAPA", "RETR", "TOP")


def is_multiline(command: str) -> bool:
    return command in ("LIST", "UIDL") or command.split(" ")[0] in MULTILINE


class Session(RuleBasedStateMachine):
    """One maildrop of `server`, at most one session in it, and knocks at the door."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.drop: Drop = self.server.fill()
        self.model = Model()
        self.dialogue: Dialogue | None = None

    def teardown(self) -> None:
        if self.dialogue:
            self.dialogue.drop()

    @rule(body=BODIES)
    def deliver(self, body: bytes) -> None:
        octets = b"Subject: one\r\n\r\n" + body
        self.server.deliver(self.drop, octets)
        self.model.messages.append(octets)
        self.model.names.append(None)

    @precondition(lambda self: self.dialogue is None)
    @rule()
    def log_in(self) -> None:
        self.dialogue = self.server.enter(self.drop)
        self.model.begin()

    @precondition(lambda self: self.dialogue is not None)
    @rule()
    def knock(self) -> None:
        other = self.server.connect()
        assert other.log_in(*self.drop).code == "IN-USE"
        other.drop()

    @rule()
    def knock_with_a_wrong_password(self) -> None:
        other = self.server.connect()
        assert other.log_in(self.drop.login, "wrong").code == "AUTH"
        other.drop()

    @precondition(lambda self: self.dialogue is not None)
    @rule(command=COMMANDS)
    def ask(self, command: str) -> None:
        dialogue = self._dialogue()
        answer = dialogue.ask(command) if is_multiline(command) else dialogue.say(command)
        self.model.check(command, answer)

    @precondition(lambda self: self.dialogue is not None)
    @rule(commands=st.lists(COMMANDS, max_size=8), cut=st.integers(1, 40))
    def ask_in_one_flight(self, commands: list[str], cut: int) -> None:
        commands = [each for each in commands if each != "XYZZY"]  # ten in a row are too many
        dialogue = self._dialogue()
        octets = "".join(f"{each}\r\n" for each in commands).encode()
        for at in range(0, len(octets), cut):
            dialogue.send(octets[at : at + cut])
        for command in commands:
            answer = dialogue.status()
            if answer.ok and is_multiline(command):
                answer = answer._replace(body=dialogue.body())
            self.model.check(command, answer)

    @precondition(lambda self: self.dialogue is not None)
    @rule(late=st.lists(COMMANDS, max_size=3))
    def quit(self, late: list[str]) -> None:
        dialogue = self._dialogue()
        dialogue.send("".join(f"{each}\r\n" for each in ["QUIT", *late]).encode())
        assert dialogue.status().ok
        assert dialogue.closes()
        dialogue.drop()
        self.model.commit()
        self.dialogue = None

    @precondition(lambda self: self.dialogue is not None)
    @rule(half=st.sampled_from([b"", b"QUIT", b"DELE 1\r", b"RETR 1\r\nRETR 1\r\nQUI"]))
    def leave(self, half: bytes) -> None:
        dialogue = self._dialogue()
        dialogue.send(half)
        dialogue.drop()
        self.dialogue = None

    @invariant()
    def what_is_stored_is_what_the_model_holds(self) -> None:
        if self.dialogue is None and self.server.name == "memory":
            assert self.server.left(self.drop) == len(self.model.messages)

    def _dialogue(self) -> Dialogue:
        assert self.dialogue is not None
        return self.dialogue


def test_any_session_shows_what_the_model_shows(store_at_home):
    """hypothesis: a gateway and a model maildrop, with the same commands, deliveries, losses."""
    machine = type("SessionOf", (Session,), {"server": store_at_home})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100 if store_at_home.name == "memory" else 30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
