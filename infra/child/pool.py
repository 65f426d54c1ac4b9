"""Starts the child processes of one worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.child.fork_server.client import ForkServer
from infra.child.process import NO_VARIABLES, ChildProcess


class ChildPool:
    """Starts child processes in the folder of a worker, from the fork server if there is one."""

    def __init__(self, folder: Path, grace: float, fork_server: ForkServer | None = None) -> None:
        self._folder = folder
        self._grace = grace
        self._fork_server = fork_server

    async def start(self, module: str, variables: Mapping[str, str] = NO_VARIABLES) -> ChildProcess:
        """Start a process for one job of this program. Raises OSError if the system cannot start one."""
        return await ChildProcess.start(
            module, self._folder, self._grace, fork_server=self._fork_server, variables=variables
        )
