"""A child process that the fork server has started."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from contracts.errors import TreadleError


class ForkServerLost(TreadleError):
    """The fork server has ended, and with it the child process, so that its exit status is unknown."""


class ForkedProcess:
    """The server reaps the process and reports its exit status; signals go to its pidfd, which is never reused."""

    def __init__(self, pid: int, pidfd: int, give_up: Callable[[], None]) -> None:
        self.pid = pid
        self.give_up = give_up
        """Kills the server, if it does not report the exit status of a killed process."""
        self._pidfd = pidfd
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return not self._status.done()

    async def wait(self) -> int:
        """The exit status, or minus the number of the signal that killed it. Raises ForkServerLost."""
        return await asyncio.shield(self._status)

    def terminate(self) -> None:
        """Send SIGTERM; no error if the process has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process; the server then kills all processes in its group."""
        self._send(signal.SIGKILL)

    def end(self, status: int) -> None:
        """Record the exit status that the server has reported."""
        os.close(self._pidfd)
        self._status.set_result(status)

    def lose(self, reason: str) -> None:
        """Record that the server has ended; the kernel has killed the process, and this kills the rest of its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self._pidfd)
        self._status.set_exception(ForkServerLost(reason))
        self._status.exception()  # whether somebody waits or not

    def _send(self, number: signal.Signals) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
