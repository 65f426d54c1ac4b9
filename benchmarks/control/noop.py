"""A worker of Treadle whose program does nothing: `python -m benchmarks.control.noop train`.

Claims, leases, spool and events are real; there is no child process and no artifact. With BENCH_PROGRAM_SECONDS the
program takes that many seconds, and if it is stopped it writes the time to the file BENCH_STOP_FILE.
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

from cli.services.composition import stop_signal
from contracts.artifacts import optimized_dataset_id
from contracts.commands import COMMAND_OF, EvaluateModel, OptimizeData, TrainModel
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained, WorkerEvent
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import DatasetRef, ModelSource, Phase
from infra.bus.connect import connect
from infra.child.fork_server.client import ForkServer
from infra.child.pool import ChildPool
from infra.garbage_collection import tune_garbage_collection
from infra.logs import configure_logs
from infra.loop import run
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.attempt import Attempt
from infra.worker.host import WorkerHost
from infra.worker.job import JobRunner
from infra.worker.plan import PhaseWorker
from infra.worker.progress_reporter import ProgressReporter

SCORE = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=100)


def completion(attempt: Attempt, worker_id: str) -> WorkerEvent:
    """The event that completes the phase of the attempt."""
    command = attempt.command
    common: dict[str, Any] = {"key": attempt.key, "claim_id": attempt.claim_id, "worker_id": worker_id}
    match command:
        case OptimizeData():
            key = attempt.key
            dataset_id = optimized_dataset_id(key.task_id, key.iteration, key.attempt)
            rows = DatasetRef(dataset_id=dataset_id, prefix=command.output)
            return DataOptimized(**common, dataset=rows, splits=command.output, rows=100)
        case TrainModel():
            return ModelTrained(**common, model=ModelSource(base=f"artifact:{command.output}"), steps=1)
        case EvaluateModel():
            return ModelEvaluated(**common, report=command.output, dev=SCORE)
        case _:
            raise AssertionError(f"not a command: {command}")


class NoJobs(JobRunner):
    """Jobs without a program and without artifacts."""

    async def event(self, attempt: Attempt, reporter: ProgressReporter) -> WorkerEvent:
        """Complete the phase, after BENCH_PROGRAM_SECONDS."""
        await _wait()
        return completion(attempt, self._worker_id)

    async def tidy(self, attempt: Attempt, *, failed: bool, active: Collection[Attempt]) -> None:
        """Do nothing: there are no files."""


class NoopHost(WorkerHost):
    """The real worker host, whose jobs do nothing."""

    def _jobs_of(self, worker: PhaseWorker[Any], objects: ObjectStore, fork_server: ForkServer | None) -> JobRunner:
        children = ChildPool(self._folder.path, self._settings.stop_grace, fork_server)
        return NoJobs(worker, objects, self._folder, children, self.worker_id)


def _unused(command: object, *_: object) -> Any:  # noqa: ANN401
    raise AssertionError(f"no program is run for {command}")


async def _wait() -> None:
    """Wait BENCH_PROGRAM_SECONDS; return at once if it is not set."""
    if seconds := float(os.environ.get("BENCH_PROGRAM_SECONDS", "0")):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.to_thread(Path(os.environ["BENCH_STOP_FILE"]).write_text, str(time.time()))
            raise


async def serve(phase: Phase) -> None:
    """Run the worker until SIGTERM or SIGINT."""
    settings = Settings()
    configure_logs(settings, phase.value)
    async with AsyncExitStack() as stack:
        bus = connect(settings)
        stack.push_async_callback(bus.close)
        await bus.start()
        worker = PhaseWorker(phase, COMMAND_OF[phase], plan=_unused, conclude=_unused)
        host = NoopHost(worker, bus, ObjectStore(settings), settings)
        stack.push_async_callback(host.stop)
        await host.start()
        tune_garbage_collection()
        await stop_signal()


if __name__ == "__main__":
    run(serve(Phase(sys.argv[1])))
