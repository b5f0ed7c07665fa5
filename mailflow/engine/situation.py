"""How a running installation fares: what `status`, and the services that ask, are told.

Rule of the file: it looks and changes nothing; what cannot be told is left out.
"""

from __future__ import annotations

import os
from collections import Counter

import mailflow
from mailflow.engine.flow import PLUGIN_FAULTS, describe
from mailflow.engine.intake import Tally
from mailflow.engine.journal import SourceState
from mailflow.engine.watch import Doing
from mailflow.log import get_logger
from mailflow.typed import TYPE_CHECKING, Any
from mailflow.values import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailflow.engine.hosting import Hosted
    from mailflow.engine.serving import Installation
    from mailflow.engine.station import Station
    from mailflow.engine.watch import Watch


def facts_of(installation: Installation) -> dict[str, object]:
    """Numbers, words and times (seconds since the epoch) by name, all fit for JSON."""
    sessions = _sessions(installation.hosts.values())
    return {
        "pid": os.getpid(),
        "version": mailflow.__version__,
        "started": installation.started,
        "state": "ending" if installation.ending else "running",
        "files": installation.described.names,
        "pipelines": [_pipeline(each) for each in list(installation.stations.values())],
        "services": [_service(each) for each in list(installation.hosts.values())],
        "drops": list(_drops(installation, sessions)),
    }


def line_of(installation: Installation) -> str:
    """The same in a few words."""
    watches = installation.watches()
    failing = sum(1 for watch in watches if watch.known.failures)
    sessions = sum(_sessions(installation.hosts.values()).values())
    parts = [counted(len(watches), "source"), counted(sessions, "session")]
    if failing:
        parts.insert(1, f"{failing} of them failing")
    return ", ".join(parts)


def _pipeline(station: Station) -> dict[str, object]:
    watches = station.watches
    return {
        "pipeline": station.pipeline.name,
        "journal": station.pipeline.journal,
        "state": station.state,
        "error": station.error,
        "sources": [_source(station, name, watches.get(name)) for name in station.steps],
    }


def _source(station: Station, name: str, watch: Watch | None) -> dict[str, object]:
    """One source; that of a pipeline that is not at work does as that does."""
    doing = Doing(station.state) if watch is None else watch.doing
    total = Tally() if watch is None else watch.total
    known = SourceState() if watch is None else watch.known
    return {
        "step": name, "source": "" if watch is None else watch.source,
        **doing._asdict(), **total._asdict(), "worked_at": known.worked_at,
        "failures": known.failures, "error": known.error,
        "alarm": None if watch is None else watch.alarm,
    }  # fmt: skip


def _service(host: Hosted) -> dict[str, object]:
    said: dict[str, Any] = {}
    for report in host.reports():
        for name, value in report.items():
            if name != "sessions" and isinstance(value, int | float) and value is not True:
                said[name] = said.get(name, 0) + value
            elif name != "sessions":
                said[name] = value
    return {
        "pipeline": host.pipeline.name,
        "service": host.step.name,
        "ready": host.is_ready.is_set(),
        "workers": list(host.pids),
        "error": host.error,
        "sessions": sum(_sessions([host]).values()),
        "said": said,
    }


def _sessions(hosts: Any) -> Counter[str]:
    """Sessions by drop, of all services and their workers."""
    found: Counter[str] = Counter()
    for host in list(hosts):
        for report in host.reports():
            sessions = report.get("sessions")
            if isinstance(sessions, dict):
                found.update({str(drop): int(count) for drop, count in sessions.items()})
    return found


def _drops(installation: Installation, sessions: Mapping[str, int]) -> Iterator[dict[str, object]]:
    """What lies in each drop that a maildrop can tell of; others, while they are open."""
    told: set[str] = set()
    for step, maildrop in installation.drops.made():
        standing = getattr(maildrop, "standing", None)
        if standing is None:
            continue
        try:
            rows = list(standing())
        except PLUGIN_FAULTS as error:  # a drop that cannot be looked at
            get_logger().warning("no word of a drop", maildrop=step, error=describe(error))
            continue
        for drop, messages, octets in rows:
            name = drop or step
            if name not in told:
                told.add(name)
                yield {
                    "drop": name, "messages": messages, "octets": octets,
                    "sessions": sessions.get(name, 0),
                }  # fmt: skip
    for name in sorted(sessions.keys() - told):
        yield {"drop": name, "messages": None, "octets": None, "sessions": sessions[name]}
