"""A server process that ends when this process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from infra.child.lifeline import dies_with_parent
from infra.private_folders import UMASK, open_private
from infra.stack.causes import cause_in, cause_of, last_words, probe, unexplained_exit
from infra.stack.errors import StackFailed, not_started

POLL_INTERVAL = 0.05
MAX_LOG = 2**20
"""Bytes of a failed server's log that are searched for the cause."""


class ServerProcess:
    """A server in its own session, so that Ctrl-C does not reach it; `stop` ends it."""

    def __init__(self, name: str, log: Path, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        self.name = name
        self._log = log
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        """Size of the log in bytes before this start."""

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        user: str | None = None,
        inherit: int | None = None,
    ) -> None:
        """Start the server in the folder of its log, as `user` if given. Raises StackFailed if it cannot be executed.

        It inherits the open file `inherit`, which stays open until it ends.
        """
        with open_private(self._log, "ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            try:
                self._process = subprocess.Popen(
                    [*dies_with_parent(self._stop_signal), *arguments],
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=UMASK,
                    user=user,
                    group=user,
                    extra_groups=[] if user else None,
                    cwd=self._log.parent,
                    pass_fds=() if inherit is None else (inherit,),
                )
            except OSError as error:
                raise not_started(self.name, f"{arguments[0]} cannot be executed ({cause_of(error)})") from error

    async def ready(self, probe: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait until `probe` returns True. Raises StackFailed if the server ends, or after `timeout` seconds."""
        assert self._process is not None, "the server is started before `ready` is called"
        end = time.monotonic() + timeout
        while not await asyncio.to_thread(probe):
            if (status := self._process.poll()) is not None:
                raise self._failure(unexplained_exit(status))
            if time.monotonic() > end:
                raise self._failure(f"it was not ready after {timeout:.0f} s")
            await asyncio.sleep(POLL_INTERVAL)

    async def stop(self, grace: float = 20.0) -> None:
        """Send the stop signal, after `grace` seconds kill the process group, and return when the server has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(self._stop_signal)
        try:
            await asyncio.to_thread(process.wait, grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def _failure(self, end: str) -> StackFailed:
        """The error with the cause if it is known, else with how the server ended and the last line of its log."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            text = file.read(MAX_LOG).decode(errors="replace")
        words = last_words(text)
        cause = cause_in(text) or probe(self._log.parent) or (f"{end}; it wrote: {words}" if words else end)
        return not_started(self.name, cause, self._log)
