"""What Treadle promises: checked after every transaction, and over whole histories at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args
from uuid import UUID

from contracts.events import Event, LeaseLost, PhaseEvent, PhaseFailed
from contracts.leases import Claim, LeaseAnswer, LeaseVerdict
from contracts.submissions import RetryTask, TaskRequest
from contracts.tasks import TERMINAL, AttemptKey, Phase, TaskSpec, TaskStatus
from contracts.topology import QUEUES
from contracts.wire import decode
from control.machine.task import Task
from control.store.values import Applied, Change, Created, HistoryRow, NewTask
from tests.build import fold
from tests.simulation.programs import DRAWN_FAILURE
from tests.simulation.world import World

STABLE_STATUSES = TERMINAL | {TaskStatus.SUSPENDED, TaskStatus.PENDING}
"""Statuses in which a task stays without a request: ended, suspended or not started."""
EVENTS = (*get_args(Event), *get_args(TaskRequest))


class Checks:
    """The invariants, independent of what the machine calls stale; only the fold of a history uses the machine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._versions: dict[UUID, int] = {}
        self._applied: set[UUID] = set()
        self._holders: dict[AttemptKey, UUID] = {}
        self._ended: dict[tuple[UUID, int, Phase], int] = {}
        self.acknowledged: dict[UUID, UUID] = {}
        """Message id to task id, for each request whose answer was that it is accepted."""
        self.created: dict[UUID, UUID] = {}
        """Submission id to task id, for each creation whose answer was that it is accepted."""

    def on_transaction(self, call: str, arguments: Sequence[Any], answer: Any) -> None:
        """Check a transaction that the store has made."""
        match call:
            case "create":
                self._on_create(arguments[0], answer)
            case "apply":
                self._on_apply(arguments[0], answer)
            case "lease":
                self._on_lease(arguments[1], answer)

    def _on_create(self, new: Sequence[NewTask], created: Created) -> None:
        for item in new:
            if item.start is not None and item.task.task_id in created.new:
                self._world.step("applied", f"{item.start.event.kind} {item.task.task_id}")
                self._check_change(item.start)

    def _on_apply(self, changes: Sequence[Change], applied: Applied) -> None:
        for change in changes:
            if change.event.message_id in applied.tasks:
                self._world.step("stale" if change.stale else "applied", f"{change.event.kind} {change.after.task_id}")
                if not change.stale:
                    self._check_change(change)

    def _check_change(self, change: Change) -> None:
        task, event, check = change.after, change.event, self._world.check
        version = self._versions.get(task.task_id, 1)
        check(task.version == version + 1, f"version {version} of task {task.task_id} is followed by {task.version}")
        check(event.message_id not in self._applied, f"{event.kind} {event.message_id} was applied twice")
        self._versions[task.task_id] = task.version
        self._applied.add(event.message_id)
        if isinstance(event, PhaseEvent | LeaseLost):
            self._check_end(event)
        active = [row for row in self._world.tables.attempts.get(task.task_id, {}).values() if row.active]
        check(len(active) <= 1, f"task {task.task_id} has {len(active)} active attempts")

    def _check_end(self, event: PhaseEvent | LeaseLost) -> None:
        key, check = event.key, self._world.check
        before = self._ended.get((key.task_id, key.iteration, key.phase), 0)
        check(
            key.attempt > before,
            f"{event.kind} of attempt {key.attempt} was applied after the one of attempt {before}: {key}",
        )
        self._ended[key.task_id, key.iteration, key.phase] = key.attempt
        check(event.claim_id == self._holders.get(key), f"{event.kind} of a claim that never held {key} was applied")

    def _on_lease(self, claims: Sequence[Claim], answers: Sequence[LeaseAnswer]) -> None:
        verdicts = {answer.claim_id: answer.verdict for answer in answers}
        for claim in claims:
            if verdicts[claim.claim_id] is LeaseVerdict.GRANTED:
                holder = self._holders.setdefault(claim.key, claim.claim_id)
                self._world.check(holder == claim.claim_id, f"{claim.key} was granted to two claims")

    def is_finished(self) -> bool:
        """Whether all work is done: outbox, tasks, attempts and queues."""
        tables = self._world.tables
        return (
            not tables.outbox
            and all(row.task.status in STABLE_STATUSES for row in tables.tasks.values())
            and not any(row.active and row.attempt.claim_id for row in tables.all_attempts())
            and all(self._world.broker.queue(queue.name).depth() == 0 for queue in QUEUES)
        )

    def unfinished_work(self) -> str:
        """The unfinished work, as text for a violation."""
        tables = self._world.tables
        unfinished = [
            str(row.task.key or row.task.task_id)
            for row in tables.tasks.values()
            if row.task.status not in STABLE_STATUSES
        ]
        depths = {queue.name: self._world.broker.queue(queue.name).depth() for queue in QUEUES}
        return f"tasks {unfinished}, outbox {len(tables.outbox)}, queues {depths}"

    def check_histories(self) -> None:
        """Check the whole history of every task."""
        histories: dict[UUID, list[HistoryRow]] = {}
        for row in self._world.tables.history:
            if row.outcome == "applied":
                histories.setdefault(row.task_id, []).append(row)
        tasks = self._world.tables.tasks
        for submission, task_id in self.created.items():
            self._world.check(task_id in tasks, f"submission {submission} was accepted, and task {task_id} is lost")
        self._world.check(len(tasks) == len(histories), "a task has no history")
        for task_id, history in histories.items():
            self._check_task(tasks[task_id].task, history)
        for message_id, task_id in self.acknowledged.items():
            self._world.check(message_id in self._applied, f"an accepted request for task {task_id} is lost")

    def _check_task(self, task: Task, history: Sequence[HistoryRow]) -> None:
        check = self._world.check
        versions = [row.version for row in history]
        check(versions == list(range(1, task.version + 1)), f"task {task.task_id} has the versions {versions}")
        created, *rest = history
        spec = TaskSpec.model_validate(created.event)
        events = tuple(decode(json.dumps(row.event).encode(), *EVENTS) for row in rest)
        check(fold(Task(task.task_id, spec), events) == task, f"task {task.task_id} is not what its history folds to")
        ends = sum(row.status in TERMINAL for row in rest)
        retries = sum(isinstance(event, RetryTask) for event in events)
        check(ends == retries + (task.status in TERMINAL), f"task {task.task_id} ended {ends} times")
        completions = [e.key for e in events if isinstance(e, PhaseEvent) and e.phase is not None]
        check(len(set(completions)) == len(completions), f"a command of task {task.task_id} was completed twice")
        unexpected = [e for e in events if isinstance(e, PhaseFailed) and not e.message.startswith(DRAWN_FAILURE)]
        check(not unexpected, f"attempts of task {task.task_id} failed though no program failed: {unexpected}")
