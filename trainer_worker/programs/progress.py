"""Report the progress of the training: steps, loss, tokens per second and remaining time."""

from __future__ import annotations

import time

from infra.child.program import REPORT_EVERY, Job
from trainer_worker.programs.training import Training

SMOOTHING = 0.1
"""Weight of the newest step in the moving average of step times, from which the ETA is computed."""


class Progress:
    """Reports progress at most every REPORT_EVERY seconds; speeds count only the steps of this attempt."""

    def __init__(self, job: Job, training: Training) -> None:
        self._job = job
        self._training = training
        self._tokens = training.tokens
        self._started = self._stepped = time.monotonic()
        self._reported = 0.0
        self._step_seconds: float | None = None
        job.report("training", training.step, training.steps)

    def stepped(self) -> None:
        """Update the progress; call it after every step."""
        now = time.monotonic()
        seconds = now - self._stepped
        mean = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = mean + SMOOTHING * (seconds - mean)
        self._stepped = now
        if now - self._reported >= REPORT_EVERY or self._training.step == self._training.steps:
            self._reported = now
            self._report(self._step_seconds)

    def tokens_per_second(self) -> float:
        """Return the tokens per second of this attempt, padding not counted."""
        return (self._training.tokens - self._tokens) / max(self._stepped - self._started, 1e-9)

    def _report(self, step_seconds: float) -> None:
        training = self._training
        self._job.report(
            "training",
            training.step,
            training.steps,
            eta=step_seconds * (training.steps - training.step),
            loss=training.history.recent(),
            tokens_per_second=self.tokens_per_second(),
            learning_rate=float(training.optimizer.param_groups[0]["lr"]),
        )
