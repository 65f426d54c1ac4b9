"""Conversions between the machine's values and the rows of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from contracts.commands import Command
from contracts.events import NextIteration
from contracts.tasks import AttemptKey, Phase, TaskStatus
from contracts.wire import encode
from control.machine.machine import AttemptState
from control.machine.task import Task
from control.store.effects import end_message, input_dataset, optimized_dataset, trained_model
from control.store.values import (
    AttemptClock,
    AttemptRecord,
    AttemptTimes,
    Change,
    Dataset,
    HistoryRow,
    NewTask,
    OutboxRow,
    Pause,
    Standstill,
    StoredTask,
    TaskClock,
    Unfit,
    WaitContext,
)
from infra.database import Row

TASK: TypeAdapter[Task] = TypeAdapter(Task)
OWN_COLUMNS = {"task_id", "spec", "version"}
"""The fields of a Task that have columns of their own; the column `state` holds the others."""


def task_from(text: str) -> Task:
    """A task from one JSON object of its state, id, version and spec."""
    return TASK.validate_json(text)


def state_of(task: Task) -> orjson.Fragment:
    """The column `state` of a task: all fields that may change, as JSON."""
    return orjson.Fragment(TASK.dump_json(task, exclude=OWN_COLUMNS))


def change_row(change: Change) -> dict[str, Any]:
    """A change as a row for `apply`; its key is that of the newest attempt before the change, which it may end."""
    before = change.before
    return {
        "task_id": before.task_id,
        "version": before.version,
        "stale": change.stale,
        "state": state_of(change.after),
        "message_id": change.event.message_id,
        "kind": change.event.kind,
        "event": orjson.Fragment(encode(change.event)),
        "actor": change.actor,
        "reason": change.reason,
        "ended_as": change.ended_as,
        "end_message": end_message(change) if change.ended_as else None,
        "iteration": before.iteration,
        "phase": before.phase,
        "attempt": before.attempt,
    }


def new_task_row(new: NewTask) -> dict[str, Any]:
    """A new task as a row for `create`, in its state after the start if it has one."""
    task = new.start.after if new.start else new.task
    row: dict[str, Any] = {
        "task_id": task.task_id,
        "version": task.version,
        "digest": new.digest,
        "spec": orjson.Fragment(task.spec.model_dump_json()),
        "state": state_of(task),
        "actor": new.actor,
        "first": new.task.status,
    }
    if new.start is not None:
        row |= {"start_id": new.start.event.message_id, "start": orjson.Fragment(encode(new.start.event))}
    return row


def outbox_json(position: int, row: OutboxRow, message: Command | NextIteration) -> dict[str, Any]:
    """An outbox row and the attempt of its command, as a row for `apply`, `create` and `enqueue`."""
    fields: dict[str, Any] = {
        "position": position,
        "task_id": row.task_id,
        "message_id": row.message_id,
        "exchange": row.exchange,
        "routing_key": row.routing_key,
        "body": row.body.decode(),
        "headers": row.headers,
        "delay": row.delay,
    }
    if not isinstance(message, NextIteration):
        key = message.key
        fields |= {"iteration": key.iteration, "phase": key.phase, "attempt": key.attempt}
        fields["input_dataset_id"] = input_dataset(message)
    return fields


def dataset_rows(changes: Sequence[Change]) -> list[Any]:
    """The datasets that these changes register."""
    return [dataset for change in changes if (dataset := optimized_dataset(change)) is not None]


def model_rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The models that these changes register."""
    models = [model for change in changes if (model := trained_model(change)) is not None]
    return [
        {
            "task_id": model.key.task_id,
            "iteration": model.key.iteration,
            "attempt": model.key.attempt,
            "source": orjson.Fragment(model.source.model_dump_json()),
        }
        for model in models
    ]


def times_of(rows: Sequence[Row]) -> dict[UUID, AttemptTimes]:
    """The times of the attempts that `apply` ended, by message id."""
    return {
        row["message_id"]: AttemptTimes(row["due_at"], row["claimed_at"], row["ended_at"], row["gpu_seconds"])
        for row in rows
        if row["ended_at"] is not None
    }


def outbox_row_from(row: Row) -> OutboxRow:
    """A row of `outbox`."""
    return OutboxRow(**{**row, "body": row["body"].encode()})


def attempt_from(row: Row) -> AttemptRecord:
    """A row of `attempts`."""
    key = AttemptKey(task_id=row["task_id"], iteration=row["iteration"], phase=row["phase"], attempt=row["attempt"])
    return AttemptRecord(
        key=key,
        state=AttemptState(row["state"]),
        worker_id=row["worker_id"],
        claim_id=row["claim_id"],
        message=row["message"],
        event=row["event"],
        input_dataset_id=row["input_dataset_id"],
        fraction=row["fraction"],
        created_at=row["created_at"],
        claimed_at=row["claimed_at"],
        lease_expires_at=row["lease_expires_at"],
        ended_at=row["ended_at"],
        checkpoint=row["checkpoint"],
        gpu_seconds=row["gpu_seconds"],
        due_at=row["due_at"],
    )


def task_clock_from(rows: Sequence[Row]) -> TaskClock:
    """From the rows of the statement `task_clock`."""
    attempts = [row for row in rows if row["status"] is None]
    standstills = [row for row in rows if row["status"] is not None]
    return TaskClock(
        tuple(AttemptClock(r["began_at"], r["claimed_at"], r["ended_at"], r["work_seconds"]) for r in attempts),
        tuple(Standstill(TaskStatus(r["status"]), r["began_at"], r["ended_at"]) for r in standstills),
    )


def wait_context_from(rows: Sequence[Row], ttl_of: Callable[[Phase], float]) -> WaitContext | None:
    """From the rows of the statement `wait_context`, newest attempt first; None without a row."""
    if not rows:
        return None
    row, attempt = rows[0], attempt_from(rows[0])
    return WaitContext(
        now=row["now"],
        attempt=attempt,
        due_at=row["due_at"],
        before=attempt_from(rows[1]) if len(rows) > 1 else None,
        ttl=ttl_of(attempt.key.phase),
        workers=row["workers"],
        slots=row["slots"],
        free=row["free"],
        pause=Pause(row["paused_at"], row["paused_by"], row["paused_for"]) if row["paused_at"] else None,
        unfit=Unfit(row["unfit_workers"], row["unfit_worker"], row["unfit_reason"]) if row["unfit_workers"] else None,
        unsent_since=row["unsent_since"],
    )


def history_from(row: Row) -> HistoryRow:
    """A row of `task_events`."""
    return HistoryRow(**{**row, "status": TaskStatus(row["status"])})


def stored_from(row: Row) -> StoredTask:
    """A row of `tasks`."""
    return StoredTask(task_from(row["task"]), row["created_at"], row["updated_at"])


def dataset_from(row: Row) -> Dataset:
    """A row of `datasets`."""
    return Dataset(**row)
