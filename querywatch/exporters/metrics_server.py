"""A small HTTP server for the metrics page, on daemon threads.

In:  an address and a WSGI application.
Out: answers; nothing on the host's stdout, stderr or log, whatever a client does.

`prometheus_client.start_http_server` would do, but it prints a traceback when a scraper hangs up, may wait seconds for
DNS when it starts, and takes half a second to stop.
"""

from __future__ import annotations

import io
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_CLIENT_TIMEOUT_S = 10.0
#: How long `close` may take to be noticed.
_POLL_INTERVAL_S = 0.1


class MetricsServer:
    """Listens and serves until it is closed.

    Args:
        application: Answers each request, on a thread of its own.
        address: IP address or host name of this machine.
        port: 0 takes a free one.

    Raises:
        OSError: The address cannot be listened on.
        UnicodeError: The address is no host name.
    """

    def __init__(self, application: WSGIApplication, address: str, port: int) -> None:
        family, _, _, _, resolved = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        self._server = _Server(family, resolved[:2])
        self._server.set_app(application)
        host, self.port = self._server.server_address[:2]
        self.address = str(host)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_INTERVAL_S,), name="querywatch-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port. May be called twice."""
        # In a forked child there is no such thread, and to shut down would wait for it for ever.
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self.address_family = family
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for the host's full name, as `HTTPServer` does."""
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a scraper that hung up is no news to the host."""


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log no requests."""

    def get_stderr(self) -> Any:
        """Keep tracebacks from the host's stderr; the scraper sees status 500."""
        return io.StringIO()
