"""Where mail goes that is written into the form of the test bed."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mailflow.addresses import addresses
from mailflow.errors import BadMailError
from mailflow.testing.contracts import RemoteDestination, Taken
from mailflow.testing.contracts.distributor import PEOPLE, letter
from mailflow.testing.proxy import Proxy
from mailflow.testing.webmail import TestBed
from mailflow_webmail.sending.letter import KINDS
from mailflow_webmail.sending.letter import letter as written

PASSWORD = "canary-71c0 & sécret"


class Bed(RemoteDestination):
    """A test bed behind a proxy; what it sent is in the mbox of what goes out."""

    def __init__(self, bed: TestBed, proxy: Proxy) -> None:
        self.bed = bed
        self.proxy = proxy
        self.table: Mapping[str, object] = {
            "site": "testbed", "url": f"http://127.0.0.1:{proxy.port}/", "user": bed.user,
            "password": PASSWORD, "timeout": "20s", "loses": list(KINDS), "drops": ["*"],
        }  # fmt: skip

    def octets(self) -> list[bytes]:
        outgoing = self.bed.bed.outgoing
        return [b"".join(outgoing.source(each)) for each in outgoing.letters()]

    def taken(self) -> Sequence[Taken]:
        found = []
        for each in self.octets():
            to = email.message_from_bytes(each)["X-Envelope-To"]
            found.append(Taken(essence(each), addresses(to).found))
        return found

    def expected(self, octets: bytes) -> bytes:
        return essence(octets)

    def clear(self) -> None:
        """As nothing had been sent and nothing were wrong."""
        self.proxy.faults = []
        self.bed.quiet()
        for folder in (self.bed.bed.outgoing, self.bed.bed.folders["Sent"]):
            folder.delete([each.uid for each in folder.letters()])

    def holds(self, octets: bytes) -> bool:
        try:
            written(letter(octets), PEOPLE, carried={"bcc"}, loses=KINDS, drops=["*"])
        except BadMailError:
            return False
        return True


def essence(octets: bytes) -> bytes:
    """Subject and text: what a mail made anew has in common with the one it was made of."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    text = message.get_body(("plain",))
    said = text.get_content() if text is not None else ""
    subject = " ".join(str(message["Subject"] or "").split())
    return f"{subject}\n{said}".replace("\r\n", "\n").rstrip("\n").encode("utf-8", "replace")


@contextmanager
def running(directory: Path) -> Iterator[Bed]:
    outgoing = directory / "outgoing"
    outgoing.touch()
    with (
        TestBed(password=PASSWORD, outgoing=str(outgoing)) as bed,
        Proxy(("127.0.0.1", bed.port)) as proxy,
    ):
        yield Bed(bed, proxy)
