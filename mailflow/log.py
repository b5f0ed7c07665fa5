"""Lines for the log: structlog behind a proxy that imports it at the first line.

Rule of the file: a line is one line, control characters are escaped, and what is
registered as secret is masked, wherever it stands.
"""

from __future__ import annotations
