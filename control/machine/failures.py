"""Which failures of attempts spend a phase's budget, and how long the next attempt is delayed."""

from __future__ import annotations

from dataclasses import replace

from contracts.tasks import FailureKind
from control.machine.task import Task

FIRST_BACKOFF = 5.0
"""Seconds before the attempt after the first failure; doubled for each further failure."""
LONGEST_BACKOFF = 300.0
"""Seconds; the upper limit of that delay."""
FIRST_UNFIT_BACKOFF = 1.0
"""Seconds before the attempt after one that failed by the fault of a worker's machine: another worker may be free."""
MAX_UNFIT_FAILURES = 10
"""Such attempts in a row at one phase that do not count as failures; the next ones do."""
MAX_HUB_FAILURES = 50
"""Attempts in a row at one phase that do not count although the hub was away: four hours, by the delays between them.
A failure by the fault of a machine does not end the row, nor does the hub's end that of machines."""


def count_failure(task: Task, kind: FailureKind) -> Task:
    """The task after one more failure. A failure that a machine or the hub caused is free up to the maximum."""
    unfit, away = kind is FailureKind.WORKER_UNFIT, kind is FailureKind.HUB_UNAVAILABLE
    in_a_row = unfit or away
    unfit_failures, hub_failures = task.unfit_failures + unfit, task.hub_failures + away
    free = unfit_failures <= MAX_UNFIT_FAILURES if unfit else away and hub_failures <= MAX_HUB_FAILURES
    return replace(
        task,
        failures=task.failures + (not free),
        unfit_failures=unfit_failures if in_a_row else 0,
        hub_failures=hub_failures if in_a_row else 0,
        memory_failures=task.memory_failures + (kind is FailureKind.OUT_OF_MEMORY),
    )


def backoff(task: Task, kind: FailureKind) -> float:
    """Seconds before the next attempt, by the counted failures for the reason `kind` of the last one."""
    match kind:
        case FailureKind.WORKER_UNFIT:
            first, failures = FIRST_UNFIT_BACKOFF, task.unfit_failures
        case FailureKind.HUB_UNAVAILABLE:
            first, failures = FIRST_BACKOFF, task.hub_failures
        case _:
            first, failures = FIRST_BACKOFF, task.failures
    return min(first * 2.0 ** (failures - 1), LONGEST_BACKOFF)
