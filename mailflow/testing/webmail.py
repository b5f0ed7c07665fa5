"""The test bed of the webmail plugin on loopback in this process, over mbox files of its own.

    with TestBed() as bed:                             # user "demo", password "demo"
        bed.put("INBOX", b"Subject: hello\\r\\n\\r\\n")
        bed.trouble("truncated", times=1)
        ...
        assert bed.messages("INBOX") == []

Rule of the file: it is the service that `mailflow serve` runs; nothing is served that it would
not serve.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from mailflow.accounts import Accounts
from mailflow.halt import Halt
from mailflow.kinds import Runtime
from mailflow.testing.engine import LogDouble
from mailflow.testing.gateway import HostDouble

USER = PASSWORD = "demo"
PATIENCE = 10.0


class TestBed:
    """Runs from `__enter__` to `__exit__`, in a thread. `options` are those of [[serve]] as a
    file says them. `url` is where it is, `start` and `stop` may be called in between: the
    port stays the same, sessions end."""

    __test__ = False  # no test, whatever pytest thinks of the name

    user = USER
    password = PASSWORD

    def __init__(self, folders: Iterable[str] = (), **options: object) -> None:
        from mailflow.engine.registry import Registry

        self._directory = TemporaryDirectory(prefix="testbed")
        self.path = os.path.join(self._directory.name, "mail")
        os.mkdir(self.path)
        for name in folders:
            with open(os.path.join(self.path, name), "xb"):
                pass
        self._component = Registry().component("serve", "webmail.testbed")
        self._options = {
            "path": self.path, "listen": ["127.0.0.1:0"],
            "anywhere": True,  # under whatever name a test has for it
            **options,
        }  # fmt: skip
        self._host = HostDouble(Accounts([]))
        self._make()

    def _make(self) -> None:
        self._halt = Halt()
        options = self._component.options.read(self._options)
        log: Any = self.log
        runtime = Runtime("testbed", "tests", self._halt, log, self._directory.name)
        self._service: Any = self._component(options, runtime)

    @property
    def log(self) -> LogDouble:
        log: LogDouble = self._host.log
        return log

    @property
    def bed(self) -> Any:
        """The application: its `settings`, `folders`, `seen`."""
        return self._service.bed

    @property
    def requests(self) -> list[Any]:
        """What was asked so far: (method, step, path) of each."""
        return list(self.bed.asked)

    def asked(self, step: str) -> int:
        """How many requests there were for a step, such as "list" or "source"."""
        return sum(each.step == step for each in self.bed.asked)

    def forget(self) -> None:
        """Count requests from here."""
        self.bed.asked.clear()

    def meanwhile(self, step: str, nth: int, action: Callable[[], object]) -> None:
        """Call `action` once, before the `nth` request from now on for a step is answered."""
        left = count(nth, -1)
        lock = threading.Lock()

        def listener(asked: Any) -> None:
            if asked.step == step:
                with lock:
                    if next(left) == 1:
                        action()

        self.bed.listener = listener

    def put(self, folder: str, *messages: bytes) -> list[str]:
        """Let messages arrive, the first first; their UIDLs."""
        self._folder(folder).add(*messages)
        every = [each.uid for each in self._folder(folder).letters()]
        return every[len(every) - len(messages) :]

    def messages(self, folder: str) -> list[bytes]:
        """What lies there, in the order of its arrival, with CRLF line ends."""
        there = self._folder(folder)
        return [b"".join(there.source(each)) for each in there.letters()]

    def uids(self, folder: str) -> list[str]:
        return [each.uid for each in self._folder(folder).letters()]

    def delete(self, folder: str, *uids: str) -> None:
        """Delete messages, as another client does."""
        self._folder(folder).delete(uids)

    def _folder(self, name: str) -> Any:
        folder = self.bed.folders.get(name)
        assert folder is not None, f"there is no folder {name!a}"
        return folder

    def trouble(self, name: str, **changes: object) -> None:
        """Switch a trouble on; `changes` are `at`, `after`, `times` and `seconds`."""
        self._service.troubles.add(name, **changes)

    def quiet(self, *names: str) -> None:
        """Switch these troubles off, or all."""
        self._service.troubles.end(*names)

    def set(self, **settings: object) -> None:
        """Replace settings: user, password, page_size, json_lists, language."""
        self.bed.settings = self.bed.settings._replace(**settings)

    def log_out_all(self) -> None:
        """End every session."""
        self.bed.log_out_all()

    def cookies(self, *names: str) -> str:
        """What a browser that has logged in saves as a Netscape cookie file; `names` are those
        of other hosts that it has cookies for."""
        session, tomorrow = self.bed.lend(), str(int(time.time()) + 86400)
        lines = [
            "\t".join([host, "FALSE", "/", "FALSE", tomorrow, "testbed", session])
            for host in ("127.0.0.1", *names)
        ]
        return "\n".join(["# Netscape HTTP Cookie File", *lines, ""])

    def source(self, **options: object) -> Mapping[str, object]:
        """The [[fetch]] table of a pipeline that reads it."""
        return {
            "use": "webmail", "site": "testbed", "url": self.url, "user": self.user,
            "password": self.password, **options,
        }  # fmt: skip

    def __enter__(self) -> Self:
        self._sockets = self._service.listen()
        self.port: int = self._sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._begin()
        return self

    def _begin(self) -> None:
        self._host.is_ready.clear()
        self._thread = threading.Thread(target=self._serve, name="testbed", daemon=True)
        self._thread.start()
        assert self._host.is_ready.wait(PATIENCE), "it did not start"

    def _serve(self) -> None:
        self._service.serve(self._host, self._sockets, self._halt)

    def stop(self) -> None:
        """End it and all connections; nobody listens."""
        self._halt.set()
        self._thread.join(2 * PATIENCE)
        assert not self._thread.is_alive(), "it does not end"
        for sock in self._sockets:
            sock.close()
        self._halt.close()

    def start(self) -> None:
        """Begin again at the same port, with the same mail, and with no session or trouble."""
        self._options["listen"] = [f"127.0.0.1:{self.port}"]
        self._make()
        self._sockets = self._service.listen()
        self._begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sockets[0].fileno() >= 0:
            self.stop()
        self._directory.cleanup()
