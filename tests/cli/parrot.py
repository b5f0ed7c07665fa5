"""A plugin of a test, with a service that answers lines: `parrot`.

    serve = '[[serve]]\nuse = "parrot"\nport = {port}'
    parrot.ask(port, "who ann secret")          # -> "ann"

Rule of the file: it does what a service may do, each by one word of a client.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress

PLUGIN = """
import os, select, threading
from socket import create_server
from mailflow import MailflowError, hookimpl
from mailflow.options import Integer, Options, Text

class ParrotOptions(Options):
    port = Integer("Where.", least=0, most=65535)
    word = Text("What it says.", default="hello")

class Parrot:
    options = ParrotOptions
    def __init__(self, options, runtime):
        self._options = options
        self._count = 0
    def listen(self):
        return [create_server(("127.0.0.1", self._options.port))]
    def serve(self, host, listening, halt):
        self._fail = None
        host.ready()
        clients = {}
        poller = select.poll()
        for sock in listening:
            sock.setblocking(False)
            poller.register(sock, select.POLLIN)
        poller.register(halt.fileno(), select.POLLIN)
        try:
            while not halt.is_set() and self._fail is None:
                for number, _ in poller.poll(50):
                    for sock in listening:
                        if sock.fileno() == number:
                            self._accept(sock, host)
            if self._fail:
                raise self._fail
        finally:
            for sock in listening:
                poller.unregister(sock)
    def _accept(self, sock, host):
        try:
            client, _ = sock.accept()
        except BlockingIOError:
            return
        self._count += 1
        host.report({"taken": self._count, "sessions": {"ann": self._count}})
        threading.Thread(target=self._talk, args=(client, host), daemon=True).start()
    def _talk(self, client, host):
        with client, client.makefile("rw") as wire:
            for line in wire:
                words = line.split()
                try:
                    said = self._answer(words[0], words[1:], host)
                except MailflowError as error:
                    said = f"{type(error).__name__} {error.text}"
                wire.write(f"{said}\\n")
                wire.flush()
    def _answer(self, word, words, host):
        if word == "say":
            return self._options.word
        if word == "who":
            entered = host.accounts.password(*words)
            entered.drop.close()
            return entered.login
        if word == "pid":
            return os.getpid()
        if word == "uid":
            return os.getuid()
        if word == "poke":
            return host.poke(*words)
        if word == "status":
            return sorted(host.status())
        if word == "raise":
            self._fail = ValueError("a bug")
            return "as you like"
        if word == "die":
            os._exit(9)

class Nothing:
    options = Options
    def __init__(self, options, runtime):
        pass
    def login(self, who):
        return Empty()
    def standing(self):
        return [("", 3, 4711)]

class Empty:
    def items(self):
        return []
    def read(self, key):
        raise AssertionError
    def close(self, delete=()):
        pass

@hookimpl
def mailflow_register(register):
    register.service(Parrot)
    register.maildrop(Nothing)
"""

PATIENCE = 20.0


class Line:
    """A client's connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._wire = self._socket.makefile("rw")

    def ask(self, words: str) -> str:
        """The answer to one line; "" where the other side is gone."""
        try:
            self._wire.write(words + "\n")
            self._wire.flush()
            return self._wire.readline().rstrip("\n")
        except OSError:
            return ""

    def close(self) -> None:
        with suppress(OSError):
            self._wire.close()
        self._socket.close()


def ask(port: int, words: str) -> str:
    """One question on a connection of its own, as soon as somebody answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            line = Line(port)
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {port}"
            time.sleep(0.02)
            continue
        answer = line.ask(words)
        line.close()
        if answer or words in ("die",):
            return answer
        assert time.monotonic() < deadline, f"{words!r} was never answered"
