"""A reverse-path for each recipient, so that a bounce says whom it is about.

Rule of the file: an address that cannot bear it stays as it is; the mail goes out anyway.
"""

from __future__ import annotations

import re

from mailflow_smtp.wire import path

DEFAULT = "{local}+{to_local}={to_domain}@{domain}"

_NAME = re.compile(r"\{([^{}]*)\}")
_NAMES = ("local", "domain", "to_local", "to_domain")
_PLAIN = re.compile(r"\{local\}([-+=])\{to_local\}([-+=])\{to_domain\}@\{domain\}")


class Verp:
    """The form of the addresses. Raises ValueError where it cannot tell recipients apart.

    `delimiters` are what XVERP takes, as Postfix has it, "" where the form is another.
    """

    def __init__(self, form: str) -> None:
        unknown = [name for name in _NAME.findall(form) if name not in _NAMES]
        if unknown or "{" in _NAME.sub("", form) or form.count("@") != 1:
            raise ValueError(f'expected an address with {{local}} ... in it, such as "{DEFAULT}"')
        if "{to_local}" not in form or "{to_domain}" not in form:
            raise ValueError("expected {to_local} and {to_domain} in it, to tell whom it is about")
        if not form.isascii():  # RFC 6531 is asked for where the mail's own addresses need it
            raise ValueError("expected ASCII; a domain has a form that begins with xn--")
        self.form = form
        plain = _PLAIN.fullmatch(form)
        self.delimiters = plain[1] + plain[2] if plain else ""

    def sender(self, sender: str, recipient: str) -> str:
        """The reverse-path for a recipient; the null sender stays null."""
        local, at, domain = sender.rpartition("@")
        to_local, to_at, to_domain = recipient.rpartition("@")
        if not (at and to_at):
            return sender
        parts = {"local": local, "domain": domain, "to_local": to_local, "to_domain": to_domain}
        made = _NAME.sub(lambda found: parts[found[1]], self.form)
        try:
            path(made)
        except ValueError:
            return sender
        return made if '"' not in made else sender
