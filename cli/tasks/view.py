"""Print tasks, iterations and attempts as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group
from rich.table import Table
from rich.text import Text

from cli.durations import format_duration
from cli.tasks.notices import first_and_newest, notices_table
from cli.tasks.work import work_text
from cli.terminal import Terminal, text
from contracts.http import ExecutionView, IterationView, TaskPage
from contracts.report import Score
from contracts.tasks import AttemptName, Phase, TaskStatus
from contracts.waiting import TaskDetail, WaitingView

ACTIONS_SHOWN = 4
COLOUR = {
    TaskStatus.COMPLETED: "green",
    TaskStatus.FAILED: "red",
    TaskStatus.CANCELLED: "yellow",
    TaskStatus.SUSPENDED: "yellow",
    TaskStatus.PENDING: "bright_black",
}


def status_text(status: TaskStatus) -> Text:
    """A status in its colour; cyan while the task is in progress."""
    return text(status.value, style=COLOUR.get(status, "cyan"))


def score_text(score: Score | None) -> str:
    """A score with its interval, e.g. `0.612 [0.57, 0.65]`."""
    return "" if score is None else f"{score.value:.3f} [{score.low:.2f}, {score.high:.2f}]"


def _by_weight(item: tuple[str, int]) -> tuple[bool, int, str]:
    """Sort key: actions on many rows first, tidied whitespace last."""
    return item[0].endswith("tidied"), -item[1], item[0]


def actions_text(actions: dict[str, int]) -> str:
    """The most frequent actions of the optimizer, e.g. `120 added targeted, 12 exact duplicate`."""
    ordered = sorted((item for item in actions.items() if item[1]), key=_by_weight)
    named = [f"{count} {rule.replace('_', ' ')}" for rule, count in ordered[:ACTIONS_SHOWN]]
    return ", ".join(named) + (", …" if len(ordered) > ACTIONS_SHOWN else "")


def waiting_text(waiting: WaitingView, now: datetime) -> Text:
    """Why a task waits, and on a second line since when and until when, e.g. `since 03:10:22 (4m12s)`."""
    times = []
    if waiting.since is not None:
        times.append(f"since {_clock(waiting.since)} ({format_duration((now - waiting.since).total_seconds())})")
    if waiting.until is not None:
        times.append(f"until {_clock(waiting.until)} (in {format_duration((waiting.until - now).total_seconds())})")
    sentence = text(waiting.sentence, style="yellow", lines=True)
    return Text("\n").join([sentence, text(", ".join(times), style="bright_black")]) if times else sentence


def _clock(moment: datetime) -> str:
    """The local time of day."""
    return f"{moment.astimezone():%H:%M:%S}"


def iterations_table(iterations: Sequence[IterationView], best: int | None) -> Table:
    """One row for each iteration; a star marks the best one by dev score."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", width=1)
    for name in ("iteration", "rows"):
        table.add_column(name, justify="right")
    for name in ("dev", "test", "the optimizer"):
        table.add_column(name, overflow="fold")
    for result in iterations:
        mark = "★" if result.iteration == best else ""
        scores = (score_text(result.dev), score_text(result.test))
        table.add_row(mark, str(result.iteration), str(result.rows), *scores, actions_text(result.actions))
    return table


def show_page(page: TaskPage) -> None:
    """Print a page of tasks."""
    if not page.items:
        Terminal().print("no tasks" if page.page == 1 else f"no tasks on page {page.page}")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("name", overflow="ellipsis", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("iteration", justify="right", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    for task in page.items:
        best = "" if task.best_score is None else f"{task.best_score:.3f}"
        table.add_row(str(task.task_id), task.task_name, status_text(task.status), str(task.current_iteration), best)
    more = f"page {page.page} of {-(-page.total // page.page_size)}, {page.total} tasks"
    Terminal().print(Group(table, text(more, style="bright_black")) if page.total > len(page.items) else table)


def show_task(task: TaskDetail, attempts: Sequence[ExecutionView]) -> None:
    """Print one task with its iterations, what happened to its rows, and its attempts."""
    terminal = Terminal()
    terminal.print(_facts(task))
    if task.iterations:
        terminal.print(*_heading("Iterations"), iterations_table(task.iterations, task.best_iteration), sep="\n")
    if task.notices:
        shown = first_and_newest(task.notices)
        terminal.print(*_heading("What happened to the rows"), notices_table(shown), sep="\n")
        if len(shown) < len(task.notices):
            terminal.print("--json shows those of other iterations too", style="bright_black")
    if attempts:
        terminal.print(*_heading("Attempts"), _attempts_table(attempts), sep="\n")
    failed = [attempt for attempt in attempts if attempt.status == "failed" and attempt.worker_id]
    if failed:
        hint = f"why it failed: treadle logs {task.task_id} --attempt {attempt_name(failed[-1])}"
        terminal.print(text(hint, style="bright_black"), soft_wrap=True)


def attempt_name(attempt: ExecutionView) -> AttemptName:
    """The name of an attempt, such as `1/train/a2`, which other commands take as --attempt."""
    phase = next(phase for phase in Phase if phase.noun == attempt.phase)
    return f"{attempt.iteration}/{phase}/a{attempt.attempt}"


def _heading(words: str) -> tuple[str, Text]:
    """An empty line and a title."""
    return "", text(words, style="bold")


def _facts(task: TaskDetail) -> Table:
    iteration = f"{task.current_iteration} of {task.max_iterations}" if task.max_iterations > 1 else "single pass"
    facts: list[tuple[str, str | Text | None]] = [
        ("task", str(task.task_id)),
        ("name", task.task_name),
        ("status", status_text(task.status)),
        ("waiting", waiting_text(task.waiting, datetime.now(UTC)) if task.waiting else None),
        ("reason", text(" · ".join(part for part in (task.reason, task.message) if part), lines=True)),
        ("iteration", iteration),
        ("work", work_text(task, so_far=not task.status.terminal)),
        ("model", task.model_name),
        ("dataset", task.dataset_id),
        ("latest model", task.latest_model_path),
        ("created", f"{task.created_at:%Y-%m-%d %H:%M:%S %Z}"),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(name, value)
    return table


def _attempts_table(attempts: Sequence[ExecutionView]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("iteration", "phase", "attempt", "status", "seconds", "work"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"seconds", "work"} else "left")
    for name in ("worker", "message"):
        table.add_column(name, overflow="fold")
    for attempt in attempts:
        seconds = ""
        if attempt.started_at and attempt.completed_at:
            seconds = f"{(attempt.completed_at - attempt.started_at).total_seconds():.1f}"
        work = "" if attempt.work_seconds is None else f"{attempt.work_seconds:.1f}"
        row = (str(attempt.iteration), attempt.phase, str(attempt.attempt), attempt.status, seconds, work)
        table.add_row(*row, attempt.worker_id or "", text(attempt.message or "", lines=True))
    return table
