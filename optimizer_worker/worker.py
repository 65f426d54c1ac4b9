"""Turn an `OptimizeData` command into a plan for the program, and its result into `DataOptimized`."""

from __future__ import annotations

from contracts.artifacts import optimized_dataset_id
from contracts.commands import OptimizeData
from contracts.events import DataOptimized
from contracts.tasks import DatasetRef, Phase
from infra.worker.plan import Finished, PhaseWorker, Plan
from optimizer_worker.spec import CURRENT, REPORT, SPLITS, Result, Spec

PROGRAM = "optimizer_worker.programs.optimize"


def plan(command: OptimizeData) -> Plan:
    """Plan the program with the uploads as inputs, or in a later iteration the current rows, splits and report."""
    later = _later_inputs(command)
    uploads = {} if later else _uploads(command)
    spec = Spec(
        iteration=command.key.iteration,
        options=command.options,
        seed=command.seed,
        datasets={name: dataset.dataset_id for name, dataset in uploads.items()},
    )
    return Plan(PROGRAM, spec, later or {name: dataset.prefix for name, dataset in uploads.items()})


def conclude(command: OptimizeData, finished: Finished) -> DataOptimized:
    """Build the event with the output as a dataset; the splits are those of the first iteration."""
    result = Result.model_validate_json(finished.result.read_bytes())
    key = command.key
    dataset_id = optimized_dataset_id(key.task_id, key.iteration, key.attempt)
    return DataOptimized(
        **finished.facts(),
        dataset=DatasetRef(dataset_id=dataset_id, prefix=command.output),
        splits=command.splits or command.output,
        rows=result.rows,
        size=(finished.result.parent / "out" / "train.jsonl").stat().st_size,
        labels=result.labels,
        actions=result.actions,
        notices=result.notices,
    )


def _uploads(command: OptimizeData) -> dict[str, DatasetRef]:
    given = command.datasets
    named = {"train": given.train, "dev": given.dev, "test": given.test, "pool": given.pool}
    return {name: dataset for name, dataset in named.items() if dataset is not None}


def _later_inputs(command: OptimizeData) -> dict[str, str]:
    if command.splits is None or command.current is None:
        return {}
    inputs = {CURRENT: command.current.prefix, SPLITS: f"{command.splits}#splits/"}
    return inputs if command.report is None else {**inputs, REPORT: f"{command.report}#dev_report.json"}


WORKER = PhaseWorker(phase=Phase.OPTIMIZE, command=OptimizeData, plan=plan, conclude=conclude, module=PROGRAM)
