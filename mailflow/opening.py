"""A mailbox as a URL, open for a program: list, read, settle.

    with mailflow.open("pop3s://ann@pop.example.org") as box:
        for message in box:
            print(message.key, message.content.size)

Rule of the file: no journal stands behind it. What the program has taken into its own
hands it says with `settle`; until then the message stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mailflow.typed import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from mailflow.halt import Halt
    from mailflow.kinds import Fetched, Fetcher, Item, Missed
    from mailflow.query import Query


def open(  # mailflow.open
    url: str, *, password: str | None = None, halt: Halt | None = None
) -> Box:
    """The mailbox that a URL names, to be entered with `with`.

    Without `password`, it is that of ~/.netrc or where the URL says (?password_file=PATH,
    ?password_env=NAME). Setting `halt` ends every wait. Raises ConfigError with what is
    wrong with the URL, PluginError where the plugin of its scheme cannot be had.
    """
    return Box(url, password, halt)


class Box:
    """A mailbox in one program's hands, in one thread. Made by `mailflow.open`.

    Entering connects and logs in; leaving without an error ends the session in order,
    so that what was settled happens. Octets of large messages last until then.
    `missed` are the messages that an iteration could not have, with the reason. Every
    call may raise UnavailableError, LoginError or PeerError, which end the session.
    """

    def __init__(self, url: str, password: str | None, halt: Halt | None) -> None:
        from mailflow.engine.registry import Registry
        from mailflow.engine.urls import read

        self._named = read(url, "fetch", Registry(), password=password)
        self._given = halt
        self.missed: list[Missed] = []
        self._fetcher: Fetcher

    @property
    def source(self) -> str:
        """The account, as in a log line."""
        return self._fetcher.source

    def __enter__(self) -> Self:
        from contextlib import ExitStack
        from tempfile import TemporaryDirectory

        from mailflow.halt import Halt
        from mailflow.kinds import Runtime
        from mailflow.log import get_logger

        with ExitStack() as stack:
            halt = self._given
            if halt is None:
                halt = Halt()
                stack.callback(halt.close)
            scratch = stack.enter_context(TemporaryDirectory(prefix="mailflow-"))
            log = get_logger(step=self._named.use)
            runtime = Runtime("open", "python", halt, log, scratch)
            fetcher: Fetcher = self._named.component(self._named.options, runtime)
            self._fetcher = stack.enter_context(fetcher)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def listing(self, where: Query | str | None = None) -> list[Item]:
        """What is there; of `where`, what a listing can decide: size, date, flags."""
        from mailflow.query import ItemFacts, Query, parse

        query = parse(where) if isinstance(where, str) else where
        query = Query.always if query is None else query
        items: Iterable[Item] = self._fetcher.listing(query)
        return [item for item in items if query.decide(ItemFacts(item)) is not False]

    def heads(self, keys: Sequence[str]) -> Iterator[Fetched]:
        """Header sections only."""
        return self._fetcher.heads(keys)

    def retrieve(self, keys: Sequence[str]) -> Iterator[Fetched | Missed]:
        """The messages of a listing, as they arrive."""
        return self._fetcher.retrieve(keys)

    def __iter__(self) -> Iterator[Fetched]:
        """Every message, as it arrives; what cannot be had is in `missed`."""
        from mailflow.kinds import Missed

        for got in self.retrieve([item.key for item in self.listing()]):
            if isinstance(got, Missed):
                self.missed.append(got)
            else:
                yield got

    def settle(self, key: str) -> None:
        """This message is safe with you: it is deleted at the source, or whatever the
        URL's `on_done` says. Also while others still arrive."""
        from mailflow.verdicts import Fate

        self._fetcher.settle(key, Fate.DONE)


__all__ = ["Box", "open"]
