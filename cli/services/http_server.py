"""Uvicorn inside this process's own loop; it leaves signals to the composition root."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from contracts.errors import TreadleError
from infra.tasks import say_if_broken

GRACE = 5
"""Seconds that open requests have to end."""


class CannotListen(TreadleError):
    """Something else listens where the gateway should, or the address is not ours."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        self.port = port
        taken = error.errno == errno.EADDRINUSE
        why = "it is taken" if taken else error.strerror or str(error)
        mend = "choose another port with --port, or TREADLE_HTTP_PORT" if taken else "check TREADLE_HTTP_HOST and _PORT"
        super().__init__(f"cannot listen on port {port} of {host}: {why}; {mend}")


class _Server(uvicorn.Server):
    """A server that says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals as they are."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self.serving.set()


@asynccontextmanager
async def served(app: FastAPI, host: str, port: int, before_stop: Callable[[], None]) -> AsyncIterator[str]:
    """The address at which `app` answers; port 0 takes a free one. `before_stop` ends open streams."""
    listener = listen(host, port)
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="gateway")
    say_if_broken(task)
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
    """A listener whose connections send at once: else an answer's body waits 40 ms for the receipt of its head."""
    try:
        listener = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise CannotListen(host, port, error) from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
