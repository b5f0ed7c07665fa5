"""What can be said of a list in TOML: of one in its step, or of several in tables.

    [[process]]                             [[process]]
    use = "list.post"                       use = "list.post"
    address = "Red <red@example.org>"       owner = "ann@example.org"    # of both
    members = "~/lists/red.members"
                                            [[process.list]]
                                            address = "Red <red@example.org>"
                                            members = "~/lists/red.members"

                                            [[process.list]]
                                            address = "Green <green@example.org>"
                                            members = "~/lists/green.members"

Rule of the file: what stands in the step holds for each of its lists that does not
say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailflow.addresses import same
from mailflow.options import (
    Address,
    Choice,
    Duration,
    ElementsError,
    Flag,
    Integer,
    ListOf,
    Option,
    Options,
    Size,
    TableOf,
    Text,
    convert,
    nearest,
)
from mailflow.typed import TYPE_CHECKING
from mailflow_list.members import Rolled

if TYPE_CHECKING:
    from mailflow.options import Mailbox
    from mailflow_list.members import Roll

ROLES = ("members", "moderators", "others")
RULES = ("accept", "hold", "reject", "discard")
POSTING = {"members": "accept", "moderators": "accept", "others": "hold"}


class ListOptions(Options):
    """One list."""

    examples = {"members": "~/lists/red.members"}

    address = Address.optional('The list\'s address, with its name: "Red <red@example.org>".')
    aliases = ListOf("Other addresses at which posts arrive.", Address(""), default=())
    members = Rolled.optional(
        "Who gets the posts: a file with an address a line (# begins a comment; read again when it"
        " changes), or an array of addresses."
    )
    moderators = Rolled.optional("Who `posting.moderators` is about, given as for `members`.")
    posting = TableOf(
        "What happens to a post, by who wrote it: `members`, `moderators` (both accept by default)"
        " and `others` (hold). Known by From and Sender, which prove nothing; see `authserv`.",
        Choice("", *RULES),
        keys=ROLES,
        default={},
    )
    authserv = Text.optional(
        "Name of the server that receives the mail and checks DMARC. A member or moderator then"
        " counts as such only if its Authentication-Results field says dmarc=pass."
    )
    prefix = Text("Put before each Subject that has it not yet, such as [Red].", default="")
    reply_to = Choice(
        "Where answers go: Reply-To becomes the list, goes away, or stays as the author wrote it.",
        "list", "author", "keep", default="list",
    )  # fmt: skip
    owner = Address.optional(
        "Who looks after the list: named in List-Owner, asked for help and to be taken off."
    )
    bounces = Address.optional(
        "The envelope sender of every post, where undeliverable mail is reported to. By default"
        " the list's address, which knows such reports and throws them away."
    )
    list_id = Text.optional(
        "The list's identifier (RFC 2919), by default red.example.org for red@example.org."
        " Members sort by it: keep it when the list moves."
    )
    archive = Text.optional("Where the posts can be read (List-Archive), such as a https URL.")
    copy_to_author = Flag("Whether an author who is a member gets the post too.", default=True)
    max_size = Size.optional("A larger post is not passed on.")
    oversize = Choice("What happens to a post over `max_size`.", "hold", "reject", default="hold")
    automatic = Choice(
        "What happens to mail sent by a program (Auto-Submitted, Precedence bulk or junk). Answers"
        " of programs, bounces and vacation notes are thrown away in any case.",
        "discard", "hold", "accept", default="discard",
    )  # fmt: skip
    max_hops = Integer("More Received fields than this mean a loop.", default=25, least=1)
    remember = Duration("A Message-ID that comes again within this time is a copy.", default=604800)

    @property
    def mailbox(self) -> Mailbox:
        """The address, which `faults` has asked for."""
        if self.address is None:
            raise TypeError("a list without an address")
        return self.address

    def rule(self, role: str) -> str:
        """accept, hold, reject or discard for one of ROLES."""
        return {**POSTING, **self.posting}[role]

    @property
    def is_open(self) -> bool:
        """Whether members or others may post at all, be it after a human has looked."""
        return any(self.rule(role) in ("accept", "hold") for role in ("members", "others"))

    def addresses(self) -> frozenset[str]:
        """Where posts arrive, in the form of `same`."""
        return frozenset(same(each.address) for each in (self.mailbox, *self.aliases))


class Lists(Option[tuple[ListOptions, ...]]):
    """An array of tables, one for each list."""

    expected = "tables, one for each list: [[process.list]]"

    def convert(self, value: object, base: str) -> tuple[ListOptions, ...]:
        tables = value if isinstance(value, list) else [value]
        if not tables or not all(isinstance(table, dict) for table in tables):
            raise self.reject()
        made: list[ListOptions] = []
        faults: list[tuple[tuple[str | int, ...], ValueError]] = []
        declared = ListOptions.declared()
        for number, table in enumerate(tables):
            values, wrong = convert(declared, table, base)
            faults += [((number, *each.path), ValueError(each.text)) for each in wrong]
            faults += [
                ((number, key), ValueError(f"unknown option{nearest(key, declared)}"))
                for key in table.keys() - declared.keys()
            ]
            made.append(ListOptions(values))
        if faults:
            raise ElementsError(faults)
        return tuple(made)

    def schema(self) -> dict[str, object]:
        known = {name: option.schema() for name, option in ListOptions.declared().items()}
        table = {"type": "object", "properties": known, "additionalProperties": False}
        return {"type": "array", "items": table, "description": self.doc}


class PostOptions(ListOptions):
    """A step with one list, or with several."""

    list_ = Lists(
        "Several lists in one mailbox: a table for each. The one a post is addressed to takes it.",
        default=(),
    )
    unaddressed = Choice(
        "What happens to mail addressed to no list of this step (in To, Cc, Delivered-To,"
        " X-Original-To, List-Id or the envelope). With one list it may be accepted for that.",
        "hold", "reject", "discard", "accept", default="hold",
    )  # fmt: skip

    def lists(self) -> tuple[ListOptions, ...]:
        """Each list with what the step says for all of them."""
        if not self.list_:
            return (self,)
        own = ("list", "unaddressed", "address", "aliases", "list_id")
        common = {name: value for name, value in vars(self).items() if name not in own}
        return tuple(ListOptions({**common, **vars(each)}) for each in self.list_)

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.list_:
            for name in ("address", "aliases", "list_id"):
                if name in vars(self):
                    yield name, "belongs to one list; move it into its [[process.list]]"
            if self.unaddressed == "accept" and len(self.list_) > 1:
                yield "unaddressed", "expected hold, reject or discard, where there are two lists"
        taken: set[str] = set()
        for each in self.lists():
            for name, text in _list_faults(each, taken):
                yield self._at(each, name, text)

    def look(self) -> Iterator[tuple[str, str]]:
        for each in self.lists():
            for name in ("members", "moderators"):
                roll: Roll | None = getattr(each, name)
                for text in roll.faults(needed=name == "members") if roll else ():
                    yield self._at(each, name, text)

    def _at(self, options: ListOptions, name: str, text: str) -> tuple[str, str]:
        """A fault at its option, or, with its list's address, at the list's table."""
        if not self.list_:
            return name, text
        named = options.address.address if options.address else "a list"
        return "list", f"{named}: {name}: {text}"


def _list_faults(options: ListOptions, taken: set[str]) -> Iterator[tuple[str, str]]:
    if options.address is None:
        yield "address", 'expected the list\'s address, such as "Red <red@example.org>"'
    else:
        if taken & options.addresses():
            yield "address", f"another list has {', '.join(sorted(taken & options.addresses()))}"
        taken |= options.addresses()
    if options.members is None:
        yield "members", "expected a file with an address a line, or an array of addresses"
    if options.archive is not None and not _URL.fullmatch(options.archive):
        yield "archive", "expected a URL such as https://example.org/red/"
    if options.list_id is not None and not _LIST_ID.fullmatch(options.list_id):
        yield "list_id", "expected words with dots between, such as red.example.org"


_LIST_ID = re.compile(r"[!#-'*+/-9=?A-Z^-~-]+(?:\.[!#-'*+/-9=?A-Z^-~-]+)+")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-~]+")
