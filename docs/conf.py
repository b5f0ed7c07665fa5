"""How Sphinx builds the documentation: `make docs`, without a warning."""

from __future__ import annotations

import sys
from pathlib import Path

import mailflow

sys.path.insert(0, str(Path(__file__).parent))  # declared.py, our own extension

project = "mailflow"
author = "the authors of mailflow"
project_copyright = author
version = release = mailflow.__version__

extensions = ["declared"]
exclude_patterns = ["_build"]
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_title = f"mailflow {release}"
html_copy_source = False
html_show_sphinx = False
