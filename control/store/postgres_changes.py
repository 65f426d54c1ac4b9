"""Creation and changes in PostgreSQL: one statement a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from control.machine.commands import Order
from control.machine.task import Task
from control.store.effects import HOLD
from control.store.port import (
    Applied,
    Change,
    Created,
    Loaded,
    NewTask,
    OutboxRow,
    StoreUnavailable,
    SubmissionConflict,
)
from control.store.postgres_base import PostgresBase
from control.store.rows import (
    change_row,
    dataset_rows,
    model_rows,
    new_task_row,
    order_row,
    ordered_rows,
    task_from,
    times_of,
)
from infra.database import Row

CREATE_ATTEMPTS = 3


class PostgresChanges(PostgresBase):
    """`create`, `load`, `apply` and `enqueue`."""

    async def create(self, new: Sequence[NewTask]) -> Created:
        """Create tasks; one answer each.

        A task that another process commits at the same moment is not seen by the statement that met it: ask again.
        """
        first: dict[UUID, NewTask] = {}
        for one in new:
            first.setdefault(one.task.task_id, one)
        orders = _orders([one.start for one in first.values() if one.start])
        rows = [new_task_row(one) for one in first.values()]
        there: dict[UUID, Row] = {}
        ids: dict[UUID, int] = {}
        for _ in range(CREATE_ATTEMPTS):
            found = await self._fetch("create", rows, orders, HOLD)
            there = {row["task_id"]: row for row in found if row["outbox_id"] is None} | there
            ids |= _ids(found)
            if len(there) == len(first):
                answers = tuple(self._created(one, there[one.task.task_id]) for one in new)
                created = frozenset(row["task_id"] for row in there.values() if row["task"] is None)
                return Created(answers, created, tuple(ordered_rows(orders, ids)))
        raise StoreUnavailable("tasks appear and vanish while they are created; try again")

    async def load(self, wanted: Sequence[tuple[UUID, UUID]]) -> list[Loaded | None]:
        """What decisions need."""
        rows = await self._fetch("load", [task_id for task_id, _ in wanted], [message_id for _, message_id in wanted])
        found: list[Loaded | None] = [None] * len(wanted)
        for row in rows:
            found[row["position"] - 1] = Loaded(task_from(row["task"]), row["claim_id"], row["seen"])
        return found

    async def apply(self, changes: Sequence[Change], published: Sequence[int] = ()) -> Applied:
        """Make those changes whose task still has the version that was read."""
        orders = _orders(changes)
        rows = await self._fetch(
            "apply",
            [change_row(change) for change in changes],
            orders,
            dataset_rows(changes),
            model_rows(changes),
            list(published),
            HOLD,
        )
        made = frozenset(row["message_id"] for row in rows if row["handled"])
        return Applied(made, tuple(ordered_rows(orders, _ids(rows))), times_of(rows))

    async def enqueue(self, orders: Sequence[tuple[UUID, Order]]) -> list[OutboxRow]:
        """Put orders into the outbox again."""
        wanted = [order_row(position, task_id, order, {}) for position, (task_id, order) in enumerate(orders)]
        return ordered_rows(wanted, _ids(await self._fetch("enqueue", wanted, HOLD)))

    def _created(self, new: NewTask, row: Row) -> Task | SubmissionConflict:
        if row["digest"] != new.digest:
            return SubmissionConflict(new.task.task_id)
        if row["task"] is not None:
            return task_from(row["task"])
        return new.start.after if new.start else new.task


def _orders(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [
        order_row(position, change.after.task_id, order, change.headers)
        for change in changes
        for position, order in enumerate(change.orders)
    ]


def _ids(rows: Sequence[Row]) -> dict[UUID, int]:
    return {row["message_id"]: row["outbox_id"] for row in rows if row["outbox_id"] is not None}
