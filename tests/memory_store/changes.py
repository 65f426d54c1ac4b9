"""Creation and changes in memory; no method awaits anything, so each call is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.commands import Command
from contracts.events import NextIteration
from control.machine.commands import OutboxMessage
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.effects import (
    OUTBOX_LOCK,
    end_message,
    input_dataset,
    optimized_dataset,
    outbox_row,
    trained_model,
)
from control.store.values import (
    MAX_STALE,
    Applied,
    AttemptRecord,
    AttemptTimes,
    Change,
    Created,
    Dataset,
    HistoryRow,
    Loaded,
    NewTask,
    OutboxRow,
    StoredTask,
    SubmissionConflict,
)
from tests.memory_store.tables import AttemptRow, MemoryBase, OutboxEntry, TaskRow, stored_task


class MemoryChanges(MemoryBase):
    """`create`, `load`, `apply` and `enqueue`."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks, each with its history row and its start; one answer for each task, in order."""
        applied: dict[UUID, list[OutboxRow]] = {}
        answers = tuple(self._create(item, applied) for item in new)
        return Created(answers, frozenset(applied), tuple(row for rows in applied.values() for row in rows))

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """What a decision needs for each (task id, message id), in order."""
        return [self._load(task_id, message_id) for task_id, message_id in wanted]

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Apply the changes whose task still has the version that was read, in task-id order."""
        for row_id in published:
            self.tables.outbox.pop(row_id, None)
        tasks: dict[UUID, StoredTask] = {}
        ended: dict[UUID, AttemptTimes] = {}
        outbox: list[OutboxRow] = []
        dropped: set[UUID] = set()
        for change in sorted(changes, key=lambda c: c.before.task_id):
            row = self.tables.tasks.get(change.before.task_id)
            if row is None or row.task.version != change.before.version:
                continue
            if change.stale:
                if not self._record_stale(change):
                    dropped.add(change.event.message_id)
                tasks[change.event.message_id] = stored_task(row)
                continue
            if (times := self._end_attempt(change)) is not None:
                ended[change.event.message_id] = times
            outbox += self._apply(row, change)
            tasks[change.event.message_id] = stored_task(row)
        return Applied(tasks, tuple(outbox), ended, frozenset(dropped))

    async def enqueue(self, messages: Sequence[tuple[UUID, OutboxMessage]]) -> list[OutboxRow]:
        """Put messages into the outbox again; return the rows that are due now."""
        return [row for task_id, outbox_message in messages for row in self._enqueue(task_id, (outbox_message,), {})]

    def _create(self, new: NewTask, applied: dict[UUID, list[OutboxRow]]) -> StoredTask | SubmissionConflict:
        task, now = new.task, self._clock()
        existing = self.tables.tasks.get(task.task_id)
        if existing is not None:
            return stored_task(existing) if existing.digest == new.digest else SubmissionConflict(task.task_id)
        row = self.tables.tasks[task.task_id] = TaskRow(task, new.digest, now, now)
        self._write_history(task, task.version, "create_task", new.actor, None, task.spec.model_dump(mode="json"))
        applied[task.task_id] = self._apply(row, new.start) if new.start else []
        return stored_task(row)

    def _load(self, task_id: UUID, message_id: UUID) -> Loaded | None:
        row = self.tables.tasks.get(task_id)
        if row is None:
            return None
        active = self.tables.active_attempt(task_id)
        return Loaded(stored_task(row), active.attempt.claim_id if active else None, message_id in self.tables.inbox)

    def _record_stale(self, change: Change) -> bool:
        """Record a stale event once. Returns False if the task has too many of them."""
        earlier = sum(r.task_id == change.before.task_id and r.outcome == "stale" for r in self.tables.history)
        if earlier < MAX_STALE and change.event.message_id not in self.tables.inbox:
            self._write_inbox(change)
            self._write_event(change, None)
        return earlier < MAX_STALE

    def _apply(self, row: TaskRow, change: Change) -> list[OutboxRow]:
        row.task, row.updated_at = change.after, self._clock()
        self._write_inbox(change)
        self._write_event(change, change.after.version)
        self._register(change)
        return self._enqueue(change.after.task_id, change.messages, change.headers)

    def _write_inbox(self, change: Change) -> None:
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

    def _end_attempt(self, change: Change) -> AttemptTimes | None:
        row = self.tables.active_attempt(change.after.task_id)
        if row is None or change.ended_as is None:
            return None
        now = self._clock()
        row.attempt = replace(
            row.attempt,
            state=change.ended_as,
            message=end_message(change),
            event=change.event.model_dump(mode="json"),
            ended_at=now,
        )
        return AttemptTimes(row.due_at, row.attempt.claimed_at, now, row.attempt.gpu_seconds)

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

    def _enqueue(self, task_id: UUID, messages: Sequence[OutboxMessage], headers: Mapping[str, str]) -> list[OutboxRow]:
        """Write outbox rows and the attempts of their commands; return the rows that are due now."""
        now = self._clock()
        due = []
        for outbox_message in messages:
            row = self._write_outbox(outbox_row(task_id, outbox_message, headers), now)
            if not isinstance(outbox_message.message, NextIteration):
                due_at = now + timedelta(seconds=outbox_message.delay)
                self._write_attempt(outbox_message.message, row.message_id, due_at, now)
            if outbox_message.delay <= 0:
                due.append(row)
        return due

    def _write_attempt(self, command: Command, command_id: UUID, due_at: datetime, now: datetime) -> None:
        existing = self.tables.attempt(command.key)
        if existing is not None:
            existing.attempt = replace(existing.attempt, due_at=due_at)
            return
        attempt = AttemptRecord(
            key=command.key,
            state=AttemptState.DISPATCHED,
            worker_id=None,
            claim_id=None,
            message=None,
            event=None,
            input_dataset_id=input_dataset(command),
            fraction=None,
            created_at=now,
            claimed_at=None,
            lease_expires_at=None,
            ended_at=None,
            due_at=due_at,
        )
        self.tables.attempts.setdefault(command.key.task_id, {})[command.key] = AttemptRow(attempt, command_id)

    def _write_outbox(self, message: OutboxRow, now: datetime) -> OutboxRow:
        available = now + timedelta(seconds=message.delay)
        locked = now + timedelta(seconds=OUTBOX_LOCK) if message.delay <= 0 else available
        for entry in self.tables.outbox.values():
            if entry.row.message_id == message.message_id:
                entry.available_at, entry.locked_until = min(entry.available_at, available), locked
                return entry.row
        row = replace(message, id=next(self.tables.outbox_ids))
        self.tables.outbox[row.id] = OutboxEntry(row, available, locked)
        return row
