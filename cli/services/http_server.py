"""Uvicorn in the event loop of this process; the composition root handles the signals."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from cli.services.http_protocol import SEND_TIMEOUT, GatewayProtocol
from contracts.errors import TreadleError
from control.gateway.origins import is_loopback
from infra.asyncio_tasks import log_failure

SHUTDOWN_TIMEOUT = 5
"""Seconds for open requests to end when the server stops."""
MAX_HEADER_BYTES = 16 * 1024
"""Bytes of the request line and the headers together."""
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""A client whose machine is gone is noticed after these seconds, even if nothing is sent."""


class CannotListen(TreadleError):
    """The port of the gateway is in use, or its address does not belong to this machine."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        self.port = port
        in_use = error.errno == errno.EADDRINUSE
        why = "the port is in use" if in_use else error.strerror or str(error)
        fix = (
            "choose another with --port or TREADLE_HTTP_PORT"
            if in_use
            else "check TREADLE_HTTP_HOST and TREADLE_HTTP_PORT"
        )
        super().__init__(f"cannot listen on port {port} of {host}: {why}; {fix}")


class OpenToOthers(TreadleError):
    """The gateway would answer other machines, and it has no accounts."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"TREADLE_HTTP_HOST is {host!r}, which other machines can reach, and the gateway has no accounts: any user "
            "there could read and change everything. Set it to 127.0.0.1, or set TREADLE_HTTP_OPEN=yes if only trusted "
            "machines can reach this address"
        )


class _Server(uvicorn.Server):
    """A server that sets `serving` as soon as it accepts requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set `serving`."""
        await super().startup(sockets)
        self.serving.set()


@asynccontextmanager
async def serve(
    app: FastAPI,
    host: str,
    port: int,
    before_stop: Callable[[], None],
    *,
    protocol: type[GatewayProtocol] = GatewayProtocol,
) -> AsyncIterator[str]:
    """Serve `app` and yield its address; port 0 takes a free one. `before_stop` must end open streams."""
    listener = listen(host, port)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="gateway")
    log_failure(task)
    ready = asyncio.create_task(server.serving.wait())
    try:
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listener.getsockname()[1]}"
    finally:
        ready.cancel()
        before_stop()
        server.should_exit = True
        await task


def require_loopback(host: str, port: int) -> None:
    """Raise OpenToOthers if other machines can reach `host`, and CannotListen if it has no address."""
    if not is_loopback([str(address[0]) for _, address in _addresses(host, port)]):
        raise OpenToOthers(host)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Raises CannotListen if the port is in use or the address cannot be bound."""
    family, address = _addresses(host, port)[0]
    both = address[0] == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(address, family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    # otherwise the body of a response is delayed until the client has acknowledged the headers
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {**KEEPALIVE, "TCP_USER_TIMEOUT": int(SEND_TIMEOUT * 1000)}  # the latter: for data that is not taken
    for name, value in options.items():
        if hasattr(socket, name):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return listener


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """The family, and the address to bind, of each IP address of `host`."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    return [(family, (str(address[0]), port)) for family, _, _, _, address in found]
