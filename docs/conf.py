"""How Sphinx builds the documentation: `make docs`, without a warning."""

from __future__ import annotations

import mailflow

project = "mailflow"
author = "the authors of mailflow"
project_copyright = author
version = release = mailflow.__version__

extensions: list[str] = []
exclude_patterns = ["_build"]
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_title = f"mailflow {release}"
html_copy_source = False
html_show_sphinx = False
