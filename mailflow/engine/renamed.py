"""Messages told by their content, where a source has given them other keys.

Rule of the file: as many are known again as were known, each once; what content does not tell is
another message.
"""

from __future__ import annotations

from mailflow.digests import sha256
from mailflow.kinds import Fetched
from mailflow.mail import chunks, head


class Renamed:
    """Keys that are not listed any more, by what tells their messages."""

    def __init__(self) -> None:
        self._keys: dict[bytes, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, digest: bytes | None, key: str) -> None:
        if digest:
            self._keys.setdefault(digest, []).append(key)

    def take(self, digest: bytes | None) -> str | None:
        """A key of such a message, which is the key of no other one then."""
        keys = self._keys.get(digest) if digest else None
        if not keys:
            return None
        old = keys.pop(0)
        if not keys and digest:
            del self._keys[digest]
        return old


def digest_of(got: Fetched) -> bytes | None:
    """16 octets that tell a message by its header section; None without a Message-ID,
    since such headers may well be equal."""
    section = head(got.content)
    if b"message-id:" not in section.lower():
        return None
    return sha256(section).digest()[:16]


def whole_digest(got: Fetched) -> bytes:
    """16 octets that tell a message by all of it."""
    digest = sha256()
    for chunk in chunks(got.content):
        digest.update(chunk)
    return digest.digest()[:16]
