"""An installation: its pipelines kept at work, its services kept open, until it is stopped.

Rule of the file: what is wrong before it is up ends it with one clear line; once it is up,
nothing but a signal does.
"""

from __future__ import annotations

import signal
import threading
import time

from mailflow.engine.hosting import Drops, ThreadHost, make
from mailflow.engine.intake import interested
from mailflow.engine.sameness import same
from mailflow.engine.station import Station
from mailflow.engine.stopping import stop_on
from mailflow.errors import ConfigError, MailflowError
from mailflow.halt import Halt
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailflow.accounts import Accounts
    from mailflow.engine.pipeline import Pipeline
    from mailflow.engine.registry import Registry

TICK = 1.0
"""Seconds between two looks at everything that is kept at work."""


class Installation:
    """What `mailflow serve` runs. `read` gives the pipelines anew, for a reload."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        registry: Registry,
        read: Callable[[], tuple[Sequence[Pipeline], Registry]],
    ) -> None:
        self.pipelines = tuple(pipelines)
        self.registry = registry
        self.halt = Halt()
        self.started = time.time()
        self.stations: dict[str, Station] = {}
        self.hosts: dict[tuple[str, str], ThreadHost] = {}
        self.drops = Drops(self.halt)
        self._read = read
        self._log = get_logger()
        self._turn = threading.Lock()

    @property
    def accounts(self) -> Accounts:
        return self.drops.accounts

    def bind(self) -> None:
        """Make the maildrops and services, and let them listen, while that is allowed.
        Raises MailflowError."""
        self.drops.load(self.pipelines)
        for pipeline in self.pipelines:
            for step in pipeline.serve:
                service = make(pipeline, "serve", step, self.halt)
                listening = service.listen()
                host = ThreadHost(pipeline, step, service, listening, self)
                self.hosts[pipeline.name, step.name] = host

    def start(self) -> None:
        for host in self.hosts.values():
            host.start()
        for pipeline in self.pipelines:
            self._open(pipeline)

    def _open(self, pipeline: Pipeline) -> None:
        if pipeline.fetch and pipeline.distribute:
            station = Station(pipeline, self.registry)
            self.stations[pipeline.name] = station
            station.start()

    def stop(self) -> None:
        """End all in order: clients first, then what is being fetched and delivered."""
        self.halt.set()
        for host in self.hosts.values():
            host.stop()
        for station in self.stations.values():
            station.stop()
        for host in self.hosts.values():
            host.join()
        for station in self.stations.values():
            station.join()

    def poke(self, source: str) -> None:
        """Fetch from a source now, by its step's name or by its own. Raises ConfigError."""
        found = [
            watch
            for station in self.stations.values()
            for name, watch in station.watches.items()
            if source in (name, watch.source, f"{station.pipeline.name}/{name}")
        ]
        if not found:
            raise ConfigError(f"there is no source {source!r} here; {self._sources()}")
        for watch in found:
            watch.poke()

    def _sources(self) -> str:
        names = [step.name for pipeline in self.pipelines for step in interested(pipeline.fetch)]
        return f"there is {', '.join(names)}" if names else "there is none at all"

    def facts(self) -> Mapping[str, object]:
        """What `status` says of it."""
        return {}


def serve(
    pipelines: Sequence[Pipeline],
    registry: Registry,
    read: Callable[[], tuple[Sequence[Pipeline], Registry]],
    *,
    halt: Halt | None = None,
) -> int:
    """Run an installation until a signal, or `halt`, ends it. Raises MailflowError where it
    cannot be begun."""
    installation = Installation(pipelines, registry, read)
    mine = halt or Halt()
    main = threading.current_thread() is threading.main_thread()
    before = stop_on(mine, signal.SIGTERM, signal.SIGINT) if main else {}
    try:
        installation.bind()
        installation.start()
        while not mine.wait(TICK):
            pass
        installation.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


__all__ = ["Installation", "MailflowError", "same", "serve"]
