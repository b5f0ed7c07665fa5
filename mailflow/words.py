"""Text as it may stand in a header field: encoded words where it is not ASCII (RFC 2047).

Rule of the file: only the words that need it are encoded, so that an address beside a
name stays an address, and ASCII stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

_OCTETS = 42
"""UTF-8 octets in one encoded word: in base64 that is less than the 75 characters allowed."""


def encoded(text: str) -> str:
    """`text` with each run of words beyond ASCII as encoded words; others stay.

    Of two encoded words the space between them is not shown (RFC 2047, 6.2), so that a
    run is encoded with the spaces inside it.
    """
    if text.isascii():
        return text
    made: list[str] = []
    run: list[str] = []
    for word in _words(text):
        if word and word.isascii():
            made += [*_written(run), word]
            run = []
        else:
            run.append(word)
    return " ".join([*made, *_written(run)])


def _words(text: str) -> Iterator[str]:
    """What stands between spaces; a quoted string is one, with those inside it."""
    parts: list[str] = []
    quoted = False
    for part in text.split(" "):
        parts.append(part)
        quoted ^= part.count('"') % 2 == 1
        if not quoted:
            yield " ".join(parts)
            parts = []
    if parts:
        yield " ".join(parts)


def _written(run: list[str]) -> list[str]:
    """A run of words as encoded words; one of mere spaces as it is."""
    text = " ".join(run)
    if text.isascii():
        return run
    from binascii import b2a_base64

    pieces: list[bytes] = [b""]
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(pieces[-1]) + len(octets) > _OCTETS:
            pieces.append(b"")
        pieces[-1] += octets
    return [f"=?utf-8?b?{b2a_base64(piece, newline=False).decode()}?=" for piece in pieces]
