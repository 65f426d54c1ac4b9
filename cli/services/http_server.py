"""Uvicorn in the event loop of this process; the composition root handles the signals."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from contracts.errors import TreadleError
from infra.asyncio_tasks import log_failure

SHUTDOWN_TIMEOUT = 5
"""Seconds for open requests to end when the server stops."""


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
async def serve(app: FastAPI, host: str, port: int, before_stop: Callable[[], None]) -> AsyncIterator[str]:
    """Serve `app` and yield its address; port 0 takes a free one. `before_stop` must end open streams."""
    listener = listen(host, port)
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_TIMEOUT
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="gateway")
    log_failure(task)
    ready = asyncio.create_task(server.serving.wait())
    try:
        await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        ready.cancel()
        before_stop()
        server.should_exit = True
        await task


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Raises CannotListen if the port is in use or the address cannot be bound."""
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    # otherwise the body of a response is delayed until the client has acknowledged the headers
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
