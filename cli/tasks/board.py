"""The state of a task that `treadle watch` shows, built from the events of its stream without a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cli.tasks.notices import notice_line
from contracts.http import HistoryView, IterationView, TaskView
from contracts.notices import Notice
from contracts.progress import PhaseProgress
from contracts.report import Score
from contracts.tasks import Phase, TaskStatus

HISTORY, PROGRESS = "history", "progress"


@dataclass(frozen=True, slots=True)
class Bar:
    """One phase of the current iteration; `eta` is in seconds, and `seconds` is set when the phase is done."""

    stage: str = ""
    done: int = 0
    total: int = 0
    eta: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    notices: tuple[str, ...] = ()
    """A line for each rule that the phase applied to rows."""

    @property
    def fraction(self) -> float | None:
        """The completed part, 0 to 1; None if the total is unknown."""
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
    """Failed attempts, lost leases, and requests such as pause or retry."""
    rows: tuple[int, int, dict[str, int]] = (0, 0, {})
    """Of the current iteration: rows, labels drawn, and rows by action of the optimizer."""

    @classmethod
    def of(cls, task: TaskView) -> Board:
        """Create an empty board for this task; the history of the stream fills it."""
        return cls(name=task.task_name, max_iterations=task.max_iterations)

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.status.terminal

    @property
    def best(self) -> int | None:
        """The first iteration with the highest dev score."""
        best = max(self.iterations, key=lambda result: (result.dev.value, -result.iteration), default=None)
        return best.iteration if best else None

    def apply(self, kind: str, data: dict[str, Any]) -> Iterator[str]:
        """Apply one event; yields its lines for a plain log."""
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
        """Begin a phase, for the first time or again; later phases of the iteration lose their bars."""
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
                yield from self._finish(Phase.OPTIMIZE, event, f"{event['rows']:,} rows")
            case "model_trained":
                yield from self._finish(Phase.TRAIN, event, f"{event['steps']:,} steps")
            case "model_evaluated":
                result = self._result(event)
                self.iterations.append(result)
                yield from self._finish(Phase.EVALUATE, event, f"dev {result.dev.value:.3f}{_tested(result.test)}")
            case "phase_failed":
                yield self._note(f"attempt {event['key']['attempt']} failed: {event['failure']}: {event['message']}")
            case "lease_lost":
                yield self._note("lease lost: the worker sent no heartbeat")
            case "pause_task" | "resume_task" | "cancel_task" | "retry_task" | "kick_task" | "fail_task":
                yield self._note(f"{kind.removesuffix('_task')} requested" + (f": {reason}" if reason else ""))

    def _finish(self, phase: Phase, event: dict[str, Any], what: str) -> Iterator[str]:
        seconds, notices = float(event.get("seconds", 0.0)), tuple(_notice_lines(event.get("notices", ())))
        self.bars[phase] = replace(self.bars.get(phase, Bar()), stage=what, eta=None, seconds=seconds, notices=notices)
        yield f"iteration {self.iteration} · {phase.value} done in {seconds:.1f} s: {what}"
        yield from (f"iteration {self.iteration} · {phase.value} · {line}" for line in notices)

    def _note(self, text: str) -> str:
        note = f"iteration {self.iteration} · {text}"
        self.notes.append(note)
        return note

    def _result(self, event: dict[str, Any]) -> IterationView:
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


def _notice_lines(notices: Sequence[dict[str, Any]]) -> Iterator[str]:
    for notice in map(Notice.model_validate, notices):
        if notice.rows:
            yield notice_line(notice)


def _tested(test: Score | None) -> str:
    return f", test {test.value:.3f}" if test else ""
