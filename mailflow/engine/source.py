"""Where a pipeline's file is, and who else can read it.

Rule of the file: nothing is opened here; what a file says is read by `mailflow.toml_file`.
"""

from __future__ import annotations

import os

from mailflow.directories import SYSTEM
from mailflow.toml_file import of_file


def find(word: str) -> str:
    """The file that `word` names: a path, or a pipeline's name to be looked for.

    A name without a slash and `.toml` is looked for here, in the user's and in the
    system's directory, in that order. Raises ConfigFaults.
    """
    if os.sep in word or word.endswith(".toml") or os.path.exists(word):
        return word
    tried = [os.path.normpath(os.path.join(each, f"{word}.toml")) for each in directories()]
    for path in tried:
        if os.path.exists(path):
            return path
    raise of_file(word, f"there is no such pipeline; looked for {', '.join(tried)}")


def directories() -> tuple[str, ...]:
    """Where `find` looks for a name, in this order."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return (os.curdir, os.path.join(home, "mailflow"), SYSTEM)


def readable_by_others(path: str) -> str:
    """Who else can read a file, "" if nobody: its mode counts as far as its directories."""
    try:
        status = os.stat(path)
        if status.st_uid not in (os.geteuid(), 0):
            return f"belongs to another user (uid {status.st_uid})"
        if not status.st_mode & 0o077:
            return ""
        directory = os.path.dirname(os.path.realpath(path))
        while os.stat(directory).st_mode & 0o011:
            parent = os.path.dirname(directory)
            if parent == directory:
                return "others can read"
            directory = parent
    except OSError:
        pass
    return ""
