"""A server process that does not outlive this one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.stack.errors import StackFailed

POLL = 0.05
LOG_TAIL = 2000
"""Characters of a failed server's log that go into the error."""


class Child:
    """A server in a session of its own, so that Ctrl-C reaches us first and it only through `stop`."""

    def __init__(self, name: str, log: Path, death: signal.Signals = signal.SIGTERM) -> None:
        self.name = name
        self._log = log
        self._death = death
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        user: str | None = None,
        folder: Path | None = None,
        hold: int | None = None,
    ) -> None:
        """Start it, as `user` where given. The open file `hold` stays open until the server is gone."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_parent(self._death), *arguments],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=folder,
                pass_fds=() if hold is None else (hold,),
            )

    async def ready(self, probe: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until `probe` answers True. Raises StackFailed where the server ends or takes too long."""
        assert self._process is not None, "started before it is waited for"
        end = time.monotonic() + timeout
        while not await asyncio.to_thread(probe):
            if (status := self._process.poll()) is not None:
                raise StackFailed(f"{self.name} ended with status {status} while starting: {self._tail()}")
            if time.monotonic() > end:
                raise StackFailed(f"{self.name} was not ready after {timeout:.0f} s: {self._tail()}")
            await asyncio.sleep(POLL)

    async def stop(self, grace: float = 20.0) -> None:
        """Ask it to end, wait, and after `grace` seconds kill it with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self._death)
        try:
            await asyncio.to_thread(process.wait, grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:].strip() or "its log is empty"


def dies_with_parent(death: signal.Signals) -> list[str]:
    """A prefix that has the kernel send `death` when we die, even by SIGKILL.

    `setpriv` sets it between fork and exec, where Python code would be unsafe beside other threads. The kernel
    sends it when the forking *thread* ends, so it is asked for in the main thread only, which ends with the process.
    Where there is no setpriv (outside Linux) a killed parent leaves its servers running.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", death.name.removeprefix("SIG"), "--"]
