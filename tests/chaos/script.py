"""What a task of a chaos run does, drawn from its own seed: the worker plays it, and the checker knows how it must end.

The seed of a task travels in each of its commands, so that nothing else must be shared between the processes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from contracts.tasks import AttemptKey, FailureKind, Phase, StopReason, TaskStatus

CHILDREN = 0.05
"""The share of tasks whose programs are real children."""
DOOMED, CRASHING = 0.01, 0.01
SLOW, LONG, AGAIN = 0.25, 0.02, 0.6
"""Of the attempts: those that take a second or so, and those that outlast a lease. AGAIN is for later attempts: many
take long, so that the worker of the one before, back from the dead, finds its successor at work."""
MOST_SEEDS = 2**31

Fault = Literal["bad_input", "crash"]
End = tuple[TaskStatus, str]
"""A terminal status and its reason."""


@dataclass(frozen=True, slots=True)
class Script:
    """How one task's programs behave. `doomed` is the phase that finds its input bad, for good."""

    seed: int
    child: bool
    doomed: Phase | None
    crashes: Phase | None
    """The phase whose first attempt crashes."""

    @classmethod
    def of(cls, seed: int) -> Script:
        """The script of the task with this seed."""
        drawn = random.Random(seed)
        child, fault, phase = drawn.random() < CHILDREN, drawn.random(), drawn.choice(list(Phase))
        doomed = phase if fault < DOOMED else None
        crashes = phase if DOOMED <= fault < DOOMED + CRASHING else None
        return cls(seed, child, doomed, crashes)

    def fault(self, key: AttemptKey) -> Fault | None:
        """What goes wrong in this attempt, if anything does."""
        if key.phase is self.doomed:
            return "bad_input"
        return "crash" if key.phase is self.crashes and key.attempt == 1 else None

    def seconds(self, key: AttemptKey) -> float:
        """How long this attempt's program takes; attempts of one phase differ."""
        drawn = random.Random(f"{self.seed}/{key.iteration}/{key.phase}/{key.attempt}")
        kind = drawn.random()
        if kind < (LONG if key.attempt == 1 else AGAIN):
            return drawn.uniform(3.0, 6.0)
        return drawn.uniform(0.3, 1.5) if kind < LONG + SLOW else 0.0

    def end(self, iterations: int | None) -> End:
        """Where it must end when nobody cancels it; `iterations` is None for a STANDARD task."""
        if self.doomed is not None:
            return TaskStatus.FAILED, FailureKind.BAD_INPUT.value
        reason = StopReason.ONCE_THROUGH if iterations is None else StopReason.MAX_ITERATIONS
        return TaskStatus.COMPLETED, reason.value


CANCELLED: End = (TaskStatus.CANCELLED, "cancelled")
