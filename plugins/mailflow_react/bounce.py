"""`react.bounce`: the sender hears that the mail was not delivered, or not accepted.

Rule of the file: a notification goes to the reverse-path and nowhere else, from the
null sender, and never in answer to a program (RFC 3464; RFC 5321, 4.5.5; RFC 3834).
"""

from __future__ import annotations

import re

from mailflow.addresses import addresses, reverse_path, same
from mailflow.automatic import answer, generated
from mailflow.errors import RefusedError
from mailflow.mail import Envelope
from mailflow.options import Address, Duration, Options, Via
from mailflow.typed import TYPE_CHECKING, ClassVar
from mailflow.verdicts import Bounce, Reject
from mailflow_react.compose import Failure, age, one_line, report

if TYPE_CHECKING:
    from mailflow.kinds import Context, Runtime, Trouble
    from mailflow.mail import Mail


class BounceOptions(Options):
    """Who tells the sender, and when."""

    from_ = Address(
        'Who the notification is from, such as "Mail delivery <mailer-daemon@example.org>".'
        " Answers to it go there."
    )
    for_ = Duration(
        "How long what may pass is left to be tried again before it is given up.",
        default=432000.0,
    )
    via = Via.optional("Name of the [[distribute]] step that sends it; by default the first.")


class BounceReactor:
    """Gives up what was refused or tried for too long, and tells the sender."""

    options: ClassVar[type[Options]] = BounceOptions

    def __init__(self, options: BounceOptions, runtime: Runtime) -> None:
        self._options = options

    def react(self, trouble: Trouble, context: Context) -> Bounce | None:
        """Bounce where nothing is left to do; None where a human or a reactor may yet do it.

        A mail that a step rejects is refused whether its sender can be told or not. One
        that cannot be delivered, and whose sender cannot be told, is not given up here.
        """
        mail = trouble.mail
        if mail is None:
            return None
        if trouble.stage == "verdict":
            return self._refuse(trouble, mail, context)
        if trouble.stage != "distribute":
            return None
        final = isinstance(trouble.error, RefusedError)
        if not final and trouble.age < self._options.for_:
            return None
        if "notice" in mail.notes:
            return Bounce("a notice of ours; nobody is told")
        if "list" in mail.notes:
            return _member_lost(trouble, mail) if final else None
        sender = reverse_path(mail)
        if not sender or self._silent(sender, mail) or answer(mail):
            return None
        self._send(sender, trouble, mail, context)
        return Bounce(f"{sender} is told: {one_line(trouble.error.text)}")

    def _refuse(self, trouble: Trouble, mail: Mail, context: Context) -> Bounce | None:
        if not isinstance(trouble.verdict, Reject):
            return None
        reason, sender = one_line(trouble.verdict.reason), reverse_path(mail)
        if sender is None:
            return Bounce(f"{reason} (nobody is told: the sender is not known)")
        why = generated(mail) or _from_a_list(mail) or self._silent(sender, mail)
        if why:
            return Bounce(f"{reason} (nobody is told: {why})")
        self._send(sender, trouble, mail, context)
        return Bounce(f"{reason} ({sender} is told)")

    def _silent(self, sender: str, mail: Mail) -> str:
        """Why this sender is not to be told, or ""."""
        named = addresses(sender)
        if not (named.clean and named.found == (sender,)):
            return "the sender is no address"
        own = (self._options.from_.address, *mail.envelope.recipients, *_delivered_to(mail))
        if same(sender) in {same(each) for each in own}:
            return f"{sender} is an address of ours"
        return ""

    def _send(self, sender: str, trouble: Trouble, mail: Mail, context: Context) -> None:
        failures = self._failures(trouble, mail)
        refused = trouble.stage == "verdict"
        content = report(
            self._options.from_, sender,
            "Your mail was not accepted" if refused else "Your mail could not be delivered",
            _words(failures, context.pipeline, refused=refused),
            failures, mail, context.now - trouble.age,
        )  # fmt: skip
        envelope = Envelope("", (sender,))
        context.send(context.new(envelope, content, {"notice": context.name}), self._options.via)

    def _failures(self, trouble: Trouble, mail: Mail) -> list[Failure]:
        """Each recipient once, with what was said of it; what went wrong here is not for
        strangers."""
        said = {each.recipient: each for each in trouble.reports}
        status, text = _in_general(trouble)
        return [
            Failure(
                recipient,
                told.code if told and _STATUS.fullmatch(told.code) else status,
                told.text if told and told.text else text,
                told.remote if told else "",
            )
            for recipient in [to for to in trouble.recipients if to] or [self._somebody(mail)]
            for told in [said.get(recipient) or said.get("")]
        ]

    def _somebody(self, mail: Mail) -> str:
        """Whom a mail without recipients was for, as far as it says."""
        header = mail.header()
        to = addresses(header.get("To") or "").found
        return (*mail.envelope.recipients, *_delivered_to(mail), *to, self._options.from_.address)[
            0
        ]


_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


def _in_general(trouble: Trouble) -> tuple[str, str]:
    """The status code (RFC 3463) and the words for a recipient of whom nothing was said."""
    if trouble.stage == "verdict":
        return "5.7.1", trouble.error.text
    if not isinstance(trouble.error, RefusedError):
        return "4.4.7", f"it could not be delivered for {age(trouble.age)}"
    status = str(trouble.error.fields.get("code"))
    return status if _STATUS.fullmatch(status) else "5.0.0", trouble.error.text


def _delivered_to(mail: Mail) -> tuple[str, ...]:
    header = mail.header()
    names = ("X-Original-To", "Delivered-To")
    return tuple(a for n in names for v in header.get_all(n) for a in addresses(v).found)


def _member_lost(trouble: Trouble, mail: Mail) -> Bounce | None:
    """A member who is refused costs that member the post. Where all are, the post itself
    was, or its sender: that is for a human to see."""
    if len(trouble.recipients) >= len(mail.envelope.recipients):
        return None
    return Bounce(f"a post to a list; nobody is told: {one_line(trouble.error.text)}")


def _from_a_list(mail: Mail) -> str:
    header = mail.header()
    if "List-Id" in header or (header.get("Precedence") or "").strip().lower() == "list":
        return "it came through a mailing list"
    return ""


def _words(failures: list[Failure], pipeline: str, *, refused: bool) -> str:
    """The part for a human."""
    if refused:
        lines = ["Your mail was not accepted:", "", f"    {one_line(failures[0].text)}", ""]
        lines += [f"It was for {failures[0].recipient}.", ""]
    else:
        lines = ["Your mail could not be delivered to:", ""]
        for each in failures:
            by = f"{one_line(each.remote)} said: " if each.remote else ""
            lines += [f"    {each.recipient}", f"        {by}{one_line(each.text)}", ""]
    lines += ["Nothing more will be done about it. Its header follows.", "", f"-- {pipeline}"]
    return "\n".join(lines) + "\n"
