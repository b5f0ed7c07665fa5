"""An installation: its pipelines kept at work, its services kept open, until it is stopped.

Rule of the file: what is wrong before it is up ends it with one clear line; once it is up,
nothing but a signal does.
"""

from __future__ import annotations

import threading
import time

from mailflow.engine.hosting import Drops, Hosted, ThreadHost, make
from mailflow.engine.sameness import same
from mailflow.engine.situation import facts_of
from mailflow.engine.station import Station
from mailflow.engine.workers import WorkerHost
from mailflow.errors import ConfigError, MailflowError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING
from mailflow.values import instead

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mailflow.accounts import Accounts
    from mailflow.engine.described import Described
    from mailflow.engine.pipeline import Pipeline, ServeStep
    from mailflow.engine.watch import Watch


class Installation:
    """What `mailflow serve` runs. Raises ConfigFaults where the files are wrong."""

    def __init__(self, described: Described) -> None:
        self.described = described
        self.pipelines, self.registry = described.load_together()
        self.started = time.time()
        self.stations: dict[str, Station] = {}
        self.hosts: dict[tuple[str, str], Hosted] = {}
        self.ending = False
        self._halt = Halt()
        self.drops = Drops(self._halt)
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
                self.hosts[pipeline.name, step.name] = self._bound(pipeline, step)
        if not self.hosts and not any(map(_is_at_work, self.pipelines)):
            files = ", ".join(self.described.names)
            raise ConfigError(f"{files}: nothing to do; there is no [[fetch]] and no [[serve]]")

    def _bound(self, pipeline: Pipeline, step: ServeStep) -> Hosted:
        service = make(pipeline, "serve", step, self._halt)
        listening = service.listen()
        if step.workers:
            return WorkerHost(pipeline, step, listening, self, self.described)
        return ThreadHost(pipeline, step, service, listening, self)

    def start(self) -> None:
        """Begin all of it."""
        for host in self.hosts.values():
            host.start()
        self._open(self.pipelines)
        self.event("serve.started", pipelines=len(self.pipelines), services=len(self.hosts))

    def _open(self, pipelines: Iterable[Pipeline]) -> None:
        for pipeline in pipelines:
            if _is_at_work(pipeline):
                station = Station(pipeline, self.registry)
                self.stations[pipeline.name] = station
                station.start()

    @property
    def is_ready(self) -> bool:
        """Whether every service takes clients."""
        return all(host.is_ready.is_set() for host in self.hosts.values())

    def stop(self) -> None:
        """End all of it in order."""
        self.ending = True
        with self._turn:
            self._halt.set()
            _end([*self.hosts.values(), *self.stations.values()])
        self.event("serve.ended")

    def close(self) -> None:
        """Nothing of it runs any more, or ever did."""
        if not self.ending:
            for host in self.hosts.values():
                host.close()
        self._halt.close()

    def event(self, name: str, **facts: object) -> None:
        """Tell the listeners of the plugins."""
        self.registry.event(name, **facts)

    def poke(self, source: str, *, dry: bool = False) -> None:
        """Fetch from a source now, by its step's name or by its own; `dry`, only look whether
        there is one. Raises ConfigError where there is none."""
        stations = list(self.stations.values())
        found = [station for station in stations if station.poke(source, dry=dry)]
        if not found:
            names = [name for station in stations for name in station.steps]
            there = instead(source, names) or "; there is none at all"
            raise ConfigError(f"there is no source {source!r} here{there}")

    def watches(self) -> list[Watch]:
        """Each source that is asked now."""
        return [watch for each in list(self.stations.values()) for watch in each.watches.values()]

    def facts(self) -> Mapping[str, object]:
        """What `status` says of it."""
        return facts_of(self)

    def reload(self) -> list[str]:
        """Read the files anew and do what they say now; what is as before goes on. Gives a
        line for each change. Raises ConfigFaults, and nothing has changed."""
        with self._turn:
            if self.ending:
                raise UnavailableError("the installation ends")
            before = self.described.texts
            try:
                pipelines, registry = self.described.load_together()
                changes = Changes(self, pipelines)
                self.drops.load(pipelines)
            except MailflowError as error:
                self.described.texts = before
                self._log.error("not reloaded; all is as before", error=error.text)
                raise
            self.pipelines, self.registry = pipelines, registry
            said = [*self._change_hosts(changes), *self._change_stations(changes), *changes.others]
            for host in self.hosts.values():
                host.reload()
        for line in said:
            self._log.warning("reloaded", text=line)
        self.event("serve.reloaded", changes=len(said))
        return said

    def would_reload(self) -> list[str]:
        """What a reload would come to. Raises ConfigFaults."""
        with self._turn:
            before = self.described.texts
            try:
                return Changes(self, self.described.load_together()[0]).said()
            finally:
                self.described.texts = before

    def _change_hosts(self, changes: Changes) -> Iterator[str]:
        _end(changes.hosts_ended)
        for host in changes.hosts_ended:
            del self.hosts[host.pipeline.name, host.step.name]
            yield f"service {host.step.name} ended"
        for pipeline, step in changes.hosts_begun:
            yield self._begin_service(pipeline, step)

    def _change_stations(self, changes: Changes) -> Iterator[str]:
        _end(changes.stations_ended)
        for station in changes.stations_ended:
            del self.stations[station.pipeline.name]
            yield f"pipeline {station.pipeline.name} ended"
        self._open(changes.stations_begun)
        for pipeline in changes.stations_begun:
            yield f"pipeline {pipeline.name} begun"

    def _begin_service(self, pipeline: Pipeline, step: ServeStep) -> str:
        try:
            host = self._bound(pipeline, step)
        except MailflowError as error:
            return f"service {step.name} cannot be begun: {error.text}"
        self.hosts[pipeline.name, step.name] = host
        host.start()
        return f"service {step.name} begun"


class Changes:
    """What other pipelines would change in an installation."""

    def __init__(self, installation: Installation, pipelines: Sequence[Pipeline]) -> None:
        stations, hosts = installation.stations, installation.hosts
        at_work = {each.name: each for each in pipelines if _is_at_work(each)}
        served = {(each.name, step.name): (each, step) for each in pipelines for step in each.serve}
        self.stations_ended = [
            station
            for name, station in stations.items()
            if name not in at_work
            or not station.alive
            or not _same_work(station.pipeline, at_work[name])
        ]
        left = stations.keys() - {each.pipeline.name for each in self.stations_ended}
        self.stations_begun = [each for name, each in at_work.items() if name not in left]
        self.hosts_ended = [host for key, host in hosts.items() if key not in served]
        self.hosts_begun = [found for key, found in served.items() if key not in hosts]
        self.others = [
            f"service {step.name}: its changes wait for the next start"
            for key, (_, step) in served.items()
            if key in hosts and not same(hosts[key].step, step)
        ]
        if not same(_maildrops(installation.pipelines), _maildrops(pipelines)):
            self.others.append("maildrops changed")

    def said(self) -> list[str]:
        """In words, for a dry run."""
        return [
            *(f"service {host.step.name} would end" for host in self.hosts_ended),
            *(f"service {step.name} would begin" for _, step in self.hosts_begun),
            *(f"pipeline {each.pipeline.name} would end" for each in self.stations_ended),
            *(f"pipeline {each.name} would begin" for each in self.stations_begun),
            *self.others,
        ]


def _is_at_work(pipeline: Pipeline) -> bool:
    """Whether it moves mail, and does not only serve."""
    return bool(pipeline.fetch and pipeline.distribute)


def _same_work(one: Pipeline, other: Pipeline) -> bool:
    """Whether what is fetched and delivered is the same; services and maildrops are not
    looked at."""
    return same(*(each._replace(maildrop=(), serve=(), warnings=()) for each in (one, other)))


def _maildrops(pipelines: Iterable[Pipeline]) -> list[object]:
    return [step for pipeline in pipelines for step in pipeline.maildrop]


def _end(all_of_them: Iterable[Hosted | Station]) -> None:
    for each in all_of_them:
        each.stop()
    for each in all_of_them:
        each.join()
