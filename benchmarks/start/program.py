"""The program of the benchmark: it imports what the trainer's program imports, and notes when its `main` begins."""

from __future__ import annotations

import time

import trainer_worker.programs.train  # noqa: F401  # its imports are what is measured
from benchmarks.start.spec import Result, Spec
from infra.child.program import Job


def main(spec: Spec, job: Job) -> Result:
    """Return at once."""
    return Result(began=time.monotonic())
