"""Fetches the messages of a webmail's folders.

Rule of the file: whole folders are listed before anything is loaded, and all is loaded
before anything is removed, since places shift when rows go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from mailflow.errors import GoneError, MailflowError
from mailflow.kinds import Fetched, Item, Missed, Runtime
from mailflow.mail import Content, Envelope, Octets
from mailflow.options import Choice, ListOf, Text
from mailflow.verdicts import Fate
from mailflow_webmail.session import Row, opened
from mailflow_webmail.settings import WebmailOptions

if TYPE_CHECKING:
    from mailflow.query import Query


class WebmailFetchOptions(WebmailOptions):
    folders = ListOf("The folders to fetch from.", Text("A folder."), default=("INBOX",))
    on_done = Choice(
        "What becomes of what was fetched.", "delete", "trash", "seen", "keep", default="delete"
    )


class WebmailFetcher:
    """Fetches the messages of a webmail's folders."""

    options = WebmailFetchOptions

    def __init__(self, options: WebmailFetchOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self._rows: dict[str, Row] = {}
        self._settled: list[str] = []
        self.source = f"{options.user}@{urlsplit(options.url).hostname}"
        self.mark = ""
        self.removes = options.on_done in ("delete", "trash")

    def __enter__(self) -> Self:
        self._session = opened(self._options, self._runtime.halt, self._runtime.scratch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Without an error, remove what was settled and log out."""
        try:
            if kind is None:
                for key in self._settled:
                    self._session.remove([self._rows[key]])
        except MailflowError as failure:
            self._runtime.log.warning("the session did not end in order", error=str(failure))
        finally:
            self._session.close()

    def listing(self, where: Query, mark: str = "") -> Iterator[Item]:
        for folder in self._options.folders:
            for row in self._session.listing(folder):
                key = f"{folder};{row['id']}"
                self._rows[key] = row
                size = row.get("size", "")
                yield Item(key, int(size) if size.isdigit() else None, folder=folder)

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        for found in self.retrieve(keys):
            if isinstance(found, Fetched):
                with found.content.open() as file:
                    header, blank, _ = file.read(1 << 20).partition(b"\r\n\r\n")
                yield found._replace(content=Octets(header + blank))

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        waiting: dict[Future[Content], str] = {}
        with ThreadPoolExecutor(self._options.parallel) as pool:
            todo = iter(keys)
            while True:
                while len(waiting) < self._options.parallel and (key := next(todo, None)):
                    if key in self._rows:
                        waiting[pool.submit(self._session.raw, self._rows[key])] = key
                    else:
                        yield Missed(key, GoneError(f"{key} was not listed"))
                if not waiting:
                    return
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    key = waiting.pop(done)
                    try:
                        yield Fetched(key, done.result(), Envelope())
                    except GoneError as error:
                        yield Missed(key, error)

    def settle(self, key: str, fate: Fate) -> None:
        if fate is Fate.DONE and self._options.on_done == "delete":
            self._settled.append(key)
