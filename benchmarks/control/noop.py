"""One of Treadle's workers with a program that does nothing: `python -m benchmarks.control.noop train`.

Claims, leases, spool and events are those of every worker; there is no child and no artifact. With BENCH_HOLD the
program takes so many seconds, and writes the time at which it is told to end to the file BENCH_TOLD.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from cli.services.composition import told_to_stop
from contracts.commands import COMMAND_OF, EvaluateModel, OptimizeData, TrainModel
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained, WorkerEvent
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import DatasetRef, Phase
from infra.bus.connect import connect
from infra.child.process import Children
from infra.garbage_collection import settle
from infra.logs import configure_logs
from infra.loop import run
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.attempt import Attempt
from infra.worker.host import WorkerHost
from infra.worker.job import Jobs
from infra.worker.plan import PhaseWorker
from infra.worker.reporting import Reporter

SCORE = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=100)


def completion(attempt: Attempt, worker_id: str) -> WorkerEvent:
    """The event that completes whatever phase is asked for."""
    command = attempt.command
    who: dict[str, Any] = {"key": attempt.key, "claim_id": attempt.claim_id, "worker_id": worker_id}
    match command:
        case OptimizeData():
            rows = DatasetRef(dataset_id=f"{attempt.key.task_id}-{attempt.key.iteration}", prefix=command.output)
            return DataOptimized(**who, dataset=rows, splits=command.output, rows=100)
        case TrainModel():
            return ModelTrained(**who, model=command.model, steps=1)
        case EvaluateModel():
            return ModelEvaluated(**who, report=command.output, dev=SCORE)
        case _:
            raise AssertionError(f"no command: {command}")


class NoJobs(Jobs):
    """Jobs without a program and without artifacts: each is done at once."""

    async def start(self) -> None:
        """Nothing to prepare."""

    async def event(self, attempt: Attempt, reporter: Reporter) -> WorkerEvent:
        """Complete the phase."""
        await _hold()
        return completion(attempt, self._worker_id)

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Nothing lies about."""


class NoopHost(WorkerHost):
    """The real host, whose jobs do nothing."""

    def _jobs_of(self, worker: PhaseWorker[Any], objects: ObjectStore) -> Jobs:
        children = Children(self._folder.path, self._settings.stop_grace, warm=False)
        return NoJobs(worker, objects, self._folder, children, self.worker_id)


def _planned(command: object, *_: object) -> Any:  # noqa: ANN401
    raise AssertionError(f"no program is run for {command}")


async def _hold() -> None:
    """Take as long as the variable says; nothing at all where there is none."""
    if seconds := float(os.environ.get("BENCH_HOLD", "0")):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.to_thread(Path(os.environ["BENCH_TOLD"]).write_text, str(time.time()))
            raise


async def serve(phase: Phase) -> None:
    """Work until told to stop."""
    settings = Settings()
    configure_logs(settings, phase.value)
    async with AsyncExitStack() as stack:
        bus = connect(settings)
        stack.push_async_callback(bus.close)
        await bus.start()
        worker = PhaseWorker(phase, COMMAND_OF[phase], plan=_planned, conclude=_planned)
        host = NoopHost(worker, bus, ObjectStore(settings), settings)
        stack.push_async_callback(host.stop)
        await host.start()
        settle()
        await told_to_stop()


if __name__ == "__main__":
    run(serve(Phase(sys.argv[1])))
