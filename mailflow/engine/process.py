"""The process that `mailflow serve` is: its signals, its manager, its user, its socket.

Rule of the file: it binds with the rights that it was started with, gives them up, and only
then touches mail.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from mailflow.engine import privilege
from mailflow.engine.control import Control
from mailflow.engine.described import Described, Given
from mailflow.engine.notify import Notifier
from mailflow.engine.serving import Installation
from mailflow.engine.situation import line_of
from mailflow.engine.stopping import stop_on
from mailflow.errors import MailflowError
from mailflow.halt import Halt
from mailflow.log import get_logger
from mailflow.typed import Any

STDIN = 0

TICK = 1.0
"""Seconds between two looks at whether all is well."""

STATUS_SECONDS = 30.0
"""How often the manager is told how things stand."""


def serve(
    given: Sequence[Given],
    *,
    offline: bool = False,
    user: str | None = None,
    pid_file: str | None = None,
    halt: Halt | None = None,
) -> int:
    """See mailflow.running.serve."""
    identity = privilege.Identity(user) if user is not None else None
    if identity is not None:
        identity.settle_in()
    with ExitStack() as stack:
        if halt is None:
            halt = Halt()
            stack.callback(halt.close)
        if pid_file is not None:
            stack.callback(privilege.PidFile(pid_file).close)
        installation = Installation(Described(given, offline=offline))
        stack.callback(installation.close)
        installation.bind()
        if identity is not None:
            identity.become()
        _Process(installation, halt).run()
    return 0


class _Process:
    """An installation, from its start to its end. `halt` ends it."""

    def __init__(self, installation: Installation, halt: Halt) -> None:
        self.installation = installation
        self.halt = halt
        self._log = get_logger()
        self.notifier = Notifier()
        self.control = self._listening()
        self._hung_up = threading.Event()
        self._terminal = os.isatty(STDIN)
        self._reloading = False

    def _listening(self) -> Control | None:
        """The control socket; mail flows without one, too."""
        try:
            return Control(self._answer)
        except MailflowError as error:
            self._log.warning("no status, poke or reload here", error=error.text)
            return None

    def run(self) -> None:
        try:
            with _signals(self.halt, self._hang_up):
                if self.control is not None:
                    self.control.start()
                try:
                    self.installation.start()
                    self._keep()
                finally:
                    self.notifier.stopping()
                    self._end()
        finally:
            if self.control is not None:
                self.control.close()

    def _hang_up(self) -> None:
        """SIGHUP: to be seen to by the main thread, outside of the handler. Whoever started it in a
        terminal, and has closed that, is gone: it ends, and does not go on unseen."""
        self._hung_up.set()

    def _keep(self) -> None:
        ready, told = False, 0.0
        while not self.halt.wait(TICK if ready else TICK / 10):
            if self._hung_up.is_set() and self._terminal and not os.isatty(STDIN):
                return
            if self._hung_up.is_set() and not self._reloading:
                self._begin_reload()
            if not ready and self.installation.is_ready:
                ready = True
                self.notifier.ready(line_of(self.installation))
                text = f"{line_of(self.installation)}; `mailflow status` says how it fares"
                self._log.notice("ready", text=text)
            now = time.monotonic()
            if ready and now - told > STATUS_SECONDS:
                told = now
                self.notifier.status(line_of(self.installation))
            self.notifier.alive()

    def _end(self) -> None:
        """End in order, however long that takes: the manager is told that we live."""
        ended = threading.Thread(target=self.installation.stop, name="stop")
        try:
            ended.start()
        except RuntimeError:  # there are too many
            self.installation.stop()
            return
        while ended.is_alive():
            ended.join(TICK)
            self.notifier.alive()

    def _begin_reload(self) -> None:
        """Beside the main thread: what is replaced may take its time to end. Signals that come
        meanwhile are one more reload after it."""
        self._hung_up.clear()
        self._reloading = True
        try:
            threading.Thread(target=self._reload_alone, name="reload").start()
        except RuntimeError:  # there are too many; it is tried again
            self._reloading = False
            self._hung_up.set()

    def _reload_alone(self) -> None:
        try:
            with suppress(MailflowError):  # it was logged, and all is as before
                self._reload()
        finally:
            self._reloading = False

    def _reload(self) -> list[str]:
        self.notifier.reloading()
        try:
            return self.installation.reload()
        finally:
            self.notifier.ready(line_of(self.installation))

    def _answer(self, request: Mapping[str, Any]) -> object:
        """What a command asks for, from any thread."""
        asked = request.get("do")
        if asked == "status":
            return self.installation.facts()
        if asked == "poke":
            self.installation.poke(str(request.get("source")), dry=bool(request.get("dry")))
            return None
        if asked == "reload":
            return self.installation.would_reload() if request.get("dry") else self._reload()
        raise MailflowError(f"this installation does not know {asked!r}")


@contextmanager
def _signals(halt: Halt, hang_up: Any) -> Iterator[None]:
    """SIGTERM and SIGINT end it (see stopping), SIGHUP reloads, or ends it with its terminal;
    only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = stop_on(halt, signal.SIGTERM, signal.SIGINT)
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: hang_up())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
