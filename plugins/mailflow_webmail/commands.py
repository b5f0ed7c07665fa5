"""`mailflow webmail ...`: which webmails are known, and whether one is as it is described.

Rule of the file: the commands by name; what one does is in a file of its own.
"""

from __future__ import annotations

from mailflow_webmail.command_check import check
from mailflow_webmail.command_login import login
from mailflow_webmail.command_record import record
from mailflow_webmail.command_sites import sites

COMMANDS = (sites, check, login, record)
