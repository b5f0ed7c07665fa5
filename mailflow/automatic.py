"""What was sent by a program: the rule never to answer or pass it on (RFC 3834).

Rule of the file: header fields and the reverse-path only, and each finding says in
words which of them told.
"""

from __future__ import annotations

import re

from mailflow.addresses import addresses, reverse_path
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Header, Mail

_ROBOTS = ("mailer-daemon", "mailerdaemon", "mail-daemon", "double-bounce")
_VACATION = (
    "X-Autoreply", "X-AutoReply-From", "X-Auto-Reply", "X-Autorespond", "X-Autoresponse",
    "X-Mail-Autoreply", "X-Vacation", "X-Failed-Recipients",
)  # fmt: skip
_PRECEDENCES = ("bulk", "junk", "auto_reply")
_SUBJECTS = re.compile(
    r"(?:out of (?:the )?office|auto(?:matic|mated)?[ -]?(?:reply|response|answer)"
    r"|automatische antwort|abwesenheits\w*|r[eé]ponse automatique|absence du bureau"
    r"|respuesta autom[aá]tica|risposta automatica|resposta autom[aá]tica"
    r"|automatisch antwoord|autosvar|автоответ)\b",
    re.IGNORECASE,
)


def answer(mail: Mail) -> str:
    """Why this is a program's answer to some mail (a bounce, a vacation note), or ""."""
    header = mail.header()
    if reverse_path(mail) == "":
        return "it has the null sender"
    submitted = _keyword(header, "Auto-Submitted")
    if submitted.startswith(("auto-replied", "auto-notified")):
        return "Auto-Submitted says it is an answer"
    if _keyword(header, "Content-Type") == "multipart/report":
        return "it is a report (multipart/report)"
    for name in _VACATION:
        if _keyword(header, name) not in ("", "no"):
            return f"it has {name}"
    if _keyword(header, "Precedence") == "auto_reply":
        return "Precedence: auto_reply"
    for author in addresses(header.get("From") or "").found:
        if author.rpartition("@")[0].lower() in _ROBOTS:
            return f"it is from {author}"
    return ""


def generated(mail: Mail) -> str:
    """Why a program sent this, answer or not (RFC 3834, 2), or ""."""
    header = mail.header()
    if "Auto-Submitted" in header and _keyword(header, "Auto-Submitted") != "no":
        return "Auto-Submitted says it is automatic"
    precedence = _keyword(header, "Precedence")
    if precedence in _PRECEDENCES:
        return f"Precedence: {precedence}"
    return answer(mail)


def looks_like_answer(mail: Mail) -> str:
    """Why its subject reads like an out-of-office note, or "": a guess, for a human."""
    subject = mail.header().decoded("Subject") or ""
    return "its subject reads like an automatic answer" if _SUBJECTS.match(subject.strip()) else ""


def _keyword(header: Header, name: str) -> str:
    """The first word of a field's value, in lower case, without parameters or comments."""
    value = header.get(name) or ""
    return re.split(r"[;(]", value, maxsplit=1)[0].strip().lower()
