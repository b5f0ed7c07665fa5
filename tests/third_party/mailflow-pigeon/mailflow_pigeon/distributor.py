"""Send messages to a loft."""

import os
from contextlib import suppress

from mailflow import LATER, SENT, Report
from mailflow.errors import from_os
from mailflow.mail import chunks
from mailflow_pigeon.loft import LoftOptions, enter


class PigeonDistributor:
    """Sends each message to a loft, once."""

    options = LoftOptions
    schemes = {"pigeon": {}}
    url_path = "loft"
    repeatable = True  # the ticket's key is the file's name: twice is once
    per_recipient = False  # a message is one pigeon, however many are to read it
    sends = False  # it leaves for nobody else's computer

    def __init__(self, options, runtime):
        self._options = options

    def __enter__(self):
        enter(self._options)
        return self

    def __exit__(self, kind, error, trace):
        pass

    def distribute(self, mail, ticket):
        loft = self._options.loft
        hidden, path = (
            os.path.join(loft, name) for name in (f".{ticket.key}", f"{ticket.key}.eml")
        )
        try:
            with open(hidden, "wb") as file:
                file.writelines(chunks(mail.content))
                file.flush()
                os.fsync(file.fileno())  # its octets are on the disk ...
            os.replace(hidden, path)  # ... before it has a name ...
            flush_directory(loft)  # ... and the name is, before it is SENT
        except OSError as error:
            with suppress(OSError):
                os.unlink(hidden)
            yield Report("", LATER, "4.3.0", from_os(error, f"send a pigeon to {loft}").text)
        else:
            yield Report("", SENT)


def flush_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
