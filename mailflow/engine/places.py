"""Where the journals are: every one that was used here, wherever it lies.

Rule of the file: a link for each in the state directory; a dead link is no journal.
"""

from __future__ import annotations

import os
from contextlib import suppress

from mailflow.digests import blake2b
from mailflow.directories import state_directory
from mailflow.durable import make_directory
from mailflow.errors import ConfigError, from_os

LINKS = "journals"
LOCKS = "locks"


def locks(journal: str) -> str:
    """The directory of the locks of mailboxes, whatever the journal; beside it where a
    user has no state directory that can be written. Raises UnavailableError."""
    with suppress(OSError, ConfigError):
        directory = os.path.join(state_directory(), LOCKS)
        make_directory(directory)
        if os.access(directory, os.W_OK):
            return directory
    directory = os.path.join(os.path.dirname(journal), LOCKS)
    try:
        make_directory(directory)
    except OSError as error:
        raise from_os(error, f"make {directory}") from None
    return directory


def remember(journal: str) -> None:
    """Note that there is a journal at this path, for `queue` and `trace`."""
    try:
        directory = os.path.join(state_directory(), LINKS)
    except ConfigError:
        return
    link = os.path.join(directory, blake2b(journal.encode(), digest_size=8).hexdigest())
    if os.path.lexists(link):
        return
    with suppress(OSError):  # it will be named by --file then
        make_directory(directory)
        os.symlink(journal, link)


def journals() -> list[str]:
    """The paths of all journals that are still there."""
    try:
        directory = os.path.join(state_directory(), LINKS)
        links = os.listdir(directory)
    except (OSError, ConfigError):
        return []
    found = {os.path.realpath(os.path.join(directory, link)) for link in links}
    return sorted(path for path in found if os.path.exists(path))
