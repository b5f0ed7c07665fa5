"""The test bed as a service: what `mailflow serve` runs, and `mailflow testbed webmail`.

Rule of the file: it is for this machine alone unless it is told otherwise, since it knows no
TLS and its password is known to everybody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mailflow import listening
from mailflow.kinds import Host, Runtime
from mailflow.options import Choice, Flag, Integer, ListOf, Options, Path, Secret, TableOf, Text
from mailflow_webmail.testbed import troubles
from mailflow_webmail.testbed.folder import Folder, found
from mailflow_webmail.testbed.pages import WORDS

if TYPE_CHECKING:
    from socket import socket

    from mailflow.halt import Halt
    from mailflow_webmail.testbed.app import Bed


HERE = listening.Address("tcp", "127.0.0.1", 8025)


class TestBedOptions(Options):
    """A webmail for tests, over mbox files."""

    examples = {"path": "~/archive.mbox"}

    path = Path("An mbox file, which is the inbox, or a directory with one for each folder.")
    folders = TableOf("More folders: the mbox file of each.", Path(""), default={})
    listen = ListOf(
        'Where it listens; by default "127.0.0.1:8025".',
        listening.Listen("An address."), default=(),
    )  # fmt: skip
    anywhere = Flag("Whether it may listen where other machines reach it.", default=False)
    user = Text("The login name.", least=1, default="demo")
    password = Secret.optional('The password, instead of "demo".')
    page_size = Integer("Messages on a page.", least=1, default=20)
    json_lists = Flag("Whether lists are JSON and no pages.", default=False)
    language = Choice("Which language the pages are in.", *WORDS, default="en")
    outgoing = Path.optional("An mbox file that gets what is sent, too.")
    troubles = ListOf(
        "What goes wrong: NAME, or NAME:after=3,times=1,seconds=2,at=list.", Text(""), default=()
    )

    def faults(self) -> Iterator[tuple[str, str]]:
        for address in self.listen:
            if address.kind != "tcp":
                yield "listen", "expected an address with a port"
            elif not self.anywhere and not address.local:
                yield "listen", "other machines would reach it; `anywhere` allows that"
        for each in self.troubles:
            try:
                troubles.read(each)
            except ValueError as error:
                yield "troubles", str(error)

    def look(self) -> Iterator[tuple[str, str]]:
        if not os.path.isdir(os.path.dirname(self.path)):
            yield "path", f"no directory {os.path.dirname(self.path)}"


class TestBedService:
    """Serves mbox files as a webmail, for tests."""

    __test__ = False  # no test, whatever pytest thinks of the name

    options = TestBedOptions
    requires = ("flask",)
    extra = "testbed"

    def __init__(self, options: TestBedOptions, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        self.troubles = troubles.Troubles()
        for each in options.troubles:
            name, changes = troubles.read(each)
            self.troubles.add(name, **changes)

    def listen(self) -> Sequence[socket]:
        """Raises ConfigError, too, where a file is no mbox: the start ends with it."""
        for folder in self.bed.folders:
            folder.letters()
        return listening.bind(self._options.listen or (HERE,))

    @cached_property
    def bed(self) -> Bed:
        """The webmail. Raises ConfigError where there is no such directory."""
        from mailflow_webmail.testbed.app import Bed, Settings

        options = self._options
        folders = found(options.path, options.folders.items())
        settings = Settings(
            options.user, options.password.reveal() if options.password else "demo",
            options.page_size, options.json_lists, options.language, options.anywhere,
        )  # fmt: skip
        outgoing = Folder("", options.outgoing) if options.outgoing else None
        return Bed(folders, settings, self.troubles, self._runtime.log, outgoing)

    def serve(self, host: Host, listening: Sequence[socket], halt: Halt) -> None:
        from mailflow_webmail.testbed.server import serve, url

        bed = self.bed
        for sock in listening:
            host.log.info("the test bed is here", url=url(sock))
        host.ready()
        serve(bed, listening, host.log, halt)
