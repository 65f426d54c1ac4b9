"""Starts a program as a child process, reads its progress, stops it, and explains how it ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import structlog
from pydantic import BaseModel, ValidationError

from infra.child.environment import child_environment
from infra.child.lifeline import dies_with_parent
from infra.child.outcome import ProgramExit, last_line, program_exit
from infra.child.pipes import ChildPipes
from infra.private_folders import make_private, open_private

LOG = "log.txt"
"""File in the job's folder with the standard error of the child process."""
CHILD_FILES = "child-"
"""How the names of a process's files in the worker's folder begin: its log before it has a job, its temporary files."""
OUTPUT_TIMEOUT = 3.0
"""Seconds for which the output is still read after the child process has ended."""
START_TIMEOUT = 120.0
"""Seconds that the imports of a program may take."""

log = structlog.get_logger(__name__)


class ProgressLine(BaseModel):
    """One line of progress that a program prints."""

    stage: str
    done: int
    total: int = 0
    eta_seconds: float | None = None
    accelerators: int = 0
    """Number of accelerators on which the program has allocated memory."""
    metrics: dict[str, float] = {}


class ChildProcess:
    """One process that runs one job, the leader of its own session and process group."""

    def __init__(
        self, module: str, process: Process, pipes: ChildPipes, log: Path, temporary: Path, grace: float
    ) -> None:
        self.module = module
        self._process = process
        self._pipes = pipes
        self._log = log
        self._temporary = temporary
        self._grace = grace
        self._stopping = False

    @classmethod
    async def start(cls, module: str, folder: Path, grace: float) -> ChildProcess:
        """Start a process that imports `module` and then waits for its job. `folder` is the folder of the worker."""
        name = f"{CHILD_FILES}{time.monotonic_ns()}"
        log, temporary = folder / f"{name}.log", make_private(folder / f"{name}.tmp")
        pipes = ChildPipes()
        with open_private(log, "wb") as errors, pipes.child_ends() as (stdin, stdout):
            process = await asyncio.create_subprocess_exec(
                *dies_with_parent(signal.SIGKILL),
                sys.executable,
                "-P",  # do not import modules from the worker's working directory
                "-m",
                "infra.child.program",
                module,
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                env=child_environment(os.environ, folder, temporary),
                start_new_session=True,
            )
        return cls(module, process, pipes, log, temporary, grace)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    def transferred(self) -> int:
        """Bytes that the process has read and written so far, files and pipes; 0 if the system does not count them."""
        try:
            counters = psutil.Process(self.pid).io_counters()
        except (psutil.Error, AttributeError):
            return 0
        return int(counters.read_chars + counters.write_chars + counters.read_bytes)

    async def run(self, folder: Path, on_step: Callable[[ProgressLine], None]) -> ProgramExit:
        """Run the job in `folder` and return how it ended. If cancelled, it stops the process as `stop` does."""
        self._log = self._log.rename(folder / LOG)  # the process writes to the renamed file
        started = time.monotonic()
        reading = asyncio.create_task(self._read_progress(on_step))
        try:
            self._pipes.write(f"{folder}\n")
            status = await self._process.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            self._end_group()
            await _finish_reading(reading)
            self._pipes.close()
            await self._remove_temporary()
        return program_exit(folder, self._log, status, time.monotonic() - started, stopping=self._stopping)

    async def stop(self) -> None:
        """Send SIGTERM, and after the grace time SIGKILL to the whole group. Returns when the process has ended."""
        self._stopping = True
        try:
            if self.alive:
                self._process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(self._process.wait(), self._grace)
        except TimeoutError:
            pass
        finally:
            self._end_group()
        await self._process.wait()

    async def discard(self) -> None:
        """End a process that got no job, and delete its log."""
        self._end_group()
        await self._process.wait()
        self._pipes.close()
        with suppress(OSError):  # on a broken disk
            self._log.unlink()
        await self._remove_temporary()

    async def problem(self) -> str | None:
        """End a process that gets no job. Returns the last line of its log if it cannot start; None if it can."""
        self._pipes.write("\n")  # no folder: a process without a job ends itself with status 0 after its imports
        try:
            status = await asyncio.wait_for(self._process.wait(), START_TIMEOUT)
            return None if status == 0 else f"cannot start its program: {last_line(self._log)}"
        except TimeoutError:
            return f"cannot start its program within {START_TIMEOUT:g} s"
        finally:
            await self.discard()

    async def _read_progress(self, on_step: Callable[[ProgressLine], None]) -> None:
        async for line in self._pipes.lines():
            with suppress(ValidationError):  # not a progress line
                on_step(ProgressLine.model_validate_json(line))

    async def _remove_temporary(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)

    def _end_group(self) -> None:
        """Kill the process and all processes in its group; no error if none is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def start_problem(module: str, folder: Path) -> str | None:
    """Start a process that imports `module`, without a job. Returns why that fails, or None if it works."""
    try:
        process = await ChildProcess.start(module, folder, 0.0)
    except OSError as error:
        return f"cannot start a process: {error.strerror or error}"
    return await process.problem()


async def _finish_reading(reading: asyncio.Task[None]) -> None:
    """Read the rest of the output, with a timeout, because a daemon that the child started may keep it open."""
    try:
        await asyncio.wait_for(reading, OUTPUT_TIMEOUT)
    except TimeoutError:
        log.warning("output_open_after_exit")


class ChildPool:
    """Starts the child processes of one worker, and keeps one ready for the next job, with its imports done."""

    def __init__(self, folder: Path, grace: float, *, warm: bool) -> None:
        self._folder = folder
        self._grace = grace
        self._warm = warm
        self._spare: ChildProcess | None = None

    async def take(self, module: str) -> ChildProcess:
        """The waiting process if it has imported `module`, else a new one."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.alive and spare.module == module:
            return spare
        if spare is not None:
            await spare.discard()
        return await ChildProcess.start(module, self._folder, self._grace)

    async def warm(self, module: str) -> None:
        """Start a process for the next job, if the settings allow it and none is waiting."""
        if self._warm and (self._spare is None or not self._spare.alive):
            spare, self._spare = self._spare, await ChildProcess.start(module, self._folder, self._grace)
            if spare is not None:
                await spare.discard()

    async def close(self) -> None:
        """End the waiting process."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.discard()
