"""How requests reaches a host: through mailflow's own connections, and proxies.

Rule of the file: whatever fails while a connection is made leaves here as a MailflowError with
one line; certificates are checked by the context of mailflow.net, and by nothing that requests
brings along.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from mailflow.errors import LoginError, MailflowError, PeerError, UnavailableError
from mailflow.log import register_secret
from mailflow.net import addresses, dial, no_tls
from mailflow.values import FOREVER

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

    from mailflow.halt import Halt
    from mailflow_webmail.web.watch import Call

SOCKS = ("socks5", "socks5h")
"""The latter looks names up itself."""

_PORTS = {"http": 3128, "https": 443}


class Proxy:
    """Where the proxy is and who logs in there; `url` is without that."""

    def __init__(self, url: str, password: str | None = None) -> None:
        parts = urlsplit(url)
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.port = parts.port or _PORTS.get(self.scheme, 1080)
        self.user = unquote(parts.username or "") or None
        self.password = password or unquote(parts.password or "") or None
        if self.password:
            register_secret(self.password)
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.place = f"{name}:{self.port}"
        self.url = f"{self.scheme}://{self.place}"

    @property
    def socks(self) -> bool:
        return self.scheme in SOCKS

    def wants_login(self) -> LoginError:
        if self.user is None:
            what = f'wants a name, as in "{self.scheme}://NAME@{self.place}", and `proxy_password`'
        elif self.password is None:
            what = "wants a password, which is `proxy_password`"
        else:
            what = "refuses the name or the password, in `proxy` and `proxy_password`"
        return LoginError(f"the proxy {self.place} {what}")


class Trunk:
    """Makes the connections of one browser. `now` tells which call of this thread one is for."""

    def __init__(self, proxy: Proxy | None, timeout: float, halt: Halt) -> None:
        self.proxy = proxy
        self.timeout = timeout
        self.halt = halt
        self._local = threading.local()

    @property
    def now(self) -> Call:
        call: Call = self._local.call
        return call

    def send(self, adapter: HTTPAdapter, request: PreparedRequest, call: Call) -> Response:
        """The head of the answer to a request of this thread."""
        patience = None if self.timeout == FOREVER else self.timeout
        proxy = None if self.proxy is None or self.proxy.socks else self.proxy.url
        proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        self._local.call, call.sent = call, False
        try:
            return adapter.send(request, stream=True, timeout=(patience, patience), proxies=proxies)
        finally:
            del self._local.call

    def dial(self, host: str, port: int) -> socket.socket:
        """A socket to a host or, where it is one for HTTP, to the proxy. Raises MailflowError."""
        if self.proxy is not None and self.proxy.socks:
            return self._through_socks(self.proxy, host, port)
        sock = dial(host, port, timeout=self.timeout, halt=self.halt, peer=self._peer(host, port))
        self._prepare(sock)
        return sock

    def _peer(self, host: str, port: int) -> str | None:
        proxy = self.proxy
        if proxy is not None and (host, port) == (proxy.host, proxy.port):
            return f"the proxy {proxy.place}"
        return None

    def _prepare(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None if self.timeout == FOREVER else self.timeout)
        self.now.hold(sock)

    def _through_socks(self, proxy: Proxy, host: str, port: int) -> socket.socket:
        import socks

        far = host
        if proxy.scheme == "socks5":  # it takes addresses
            found = addresses(host, port, self.timeout, self.halt)
            four = [each for each in found if each.family == socket.AF_INET]
            far = ((four or found)[0].address)[0]  # type: ignore[index]
        near = addresses(proxy.host, proxy.port, self.timeout, self.halt)
        failure: MailflowError | None = None
        for address in near:
            sock = socks.socksocket(address.family)
            self._prepare(sock)
            sock.set_proxy(
                socks.SOCKS5, address.address[0], proxy.port,  # type: ignore[index]
                rdns=proxy.scheme == "socks5h",
                username=proxy.user, password=proxy.password,
            )  # fmt: skip
            try:
                sock.connect((far, port))
                connected: socket.socket = sock
                return connected
            except OSError as error:  # those of PySocks are, too
                sock.close()
                failure = failure or self._refused(error, proxy, host, port)
            except ValueError:
                sock.close()
                raise PeerError(f"the proxy {proxy.place} does not speak SOCKS") from None
        raise failure or UnavailableError(f"cannot find the proxy {proxy.host}")

    def _refused(self, error: OSError, proxy: Proxy, host: str, port: int) -> MailflowError:
        import socks

        name = f"the proxy {proxy.place}"
        reason = getattr(error, "socket_err", None) or error  # PySocks wraps even its own
        if isinstance(error, socks.ProxyConnectionError):
            text = getattr(reason, "strerror", None) or "no answer in time"
            return UnavailableError(f"cannot connect to {name}: {text}")
        if isinstance(reason, socks.SOCKS5AuthError):
            return proxy.wants_login()
        if isinstance(reason, TimeoutError):
            return UnavailableError(f"{name} keeps silent: no answer in time")
        if isinstance(reason, socks.SOCKS5Error):
            text = re.sub(r"^0x\w+: ", "", str(reason.msg))[:80]
            return UnavailableError(f"{name} does not connect us to {host}:{port}: {text}")
        return UnavailableError(f"{name} does not answer as SOCKS has it")

    def lost(self, error: BaseException, host: str, port: int) -> MailflowError:
        """Why no connection came about, where `dial` has made one."""
        if isinstance(error, MailflowError):
            return error
        peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if isinstance(error, TimeoutError):
            return UnavailableError(f"{peer} keeps silent: no connection in time")
        found = re.match(r"Tunnel connection failed: (\d+)", str(error))
        if found and self.proxy is not None:
            if found[1] == "407":
                return self.proxy.wants_login()
            return UnavailableError(
                f"the proxy {self.proxy.place} does not connect us to {peer}: status {found[1]}"
            )
        if isinstance(error, ssl.SSLError) or self.proxy is None:
            return no_tls(OSError() if not isinstance(error, OSError) else error, peer, host)
        return UnavailableError(f"the proxy {self.proxy.place} does not connect us to {peer}")


def adapter(trunk: Trunk, context: ssl.SSLContext | None, parallel: int) -> HTTPAdapter:
    """What sends requests: `parallel` connections are kept to each host. Without a context,
    none of them speaks TLS."""
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])
    return _Adapter(trunk, context, _pools(trunk), parallel)


class _Adapter(HTTPAdapter):
    def __init__(
        self,
        trunk: Trunk,
        context: ssl.SSLContext | None,
        pools: dict[str, type],
        parallel: int,
    ) -> None:
        self._trunk = trunk
        self._context = context
        self._pools = pools
        super().__init__(pool_maxsize=parallel)

    def init_poolmanager(self, *words: Any, **more: Any) -> None:
        super().init_poolmanager(*words, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **words: Any) -> Any:
        manager = super().proxy_manager_for(proxy, proxy_ssl_context=self._context, **words)
        manager.pool_classes_by_scheme = self._pools
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        found = self._trunk.proxy
        if found is None or found.user is None:
            return {}
        return dict(make_headers(proxy_basic_auth=f"{found.user}:{found.password or ''}"))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context does, and knows whom to trust."""

    def build_connection_pool_key_attributes(
        self,
        request: Any,
        verify: Any,
        cert: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        parts = urlsplit(request.url)
        where = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        return where, {"ssl_context": self._context} if parts.scheme == "https" else {}


class _Chunked(HTTPResponse):
    """A chunk of fewer than no octets would be read to the end of the stream, and into memory."""

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise ValueError("a chunk has no such length")
        return size


def _pools(trunk: Trunk) -> dict[str, type]:
    """Pools whose connections are those of the trunk."""

    class Dialled(HTTPConnection):
        response_class = _Chunked
        put_at = 0.0

        def _new_conn(self) -> socket.socket:
            return trunk.dial(self._dns_host.strip("[]"), self.port)

        def connect(self) -> None:
            host, port = self._tunnel_host or self.host, self._tunnel_port or self.port
            try:
                super().connect()
            except (MailflowError, OSError, HTTPError, HTTPException, ValueError) as error:
                trunk.now.sent = False
                raise trunk.lost(error, host, port) from None

        def request(self, *words: Any, **more: Any) -> None:
            if self.sock is not None:
                trunk.now.hold(self.sock)
            trunk.now.sent = True
            super().request(*words, **more)

    class Kept(HTTPConnectionPool):
        ConnectionCls = Dialled

        def _get_conn(self, timeout: float | None = None) -> Any:
            conn: Any = super()._get_conn(timeout)
            call = trunk.now
            if not conn.is_closed and time.monotonic() - conn.put_at >= call.idle:
                conn.close()
            call.reused = not conn.is_closed
            return conn

        def _put_conn(self, conn: Any) -> None:
            if conn is not None:
                conn.put_at = time.monotonic()
            super()._put_conn(conn)

    class DialledTls(Dialled, HTTPSConnection):
        def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> Any:
            try:
                return super()._connect_tls_proxy(hostname, sock)
            except ssl.SSLError as error:
                raise no_tls(error, f"the proxy {hostname}:{self.port}", hostname) from None

    class KeptTls(Kept, HTTPSConnectionPool):
        ConnectionCls = DialledTls

    return {"http": Kept, "https": KeptTls}
