"""A real uvicorn server on loopback, in a thread of this process.

In:  an application.
Out: the address it is served at; the port is free again when the block ends.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from querywatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
_STOP_LIMIT_S = 5.0


def bind_port(port: int) -> socket.socket:
    """Take a port on loopback.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: The port is in use, or not ours to take.
    """
    # asyncio turns Nagle's algorithm off only where it is told the protocol; with it an answer takes 40 ms longer.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # As uvicorn does: a port whose last connections are only waiting to time out is free.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--port {port}: cannot listen there ({reason}). Choose another one, or leave it out for a free one."
        ) from None
    return bound


@contextmanager
def serve(app: Any, bound: socket.socket) -> Iterator[str]:
    """Serve *app* until the block ends.

    Args:
        app: An ASGI application.
        bound: What `bind_port` returned; closed afterwards.

    Yields:
        The address, such as `http://127.0.0.1:8077`.
    """
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    # Requests that never end must not keep the demo from ending.
    server = Server(uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([bound],), name="querywatch-demo-server", daemon=True)
    thread.start()
    try:
        while not started.wait(0.1):
            if not thread.is_alive():
                raise ConfigError("the demo's web server did not start.")
        yield f"http://{HOST}:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_STOP_LIMIT_S)
        bound.close()
