"""The worker's side of its fork server: starts it, orders child processes from it, and replaces it when it has died."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextvars import Context
from pathlib import Path

import structlog

from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.child.fork_server.connection import Connection
from infra.child.fork_server.forked import ForkedProcess
from infra.child.running import Streams

CAN_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")
"""Whether this system has what the fork server needs; if not, child processes are started by exec."""

IMPORT_TIMEOUT = 120.0
"""Seconds after which a server that answers no order is killed."""
MAX_STARTS = 3
"""Servers in a row that may end during their imports; after that, child processes are started by exec."""

log = structlog.get_logger(__name__)


class ForkServer:
    """The fork server of this process, which has imported `modules`. All workers of the process may share it."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = tuple(dict.fromkeys(modules))
        self._connecting = asyncio.Lock()
        self._connection: Connection | None = None
        self._starts_left = MAX_STARTS if CAN_FORK and modules else 0
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server; None if none runs."""
        return self._connection.pid if self._connection is not None else None

    async def start(self) -> None:
        """Start the server; it imports the programs while this process goes on."""
        await self._connected()

    async def fork(self, module: str, streams: Streams, temporary: Path) -> ForkedProcess | None:
        """Start a program, as soon as the server has done its imports.

        Returns None if the server cannot do that: it has not imported the module, or cannot import its programs.
        Raises OSError if the system cannot start a process.
        """
        if module not in self._modules or (connection := await self._connected()) is None:
            return None
        try:
            async with asyncio.timeout(IMPORT_TIMEOUT):
                return await connection.fork(module, streams, temporary)
        except TimeoutError:
            log.warning("fork_server_stuck", pid=connection.pid, seconds=IMPORT_TIMEOUT)
            connection.kill()
            return None

    async def close(self) -> None:
        """End the server, and child processes that still run."""
        async with self._connecting:
            self._starts_left = 0
        if self._watching is not None:
            await cancel_and_wait(self._watching)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _connected(self) -> Connection | None:
        """The connection to the server; it is started if none runs and enough starts are left."""
        async with self._connecting:
            if self._connection is None and self._starts_left:
                self._connection = await Connection.open(self._modules)
                watching, own = self._watch(self._connection), Context()  # not that of the attempt that orders
                self._watching = asyncio.create_task(watching, name="fork server", context=own)
                log_failure(self._watching)
            return self._connection

    async def _watch(self, connection: Connection) -> None:
        """Replace the server at once when it has ended, so that it has done its imports before the next job."""
        reason = await connection.ended()
        self._connection = None
        self._starts_left = MAX_STARTS if connection.ready else self._starts_left - 1
        log.warning("fork_server_ended", reason=reason, starts_left=self._starts_left)
        await self._connected()
