"""Runs a program as a child process: reads its progress, stops it, and explains how it ended."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import psutil
import structlog

from infra.child.fork_server.client import ForkServer
from infra.child.fork_server.forked import ForkServerLost
from infra.child.leftovers import SUFFIX, record_process
from infra.child.outcome import ProgramExit, last_line, lost_program, program_exit
from infra.child.pipes import ChildPipes
from infra.child.progress import ProgressLine, WorkClock, WorkLine, parse_line
from infra.child.running import RunningProcess, Streams, execute
from infra.private_folders import make_private, open_private

LOG = "log.txt"
"""File in the job's folder with the standard error of the child process."""
CHILD_FILES = "child-"
"""How the names of a process's files in the worker's folder begin: its record, its log before it has a job, its
temporary files."""
OUTPUT_TIMEOUT = 3.0
"""Seconds for which the output is still read after the child process has ended."""
KILL_TIMEOUT = 10.0
"""Seconds for which the exit status of a killed process may take to arrive."""
START_TIMEOUT = 120.0
"""Seconds that the imports of a program may take."""
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

log = structlog.get_logger(__name__)


class ChildProcess:
    """One process that runs one job, the leader of its own session and process group."""

    def __init__(self, process: RunningProcess, pipes: ChildPipes, files: Path, grace: float) -> None:
        self._process = process
        self._pipes = pipes
        self._log = files.with_suffix(".log")
        self._temporary = files.with_suffix(".tmp")
        self._record = files.with_suffix(SUFFIX)
        self._grace = grace
        self._stopping = False
        self._clock = WorkClock()

    @classmethod
    async def start(
        cls,
        module: str,
        folder: Path,
        grace: float,
        *,
        fork_server: ForkServer | None = None,
        variables: Mapping[str, str] = NO_VARIABLES,
    ) -> ChildProcess:
        """Start a process that imports `module` and then waits for its job. `folder` is the folder of the worker.

        The fork server forks it, if it can; a process with `variables`, which are added to its environment, is started
        by exec, because they must be set before the imports.
        """
        files = folder / f"{CHILD_FILES}{time.monotonic_ns()}"
        temporary = make_private(files.with_suffix(".tmp"))
        pipes = ChildPipes()
        try:
            with open_private(files.with_suffix(".log"), "wb") as errors, pipes.child_ends() as (stdin, stdout):
                streams = Streams(stdin, stdout, errors.fileno())
                process: RunningProcess | None = None
                if fork_server is not None and not variables:
                    process = await fork_server.fork(module, streams, temporary)
                process = process or await execute(module, streams, temporary, variables)
                record_process(process.pid, files.with_suffix(SUFFIX))
        except BaseException:  # the pipes are closed, so that a process that has started ends itself
            files.with_suffix(".log").unlink(missing_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(process, pipes, files, grace)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of the process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.alive

    def transferred(self) -> int:
        """Bytes that the process has read and written so far, files and pipes; 0 if the system does not count them."""
        try:
            counters = psutil.Process(self.pid).io_counters()
        except (psutil.Error, AttributeError):
            return 0
        return int(counters.read_chars + counters.write_chars + counters.read_bytes)

    async def run(self, folder: Path, on_step: Callable[[ProgressLine], None]) -> ProgramExit:
        """Run the job in `folder` and return how it ended. If cancelled, it stops the process as `stop` does."""
        started = time.monotonic()
        reading = asyncio.create_task(self._read_progress(on_step))
        status: int | ForkServerLost
        try:
            self._log = self._log.rename(folder / LOG)  # the process writes to the renamed file
            self._pipes.write(f"{folder}\n")
            status = await self._process.wait()
        except ForkServerLost as error:
            status = error
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            await self._clean_up(reading)
        seconds, work = time.monotonic() - started, self._clock.seconds
        if isinstance(status, ForkServerLost):
            return lost_program(str(status), seconds=seconds, work_seconds=work, stopping=self._stopping)
        return program_exit(folder, self._log, status, seconds=seconds, work_seconds=work, stopping=self._stopping)

    async def stop(self) -> None:
        """Send SIGTERM, and after the grace time SIGKILL to the whole group. Returns when the process has ended."""
        self._stopping = True
        try:
            self._process.terminate()
            await asyncio.wait_for(self._wait(), self._grace)
        except TimeoutError:
            pass
        finally:
            self._process.kill()
        await self._wait_until_killed()

    async def discard(self) -> None:
        """End a process that got no job, and delete its log."""
        self._process.kill()
        await self._wait_until_killed()
        with suppress(OSError):  # on a broken disk
            self._log.unlink()
        await self._clean_up()

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

    async def _wait(self) -> None:
        """Wait for the end, however it comes."""
        with suppress(ForkServerLost):
            await self._process.wait()

    async def _wait_until_killed(self) -> None:
        try:
            await asyncio.wait_for(self._wait(), KILL_TIMEOUT)
        except TimeoutError:
            self._process.give_up()
            await self._wait()

    async def _read_progress(self, on_step: Callable[[ProgressLine], None]) -> None:
        async for line in self._pipes.lines():
            match parse_line(line):
                case ProgressLine() as step:
                    on_step(step)
                case WorkLine(working=working):
                    self._clock.set(working=working)

    async def _clean_up(self, reading: asyncio.Task[None] | None = None) -> None:
        """End the group, read the rest of the output, and delete the process's files."""
        self._process.kill()
        self._clock.set(working=False)
        if reading is not None:
            await _finish_reading(reading)
        self._pipes.close()
        with suppress(OSError):  # on a broken disk
            self._record.unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)


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
