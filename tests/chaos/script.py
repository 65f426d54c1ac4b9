"""The script of a task in a chaos run, drawn from its seed: the worker follows it, and the checker expects its end.

The seed is in every command of the task, so the processes share no other state.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from contracts.tasks import AttemptKey, FailureKind, Phase, StopReason, TaskStatus

CHILD_SHARE = 0.05
"""The share of tasks whose programs are child processes, not coroutines."""
BAD_INPUT_SHARE, CRASH_SHARE = 0.01, 0.01
"""Shares of the tasks with a phase that always has bad input, and with a phase whose first attempt crashes."""
SLOW, LONG, LONG_RETRY = 0.25, 0.02, 0.6
"""Shares of the attempts that take about a second, and that take longer than a lease. LONG_RETRY is the share of later
attempts that take long: the worker of the attempt before may then resume while the next attempt is running."""
SEED_LIMIT = 2**31

Fault = Literal["bad_input", "crash"]
End = tuple[TaskStatus, str]
"""A terminal status and its reason."""


@dataclass(frozen=True, slots=True)
class Script:
    """How the programs of one task behave."""

    seed: int
    child: bool
    bad_input_phase: Phase | None
    """The phase whose every attempt fails with bad input."""
    crash_phase: Phase | None
    """The phase whose first attempt crashes."""

    @classmethod
    def of(cls, seed: int) -> Script:
        """The script of the task with this seed."""
        rng = random.Random(seed)
        child, fault, phase = rng.random() < CHILD_SHARE, rng.random(), rng.choice(list(Phase))
        bad_input_phase = phase if fault < BAD_INPUT_SHARE else None
        crash_phase = phase if BAD_INPUT_SHARE <= fault < BAD_INPUT_SHARE + CRASH_SHARE else None
        return cls(seed, child, bad_input_phase, crash_phase)

    def fault(self, key: AttemptKey) -> Fault | None:
        """The fault of this attempt, if it has one."""
        if key.phase is self.bad_input_phase:
            return "bad_input"
        return "crash" if key.phase is self.crash_phase and key.attempt == 1 else None

    def seconds(self, key: AttemptKey) -> float:
        """How long the program of this attempt takes, in seconds; attempts of one phase differ."""
        rng = random.Random(f"{self.seed}/{key.iteration}/{key.phase}/{key.attempt}")
        drawn = rng.random()
        if drawn < (LONG if key.attempt == 1 else LONG_RETRY):
            return rng.uniform(3.0, 6.0)
        return rng.uniform(0.3, 1.5) if drawn < LONG + SLOW else 0.0

    def end(self, iterations: int | None) -> End:
        """The end of the task if it is not cancelled; `iterations` is None for a STANDARD task."""
        if self.bad_input_phase is not None:
            return TaskStatus.FAILED, FailureKind.BAD_INPUT.value
        reason = StopReason.ONCE_THROUGH if iterations is None else StopReason.MAX_ITERATIONS
        return TaskStatus.COMPLETED, reason.value


CANCELLED: End = (TaskStatus.CANCELLED, "cancelled")
