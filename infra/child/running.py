"""A child process that runs: started by exec here, or by fork in `fork_server/client.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from infra.child.environment import child_environment
from infra.child.lifeline import dies_with_parent


class Streams(NamedTuple):
    """File descriptors that a child process gets as its standard streams."""

    stdin: int
    stdout: int
    stderr: int


class RunningProcess(Protocol):
    """The leader of its own session and process group."""

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        ...

    async def wait(self) -> int:
        """The exit status, or minus the number of the signal that killed it. Raises ForkServerLost."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM; no error if the process has ended."""
        ...

    def kill(self) -> None:
        """Kill the process and all processes in its group; no error if none is left."""
        ...

    def give_up(self) -> None:
        """End the wait for a killed process whose exit status does not arrive."""
        ...


class ExecutedProcess:
    """A process that was started by exec."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """The exit status, or minus the number of the signal that killed it."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM; no error if the process has ended."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and all processes in its group; no error if none is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def give_up(self) -> None:
        """Do nothing: this process itself reaps its children."""


async def execute(module: str, streams: Streams, temporary: Path, variables: Mapping[str, str]) -> ExecutedProcess:
    """Start a process that imports `module` and then waits for its job. `variables` are added to its environment."""
    process = await asyncio.create_subprocess_exec(
        *dies_with_parent(signal.SIGKILL),
        sys.executable,
        "-P",  # do not import modules from the worker's working directory
        "-m",
        "infra.child.program",
        module,
        stdin=streams.stdin,
        stdout=streams.stdout,
        stderr=streams.stderr,
        env={**child_environment(os.environ), "TMPDIR": str(temporary), **variables},
        start_new_session=True,
    )
    return ExecutedProcess(process)
