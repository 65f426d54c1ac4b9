"""Reads a task's history in pages of a limited size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from control.gateway.views import history_view
from control.store.port import Store
from control.store.values import HistoryRow

MAX_BYTES = 4 * 2**20
"""Bytes of JSON after which a page ends; its last row may go beyond."""
ROWS_PER_READ = 50


async def history_page(store: Store, task_id: UUID, after: int, limit: int) -> AsyncIterator[HistoryRow]:
    """At most `limit` rows with an id above `after`, oldest first, and no more than fit into MAX_BYTES."""
    size = 0
    while limit > 0 and size < MAX_BYTES:
        rows = await store.history(task_id, after, min(limit, ROWS_PER_READ))
        for row in rows:
            size += len(history_view(row).model_dump_json())
            yield row
            if size >= MAX_BYTES:
                return
        if len(rows) < min(limit, ROWS_PER_READ):
            return
        after, limit = rows[-1].id, limit - len(rows)
