"""Creation and changes in memory. No method awaits anything, so each is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from control.machine.commands import Order
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.effects import HOLD, Envelope, NewRun, ending, envelope, new_run, optimized_dataset, trained_model
from control.store.port import (
    Applied,
    Change,
    Created,
    Dataset,
    HistoryRow,
    Loaded,
    NewTask,
    OutboxRow,
    Run,
    SubmissionConflict,
    Times,
)
from tests.memory_store.tables import MemoryBase, OutboxEntry, RunRow, TaskRow


class MemoryChanges(MemoryBase):
    """`create`, `load`, `apply` and `enqueue`."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks; one answer each."""
        made: dict[UUID, list[OutboxRow]] = {}
        answers = tuple(self._create(one, made) for one in new)
        return Created(answers, frozenset(made), tuple(row for rows in made.values() for row in rows))

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """What decisions need."""
        return [self._load(task_id, message_id) for task_id, message_id in wanted]

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Make those changes whose task still has the version that was read."""
        for row_id in published:
            self.tables.outbox.pop(row_id, None)
        made: set[UUID] = set()
        ended: dict[UUID, Times] = {}
        outbox: list[OutboxRow] = []
        for change in sorted(changes, key=lambda c: c.before.task_id):
            row = self.tables.tasks.get(change.before.task_id)
            if row is None or row.task.version != change.before.version:
                continue
            if change.stale:
                self._record_stale(change)
                made.add(change.event.message_id)
                continue
            if (times := self._close_run(change)) is not None:
                ended[change.event.message_id] = times
            outbox += self._make(row, change)
            made.add(change.event.message_id)
        return Applied(frozenset(made), tuple(outbox), ended)

    async def enqueue(self, orders: Sequence[tuple[UUID, Order]]) -> list[OutboxRow]:
        """Put orders into the outbox again."""
        return [row for task_id, order in orders for row in self._order(task_id, (order,), {})]

    def _create(self, new: NewTask, made: dict[UUID, list[OutboxRow]]) -> Task | SubmissionConflict:
        task, now = new.task, self._clock()
        there = self.tables.tasks.get(task.task_id)
        if there is not None:
            return there.task if there.digest == new.digest else SubmissionConflict(task.task_id)
        row = self.tables.tasks[task.task_id] = TaskRow(task, new.digest, now, now)
        self._write_history(task, task.version, "create_task", new.actor, None, task.spec.model_dump(mode="json"))
        made[task.task_id] = self._make(row, new.start) if new.start else []
        return row.task

    def _load(self, task_id: UUID, message_id: UUID) -> Loaded | None:
        row = self.tables.tasks.get(task_id)
        if row is None:
            return None
        live = self.tables.live_run(task_id)
        return Loaded(row.task, live.run.claim_id if live else None, message_id in self.tables.inbox)

    def _record_stale(self, change: Change) -> None:
        if change.event.message_id not in self.tables.inbox:
            self._receive(change)
            self._write_event(change, None)

    def _make(self, row: TaskRow, change: Change) -> list[OutboxRow]:
        row.task, row.updated_at = change.after, self._clock()
        self._receive(change)
        self._write_event(change, change.after.version)
        self._register(change)
        return self._order(change.after.task_id, change.orders, change.headers)

    def _receive(self, change: Change) -> None:
        self.tables.inbox[change.event.message_id] = (change.after.task_id, self._clock())

    def _write_event(self, change: Change, version: int | None) -> None:
        event = change.event
        self._write_history(
            change.after, version, event.kind, change.actor, change.reason, event.model_dump(mode="json")
        )

    def _write_history(
        self, task: Task, version: int | None, kind: str, actor: str, reason: str | None, event: dict[str, Any]
    ) -> None:
        self.tables.history.append(
            HistoryRow(
                id=len(self.tables.history) + 1,
                task_id=task.task_id,
                version=version,
                kind=kind,
                outcome="stale" if version is None else "applied",
                status=task.status,
                actor=actor,
                reason=reason,
                event=event,
                at=self._clock(),
            )
        )

    def _close_run(self, change: Change) -> Times | None:
        row = self.tables.live_run(change.after.task_id)
        if row is None or change.closed is None:
            return None
        now = self._clock()
        row.run = replace(
            row.run,
            state=change.closed,
            message=ending(change),
            event=change.event.model_dump(mode="json"),
            ended_at=now,
        )
        return Times(row.ordered_at, row.run.claimed_at, now, row.run.gpu_seconds)

    def _register(self, change: Change) -> None:
        dataset, model = optimized_dataset(change), trained_model(change)
        if dataset is not None:
            self.tables.datasets.setdefault(
                dataset.dataset_id,
                Dataset(
                    dataset_id=dataset.dataset_id,
                    name=dataset.name,
                    storage_path=dataset.storage_path,
                    file_size=dataset.file_size,
                    sample_count=dataset.sample_count,
                    dataset_type=dataset.dataset_type,
                    domain=None,
                    user_id=dataset.user_id,
                    is_optimized=True,
                    source_dataset_id=dataset.source_dataset_id,
                    created_at=self._clock(),
                ),
            )
        if model is not None:
            self.tables.models[model.key.task_id, model.key.iteration] = model.source

    def _order(self, task_id: UUID, orders: Sequence[Order], headers: Mapping[str, str]) -> list[OutboxRow]:
        """Write orders and their attempts; the answer is what is due now."""
        now = self._clock()
        due = []
        for order in orders:
            row = self._put(envelope(task_id, order, headers), now)
            run = new_run(order)
            if run is not None:
                self._dispatch(run, row.message_id, now + timedelta(seconds=order.delay), now)
            if order.delay <= 0:
                due.append(row)
        return due

    def _dispatch(self, new: NewRun, command_id: UUID, ordered_at: datetime, now: datetime) -> None:
        there = self.tables.run(new.key)
        if there is not None:
            there.ordered_at = ordered_at
            return
        run = Run(
            key=new.key,
            state=RunState.DISPATCHED,
            worker_id=None,
            claim_id=None,
            message=None,
            event=None,
            input_dataset_id=new.input_dataset_id,
            fraction=None,
            created_at=now,
            claimed_at=None,
            lease_expires_at=None,
            ended_at=None,
        )
        self.tables.runs.setdefault(new.key.task_id, {})[new.key] = RunRow(run, command_id, ordered_at)

    def _put(self, message: Envelope, now: datetime) -> OutboxRow:
        available = now + timedelta(seconds=message.delay)
        held = now + timedelta(seconds=HOLD) if message.delay <= 0 else available
        for entry in self.tables.outbox.values():
            if entry.row.message_id == message.message_id:
                entry.available_at, entry.held_until = min(entry.available_at, available), held
                return entry.row
        row = OutboxRow(
            id=next(self.tables.outbox_ids),
            exchange=message.exchange,
            routing_key=message.routing_key,
            message_id=message.message_id,
            body=message.body,
            headers=dict(message.headers),
        )
        self.tables.outbox[row.id] = OutboxEntry(row, message.task_id, available, held)
        return row
