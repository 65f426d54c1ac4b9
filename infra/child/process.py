"""A phase's program as a child process: started warm or cold, listened to, stopped, and its end explained."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from infra.child.environment import child_environment
from infra.child.outcome import Ended, explain
from infra.child.pipes import ChildPipes

LOG = "log.txt"
"""A child's standard error, in its job's folder."""
LAST_WORDS = 3.0
"""Seconds for which the output of a child that has ended is still read."""

log = structlog.get_logger(__name__)


class Step(BaseModel):
    """One progress line."""

    stage: str
    done: int
    total: int = 0
    eta_seconds: float | None = None
    accelerators: int = 0
    """How many the program holds memory of."""
    metrics: dict[str, float] = {}


class Child:
    """One process, leader of its own session and group, that runs one job in its life."""

    def __init__(self, module: str, process: Process, pipes: ChildPipes, log: Path, grace: float) -> None:
        self.module = module
        self._process = process
        self._pipes = pipes
        self._log = log
        self._grace = grace
        self._stopping = False

    @classmethod
    async def start(cls, module: str, folder: Path, grace: float) -> Child:
        """Start a warm child: it imports `module` and waits for its job. `folder` is its worker's."""
        log = folder / f"child-{time.monotonic_ns()}.log"
        pipes = ChildPipes()
        with log.open("wb") as errors, pipes.theirs() as (stdin, stdout):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # whatever lies in the worker's working directory is no module of ours
                "-m",
                "infra.child.program",
                module,
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                env=child_environment(os.environ, folder),
                start_new_session=True,
            )
        return cls(module, process, pipes, log, grace)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def run(self, folder: Path, on_step: Callable[[Step], None]) -> Ended:
        """Run the job in `folder` to its end. Cancelled, it stops the child as `stop` does."""
        self._log = self._log.rename(folder / LOG)  # the open file follows its name
        started = time.monotonic()
        listening = asyncio.create_task(self._listen(on_step))
        try:
            self._pipes.write(f"{folder}\n")
            status = await self._process.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            self._end_group()
            await _last_words(listening)
            self._pipes.close()
        return explain(folder, self._log, status, time.monotonic() - started, stopping=self._stopping)

    async def stop(self) -> None:
        """SIGTERM, and after the grace SIGKILL for the whole group. Returns when the child is gone."""
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
        """End a warm child that got no job, and its log."""
        self._end_group()
        await self._process.wait()
        self._pipes.close()
        self._log.unlink(missing_ok=True)

    async def _listen(self, on_step: Callable[[Step], None]) -> None:
        async for line in self._pipes.lines():
            with suppress(ValidationError):  # not a progress line of ours
                on_step(Step.model_validate_json(line))

    def _end_group(self) -> None:
        """End the child and whatever it started; harmless where nothing is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


async def _last_words(listening: asyncio.Task[None]) -> None:
    """Hear what a dead child had still said, but not for ever: a daemon that it started may hold its output."""
    try:
        await asyncio.wait_for(listening, LAST_WORDS)
    except TimeoutError:
        log.warning("output_held_after_the_end")


class Children:
    """Starts one worker's children, and keeps one with its imports done for the next job."""

    def __init__(self, folder: Path, grace: float, *, warm: bool) -> None:
        self._folder = folder
        self._grace = grace
        self._warm = warm
        self._spare: Child | None = None

    async def take(self, module: str) -> Child:
        """The warm child where it has `module` loaded, else a new one."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.alive and spare.module == module:
            return spare
        if spare is not None:
            await spare.discard()
        return await Child.start(module, self._folder, self._grace)

    async def warm(self, module: str) -> None:
        """Have a child for the next job ready, where the settings say so."""
        if self._warm and (self._spare is None or not self._spare.alive):
            spare, self._spare = self._spare, await Child.start(module, self._folder, self._grace)
            if spare is not None:
                await spare.discard()

    async def close(self) -> None:
        """End the warm child."""
        spare, self._spare = self._spare, None
        if spare is not None:
            await spare.discard()
