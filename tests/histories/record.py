"""Record how this version answers a history, so that every later version can be held to it.

`python -m tests.histories.record` adds the scenarios that have no file yet. A file that is there is never written
again: where a later machine disagrees with it, that machine cannot read the histories of tasks that are running.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contracts.options import StopRules
from contracts.submissions import CancelTask, PauseTask, ResumeTask, RetryTask
from contracts.tasks import FailureKind, PauseMode, Phase, TaskMode
from control.machine.commands import next_iteration
from control.machine.machine import MachineEvent, Step, advance
from control.store.rows import TASK
from tests.build import completed, failed, lost, new_task, paused, request_id, start

FOLDER = Path(__file__).parent


class Recorder:
    """A task that remembers what happened to it."""

    def __init__(self, mode: TaskMode = TaskMode.STANDARD, **spec: Any) -> None:
        self.created = self.task = new_task(mode, **spec)
        self.steps: list[tuple[MachineEvent, Step]] = []
        self.happens(start(self.task))

    def happens(self, event: MachineEvent) -> None:
        """An event was applied."""
        step = advance(self.task, event)
        assert not step.stale, f"{event.kind} is stale here: a history holds what was applied"
        self.steps.append((event, step))
        self.task = step.task

    def completes(self, phases: int = 1, value: float = 0.5) -> None:
        """The next phases succeed."""
        for _ in range(phases):
            self.happens(completed(self.task, value, gpu_seconds=2.5))

    def asked(self) -> dict[str, Any]:
        """What every request about this task says."""
        return {"task_id": self.task.task_id, "submission_id": request_id(len(self.steps) + 1)}

    def pauses(self, mode: PauseMode) -> None:
        """A user pauses it."""
        self.happens(PauseTask(**self.asked(), mode=mode))

    def resumes(self) -> None:
        """A user resumes it."""
        self.happens(ResumeTask(**self.asked()))

    def as_json(self) -> str:
        """The history as it is kept: the spec, then each event with the state and the orders that came of it."""
        told = {
            "task_id": str(self.created.task_id),
            "spec": self.created.spec.model_dump(mode="json"),
            "steps": [
                {
                    "event": event.model_dump(mode="json"),
                    "state": TASK.dump_python(step.task, mode="json", exclude={"task_id", "spec"}),
                    "orders": [str(order.message.message_id) for order in step.orders],
                }
                for event, step in self.steps
            ],
        }
        return json.dumps(told, indent=1) + "\n"


def standard() -> Recorder:
    """Once through."""
    history = Recorder()
    history.completes(3)
    return history


def continuous() -> Recorder:
    """Three turns of the loop, ended by the threshold."""
    history = Recorder(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=9, performance_threshold=0.8))
    for value in (0.5, 0.6):
        history.completes(3, value)
        history.happens(next_iteration(history.task))
    history.completes(3, 0.9)
    return history


def pause_drain() -> Recorder:
    """The running attempt ends while the task is suspended."""
    history = Recorder()
    history.completes()
    history.pauses(PauseMode.DRAIN)
    history.completes()
    history.resumes()
    history.completes()
    return history


def pause_drain_resumed_early() -> Recorder:
    """A resume before the attempt has ended goes on with the same attempt."""
    history = Recorder()
    history.pauses(PauseMode.DRAIN)
    history.resumes()
    history.completes(3)
    return history


def pause_checkpoint() -> Recorder:
    """The attempt writes a checkpoint, and the next one goes on from it."""
    history = Recorder()
    history.completes()
    history.pauses(PauseMode.CHECKPOINT)
    history.happens(paused(history.task))
    history.resumes()
    history.completes(2)
    return history


def pause_now() -> Recorder:
    """The attempt is fenced, and the next one begins afresh."""
    history = Recorder()
    history.completes()
    history.pauses(PauseMode.NOW)
    history.resumes()
    history.completes(2)
    return history


def pause_looping() -> Recorder:
    """Paused between two iterations."""
    history = Recorder(TaskMode.CONTINUOUS, stop=StopRules(max_iterations=2))
    history.completes(3)
    history.pauses(PauseMode.DRAIN)
    history.resumes()
    history.happens(next_iteration(history.task))
    history.completes(3)
    return history


def retry() -> Recorder:
    """Failed for good in the evaluation, and tried again from the training."""
    history = Recorder()
    history.completes(2)
    history.happens(failed(history.task, FailureKind.BAD_INPUT))
    history.happens(RetryTask(**history.asked(), phase=Phase.TRAIN))
    history.completes(2)
    return history


def failures_used_up() -> Recorder:
    """Each failure but the last is followed by another attempt."""
    history = Recorder(max_failures=2)
    for _ in range(3):
        history.happens(failed(history.task))
    return history


def lease_lost() -> Recorder:
    """A worker goes silent; the result of the next attempt, whose worker died too, is adopted by the reaper."""
    history = Recorder()
    history.completes()
    history.happens(lost(history.task))
    adopted = completed(history.task).model_copy(update={"worker_id": "reaper"})
    history.happens(adopted)
    history.completes()
    return history


def out_of_memory() -> Recorder:
    """Each of two attempts runs out of memory; the third has a quarter of the batch."""
    history = Recorder()
    history.completes()
    for _ in range(2):
        history.happens(failed(history.task, FailureKind.OUT_OF_MEMORY))
    history.completes(2)
    return history


def cancel() -> Recorder:
    """Cancelled while training."""
    history = Recorder()
    history.completes()
    history.happens(CancelTask(**history.asked(), reason="not needed any more"))
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
    cancel,
)


def record(scenario: Callable[[], Recorder], folder: Path = FOLDER) -> Path | None:
    """Write the history of `scenario`; None where it has been recorded before."""
    path = folder / f"{scenario.__name__}.json"
    if path.exists():
        return None
    path.write_text(scenario().as_json())
    return path


def main() -> None:
    """Record what is not recorded yet."""
    for scenario in SCENARIOS:
        print(record(scenario) or f"{scenario.__name__} stays as it was recorded")


if __name__ == "__main__":
    main()
