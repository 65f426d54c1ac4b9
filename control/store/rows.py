"""Between the machine's values and the rows of PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from contracts.tasks import AttemptKey, Phase, TaskStatus
from contracts.wire import encode
from control.machine.commands import Order
from control.machine.machine import RunState
from control.machine.task import Task
from control.store.effects import ending, envelope, new_run, optimized_dataset, trained_model
from control.store.port import Change, Dataset, HistoryRow, NewTask, OutboxRow, Pause, Run, Standing, Stored, Times
from infra.database import Row

TASK: TypeAdapter[Task] = TypeAdapter(Task)
COLUMNS = {"task_id", "spec", "version"}
"""The fields of a Task that have columns of their own; the rest is its state."""


def task_from(text: str) -> Task:
    """A task from its state, id, version and spec as one JSON object."""
    return TASK.validate_json(text)


def state_of(task: Task) -> orjson.Fragment:
    """What changes of a task, as JSON."""
    return orjson.Fragment(TASK.dump_json(task, exclude=COLUMNS))


def change_row(change: Change) -> dict[str, Any]:
    """A change as `apply` takes it; the attempt that it closes, if any, is the one that was newest before."""
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
        "closed": change.closed,
        "ending": ending(change) if change.closed else None,
        "iteration": before.iteration,
        "phase": before.phase,
        "attempt": before.attempt,
    }


def new_task_row(new: NewTask) -> dict[str, Any]:
    """A new task as `create` takes it, as it is once it has started where it does."""
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


def order_row(position: int, task_id: UUID, order: Order, headers: dict[str, str]) -> dict[str, Any]:
    """An order as `apply`, `create` and `enqueue` take it."""
    message, run = envelope(task_id, order, headers), new_run(order)
    row: dict[str, Any] = {
        "position": position,
        "task_id": task_id,
        "message_id": message.message_id,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "body": message.body.decode(),
        "headers": headers,
        "delay": message.delay,
    }
    if run is not None:
        key = run.key
        row |= {"iteration": key.iteration, "phase": key.phase, "attempt": key.attempt}
        row["input_dataset_id"] = run.input_dataset_id
    return row


def dataset_rows(changes: Sequence[Change]) -> list[Any]:
    """The datasets that these changes bring."""
    return [dataset for change in changes if (dataset := optimized_dataset(change)) is not None]


def model_rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """The models that these changes bring."""
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


def ordered_rows(orders: Sequence[dict[str, Any]], ids: dict[UUID, int]) -> list[OutboxRow]:
    """The outbox rows of those orders that were given an id, in the order they were asked for."""
    return [
        OutboxRow(
            id=ids[order["message_id"]],
            exchange=order["exchange"],
            routing_key=order["routing_key"],
            message_id=order["message_id"],
            body=order["body"].encode(),
            headers=order["headers"],
        )
        for order in orders
        if order["message_id"] in ids
    ]


def times_of(rows: Sequence[Row]) -> dict[UUID, Times]:
    """The times of the attempts that `apply` has closed."""
    return {
        row["message_id"]: Times(row["ordered_at"], row["claimed_at"], row["ended_at"], row["gpu_seconds"])
        for row in rows
        if row["ended_at"] is not None
    }


def outbox_row(row: Row) -> OutboxRow:
    """A row of `outbox`."""
    return OutboxRow(**{**row, "body": row["body"].encode()})


def run_from(row: Row) -> Run:
    """A row of `phase_runs`."""
    key = AttemptKey(task_id=row["task_id"], iteration=row["iteration"], phase=row["phase"], attempt=row["attempt"])
    return Run(
        key=key,
        state=RunState(row["state"]),
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
    )


def standing_from(rows: Sequence[Row], ttl_of: Callable[[Phase], float]) -> Standing | None:
    """The rows of the statement `standing`, newest attempt first."""
    if not rows:
        return None
    row, run = rows[0], run_from(rows[0])
    return Standing(
        now=row["now"],
        run=run,
        due_at=row["ordered_at"],
        before=run_from(rows[1]) if len(rows) > 1 else None,
        ttl=ttl_of(run.key.phase),
        workers=row["workers"],
        slots=row["slots"],
        free=row["free"],
        pause=Pause(row["paused_at"], row["paused_by"], row["paused_for"]) if row["paused_at"] else None,
    )


def history_from(row: Row) -> HistoryRow:
    """A row of `task_events`."""
    return HistoryRow(**{**row, "status": TaskStatus(row["status"])})


def stored_from(row: Row) -> Stored:
    """A row of `tasks`."""
    return Stored(task_from(row["task"]), row["created_at"], row["updated_at"])


def dataset_from(row: Row) -> Dataset:
    """A row of `datasets`."""
    return Dataset(**row)
