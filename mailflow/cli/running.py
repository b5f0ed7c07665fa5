"""An installation that runs, in tables: what its sources do, who is served, what lies there.

Rule of the file: what it says of itself is text from elsewhere; whatever is missing, the
rest is shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mailflow.tables import moment, say, show, span


def show_installation(facts: Mapping[str, Any]) -> None:
    """Print how `mailflow serve` fares."""
    now = time.time()
    since = span(now - float(facts.get("started") or now))
    files = ", ".join(str(each) for each in facts.get("files", ()))
    say(f"{facts.get('state', 'running')} for {since} as process {facts.get('pid')}: {files}")
    for pipeline in facts.get("pipelines", ()):
        if pipeline.get("state") != "running":
            say(f"pipeline {pipeline.get('pipeline')}: {pipeline.get('state')}"
                f" {pipeline.get('error', '')}".rstrip())  # fmt: skip
    sources = [(each, one) for each in facts.get("pipelines", ()) for one in each["sources"]]
    if sources:
        show(
            ("PIPELINE", "STEP", "DOING", "NEXT", "FETCHED", "WORKED", "FAILURES", "ALARM SINCE"),
            (
                (
                    pipeline["pipeline"], source["step"], source["state"],
                    _in(source["next_at"], now), source["fetched"], _at(source["worked_at"]),
                    source["failures"] or "", _at(source["alarm"]),
                )
                for pipeline, source in sources
            ),
        )  # fmt: skip
    services = facts.get("services", ())
    if services:
        show(
            ("SERVICE", "STATE", "SESSIONS", "WORKERS", "SAYS"),
            (
                (
                    each["service"], "ready" if each["ready"] else "starting", each["sessions"],
                    ", ".join(map(str, each["workers"])), each["error"] or _said(each["said"]),
                )
                for each in services
            ),
        )  # fmt: skip
    drops = facts.get("drops", ())
    if drops:
        show(
            ("DROP", "MESSAGES", "OCTETS", "SESSIONS"),
            (
                (each["drop"], each["messages"], each["octets"], each["sessions"] or "")
                for each in drops
            ),
        )


def alarms(facts: Mapping[str, Any]) -> bool:
    """Whether there is an alarm about a source."""
    return any(one["alarm"] for each in facts.get("pipelines", ()) for one in each["sources"])


def _at(when: float | None) -> str:
    return "" if when is None else moment(when)


def _in(when: float | None, now: float) -> str:
    return "" if when is None else f"in {span(when - now)}"


def _said(said: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in said.items())
