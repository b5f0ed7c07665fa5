"""Where a user's settings are, and where what programs keep between two runs is.

Rule of the file: it says where; nothing is made, and nothing is looked at.
"""

from __future__ import annotations

import os

from mailflow.errors import ConfigError

SYSTEM = "/etc/mailflow"
"""The settings of all users."""


def settings_directory() -> str:
    """Where the user's settings are. Raises ConfigError."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if not os.path.isabs(home):
        raise ConfigError("no home directory is known; say which file it shall be")
    return os.path.join(home, "mailflow")


def state_directory() -> str:
    """Where journals and tokens are. Raises ConfigError."""
    given = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        return os.path.join(given, "mailflow")
    if os.geteuid() == 0:
        return "/var/lib/mailflow"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise ConfigError("no home directory is known; set XDG_STATE_HOME")
    return os.path.join(home, ".local", "state", "mailflow")


__all__ = ["SYSTEM", "settings_directory", "state_directory"]
