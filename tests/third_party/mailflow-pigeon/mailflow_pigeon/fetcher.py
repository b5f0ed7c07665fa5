"""Take messages out of a loft."""

import os
from contextlib import suppress

from mailflow import Envelope, Fate, Fetched, GoneError, Item, Missed, OctetFile, Octets
from mailflow.errors import from_os
from mailflow.lines import to_crlf
from mailflow.mail import HEADER_LIMIT, head
from mailflow_pigeon.loft import LoftOptions, enter

IN_MEMORY = 1 << 20  # octets; what is larger goes through a file


class PigeonFetcher:
    """Fetches what the pigeons of a loft carry."""

    options = LoftOptions
    schemes = {"pigeon": {}}  # so that pigeon:///home/ann/loft names a source
    url_path = "loft"

    def __init__(self, options, runtime):
        self.source = options.loft
        self.mark = ""
        self._options = options
        self._runtime = runtime

    def __enter__(self):
        enter(self._options)
        return self

    def __exit__(self, kind, error, trace):
        pass

    def listing(self, where, mark=""):
        try:
            names = sorted(os.listdir(self.source))
        except OSError as error:
            raise from_os(error, f"look into {self.source}") from None
        return [Item(name) for name in names if name.endswith(".eml")]

    def heads(self, keys):
        for key in keys:
            with suppress(FileNotFoundError), open(self._path(key), "rb") as file:
                section = head(Octets(to_crlf(file.read(HEADER_LIMIT + 1))))
                yield Fetched(key, Octets(section), Envelope())

    def retrieve(self, keys):
        for key in keys:
            self._runtime.halt.check()
            try:
                content = self._content(key)
            except FileNotFoundError:
                yield Missed(key, GoneError(f"the pigeon {key} has left {self.source}"))
            except OSError as error:
                raise from_os(error, f"read {self._path(key)}") from None
            else:
                yield Fetched(key, content, Envelope())

    def settle(self, key, fate):
        if fate is Fate.DONE:
            with suppress(FileNotFoundError):
                os.unlink(self._path(key))

    def _path(self, key):
        return os.path.join(self.source, key)

    def _content(self, key):
        """The message with CRLF lines."""
        with open(self._path(key), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._runtime.progress(size)
            if size <= IN_MEMORY:
                return Octets(to_crlf(file.read()))
            path = os.path.join(self._runtime.scratch, f"pigeon-{os.getpid()}-{key}")
            with open(path, "xb") as copy:
                copy.writelines(map(to_crlf, file))
            return OctetFile(path)  # the engine owns the file from now on
