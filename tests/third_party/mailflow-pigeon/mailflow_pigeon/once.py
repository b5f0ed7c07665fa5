"""Let each message pass once, however many pigeons carry it."""

from hashlib import blake2b

from mailflow import Discard, Options
from mailflow.options import Duration


class OnceOptions(Options):
    for_ = Duration("How long a Message-ID is remembered.", default=14 * 86400.0)


class OnceProcessor:
    """Discards a message whose Message-ID has passed before."""

    options = OnceOptions
    pure = False  # it remembers

    def __init__(self, options, runtime):
        self._options = options

    def process(self, mail, context):
        identifier = mail.header().get("Message-ID")
        if not identifier:
            yield mail
            return
        key = blake2b(identifier.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        if context.memory.get(key):
            yield Discard("another pigeon brought this message before")
            return
        context.memory.set(key, "passed", keep=self._options.for_)
        yield mail
