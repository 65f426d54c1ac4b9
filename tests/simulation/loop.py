"""An event loop in virtual time: time does not pass while callbacks are ready, then jumps to the next timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from contextvars import Context
from itertools import count
from typing import Any

from tests.simulation.process import PROCESS, Process


class SteadyTask(asyncio.Task[Any]):
    """A task whose hash is its serial number, not its address, so that sets of tasks are ordered alike in each run."""

    def __init__(self, *args: Any, serial: int, process: Process | None, **kwargs: Any) -> None:
        self._serial = serial
        self.process = process
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._serial


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one callback at a time, and only if its simulated process is alive and not frozen."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._serials = count(1)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Seconds since the simulation's start."""
        return self._seconds

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> SteadyTask:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        task = SteadyTask(work, loop=loop, context=context, serial=next(self._serials), process=process)
        if process is not None:
            process.adopt(task)
        return task

    def _run_once(self) -> None:
        if not self._ready:
            self._jump_to_timer()
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)
        if process is None or process.may_run(handle):
            handle._run()

    def _jump_to_timer(self) -> None:
        """Jump to the next timer. Raises IndexError if there is none, which is a deadlock."""
        while not self._ready:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._seconds = max(self._seconds, timer._when)
                self._ready.append(timer)

    def _write_to_self(self) -> None:
        """Do nothing: no other thread wakes this loop."""

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: this loop has no file descriptors."""
