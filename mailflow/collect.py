"""Octets that come in pieces, made a Content: in memory up to a limit, then in a file.

Rule of the file: what cannot be kept whole leaves nothing behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain

from mailflow.errors import from_os
from mailflow.mail import OctetFile, Octets
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from mailflow.mail import Content

IN_MEMORY = 1 << 20
"""More octets than this become a file."""


def collect(
    pieces: Iterable[bytes], directory: str, name: str, *, in_memory: int = IN_MEMORY
) -> Content:
    """All octets of `pieces`. Their file, if they need one, lies in `directory`, and its
    name begins with `name`; whoever asked owns it. What `pieces` raises goes through.

    Raises UnavailableError where the file cannot be written.
    """
    head: list[bytes] = []
    octets = 0
    rest = iter(pieces)
    for piece in rest:
        head.append(piece)
        octets += len(piece)
        if octets > in_memory:
            return _filed(chain(head, rest), directory, name)
    return Octets(b"".join(head))


def _filed(pieces: Iterator[bytes], directory: str, name: str) -> OctetFile:
    path = os.path.join(directory, f"{name}-{os.getpid()}-{time.monotonic_ns()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise from_os(error, f"write {path}") from None
    try:
        size = 0
        for piece in pieces:
            try:
                write_whole(descriptor, piece)
            except OSError as error:
                raise from_os(error, f"write {path}") from None
            size += len(piece)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return OctetFile(path, size)


def nameless(directory: str, name: str) -> int:
    """A file in `directory` without a name, open for reading and writing: it ends with its
    descriptor. Raises UnavailableError where nothing can be written."""
    path = os.path.join(directory, f"{name}-{os.getpid()}-{time.monotonic_ns()}")
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        os.unlink(path)
    except OSError as error:
        raise from_os(error, f"write {path}") from None
    return descriptor


def write_whole(descriptor: int, data: bytes) -> None:
    """write(2) until all is written: it may take less than it is given."""
    written = os.write(descriptor, data)
    if written < len(data):
        with memoryview(data) as view:
            while written < len(data):
                written += os.write(descriptor, view[written:])
