"""What a person watching a task wants to know, folded from the updates of its stream. No terminal here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.http import HistoryView, IterationView, TaskView
from contracts.progress import PhaseProgress
from contracts.report import Score
from contracts.tasks import Phase, TaskStatus

HISTORY, PROGRESS = "history", "progress"


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase of the present iteration. `seconds` is there once it is done."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def fraction(self) -> float | None:
        """How much is done, 0 to 1; None where the end is not known."""
        if self.seconds is not None:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(slots=True)
class Board:
    """The state of one watched task."""

    name: str
    max_iterations: int
    status: TaskStatus = TaskStatus.PENDING
    iteration: int = 0
    bars: dict[Phase, Bar] = field(default_factory=dict)
    iterations: list[IterationView] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What did not go as planned: failed attempts, lost workers, pauses."""
    rows: tuple[int, int, dict[str, int]] = (0, 0, {})
    """Of the present iteration: rows, labels drawn, the optimizer's actions."""

    @classmethod
    def of(cls, task: TaskView) -> Board:
        """An empty board for this task; the stream's history fills it."""
        return cls(name=task.task_name, max_iterations=task.max_iterations)

    @property
    def ended(self) -> bool:
        """Whether the task is in an end state."""
        return self.status.terminal

    @property
    def best(self) -> int | None:
        """The iteration with the highest dev score."""
        best = max(self.iterations, key=lambda turn: (turn.dev.value, -turn.iteration), default=None)
        return best.iteration if best else None

    def apply(self, kind: str, data: dict[str, Any]) -> Iterator[str]:
        """Take one update in; yields the lines that a plain log of it has."""
        if kind == PROGRESS:
            self._progress(PhaseProgress.model_validate(data))
        elif kind == HISTORY:
            yield from self._history(HistoryView.model_validate(data))

    def _progress(self, step: PhaseProgress) -> None:
        bar = self.bars.get(step.key.phase, Bar())
        if step.key.iteration != self.iteration or bar.seconds is not None:
            return
        self.bars[step.key.phase] = replace(
            bar, stage=step.stage, done=step.done, total=step.total, eta=step.eta_seconds, metrics=step.metrics
        )

    def _history(self, row: HistoryView) -> Iterator[str]:
        if row.outcome != "applied":
            return
        before, self.status = self.status, row.status
        yield from self._event(row.kind, row.event, row.reason)
        phase = self.status.phase
        if phase is not None and self.status is not before:
            self._enter(phase)
            yield f"iteration {self.iteration} · {phase.value} …"

    def _enter(self, phase: Phase) -> None:
        """A phase begins, for the first time or again; what comes after it in this turn is not done any more."""
        self.iteration = self.iteration or 1
        order = list(Phase)
        earlier = order[: order.index(phase)]
        self.bars = {done: bar for done, bar in self.bars.items() if done in earlier} | {phase: Bar()}

    def _event(self, kind: str, event: dict[str, Any], reason: str | None) -> Iterator[str]:
        match kind:
            case "next_iteration":
                self.iteration, self.bars = event["iteration"] + 1, {}
            case "data_optimized":
                self.rows = (event["rows"], event.get("labels", 0), event.get("actions", {}))
                yield self._finish(Phase.OPTIMIZE, event, f"{event['rows']:,} rows")
            case "model_trained":
                yield self._finish(Phase.TRAIN, event, f"{event['steps']:,} steps")
            case "model_evaluated":
                turn = self._turn(event)
                self.iterations.append(turn)
                yield self._finish(Phase.EVALUATE, event, f"dev {turn.dev.value:.3f}{_tested(turn.test)}")
            case "phase_failed":
                yield self._note(f"attempt {event['key']['attempt']} failed: {event['failure']}: {event['message']}")
            case "lease_lost":
                yield self._note("a worker went silent; its attempt is ordered again")
            case "pause_task" | "resume_task" | "cancel_task" | "retry_task" | "kick_task" | "fail_task":
                yield self._note(f"{kind.removesuffix('_task')} was asked for" + (f": {reason}" if reason else ""))

    def _finish(self, phase: Phase, event: dict[str, Any], what: str) -> str:
        seconds = float(event.get("seconds", 0.0))
        self.bars[phase] = replace(self.bars.get(phase, Bar()), stage=what, eta=None, seconds=seconds)
        return f"iteration {self.iteration} · {phase.value} done in {seconds:.1f} s: {what}"

    def _note(self, text: str) -> str:
        note = f"iteration {self.iteration} · {text}"
        self.notes.append(note)
        return note

    def _turn(self, event: dict[str, Any]) -> IterationView:
        rows, labels, actions = self.rows
        return IterationView(
            iteration=event["key"]["iteration"],
            rows=rows,
            labels=labels,
            dev=Score.model_validate(event["dev"]),
            test=Score.model_validate(event["test"]) if event.get("test") else None,
            actions=actions,
            model_path="",
            evaluation_path=event["report"],
        )


def _tested(test: Score | None) -> str:
    return f", test {test.value:.3f}" if test else ""
