"""One process of the fork server, and the socket to it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from infra.child.environment import child_environment
from infra.child.fork_server.forked import ForkedProcess
from infra.child.fork_server.messages import MAX_PACKET, Answer, Order
from infra.child.lifeline import dies_with_parent
from infra.child.outcome import exit_text, last_line_of
from infra.child.running import Streams

STOP_TIMEOUT = 5.0
"""Seconds for which the server may take to end after its socket was closed."""


class Connection:
    """Sends orders, and applies the answers to the processes that they are about."""

    def __init__(self, process: Process, end: socket.socket, log: BinaryIO) -> None:
        self._process = process
        self._socket = end
        self._log = log
        self._numbers = count(1)
        self._ordered: dict[int, asyncio.Future[ForkedProcess | None]] = {}
        self._running: dict[int, ForkedProcess] = {}
        self._closed = asyncio.Event()
        self.ready = False
        """Whether the server has done its imports."""

    @classmethod
    async def open(cls, modules: Sequence[str]) -> Connection:
        """Start a server, which imports `modules`. Raises OSError if the system cannot start a process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *dies_with_parent(signal.SIGKILL),
                *(sys.executable, "-P", "-m", "infra.child.fork_server.server", str(theirs.fileno()), *modules),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(os.environ),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.setblocking(False)
        connection = cls(process, ours, log)
        asyncio.get_running_loop().add_reader(ours, connection._read)
        return connection

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    async def fork(self, module: str, streams: Streams, temporary: Path) -> ForkedProcess | None:
        """Send an order and wait until its process has started; None: the server has ended before.

        Raises OSError if the system cannot start a process.
        """
        order = Order(next(self._numbers), module, str(temporary))
        answered: asyncio.Future[ForkedProcess | None] = asyncio.get_running_loop().create_future()
        self._ordered[order.number] = answered
        try:
            socket.send_fds(self._socket, [order.encode()], streams)
        except OSError:  # the server has ended, or reads no orders
            del self._ordered[order.number]
            return None
        return await answered

    async def ended(self) -> str:
        """Wait until the server has ended. Returns how, after all of its processes were recorded as lost."""
        await self._closed.wait()
        how = exit_text(await self._process.wait())
        reason = f"the fork server of the worker, from which programs are started, {how}, and its programs with it"
        for process in self._running.values():
            process.lose(reason)
        self._running.clear()
        text = how if self.ready else f"{how}: {last_line_of(self._log)}"
        self._log.close()
        return text

    async def close(self) -> None:
        """End the server and its processes."""
        self._hang_up()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
        except TimeoutError:  # it is in its imports
            self.kill()
        await self.ended()

    def kill(self) -> None:
        """Kill the server; the kernel kills its processes."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def _hang_up(self) -> None:
        """Close the socket; orders without an answer get none."""
        if self._closed.is_set():
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        for ordered in self._ordered.values():
            if not ordered.done():
                ordered.set_result(None)
        self._closed.set()

    def _read(self) -> None:
        """Apply the answers that have arrived."""
        while True:
            try:
                packet, pidfds, _, _ = socket.recv_fds(self._socket, MAX_PACKET, 1)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet, pidfds = b"", []
            if not packet:
                self._hang_up()
                return
            self._apply(Answer.decode(packet), pidfds)

    def _apply(self, answer: Answer, pidfds: list[int]) -> None:
        if answer.number == 0:
            self.ready = True
        elif answer.status is not None:
            process = self._running.pop(answer.number, None)
            if process is not None:
                process.end(answer.status)
        elif answer.pid is None:
            self._refuse(answer.number, answer.errno or errno.EIO)
        elif not pidfds:  # this process has no descriptor left
            os.kill(answer.pid, signal.SIGKILL)
            self._refuse(answer.number, errno.EMFILE)
        else:
            self._running[answer.number] = process = ForkedProcess(answer.pid, pidfds[0], self.kill)
            ordered = self._ordered.pop(answer.number)
            if ordered.cancelled():
                process.kill()
            else:
                ordered.set_result(process)

    def _refuse(self, number: int, error: int) -> None:
        ordered = self._ordered.pop(number)
        if not ordered.cancelled():
            ordered.set_exception(OSError(error, os.strerror(error)))
