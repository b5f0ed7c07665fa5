"""One worker of `mailflow serve`: a process with one service, which its parent looks after.

Rule of the file: it lives as long as its parent's end of the line; what it is, the parent
says in the first line, so that no argument, and no list of processes, tells anything.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading

from mailflow import toml_file
from mailflow.engine import layers
from mailflow.engine.channel import Channel
from mailflow.engine.described import Described
from mailflow.engine.flow import PLUGIN_FAULTS, as_error
from mailflow.engine.hosting import Backoff, Drops, make
from mailflow.errors import ConfigError, MailflowError, PluginError, UnavailableError
from mailflow.halt import Halt
from mailflow.log import configure, get_logger
from mailflow.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailflow.accounts import Accounts

REPORT_SECONDS = 0.5
"""A service may report at every login; the parent hears it no more often."""

ANSWER = 30.0
"""Seconds that the parent is waited for."""


class WorkerProcess:
    """kinds.Host of the service in this process."""

    def __init__(self, channel: Channel, begin: Mapping[str, Any]) -> None:
        self.halt = Halt()
        self._channel = channel
        self._described = Described(begin["given"])
        pipelines, self._registry = self._described.load_together()
        self.pipeline = next(each for each in pipelines if each.name == begin["pipeline"])
        self.step = next(each for each in self.pipeline.serve if each.name == begin["serve"])
        self.listening = [socket.socket(fileno=number) for number in begin["sockets"]]
        self.log = get_logger(pipeline=self.pipeline.name, serve=self.step.name)
        self._drops = Drops(self.halt)
        self._drops.load(pipelines)
        self._news: Mapping[str, object] | None = None
        self._change = threading.Condition()
        self._asked = 0
        self._answers: dict[int, Mapping[str, Any] | None] = {}

    @property
    def accounts(self) -> Accounts:
        return self._drops.accounts

    def ready(self) -> None:
        self._channel.send({"ready": True})

    def report(self, facts: Mapping[str, object]) -> None:
        with self._change:
            self._news = dict(facts)
            self._change.notify_all()

    def status(self) -> Mapping[str, object]:
        found: Mapping[str, object] = self._ask(do="status")
        return found

    def poke(self, source: str) -> None:
        self._ask(do="poke", source=source)

    def _ask(self, **request: object) -> Any:
        with self._change:
            self._asked += 1
            number = self._asked
            self._answers[number] = None
        if not self._channel.send({"ask": number, **request}):
            raise UnavailableError("the installation ends")
        with self._change:
            self._change.wait_for(lambda: self._answers[number] is not None, ANSWER)
            answer = self._answers.pop(number)
        if answer is None:
            raise UnavailableError("the installation does not answer")
        if "error" in answer:
            kind = ConfigError if answer.get("exit_code") == ConfigError.exit_code else None
            raise (kind or UnavailableError)(str(answer["error"]))
        return answer.get("ok")

    def run(self, values: Iterator[Mapping[str, Any]]) -> None:
        """Serve until the parent says no more."""
        threads = [
            threading.Thread(target=self._listen, args=(values,), daemon=True),
            threading.Thread(target=self._tell, daemon=True),
        ]
        for thread in threads:
            thread.start()
        service = make(self.pipeline, "serve", self.step, self.halt)
        backoff = Backoff()
        while not self.halt.is_set():
            backoff.begin()
            try:
                service.serve(self, self.listening, self.halt)
                failure: MailflowError = PluginError(f"{self.step.use} has ended by itself")
            except PLUGIN_FAULTS as error:
                failure = as_error(error, self.step.use)
            if self.halt.is_set():
                return
            wait = backoff.failed()
            self.log.error("service failed", error=failure.text, again_in=wait)
            self._channel.send({"failed": failure.text})
            self.halt.wait(wait)

    def _listen(self, values: Iterator[Mapping[str, Any]]) -> None:
        for value in values:
            if "answer" in value:
                with self._change:
                    if value["answer"] in self._answers:  # somebody still waits for it
                        self._answers[value["answer"]] = value
                    self._change.notify_all()
            elif value.get("do") == "reload":
                toml_file.hold(value["files"])
                self._reload()
        self.halt.set()

    def _reload(self) -> None:
        try:
            pipelines, self._registry = self._described.load_together()
            self._drops.load(pipelines)
        except MailflowError as error:  # a plugin that has changed since the parent's start
            self.log.error("not reloaded", error=error.text)
        self._channel.send({"reloaded": True})

    def _tell(self) -> None:
        while not self.halt.wait(REPORT_SECONDS):
            with self._change:
                self._change.wait_for(lambda: self._news is not None, ANSWER)
                news, self._news = self._news, None
            if news is not None:
                self._channel.send({"report": news})


def main(descriptor: int) -> int:
    """The process, from the parent's first line to its last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; it is the parent's to end
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=descriptor))
    values = channel.received()
    begin = next(values, None)
    if begin is None:
        return 0
    configure(**begin["log"])
    layers.use_only(begin["config"])
    toml_file.hold(begin["files"])
    try:
        process = WorkerProcess(channel, begin)
        signal.signal(signal.SIGTERM, lambda *_: process.halt.set())
        process.run(values)
    except MailflowError as error:
        get_logger().error("worker not started", error=error.text)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
