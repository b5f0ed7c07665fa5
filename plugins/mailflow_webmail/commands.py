"""`mailflow webmail ...`: which webmails are known.

Rule of the file: the commands by name; what one does is in a file of its own.
"""

from __future__ import annotations

from mailflow_webmail.command_sites import sites

COMMANDS = (sites,)
