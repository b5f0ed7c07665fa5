"""A service shared by several processes, each begun anew when it ends.

Rule of the file: a worker is this program started again (exec), never a fork that goes on:
threads and locks of the parent do not survive one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from mailflow.engine import layers
from mailflow.engine.channel import PATIENCE, Channel
from mailflow.engine.hosting import Backoff
from mailflow.errors import MailflowError
from mailflow.log import configured, get_logger
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailflow.engine.described import Described
    from mailflow.engine.hosting import Around
    from mailflow.engine.pipeline import Pipeline, ServeStep

TO_END = 60.0
"""Seconds that a worker has to end in order; then it is killed, which harms no mail."""

TO_RELOAD = 20.0
"""Seconds in which a worker should have read its files anew."""


class WorkerHost:
    """The workers of one [[serve]]."""

    def __init__(
        self, pipeline: Pipeline, step: ServeStep, listening: Sequence[socket.socket],
        around: Around, described: Described,
    ) -> None:  # fmt: skip
        self.pipeline = pipeline
        self.step = step
        self.is_ready = threading.Event()
        self._listening = listening
        self._around = around
        self._described = described
        self._workers = [Worker(self, number) for number in range(step.workers)]

    @property
    def error(self) -> str:
        """Why one of them is down, if one is."""
        return next((each.error for each in self._workers if each.error), "")

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(each.pid for each in self._workers if each.pid)

    def reports(self) -> list[Mapping[str, object]]:
        return [each.said for each in self._workers]

    def start(self) -> None:
        for each in self._workers:
            each.start()

    def stop(self) -> None:
        for each in self._workers:
            each.stop()

    def join(self) -> None:
        for each in self._workers:
            each.join()
        self.close()

    def close(self) -> None:
        for sock in self._listening:
            sock.close()

    def reload(self) -> None:
        """Let them read their files anew, and wait until they have."""
        for each in self._workers:
            each.reload()
        for each in self._workers:
            each.reloaded.wait(TO_RELOAD)

    def event(self, name: str, **facts: object) -> None:
        self._around.event(name, pipeline=self.pipeline.name, step=self.step.name, **facts)

    def begin(self) -> dict[str, Any]:
        """All that a worker must know to be the same as this process."""
        return {
            "given": self._described.words(), "files": self._described.texts,
            "pipeline": self.pipeline.name, "serve": self.step.name,
            "sockets": self.descriptors(), "log": configured(), "config": layers.only(),
        }  # fmt: skip

    def files(self) -> Mapping[str, str]:
        """What the files of the installation said: a worker sees them as its parent does,
        also when it is begun again after one was written that is wrong."""
        return self._described.texts

    def descriptors(self) -> list[int]:
        return [sock.fileno() for sock in self._listening]

    def told(self) -> None:
        """One more is ready; all are, perhaps."""
        if all(each.is_ready for each in self._workers):
            self.is_ready.set()

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a worker's service asked of its host."""
        try:
            if asked["do"] == "poke":
                self._around.poke(str(asked["source"]))
                return {"ok": None}
            return {"ok": self._around.facts()}
        except MailflowError as error:
            return {"error": error.text, "exit_code": error.exit_code}
        except Exception as error:  # noqa: BLE001  # a fault of ours ends no worker
            return {"error": f"internal error: {type(error).__name__}", "exit_code": 70}


class Worker:
    """One process, and the thread that looks after it."""

    def __init__(self, host: WorkerHost, number: int) -> None:
        self.said: Mapping[str, object] = {}
        self.error = ""
        self.pid = 0
        self.is_ready = False
        self.reloaded = threading.Event()
        self.reloaded.set()
        self._host = host
        self._log = get_logger(pipeline=host.pipeline.name, serve=host.step.name, worker=number + 1)
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._channel: Channel | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._until = 0.0
        name = f"{host.pipeline.name}/{host.step.name}/{number + 1}"
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait for its end; one that does not come to it, whatever it hangs in, is killed."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        with self._turn:
            if self._child is not None:
                self._child.kill()
        self._thread.join()

    def stop(self) -> None:
        self._until = time.monotonic() + TO_END
        self._stopping.set()
        with self._turn:
            if self._channel is not None:
                self._channel.end()

    def reload(self) -> None:
        with self._turn:
            if self._channel is not None:
                self.reloaded.clear()
                if not self._channel.send({"do": "reload", "files": self._host.files()}):
                    self.reloaded.set()

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            backoff.begin()
            try:
                ended = self._once()
            except OSError as error:
                ended = f"cannot be started: {os.strerror(error.errno or 0)}"
            except (ValueError, LookupError, TypeError) as error:  # it is none of ours any more
                ended = f"has said what makes no sense: {type(error).__name__}"
            if self._stopping.is_set():
                return
            wait = backoff.failed()
            self.error = f"a worker {ended}"
            self._log.error("worker ended", reason=ended, again_in=wait)
            self._host.event("service.failed", error=self.error)
            self._stopping.wait(wait)

    def _once(self) -> str:
        """One process from its start to its end; how it ended."""
        mine, other = socket.socketpair()
        with mine, other:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "mailflow.engine.worker", str(other.fileno())],
                stdin=subprocess.DEVNULL, close_fds=True,
                pass_fds=[other.fileno(), *self._host.descriptors()],
            )  # fmt: skip
            other.close()
            channel = Channel(mine, PATIENCE)
            with self._turn:
                self._channel, self._child, self.pid = channel, child, child.pid
                channel.send(self._host.begin())
                if self._stopping.is_set():
                    channel.end()
            try:
                for value in channel.received():
                    self._take(channel, value)
            finally:
                with self._turn:
                    self._channel, self.said = None, {}
                self.is_ready = False
                self.reloaded.set()
                status = _ended(child)
                with self._turn:
                    self._child, self.pid = None, 0
        return status

    def _take(self, channel: Channel, value: Mapping[str, Any]) -> None:
        if "report" in value:
            self.said = value["report"]
        elif "ready" in value:
            self.is_ready, self.error = True, ""
            self._host.told()
        elif "failed" in value:
            self._host.event("service.failed", error=str(value["failed"]))
        elif "reloaded" in value:
            self.reloaded.set()
        elif "ask" in value:
            channel.send({"answer": value["ask"], **self._host.answer(value)})


def _ended(child: subprocess.Popen[bytes]) -> str:
    """Wait for a process that has closed its line; how it ended, in words."""
    try:
        status = child.wait(TO_END)
    except subprocess.TimeoutExpired:
        child.kill()
        status = child.wait()
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
