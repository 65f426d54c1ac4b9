"""An optimizer with the scripted program; `python -m tests.programs.worker ACTION…` runs it as a process."""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic import TypeAdapter

from contracts.artifacts import optimized_dataset_id
from contracts.commands import OptimizeData
from contracts.events import DataOptimized
from contracts.tasks import DatasetRef, Phase
from infra.bus.connect import connect
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker import program_log
from infra.worker.host import WorkerHost
from infra.worker.plan import Finished, PhaseWorker, Plan
from tests.programs.scripted import Action, Spec

UPLOAD_INTERVAL = "SCRIPTED_UPLOAD_INTERVAL"
"""The variable with the seconds between two uploads of a log."""


def scripted_optimizer(*actions: Action) -> PhaseWorker[OptimizeData]:
    """A worker whose program does these actions for every command, in order."""

    def plan(_: OptimizeData) -> Plan:
        return Plan("tests.programs.scripted", Spec(actions=list(actions)))

    return PhaseWorker(Phase.OPTIMIZE, OptimizeData, plan, _conclude)


def _conclude(command: OptimizeData, finished: Finished) -> DataOptimized:
    key = command.key
    dataset_id = optimized_dataset_id(key.task_id, key.iteration, key.attempt)
    return DataOptimized(
        key=key,
        claim_id=finished.claim_id,
        worker_id=finished.worker_id,
        dataset=DatasetRef(dataset_id=dataset_id, prefix=command.output),
        splits=command.output,
        rows=1,
    )


async def main(actions: list[Action]) -> None:
    """Run the worker until the process is killed."""
    program_log.UPLOAD_INTERVAL = float(os.environ.get(UPLOAD_INTERVAL, program_log.UPLOAD_INTERVAL))
    settings = Settings()
    bus = connect(settings)
    await bus.start()
    host = WorkerHost(scripted_optimizer(*actions), bus, ObjectStore(settings), settings)
    await host.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(TypeAdapter(list[Action]).validate_python(sys.argv[1:])))
