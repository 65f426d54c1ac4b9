"""Creation and changes of tasks in PostgreSQL: one statement for each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from control.machine.commands import OutboxMessage
from control.store.effects import OUTBOX_LOCK, outbox_row
from control.store.port import StoreUnavailable
from control.store.postgres_base import PostgresBase
from control.store.rows import (
    change_row,
    dataset_rows,
    model_rows,
    new_task_row,
    outbox_json,
    stored_from,
    times_of,
)
from control.store.values import (
    MAX_STALE,
    Applied,
    Change,
    Created,
    Loaded,
    NewTask,
    OutboxRow,
    StoredTask,
    SubmissionConflict,
)
from infra.database import Row

CREATE_ATTEMPTS = 3


class PostgresChanges(PostgresBase):
    """`create`, `load`, `apply` and `enqueue`."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks; one answer each, in order.

        The statement does not see a task that another process commits at the same time, so it is repeated then.
        """
        first: dict[UUID, NewTask] = {}
        for new_task in new:
            first.setdefault(new_task.task.task_id, new_task)
        outbox = _Outbox([new_task.start for new_task in first.values() if new_task.start])
        rows = [new_task_row(new_task) for new_task in first.values()]
        tasks: dict[UUID, Row] = {}
        for _ in range(CREATE_ATTEMPTS):
            result = await self._fetch("create", rows, outbox.json, OUTBOX_LOCK)
            tasks = {row["task_id"]: row for row in result if row["outbox_id"] is None} | tasks
            outbox.set_ids(result)
            if len(tasks) == len(first):
                answers = tuple(_answer(new_task, tasks[new_task.task.task_id]) for new_task in new)
                created = frozenset(row["task_id"] for row in tasks.values() if row["task"] is None)
                return Created(answers, created, outbox.due)
        raise StoreUnavailable("new tasks could not be read back after they were created; try again")

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """What a decision needs for each (task id, message id), in order."""
        rows = await self._fetch("load", [task_id for task_id, _ in wanted], [message_id for _, message_id in wanted])
        loaded: list[Loaded | None] = [None] * len(wanted)
        for row in rows:
            loaded[row["position"] - 1] = Loaded(stored_from(row), row["claim_id"], row["duplicate"])
        return loaded

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Write those changes whose task still has the version that was read."""
        outbox = _Outbox(changes)
        rows = await self._fetch(
            "apply",
            [change_row(change) for change in changes],
            outbox.json,
            dataset_rows(changes),
            model_rows(changes),
            list(published),
            OUTBOX_LOCK,
            MAX_STALE,
        )
        outbox.set_ids(rows)
        after = {change.event.message_id: change.after for change in changes}
        tasks = {
            row["message_id"]: StoredTask(after[row["message_id"]], row["created_at"], row["updated_at"])
            for row in rows
            if row["handled"]
        }
        dropped = frozenset(row["message_id"] for row in rows if row["handled"] and not row["recorded"])
        return Applied(tasks, outbox.due, times_of(rows), dropped)

    async def enqueue(self, messages: Sequence[tuple[UUID, OutboxMessage]]) -> list[OutboxRow]:
        """Put messages into the outbox again, and return the rows that are due now."""
        outbox = _Outbox()
        for task_id, message in messages:
            outbox.add(task_id, message, {})
        outbox.set_ids(await self._fetch("enqueue", outbox.json, OUTBOX_LOCK))
        return list(outbox.due)


class _Outbox:
    """The outbox rows of one statement: it receives them as `json` and returns the ids of those that are due now."""

    def __init__(self, changes: Sequence[Change] = ()) -> None:
        self.json: list[dict[str, Any]] = []
        self._rows: list[OutboxRow] = []
        self._ids: dict[UUID, int] = {}
        for change in changes:
            for message in change.messages:
                self.add(change.after.task_id, message, change.headers)

    def add(self, task_id: UUID, message: OutboxMessage, headers: Mapping[str, str]) -> None:
        row = outbox_row(task_id, message, headers)
        self.json.append(outbox_json(len(self._rows), row, message.message))
        self._rows.append(row)

    def set_ids(self, rows: Sequence[Row]) -> None:
        """Store the ids that the statement returned."""
        self._ids |= {row["message_id"]: row["outbox_id"] for row in rows if row["outbox_id"] is not None}

    @property
    def due(self) -> tuple[OutboxRow, ...]:
        """The rows with an id, which are due now."""
        return tuple(replace(row, id=self._ids[row.message_id]) for row in self._rows if row.message_id in self._ids)


def _answer(new: NewTask, row: Row) -> StoredTask | SubmissionConflict:
    if row["digest"] != new.digest:
        return SubmissionConflict(new.task.task_id)
    if row["task"] is not None:
        return stored_from(row)
    return StoredTask(new.start.after if new.start else new.task, row["created_at"], row["updated_at"])
