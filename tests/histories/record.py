"""Records histories with the states of this version, so that every later version can be tested against them.

`python -m tests.histories.record` adds the scenarios that have no file. An existing file is never written again: if a
later machine disagrees with it, that machine cannot read the histories of tasks that are running.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.notices import Notice
from contracts.options import StopRules
from contracts.submissions import CancelTask, PauseTask, ResumeTask, RetryTask
from contracts.tasks import FailureKind, PauseMode, Phase, TaskMode
from control.machine.commands import next_iteration
from control.machine.machine import MachineEvent, Transition, advance
from control.store.rows import TASK
from tests.build import completed, failed, lost, new_task, paused, request_id, start

FOLDER = Path(__file__).parent


class Recorder:
    """Builds the history of one task, event by event."""

    def __init__(self, mode: TaskMode = TaskMode.STANDARD, **spec: Any) -> None:
        self.created = self.task = new_task(mode, **spec)
        self.steps: list[tuple[MachineEvent, Transition]] = []
        self.apply(start(self.task))

    def apply(self, event: MachineEvent) -> None:
        """Apply an event, which may not be stale."""
        step = advance(self.task, event)
        assert not step.stale, f"{event.kind} is stale here, but a history has only applied events"
        self.steps.append((event, step))
        self.task = step.task

    def complete(self, phases: int = 1, value: float = 0.5, **more: Any) -> None:
        """Complete the next phases; `value` is the score of an evaluation."""
        for _ in range(phases):
            self.apply(completed(self.task, value, gpu_seconds=2.5, **more))

    def request_fields(self) -> dict[str, Any]:
        """The fields of every request about this task."""
        return {"task_id": self.task.task_id, "submission_id": request_id(len(self.steps) + 1)}

    def pause(self, mode: PauseMode) -> None:
        """Pause the task."""
        self.apply(PauseTask(**self.request_fields(), mode=mode))

    def resume(self) -> None:
        """Resume the task."""
        self.apply(ResumeTask(**self.request_fields()))

    def as_json(self) -> str:
        """The recorded form: the spec, then each event with the resulting state and the ids of its messages."""
        history = {
            "task_id": str(self.created.task_id),
            "spec": self.created.spec.model_dump(mode="json"),
            "steps": [
                {
                    "event": event.model_dump(mode="json"),
                    "state": TASK.dump_python(step.task, mode="json", exclude={"task_id", "spec"}),
                    "orders": [str(item.message.message_id) for item in step.messages],
                }
                for event, step in self.steps
            ],
        }
        return json.dumps(history, indent=1) + "\n"


def standard() -> Recorder:
    """One iteration without a failure."""
    history = Recorder()
    history.complete(3)
    return history


def continuous() -> Recorder:
    """Three iterations, ended by the performance threshold."""
    history = Recorder(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=9, performance_threshold=0.8))
    for value in (0.5, 0.6):
        history.complete(3, value)
        history.apply(next_iteration(history.task))
    history.complete(3, 0.9)
    return history


def pause_drain() -> Recorder:
    """The running attempt ends while the task is suspended."""
    history = Recorder()
    history.complete()
    history.pause(PauseMode.DRAIN)
    history.complete()
    history.resume()
    history.complete()
    return history


def pause_drain_resumed_early() -> Recorder:
    """A resume before the end of the attempt continues the same attempt."""
    history = Recorder()
    history.pause(PauseMode.DRAIN)
    history.resume()
    history.complete(3)
    return history


def pause_checkpoint() -> Recorder:
    """The attempt writes a checkpoint, and the next attempt continues from it."""
    history = Recorder()
    history.complete()
    history.pause(PauseMode.CHECKPOINT)
    history.apply(paused(history.task))
    history.resume()
    history.complete(2)
    return history


def pause_now() -> Recorder:
    """The attempt is fenced, and the next attempt starts from the beginning."""
    history = Recorder()
    history.complete()
    history.pause(PauseMode.NOW)
    history.resume()
    history.complete(2)
    return history


def pause_looping() -> Recorder:
    """The task is paused between two iterations."""
    history = Recorder(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=2))
    history.complete(3)
    history.pause(PauseMode.DRAIN)
    history.resume()
    history.apply(next_iteration(history.task))
    history.complete(3)
    return history


def retry() -> Recorder:
    """The evaluation fails finally, and the task is retried from the training."""
    history = Recorder()
    history.complete(2)
    history.apply(failed(history.task, FailureKind.BAD_INPUT))
    history.apply(RetryTask(**history.request_fields(), phase=Phase.TRAIN))
    history.complete(2)
    return history


def failures_used_up() -> Recorder:
    """Another attempt follows each failure except the last, which ends the task."""
    history = Recorder(max_failures=2)
    for _ in range(3):
        history.apply(failed(history.task))
    return history


def lease_lost() -> Recorder:
    """A lease expires; the reaper adopts the result of the next attempt, whose worker died too."""
    history = Recorder()
    history.complete()
    history.apply(lost(history.task))
    adopted = completed(history.task).model_copy(update={"worker_id": "reaper"})
    history.apply(adopted)
    history.complete()
    return history


def out_of_memory() -> Recorder:
    """Two attempts run out of memory; the batch of the third is a quarter of the first."""
    history = Recorder()
    history.complete()
    for _ in range(2):
        history.apply(failed(history.task, FailureKind.OUT_OF_MEMORY))
    history.complete(2)
    return history


def worker_unfit() -> Recorder:
    """Two attempts fail by the fault of a machine, one crashes, and the next one stalls after a checkpoint."""
    history = Recorder()
    history.complete()
    for kind in (FailureKind.WORKER_UNFIT, FailureKind.WORKER_UNFIT, FailureKind.PROGRAM_CRASHED):
        history.apply(failed(history.task, kind))
    history.apply(failed(history.task, FailureKind.STALLED, checkpoint="models/a4/checkpoint-5"))
    history.complete(2)
    return history


def hub_unavailable() -> Recorder:
    """The hub is away for three attempts, a machine breaks and an attempt crashes in between."""
    history = Recorder()
    history.complete()
    away, unfit = FailureKind.HUB_UNAVAILABLE, FailureKind.WORKER_UNFIT
    for kind in (away, away, unfit, away, FailureKind.PROGRAM_CRASHED, away):
        history.apply(failed(history.task, kind))
    history.complete(2)
    return history


def cancel() -> Recorder:
    """The task is cancelled during the training."""
    history = Recorder()
    history.complete()
    history.apply(CancelTask(**history.request_fields(), reason="not needed any more"))
    return history


def notices() -> Recorder:
    """Each phase reports a notice; the training and the evaluation are done twice."""
    history = Recorder(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=2))
    noted = {"notices": (Notice(rule="unreadable", rows=2, text="2 lines are not JSON", places=("train/a.jsonl:3",)),)}
    history.complete(2, **noted)
    history.apply(failed(history.task, FailureKind.BAD_INPUT))
    history.apply(RetryTask(**history.request_fields(), phase=Phase.TRAIN))
    history.complete(2, **noted)
    history.apply(next_iteration(history.task))
    history.complete(3)
    return history


SCENARIOS: tuple[Callable[[], Recorder], ...] = (
    standard,
    continuous,
    pause_drain,
    pause_drain_resumed_early,
    pause_checkpoint,
    pause_now,
    pause_looping,
    retry,
    failures_used_up,
    lease_lost,
    out_of_memory,
    worker_unfit,
    hub_unavailable,
    cancel,
    notices,
)


def record(scenario: Callable[[], Recorder], folder: Path = FOLDER) -> Path | None:
    """Write the history of `scenario` and return its path; None if it is already recorded."""
    path = folder / f"{scenario.__name__}.json"
    if path.exists():
        return None
    path.write_text(scenario().as_json())
    return path


def main() -> None:
    """Record the scenarios that are not recorded yet."""
    for scenario in SCENARIOS:
        print(record(scenario) or f"{scenario.__name__} is already recorded")


if __name__ == "__main__":
    main()
