from __future__ import annotations

from pathlib import Path
from uuid import UUID

from contracts.commands import OptimizeData
from contracts.options import OptimizationOptions
from contracts.tasks import AttemptKey, DatasetRef, DatasetRefs, Phase
from infra.worker.plan import Finished
from optimizer_worker.spec import Result
from optimizer_worker.worker import WORKER

TASK = UUID(int=7)


def command(iteration: int = 1) -> OptimizeData:
    later = iteration > 1
    return OptimizeData(
        key=AttemptKey(task_id=TASK, iteration=iteration, phase=Phase.OPTIMIZE, attempt=2),
        output=f"optimized/{TASK}/{iteration}/a2",
        seed=3,
        user_id=1,
        datasets=DatasetRefs(
            train=DatasetRef(dataset_id="t", prefix="datasets/1/t"),
            pool=DatasetRef(dataset_id="p", prefix="datasets/1/p"),
        ),
        current=DatasetRef(dataset_id="c", prefix="optimized/before") if later else None,
        splits="optimized/first" if later else None,
        report="evaluations/before" if later else None,
        options=OptimizationOptions(),
    )


def concluded(order: OptimizeData, folder: Path) -> tuple[str, str, int]:
    result = folder / "result.json"
    (folder / "out").mkdir()
    (folder / "out" / "train.jsonl").write_text("rows")
    result.write_text(Result(rows=5, labels=2, actions={"added_targeted": 2}, has_splits=True).model_dump_json())
    event = WORKER.conclude(order, Finished(order.key, UUID(int=1), "w", 1.0, 0.0, result))
    return event.dataset.dataset_id, event.splits, event.labels


def test_the_first_iteration_reads_what_was_uploaded() -> None:
    plan = WORKER.plan(command())
    assert plan.inputs == {"train": "datasets/1/t", "pool": "datasets/1/p"}


def test_a_later_iteration_reads_the_rows_before_the_splits_and_the_report() -> None:
    assert WORKER.plan(command(2)).inputs == {
        "current": "optimized/before",
        "splits": "optimized/first#splits/",
        "report": "evaluations/before#dev_report.json",
    }


def test_the_first_output_is_a_dataset_and_holds_the_splits(tmp_path: Path) -> None:
    assert concluded(command(), tmp_path) == (f"{TASK}-1-a2", f"optimized/{TASK}/1/a2", 2)


def test_a_later_iteration_keeps_the_first_splits(tmp_path: Path) -> None:
    assert concluded(command(2), tmp_path)[1] == "optimized/first"
