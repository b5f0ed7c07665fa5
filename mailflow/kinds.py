"""The kinds of component, and the words they share with the engine.

Every call is synchronous; times are seconds (float), sizes are octets (int).
A component is a class with `options` (a class of mailflow.options.Options); the
engine makes it as `cls(options, runtime)`. A fetcher or a distributor is entered
and left as a context manager, in the one thread that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from socket import socket
    from types import TracebackType

    from mailflow.accounts import Accounts
    from mailflow.errors import MailflowError
    from mailflow.halt import Halt
    from mailflow.log import Logger
    from mailflow.mail import Content, Envelope, Mail
    from mailflow.options import Options
    from mailflow.query import Query
    from mailflow.verdicts import (
        Discard,
        Fate,
        Hold,
        Reaction,
        Reject,
        Report,
    )

    Verdict = Mail | Discard | Reject | Hold


class Runtime(NamedTuple):
    """What the engine gives a component when it makes it.

    `name` is the step's name in the file, `pipeline` the pipeline's. `halt` ends
    every wait. `scratch` is a directory on the journal's disk for octets too many
    for memory. `base` is the directory of the file, which relative paths start from.
    `progress(octets)` tells the terminal what has arrived; it is cheap. `sent_before(seconds)`
    gives how many seconds ago this step handed on each mail of so many seconds, other runs'
    too, for those that keep to a rate.
    """

    name: str
    pipeline: str
    halt: Halt
    log: Logger
    scratch: str
    base: str = "."
    progress: Callable[[int], None] = lambda octets: None
    sent_before: Callable[[float], list[float]] = lambda seconds: []


class Component(Protocol):
    """What every kind has in common.

    A component that needs more than the base install names the modules in
    `requires: tuple[str, ...]` and, in `extra: str`, what pip calls them.

    One that a URL can name says so in the class attribute `schemes`, a mapping of each
    scheme to the options it sets, such as {"pop3s": {"tls": "implicit"}}. A URL's user,
    host and port become the options of those names, its path the option named by the
    class attribute `url_path` where there is one, its query whatever option it names. The
    class attribute `url_folder` names a list of folders instead, which may be left out.

    A fetcher or a distributor that speaks to a server may have `offers() -> Iterable[str]`
    for `mailflow check --connect`: called once it was entered, it connects and logs in, and
    yields a line for each fact of that server worth knowing. It changes nothing there.

    A processor or reactor that starts a program says so in the class attribute
    `programs = True`: `mailflow simulate` leaves such reactors out, and says where a
    processor's program ran.
    """

    options: ClassVar[type[Options]]


class Item(NamedTuple):
    """One message of a listing; None for what the wire does not say.

    `key` is stable over sessions and unique in the source. `date` is seconds since
    the epoch, `uid` IMAP's.
    """

    key: str
    size: int | None = None
    date: float | None = None
    flags: frozenset[str] | None = None
    folder: str | None = None
    uid: int | None = None


class Fetched(NamedTuple):
    """A message that has arrived whole."""

    key: str
    content: Content
    envelope: Envelope


class Missed(NamedTuple):
    """A message that cannot be had; the others go on."""

    key: str
    error: MailflowError


class Fetcher(Component, Protocol):
    """Reads one source. Used by one thread, as a context manager.

    `source` is the account, as named in the file; it outlives a change of host or
    port. `mark` is, after a session that ended in order, where the next listing may start.

    A fetcher with the class attribute `pushed = True` is handed mail, by `mailflow hook` alone:
    its keys are digests, and an equal message is another mail. One whose items bear a
    uid, a folder or flags names those fields of the query language in the class attribute
    `knows`, a tuple such as ("uid", "seen").
    Raising from any call ends the session: UnavailableError, LoginError, PeerError. Where the
    server asks to be left alone, `delay` in the error's fields says for how many seconds.
    """

    source: str
    mark: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without an error, end the session in order (QUIT); with one, just leave."""
        ...

    def listing(self, where: Query, mark: str = "") -> Iterable[Item]:
        """What is there. May narrow by `where` on the server; never changes the result."""
        ...

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """Header sections only, for a `where` on headers and for keys that were renamed: of
        each, `mailflow.mail.head` gives what it gives of the whole message."""
        ...

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages as they arrive; asks for all at once if the wire can."""
        ...

    def settle(self, key: str, fate: Fate) -> None:
        """The journal answers for `key`: do what `on_done` says. Idempotent, may be lazy.

        Called between the arrivals of `retrieve` and after it, in the same thread.
        """
        ...


class IncrementalFetcher(Fetcher, Protocol):
    """A fetcher whose listing may start at `mark`, or be narrowed by `where` at the server: not
    all that is there is listed. What an earlier visit refused is left out only where `where` is
    the same and `final`. It may be told to settle keys that it did not list.

    What it is told to settle may be gone before the session has ended; once a session has ended
    in order, it is, and its key, listed again, names another message. Messages are told by
    their content where a key does not tell them.

    One whose keys may name other messages than they did without any sign of it (a source that
    knows no UIDVALIDITY) has the class attribute `fickle = True`: what an earlier visit took is
    settled only where its header section is still the same, which `heads` gives.
    """

    complete: bool
    """Of the last listing: whether what it did not have is not there, as far as `lists` says."""

    removes: bool
    """Whether what is settled leaves the listing."""

    renewed: bool
    """Of the last listing: whether messages have other keys in it than they had."""

    doubtful: Callable[[str], bool] | None
    """Of the last listing: whether a key may name another message than it did; None, if none."""

    def lists(self, key: str) -> bool:
        """Whether a complete listing would have had this message: not where its folder could not
        be read."""
        ...

    def unfinished(self, keys: Collection[str]) -> None:
        """Called before a session ends in order: these were listed and are still wanted. The next
        listing has them again, whatever `mark` says."""
        ...


class PushFetcher(Fetcher, Protocol):
    """A fetcher that is told when mail has come (inotify, IDLE): its object can be entered
    again once it was left, and knows what its last listing had."""

    def wait(self, seconds: float) -> bool:
        """Wait until there may be mail that the last listing of this object did not have.

        Called first in a session, before any listing in it, perhaps several times. True as
        soon as a listing is worth while, also where that came between two sessions; False
        after `seconds` or when `halt` is set. Without a listing before, what comes from
        now on counts. Raises what the other calls raise; the session has ended then.
        """
        ...


class StayingFetcher(Fetcher, Protocol):
    """A fetcher that can stay logged in from one session to the next: its object can be entered
    again once it was left."""

    def stay(self) -> None:
        """Called once, before the first session: there will be more, and `close` at the end."""
        ...

    def close(self) -> None:
        """No session follows: end what is open. Called outside of a session, by the thread of the
        sessions, also when `halt` is set; takes a moment at most, and raises nothing."""
        ...


class Folder(NamedTuple):
    """A folder that can hold messages. `name` as its user sees it, its parts with `delimiter`
    between them ("" where folders have no parts). `purpose` is "all", "archive", "drafts",
    "flagged", "junk", "sent" or "trash" (RFC 6154), "" where nothing is said."""

    name: str
    delimiter: str = ""
    purpose: str = ""


class Found(NamedTuple):
    """A message of a mailbox; `content` has as much of it as was asked for: None, its
    header section, or all."""

    item: Item
    content: Content | None = None


class Mailbox(Component, Protocol):
    """The folders of one account, looked into and changed by hand: a database of mail.

    Entered and left as a context manager; then any thread may call it. `source` is the
    account, as in a log line. `chosen` says which messages of a folder are meant: a Query,
    or keys that `select` gave. A key never means another message than it did: what has gone
    is left out, and where a folder was made anew under the same name, none is left.
    What is meant is settled when a call begins; messages that come later are not touched.

    Raises GoneError where there is no such folder, RefusedError where the server does not do
    what is asked for, UnavailableError, LoginError, PeerError; ValueError for an order or a
    flag that is none.
    """

    source: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def folders(self) -> Sequence[Folder]:
        """Those that can hold messages; the inbox first, else as the server lists them."""
        ...

    def count(self, folder: str, chosen: Query | Collection[str]) -> int:
        """How many there are."""
        ...

    def select(
        self,
        folder: str,
        chosen: Query | Collection[str],
        *,
        reach: str = "listing",
        order: str = "-uid",
        start: int = 0,
        stop: int | None = None,
    ) -> Iterator[Found]:
        """Those messages, from the `start`th to before the `stop`th of them all in this order.

        `reach` says what comes with each: listing, header or body. `order` is one of `uid`,
        `created`, `size`, `subject`, `from`, `to` and `cc` (as RFC 5256, 3 compares them), or
        several with commas between them; "-" before one turns it round. Equal ones come by
        their uid. Nothing is changed at the server, no flag either. Any call may be made
        while it is iterated over; the octets of a large message last as long as its Content.
        """
        ...

    def update(
        self, folder: str, chosen: Query | Collection[str], flags: Mapping[str, bool]
    ) -> int:
        """Set (True) or remove (False) flags, by names such as "seen"; how many messages
        were meant. "recent" is no flag that anybody may change."""
        ...

    def delete(self, folder: str, chosen: Query | Collection[str]) -> int:
        """Remove them for good and no other, whatever is flagged; how many they were."""
        ...

    def insert(
        self,
        folder: str,
        content: Content,
        flags: Collection[str] = (),
        date: float | None = None,
    ) -> str:
        """Put a message there, durably, octet for octet, as one that arrived at `date`
        (now). Gives its key, "" where the server does not say it."""
        ...


class Memory(Protocol):
    """A step's own lasting key-value space. A mail in a processor never meets its own
    entries; to a reactor all are one, and the last word counts."""

    def get(self, key: str) -> str | None: ...

    def set(self, key: str, value: str, keep: float | None = None) -> None:
        """Written in the plan's commit; forgotten after `keep` seconds, None for never."""
        ...


class Context(Protocol):
    """What a processor or a reactor may lastingly do, and what it may know."""

    name: str
    pipeline: str

    @property
    def memory(self) -> Memory: ...

    @property
    def log(self) -> Logger: ...

    @property
    def approved(self) -> bool:
        """True when `queue release` runs the holding step again."""
        ...

    @property
    def now(self) -> float:
        """Seconds since the epoch, the same through one call."""
        ...

    def send(self, mail: Mail, via: str | None = None) -> None:
        """Send a notice: journalled with the same commit, by the distributor named
        `via` (the first that sends by default). Make it with `new`."""
        ...

    def new(self, envelope: Envelope, content: Content, notes: Mapping[str, str] = {}) -> Mail:
        """A mail with an id of its own."""
        ...


class Processor(Component, Protocol):
    """Decides about mail. `pure`: no memory, no program, same answer again."""

    pure: bool

    def process(self, mail: Mail, context: Context) -> Iterable[Verdict]:
        """Yield what goes on: the mail, copies, or a verdict with its reason.

        Yielding nothing is an error. May run twice on one mail (crash, retry).
        """
        ...


class Ticket(NamedTuple):
    """The engine's word to a distributor about one delivery.

    `key` names it for good: [0-9a-z.-], the same at every attempt. `recipients` are
    those that are due. `resumed`: an earlier attempt may have been cut, so look for
    `key` first. `commit(recipients)` stands right before each irrevocable act; `commit(())`
    before a long wait writes down what was reported so far.
    """

    key: str
    recipients: tuple[str, ...]
    attempt: int = 1
    resumed: bool = False
    commit: Callable[[Collection[str]], None] = lambda recipients: None


class Distributor(Component, Protocol):
    """Hands mail on. The engine opens up to `parallel` of them, each in one thread.

    `repeatable`: handing in one ticket.key twice leaves one copy. `per_recipient`
    False (a Maildir, a spool): one delivery per mail, reported with recipient "".
    `sends`: mail leaves for other people (SMTP); asks for `start` on a full mailbox.
    One that has something to do at times, mail or no mail (what expires), may have
    `upkeep() -> None`: called on one that was entered for that alone, when a run begins and
    every hour under `serve`.
    """

    repeatable: bool
    per_recipient: bool
    sends: bool

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def distribute(self, mail: Mail, ticket: Ticket) -> Iterable[Report]:
        """Yield a Report for each recipient as soon as it is known.

        Raising leaves the unreported ones LATER if not committed, else in doubt.
        """
        ...


class GroupDistributor(Distributor, Protocol):
    """A distributor that is cheaper for several mails in one flight or one flush.

    It draws from `jobs` when it can use another: what it has drawn, no other session does.
    What it reports of a mail is durable before it goes on (at the end where `repeatable`).
    """

    def distribute_many(
        self, jobs: Iterable[tuple[Mail, Ticket]]
    ) -> Iterable[tuple[Ticket, Report]]: ...

    def finish(self, keys: Iterable[str]) -> None:
        """These tickets are final in the journal: clear what was kept to know them by."""
        ...


class Trouble(NamedTuple):
    """What went wrong, for the reactors.

    `stage` is fetch, process, verdict, unrouted, distribute or alarm (under `serve`: a source
    has failed or been silent for longer than `alarm_after`, told once until it works again);
    `step` the step's name. `recipients` are those it concerns. `attempt` counts from 1; `age` is
    seconds since the mail arrived, or since the source last worked. `verdict` is set
    at stage verdict, `reports` where the other side answered per recipient.
    """

    stage: str
    step: str
    error: MailflowError
    mail: Mail | None = None
    recipients: tuple[str, ...] = ()
    attempt: int = 1
    age: float = 0.0
    verdict: Discard | Reject | Hold | None = None
    reports: tuple[Report, ...] = ()


class Reactor(Component, Protocol):
    """Decides what a failure means."""

    def react(self, trouble: Trouble, context: Context) -> Reaction | None:
        """A reaction, or None: ask the next."""
        ...


class Credentials(NamedTuple):
    """Who wants into a maildrop. `login` is the name of the table, also where an alias was
    given; for a glob, the name as the client gave it.

    `checked`: the stored secret was right, and `password` and `token` are "". Otherwise the
    maildrop is one with login = "passthrough": it finds out with the back end, by the
    `password` or the OAuth 2 bearer `token`. `address` is the client's, for the log.
    """

    login: str
    password: str = ""
    token: str = ""
    checked: bool = False
    address: str = ""


class Maildrop(Component, Protocol):
    """Mail that a service serves, one drop for each login name. Used by many threads.

    One that finds out with a back end whether a password is right says so in the class
    attribute `passthrough = True`; only there may `login` be passed through. One with
    `tokens = True` takes bearer tokens, too. Class attribute `networks`, a tuple such as
    ("127.0.0.0/8", "::1"): where its clients may come from unless the file says otherwise.
    `prompt = True`, or a method `prompt(login)` that says so of one drop: its `login` waits for
    nothing but a disk of this machine, and not for long, so that an event loop may call it. One
    that knows what lies in its drops without opening them may have `standing() ->
    Iterable[(login, messages, octets)]` for `mailflow status`, the login "" where it is the
    name that the maildrop stands under; any thread may call it. One whose mail expires has
    `retention()`: the seconds that a message is sure to stay in whichever of its drops, 0 where
    no time is sure; an event loop calls it. One whose sessions take long to begin may have
    `messages(login)`: how many messages one would have whose stored secret was right, for
    `mailflow check --connect`; it raises as `login` does.
    """

    def login(self, who: Credentials) -> OpenDrop:
        """Lock the drop and take the snapshot. Never waits for a lock.

        Raises LoginError, InUseError (another session has it), UnavailableError.
        """
        ...


class OpenDrop(Protocol):
    """A snapshot of a drop, locked until `close`. Used by one thread at a time.

    Class attribute `prompt = True`: its calls wait for nothing but a disk of this machine, so
    that an event loop may make them, but for `close` with something to remove. Where mail
    expires, the attribute `retention` says for how many seconds a message of this drop is sure
    to stay; an event loop reads it.
    """

    def items(self) -> Sequence[Item]:
        """The messages in their order, the same at every call. `key` is the UIDL: 1 to 70
        octets of 0x21 to 0x7E, the same in every session, never used again. `size` is
        exact: the octets of the message with CRLF line ends, that of the last line included
        where the message lacks it, without dot-stuffing. "utf8" among the `flags`: its header
        section has UTF-8 (RFC 6532); flags None: that is not known, and the message goes to
        every client as it is. A sequence may have the attributes `sizes` and `utf8`, the same
        facts of all messages in their order, for whoever needs no items."""
        ...

    def read(self, key: str) -> Content:
        """The message. Raises GoneError where it was removed behind our back,
        UnavailableError where it cannot be read now."""
        ...

    def close(self, delete: Collection[str] = ()) -> None:
        """Remove these, durably, and unlock; after anything but QUIT `delete` is ().

        All or nothing where `read` is from a place of our own; where a back end removes one
        by one, what could not be removed stays. Raises UnavailableError then; the drop is
        unlocked whatever it raises. Called once.
        """
        ...


class TopDrop(OpenDrop, Protocol):
    """An OpenDrop that has the beginning of a message for less than the whole."""

    def top(self, key: str, lines: int) -> Content:
        """The header section, the blank line and so many lines of the body, or more than that,
        for TOP; raises as `read` does."""
        ...


class WirePart(NamedTuple):
    """A range of octets in a file: the whole multi-line reply to RETR (RFC 1939, 3 and 5), from
    "+OK" to the final "." CRLF, dots stuffed. `file` is a descriptor that is open for
    reading until the drop is closed."""

    file: int
    offset: int
    octets: int


class WireDrop(OpenDrop, Protocol):
    """An OpenDrop that has messages at hand as they go over the wire, so that none of them is
    worth a thread: on the disk, for sendfile(2), or small ones that it has in memory. Parts
    that follow each other in one file go out in one call."""

    def wire(self, key: str) -> WirePart | bytes | None:
        """None where this one is to be `read`. Waits for nothing but a disk of this machine,
        since an event loop calls it; raises as `read` does."""
        ...


class Host(Protocol):
    """What the engine gives a service. Every call may be made from any thread."""

    @property
    def log(self) -> Logger: ...

    @property
    def accounts(self) -> Accounts:
        """Who may log in where; another object after a reload, so ask each time."""
        ...

    def ready(self) -> None:
        """It listens, and takes clients from now on."""
        ...

    def report(self, facts: Mapping[str, object]) -> None:
        """What `mailflow status` shall say of this service: numbers by name, and under
        "sessions" how many there are by drop. Cheap; the last word counts."""
        ...

    def status(self) -> Mapping[str, object]:
        """What `mailflow status --json` says of this installation."""
        ...

    def poke(self, source: str) -> None:
        """Fetch from the source of that name now. Raises ConfigError where there is none."""
        ...


class Service(Component, Protocol):
    """Serves clients for as long as `mailflow serve` runs."""

    def listen(self) -> Sequence[socket]:
        """Bind what the options say, while the process may still have the privilege; called
        once. Raises UnavailableError where an address cannot be had, ConfigError."""
        ...

    def serve(self, host: Host, listening: Sequence[socket], halt: Halt) -> None:
        """Take clients from these sockets until `halt` is set; then end in order.

        Where several processes share the clients, each has the same sockets; whoever
        calls it closes them. After what it raises, it is called again.
        """
        ...
