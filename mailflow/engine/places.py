"""Where the journals are: every one that was used here, wherever it lies.

Rule of the file: a link for each in the state directory; a dead link is no journal.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b

from mailflow.engine.config import state_directory

LINKS = "journals"


def make_private(directory: str) -> None:
    """Make a directory and what is missing above it, for this user alone, whatever the
    umask. Raises OSError."""
    if os.path.isdir(directory):
        return
    make_private(os.path.dirname(directory))
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)


def remember(journal: str) -> None:
    """Note that there is a journal at this path, for `queue` and `trace`."""
    try:
        directory = os.path.join(state_directory(), LINKS)
    except ValueError:
        return
    link = os.path.join(directory, blake2b(journal.encode(), digest_size=8).hexdigest())
    if os.path.lexists(link):
        return
    with suppress(OSError):  # it will be named by --file then
        make_private(directory)
        os.symlink(journal, link)


def journals() -> list[str]:
    """The paths of all journals that are still there."""
    try:
        directory = os.path.join(state_directory(), LINKS)
        links = os.listdir(directory)
    except (OSError, ValueError):
        return []
    found = {os.path.realpath(os.path.join(directory, link)) for link in links}
    return sorted(path for path in found if os.path.exists(path))
