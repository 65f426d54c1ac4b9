"""A worker process of a chaos run: the real worker host, with programs that follow the scripts of their tasks.

`tests.chaos.processes` runs it as `python -m tests.chaos.worker optimize`, with its settings in the environment.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cli.services.composition import stop_signal
from contracts.artifacts import optimized_dataset_id
from contracts.commands import EvaluateModel, OptimizeData, PhaseCommand, TrainModel
from contracts.events import DataOptimized, ModelEvaluated, ModelTrained
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import DatasetRef, ModelSource, Phase
from infra.bus.connect import connect
from infra.child.fork_server.client import ForkServer
from infra.logs import configure_logs
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.plan import Finished, PhaseWorker, Plan
from tests.chaos.in_process import host_with
from tests.chaos.program import Result, Spec, coroutine
from tests.chaos.script import Script

CHILD, COROUTINE = "tests.chaos.program", "coroutine"


def _plan(command: PhaseCommand, inputs: dict[str, str]) -> Plan:
    """The plan of a command; only a child process downloads the output of the phase before."""
    spec = Spec(key=command.key, seed=command.seed)
    return Plan(CHILD, spec, inputs) if Script.of(command.seed).child else Plan(COROUTINE, spec)


def _common_fields(finished: Finished) -> dict[str, Any]:
    return {
        "key": finished.key,
        "claim_id": finished.claim_id,
        "worker_id": finished.worker_id,
        "seconds": finished.seconds,
    }


def _size(finished: Finished) -> int:
    return Result.model_validate_json(finished.result.read_bytes()).bytes


def _optimized(command: OptimizeData, finished: Finished) -> DataOptimized:
    key = command.key
    dataset = DatasetRef(
        dataset_id=optimized_dataset_id(key.task_id, key.iteration, key.attempt), prefix=command.output
    )
    return DataOptimized(
        **_common_fields(finished),
        dataset=dataset,
        splits=command.splits or command.output,
        rows=1,
        size=_size(finished),
    )


def _trained(command: TrainModel, finished: Finished) -> ModelTrained:
    return ModelTrained(**_common_fields(finished), model=ModelSource(base=f"artifact:{command.output}"), steps=1)


def _evaluated(command: EvaluateModel, finished: Finished) -> ModelEvaluated:
    score = Score(metric=Metric.EXACT_MATCH, value=0.5, low=0.4, high=0.6, scored=_size(finished))
    return ModelEvaluated(**_common_fields(finished), report=command.output, dev=score)


WORKERS: dict[Phase, PhaseWorker[Any]] = {
    Phase.OPTIMIZE: PhaseWorker(
        Phase.OPTIMIZE,
        OptimizeData,
        lambda command: _plan(command, {"rows": command.datasets.train.prefix}),
        _optimized,
    ),
    Phase.TRAIN: PhaseWorker(
        Phase.TRAIN, TrainModel, lambda command: _plan(command, {"rows": command.dataset.prefix}), _trained
    ),
    Phase.EVALUATE: PhaseWorker(
        Phase.EVALUATE, EvaluateModel, lambda command: _plan(command, {"splits": command.splits}), _evaluated
    ),
}


async def serve(worker: PhaseWorker[Any], settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    bus, objects = connect(settings), ObjectStore(settings)
    await bus.start()
    await objects.start()
    fork_server = ForkServer([CHILD])
    await fork_server.start()
    host = host_with({COROUTINE: coroutine}, worker, bus, objects, settings, fork_server)
    await host.start()
    await stop_signal()
    await host.stop()
    await fork_server.close()
    await bus.close()
    await objects.close()


if __name__ == "__main__":
    phase, settings = Phase(sys.argv[1]), Settings()
    configure_logs(settings, phase)
    asyncio.run(serve(WORKERS[phase], settings))
