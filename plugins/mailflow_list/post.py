"""`list.post`: a mail for a list becomes a post to its members.

Rule of the file: a mail leaves as a post, or as a verdict with its reason. What is
addressed to none of the step's lists is no post, and goes to nobody unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailflow.addresses import addresses, same
from mailflow.automatic import answer
from mailflow.digests import blake2b
from mailflow.errors import UnavailableError
from mailflow.log import clean
from mailflow.mail import Envelope
from mailflow.record import NamedTuple
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Discard, Hold, Reject
from mailflow_list import guards
from mailflow_list.dress import Dress
from mailflow_list.members import People, Roll
from mailflow_list.settings import ListOptions, PostOptions

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime
    from mailflow.mail import Header, Mail
    from mailflow.options import Options
    from mailflow_list.guards import Verdict

_VERDICTS: dict[str, type[Discard | Reject | Hold]] = {
    "hold": Hold,
    "reject": Reject,
    "discard": Discard,
}
REASON_LIMIT = 300  # characters; a reason quotes addresses that others made up


class Post:
    """Makes what members write to a mailing list a post for all of them."""

    options: ClassVar[type[Options]] = PostOptions
    pure = False  # it remembers Message-IDs

    def __init__(self, options: PostOptions, runtime: Runtime) -> None:
        self._lists = tuple(List(each) for each in options.lists())
        self._own = frozenset(address for each in self._lists for address in each.addresses)
        self._unaddressed = options.unaddressed

    def process(self, mail: Mail, context: Context) -> Iterator[Mail | Verdict]:
        """A copy for each list that takes the mail, or the verdict of those it is for.

        One that holds it holds it for all; once approved, it is posted to all. Where
        one takes it, a refusal by another is a part of its story and no Reject: that
        could be released, and the first list would get the mail again.
        """
        lists = self._addressed(mail, approved=context.approved)
        if {"list", "list_name"} <= mail.notes.keys():
            _say_taken(mail, lists, context)
            yield mail
            return
        if not lists:
            yield self._nobody(mail)
            return
        draft = Draft.of(mail)
        verdicts = [each.judge(draft, context) for each in lists]
        held = [verdict for verdict in verdicts if isinstance(verdict, Hold)]
        if held:
            yield Hold(_joined(held))
            return
        for each, verdict in zip(lists, verdicts, strict=True):
            if verdict is None:
                yield each.post(draft, self._own, context)
        said = [verdict for verdict in verdicts if verdict is not None]
        if len(said) == len(lists) and any(isinstance(verdict, Reject) for verdict in said):
            yield Reject(_joined(said))
        elif said:
            yield Discard(_joined(said))

    def _addressed(self, mail: Mail, *, approved: bool) -> Sequence[List]:
        through = {guards.identifier(value) for value in mail.header().get_all("List-Id")}
        named: list[List] = []
        for said in (guards.addressed_to, guards.received_for):
            to = {same(address) for address in said(mail)}
            named = named or [
                each for each in self._lists if each.addresses & to or each.list_id in through
            ]
        alone = len(self._lists) == 1 and (approved or self._unaddressed == "accept")
        return self._lists if alone else named

    def _nobody(self, mail: Mail) -> Verdict:
        reason = answer(mail)
        if reason:
            return Discard(f"an automatic answer: {reason}")
        to = ", ".join(guards.addressed_to(mail)[:3]) or "nobody"
        lists = " or ".join(each.address for each in self._lists)
        reason = f"no such list: it is addressed to {to}, not to {lists}"
        return _VERDICTS.get(self._unaddressed, Hold)(_clear(reason))


def _say_taken(mail: Mail, lists: Sequence[List], context: Context) -> None:
    """A step before this one has posted the mail: a list here that it is for gets none."""
    missed = [each.address for each in lists]
    if missed:
        context.log.warning(
            "posted to one list only; let one step have both, in [[process.list]] tables",
            mail=mail.id, list=mail.notes["list"], missed=missed,
        )  # fmt: skip


class Draft(NamedTuple):
    """A mail that may become a post, and what every list of the step asks about it.

    `authors` are those of From, () where that is not clear; `known_by` those whose
    membership counts, the Sender included.
    """

    mail: Mail
    header: Header
    authors: tuple[str, ...]
    known_by: tuple[str, ...]
    message_id: str

    @classmethod
    def of(cls, mail: Mail) -> Draft:
        header = mail.header()
        written = header.get_all("From")
        named = addresses(written[0]) if len(written) == 1 else None
        authors = named.found if named and named.clean else ()
        sender = addresses(header.get("Sender") or "")
        known_by = authors + sender.found if authors and sender.clean else authors
        message_id = (header.get("Message-ID") or "").strip()
        return cls(mail, header, authors, known_by, message_id)


class List:
    """One list: its rules, its members, its dress."""

    def __init__(self, options: ListOptions) -> None:
        self.mailbox = options.mailbox
        self.address = options.mailbox.address
        self.addresses = options.addresses()
        list_id = options.list_id or self.address.replace("@", ".")
        self.list_id = list_id.lower()
        self._members: Roll = options.members or Roll()
        self._moderators: Roll = options.moderators or Roll()
        self._options = options
        self._dress = Dress.of(options, list_id)
        self._bounces = (options.bounces or options.mailbox).address
        self._said: set[str] = set()

    def judge(self, draft: Draft, context: Context) -> Verdict | None:
        """None where the mail becomes a post. An approval overrules all but a Discard."""
        options = self._options
        verdict: Verdict | None = (
            guards.loop(draft.header, self.address, self.list_id, options.max_hops)
            or self._repeated(draft, context)
            or guards.program(draft.mail, options.automatic)
            or guards.shape(draft.mail, options)
            or guards.request(draft.header, self.address)
            or self._by_author(draft, context)
        )
        if context.approved and not isinstance(verdict, Discard):
            verdict = None
        if draft.message_id and (verdict is None or isinstance(verdict, Hold)):
            context.memory.set(self._key(draft), context.name, options.remember)
        return verdict and verdict._replace(reason=_clear(verdict.reason))

    def post(self, draft: Draft, own: frozenset[str], context: Context) -> Mail:
        """The mail in the list's dress, from its bounce address, to its members.

        `own` are the lists of this step, which are no members of one another.
        """
        people = self._on_it(context)
        for address in sorted(people.known & own - self._said):
            context.log.warning("a list is no member of a list, left out", member=address)
            self._said.add(address)
        left_out = own
        if not self._options.copy_to_author:
            left_out |= {same(author) for author in draft.authors}
        header = draft.mail.header()
        self._dress.put_on(header)
        to = people.addresses
        if left_out & people.known:
            to = tuple(each for each in to if same(each) not in left_out)
        return (
            draft.mail.with_header(header)
            .replace(envelope=Envelope(self._bounces, to))
            .noted(list=str(self.mailbox), list_name=self.address.rpartition("@")[0])
        )

    def _on_it(self, context: Context) -> People:
        """The members. Raises UnavailableError for a file without any: whoever writes it
        is not done yet, or has lost them, and a post for nobody would be gone."""
        people = self._members.read(context.log)
        if self._members.file and not people.addresses:
            raise UnavailableError(f"{self._members.file} holds no address, so nobody is a member")
        return people

    def _key(self, draft: Draft) -> str:
        octets = draft.message_id.encode("utf-8", "surrogateescape")
        return f"{self.address} {blake2b(octets, digest_size=16).hexdigest()}"

    def _repeated(self, draft: Draft, context: Context) -> Discard | None:
        if not draft.message_id or context.memory.get(self._key(draft)) is None:
            return None
        return Discard(f"{self.address} had a mail with this Message-ID: {draft.message_id}")

    def _by_author(self, draft: Draft, context: Context) -> Verdict | None:
        """What `posting` says about who wrote it."""
        role, reason = self._role(draft, context)
        rule = self._options.rule(role)
        if rule == "accept":
            return None
        return _VERDICTS[rule](reason)

    def _role(self, draft: Draft, context: Context) -> tuple[str, str]:
        """members, moderators or others, and the words for a verdict on it."""
        if not draft.authors:
            return "others", "its From field does not say clearly who wrote it"
        named, authserv = ", ".join(draft.authors), self._options.authserv
        known_by = {same(address) for address in draft.known_by}
        unproved = ""
        if authserv is not None:
            known_by = {same(draft.authors[0])}
            if len(draft.authors) > 1 or not guards.confirmed(draft.header, authserv):
                unproved = f"{authserv} does not confirm that it is from {named}"
        moderators = self._moderators.read(context.log)
        for role, people in (("moderators", moderators), ("members", self._on_it(context))):
            if known_by & people.known:
                if unproved:
                    return "others", unproved
                return role, f"posts by {role} of {self.address} are not passed on unseen"
        return "others", f"{named} is not a member of {self.address}"


def _joined(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(dict.fromkeys(verdict.reason for verdict in verdicts))


def _clear(reason: str) -> str:
    return clean(reason)[:REASON_LIMIT]
