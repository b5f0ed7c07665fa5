"""Let mail programs read a loft."""

import fcntl
import os
from contextlib import suppress
from hashlib import blake2b

from mailflow import GoneError, InUseError, Item, LoginError, Octets
from mailflow.errors import from_os
from mailflow.lines import to_crlf
from mailflow_pigeon.distributor import flush_directory
from mailflow_pigeon.loft import LoftOptions, enter


class PigeonMaildrop:
    """Serves the pigeons of a loft."""

    options = LoftOptions
    schemes = {"pigeon": {}}
    url_path = "loft"

    def __init__(self, options, runtime):
        self._options = options

    def login(self, who):
        if not who.checked:
            raise LoginError("a loft knows no passwords: set a secret for its maildrop")
        enter(self._options)
        loft = self._options.loft
        lock = os.open(loft, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
            return OpenLoft(loft, lock)
        except BlockingIOError:
            os.close(lock)
            raise InUseError(f"another session is in {loft}") from None
        except OSError as error:
            os.close(lock)
            raise from_os(error, f"look into {loft}") from None


class OpenLoft:
    """The pigeons that sat there at the login; those that come later are not in it."""

    def __init__(self, loft, lock):
        self._loft, self._lock = loft, lock
        fly_away(loft)  # those that an earlier session has let go, if it was killed
        self._names = {}
        self._items = []
        for name in sorted(os.listdir(loft)):
            if name.endswith(".eml"):
                key = blake2b(os.fsencode(name), digest_size=12).hexdigest()  # a UIDL is short
                self._names[key] = name
                self._items.append(Item(key, len(self._octets(name))))

    def items(self):
        return self._items

    def read(self, key):
        try:
            return Octets(self._octets(self._names[key]))
        except FileNotFoundError:
            raise GoneError(f"the pigeon {self._names[key]} has left {self._loft}") from None
        except OSError as error:
            raise from_os(error, f"read {self._names[key]}") from None

    def close(self, delete=()):
        """All of them fly, or none: first it is written down which."""
        try:
            if delete:
                with open(os.path.join(self._loft, ".fly"), "w", encoding="utf-8") as file:
                    file.writelines(f"{self._names[key]}\n" for key in delete)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(os.path.join(self._loft, ".fly"), os.path.join(self._loft, ".flying"))
                flush_directory(self._loft)
                fly_away(self._loft)
        except OSError as error:
            raise from_os(error, f"let pigeons fly from {self._loft}") from None
        finally:
            os.close(self._lock)

    def _octets(self, name):
        """As a client gets it: the size of an item counts each octet of this."""
        with open(os.path.join(self._loft, name), "rb") as file:
            octets = to_crlf(file.read())
        return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def fly_away(loft):
    """Let those go that are written down, as often as it takes."""
    path = os.path.join(loft, ".flying")
    try:
        with open(path, encoding="utf-8") as file:
            names = file.read().splitlines()
    except FileNotFoundError:
        return
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(loft, name))
    flush_directory(loft)
    os.unlink(path)
