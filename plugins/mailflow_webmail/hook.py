"""Code beside a definition, for requests that data cannot describe.

    # ~/.config/mailflow/sites/example.py, named by `hook = "example.py"` in example.toml
    from mailflow_webmail.hook import Asks, Facts, Hook, Page

    class Example(Hook):
        def login(self, browser: Asks, facts: Facts) -> Page:
            page = browser.page("GET", "login")
            ...
            return browser.page("POST", "login", data={"user": facts["user"], ...})

A method has the name of a step and stands in for its request alone: it gives the answer, and
what that must have, what is captured of it and where its rows are stays in the definition.
Rule of the file: whatever such code does wrong is one line that names its file, and holds
nothing of what it was given.
"""

from __future__ import annotations

import os
import runpy
import stat
from collections.abc import Mapping
from typing import Any, Protocol

from mailflow.errors import ConfigError, MailflowError, PluginError
from mailflow.options import nearest
from mailflow_webmail.definition.finders import STEPS
from mailflow_webmail.web.page import Page

FORMS = ("write", "attach", "send")
"""Steps that are forms of the page before them: whether a mail went is known of these."""

Facts = Mapping[str, str]
"""What is known: `user`, with `login` the `password`, what was captured, and what the step is
about: `folder`, `n`, the fields of a row."""


class Asks(Protocol):
    """What a hook may ask with: one webmail, and nowhere else. `url` is where it is."""

    url: str

    def page(self, method: str, url: str, **what: Any) -> Page:
        """The answer; `url` is relative. `what` is as with requests: params, data, json,
        headers. Raises UnavailableError, PeerError, RefusedError."""

    def submit(
        self, page: Page, css: str, fill: Mapping[str, str], click: str | None
    ) -> Page | None:
        """The answer to a form of the page, filled in; None where there is no such form."""


class Hook:
    """The base of a hook. One is made for each session; any thread may call it.

    Methods: `def STEP(self, browser: Asks, facts: Facts) -> Page`. What `raw` gives is taken
    for whole; where that is in doubt, it raises an error of mailflow.errors.
    """


class Loaded:
    """A hook, called with care."""

    def __init__(self, path: str, hook: Hook) -> None:
        self._path = path
        self._hook = hook

    def has(self, step: str) -> bool:
        return hasattr(self._hook, step)

    def ask(self, step: str, browser: Asks, facts: Facts) -> Page:
        """The answer that the hook gives. Raises PluginError where it fails."""
        try:
            page = getattr(self._hook, step)(browser, facts)
        except MailflowError:
            raise
        except Exception as error:  # noqa: BLE001  # it is somebody else's code
            raise PluginError(
                f"{_place(self._path, error)}: `{step}` failed: {_kind(error)}"
            ) from None
        if not isinstance(page, Page):
            raise PluginError(f"{self._path}: `{step}` gave {type(page).__name__} and no Page")
        return page


def load(path: str) -> Loaded:
    """The hook in a file. Raises ConfigError where it has none, or others could change it."""
    _check_owner(path)
    _check_owner(os.path.dirname(path) or ".")
    try:
        names = runpy.run_path(path)
    except MailflowError:
        raise
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"{_place(path, error)}: {_kind(error)}") from None
    classes = [each for each in names.values() if _is_hook(each)]
    if len(classes) != 1:
        raise ConfigError(f"{path}: expected one class that is a Hook, found {len(classes)}")
    for name in vars(classes[0]):
        if name in FORMS:
            raise ConfigError(f"{path}: mail is sent by forms, and no code does `{name}`")
        if not name.startswith("_") and name not in STEPS:
            raise ConfigError(f"{path}: there is no step `{name}`{nearest(name, STEPS)}")
    try:
        return Loaded(path, classes[0]())
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"{_place(path, error)}: {_kind(error)}") from None


def _is_hook(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Hook) and value is not Hook


def _check_owner(path: str) -> None:
    """Raises ConfigError where somebody else could put code there."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(f"{path}: {os.strerror(error.errno or 0)}") from None
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not sticky):
        raise ConfigError(f"{path}: others can write to it, and it is code that would be run")


def _kind(error: Exception) -> str:
    """Without its text, which may say what must not be seen."""
    return f"{error.msg}" if isinstance(error, SyntaxError) else type(error).__name__


def _place(path: str, error: Exception) -> str:
    """file:line of the hook's last line before the error."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}" if line else path
