"""A secret by where it is: it is read when it is used, and never shown.

Rule of the file: whatever is given out is known to the log before, which masks it.
"""

from __future__ import annotations

from collections.abc import Callable

from mailflow.errors import LoginError
from mailflow.typed import TypeVar

T = TypeVar("T")


class SecretValue:
    """Where a secret is; `reveal()` gets it. Its repr never shows it.

    `reveal` raises ConfigError or UnavailableError, of a token LoginError too; what it gives
    is registered with the log, which masks it everywhere. `check` raises the same if it can be
    told beforehand that it will; `literal`: it stands in the file itself; `watched`: the
    path of the file that holds it, where whoever keeps it must look for changes; `renewed`:
    another one may be there by and by; `renew` gives what is to be had instead of one that was
    refused, the same again if nothing else.
    """

    __slots__ = ("_check", "_renew", "_reveal", "literal", "origin", "renewed", "watched")

    def __init__(
        self,
        reveal: Callable[[], str],
        origin: str,
        *,
        literal: bool = False,
        check: Callable[[], object] | None = None,
        watched: str | None = None,
        renewed: bool = False,
        renew: Callable[[str], str] | None = None,
    ) -> None:
        self._reveal = reveal
        self._renew = renew
        self._check = check
        self.origin = origin
        self.literal = literal
        self.watched = watched
        self.renewed = renewed or watched is not None

    def reveal(self) -> str:
        from mailflow.log import register_secret

        text = self._reveal()
        register_secret(text, self.origin if self.renewed else "")
        return text

    def use(self, act: Callable[[str], T]) -> T:
        """`act` with the secret. Where it raises LoginError, as a server does that takes it for
        ended, and there is another one by now, once more with that."""
        text = self.reveal()
        try:
            return act(text)
        except LoginError:
            other = self.renew(text)
            if other is None:
                raise
        return act(other)

    def renew(self, refused: str) -> str | None:
        """Another one, for what a server has refused; None where there is none. Raises as
        `reveal` does."""
        if not self.renewed:
            return None
        text = self._reveal() if self._renew is None else self._renew(refused)
        from mailflow.log import register_secret

        register_secret(text, self.origin)
        return text if text != refused else None

    def check(self) -> None:
        if self._check is not None:
            self._check()

    def __repr__(self) -> str:
        return f"<secret from {self.origin}>"


__all__ = ["SecretValue"]
