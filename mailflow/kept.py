"""Octets of a large message that last as long as somebody holds them.

Rule of the file: the file goes with the last who could read it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from mailflow.mail import Content, OctetFile


class Kept(OctetFile):
    """An OctetFile that removes its file when nobody has it any more."""

    __slots__ = ()

    def __del__(self) -> None:
        with suppress(OSError):  # the directory went first
            os.unlink(self.path)


def drop(content: Content) -> None:
    """Nobody reads it: remove its file, if it has one."""
    if isinstance(content, OctetFile):
        with suppress(OSError):
            os.unlink(content.path)


def kept(content: Content) -> Content:
    """The same content; a file of it lasts as long as what is returned."""
    if isinstance(content, OctetFile):
        return Kept(content.path, content.size)
    return content
