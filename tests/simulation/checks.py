"""What Treadle promises: looked at with every change, and as a whole once all is calm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args
from uuid import UUID

from contracts.events import Event, LeaseLost, PhaseEvent, PhaseFailed
from contracts.leases import Claim, LeaseAnswer, Verdict
from contracts.submissions import RetryTask, TaskRequest
from contracts.tasks import TERMINAL, AttemptKey, Phase, TaskSpec, TaskStatus
from contracts.topology import QUEUES
from contracts.wire import decode
from control.machine.task import Task
from control.store.port import Applied, Change, Created, HistoryRow, NewTask
from tests.build import fold
from tests.simulation.programs import DRAWN
from tests.simulation.world import World

AT_REST = TERMINAL | {TaskStatus.SUSPENDED, TaskStatus.PENDING}
"""Where a task may stay: ended, or waiting for a human."""
EVENTS = (*get_args(Event), *get_args(TaskRequest))


class Checks:
    """The invariants. Nothing here reads the machine's own idea of what is stale, except to fold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._versions: dict[UUID, int] = {}
        self._applied: set[UUID] = set()
        self._holders: dict[AttemptKey, UUID] = {}
        self._ended: dict[tuple[UUID, int, Phase], int] = {}
        self.acknowledged: dict[UUID, UUID] = {}
        """Message id of each request that was answered as accepted, and its task."""
        self.created: dict[UUID, UUID] = {}
        """Submission id of each creation that was answered as accepted, and its task."""

    def saw(self, call: str, arguments: Sequence[Any], answer: Any) -> None:
        """A transaction was made."""
        match call:
            case "create":
                self._created(arguments[0], answer)
            case "apply":
                self._changed(arguments[0], answer)
            case "lease":
                self._leased(arguments[1], answer)

    def _created(self, new: Sequence[NewTask], created: Created) -> None:
        for one in new:
            if one.start is not None and one.task.task_id in created.new:
                self._world.step("applied", f"{one.start.event.kind} {one.task.task_id}")
                self._made(one.start)

    def _changed(self, changes: Sequence[Change], applied: Applied) -> None:
        for change in changes:
            if change.event.message_id in applied.made:
                self._world.step("stale" if change.stale else "applied", f"{change.event.kind} {change.after.task_id}")
                if not change.stale:
                    self._made(change)

    def _made(self, change: Change) -> None:
        task, event, demand = change.after, change.event, self._world.demand
        version = self._versions.get(task.task_id, 1)
        demand(task.version == version + 1, f"version {version} of task {task.task_id} is followed by {task.version}")
        demand(event.message_id not in self._applied, f"{event.kind} {event.message_id} was applied twice")
        self._versions[task.task_id] = task.version
        self._applied.add(event.message_id)
        if isinstance(event, PhaseEvent | LeaseLost):
            self._attempt_ended(event)
        live = [row for row in self._world.tables.runs.get(task.task_id, {}).values() if row.live]
        demand(len(live) <= 1, f"task {task.task_id} has {len(live)} live attempts")

    def _attempt_ended(self, event: PhaseEvent | LeaseLost) -> None:
        key, demand = event.key, self._world.demand
        before = self._ended.get((key.task_id, key.iteration, key.phase), 0)
        demand(key.attempt > before, f"{event.kind} of attempt {key.attempt} was applied after that of {before}: {key}")
        self._ended[key.task_id, key.iteration, key.phase] = key.attempt
        demand(event.claim_id == self._holders.get(key), f"{event.kind} of a claim that never held {key} was applied")

    def _leased(self, claims: Sequence[Claim], answers: Sequence[LeaseAnswer]) -> None:
        verdicts = {answer.claim_id: answer.verdict for answer in answers}
        for claim in claims:
            if verdicts[claim.claim_id] is Verdict.GRANTED:
                holder = self._holders.setdefault(claim.key, claim.claim_id)
                self._world.demand(holder == claim.claim_id, f"{claim.key} was granted to two claims")

    def at_rest(self) -> bool:
        """Whether nothing is left to be done."""
        tables = self._world.tables
        return (
            not tables.outbox
            and all(row.task.status in AT_REST for row in tables.tasks.values())
            and not any(row.live and row.run.claim_id for row in tables.all_runs())
            and all(self._world.broker.queue(queue.name).depth() == 0 for queue in QUEUES)
        )

    def restless(self) -> str:
        """What is still to be done, for a message."""
        tables = self._world.tables
        left = [
            str(row.task.key or row.task.task_id) for row in tables.tasks.values() if row.task.status not in AT_REST
        ]
        depths = {queue.name: self._world.broker.queue(queue.name).depth() for queue in QUEUES}
        return f"tasks {left}, outbox {len(tables.outbox)}, queues {depths}"

    def at_the_end(self) -> None:
        """Look at every task's whole history."""
        histories: dict[UUID, list[HistoryRow]] = {}
        for row in self._world.tables.history:
            if row.outcome == "applied":
                histories.setdefault(row.task_id, []).append(row)
        tasks = self._world.tables.tasks
        for submission, task_id in self.created.items():
            self._world.demand(task_id in tasks, f"submission {submission} was accepted, and task {task_id} is lost")
        self._world.demand(len(tasks) == len(histories), "a task has no history")
        for task_id, history in histories.items():
            self._task(tasks[task_id].task, history)
        for message_id, task_id in self.acknowledged.items():
            self._world.demand(message_id in self._applied, f"an accepted request for task {task_id} is lost")

    def _task(self, task: Task, history: Sequence[HistoryRow]) -> None:
        demand = self._world.demand
        versions = [row.version for row in history]
        demand(versions == list(range(1, task.version + 1)), f"task {task.task_id} has the versions {versions}")
        created, *rest = history
        spec = TaskSpec.model_validate(created.event)
        events = tuple(decode(json.dumps(row.event).encode(), *EVENTS) for row in rest)
        demand(fold(Task(task.task_id, spec), events) == task, f"task {task.task_id} is not what its history folds to")
        ends = sum(row.status in TERMINAL for row in rest)
        retries = sum(isinstance(event, RetryTask) for event in events)
        demand(ends == retries + (task.status in TERMINAL), f"task {task.task_id} ended {ends} times")
        completions = [e.key for e in events if isinstance(e, PhaseEvent) and e.phase is not None]
        demand(len(set(completions)) == len(completions), f"a command of task {task.task_id} was completed twice")
        odd = [e for e in events if isinstance(e, PhaseFailed) and not e.message.startswith(DRAWN)]
        demand(not odd, f"task {task.task_id} had attempts fail that no program made fail: {odd}")
