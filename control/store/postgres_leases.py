"""Claims, heartbeats, workers and leadership in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseVerdict, WorkerState
from contracts.tasks import Phase
from control.machine.facts import own_checkpoint
from control.store.port import StoreUnavailable
from control.store.postgres_base import PostgresBase
from control.store.queries import queries
from control.store.rows import attempt_from, wait_context_from
from control.store.values import MAX_WORKERS, UNSENT_AFTER, AttemptRecord, WaitContext
from infra.database import Database, DatabaseUnavailable, Session

PING = "SELECT 1"


class PostgresLeases(PostgresBase):
    """`lease`, `try_lead`, and the reads of attempts that no worker runs or claimed."""

    def __init__(self, database: Database, ttl_of: Callable[[Phase], float]) -> None:
        super().__init__(database, ttl_of)
        self._session: Session | None = None
        self._roles: set[str] = set()
        self._leader_lock = asyncio.Lock()

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], heartbeats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide claims, then heartbeats, in the order given."""
        requests: list[Claim | Heartbeat] = [*claims, *heartbeats]
        request_rows = [self._request_row(position, request) for position, request in enumerate(requests)]
        rows = await self._fetch("lease", *_worker_values(worker, request_rows))
        return [
            LeaseAnswer(claim_id=request["claim_id"], verdict=LeaseVerdict(row["verdict"]), ttl=request["ttl"])
            for request, row in zip(request_rows, rows, strict=True)
        ]

    async def expired(self, limit: int) -> list[AttemptRecord]:
        """Running attempts whose lease has expired."""
        return [attempt_from(row) for row in await self._fetch("expired", limit)]

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[AttemptRecord]:
        """Dispatched attempts at this phase, due for `older_than` seconds, that no outbox row will publish."""
        return [attempt_from(row) for row in await self._fetch("unclaimed", phase.value, older_than, limit)]

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for `older_than` seconds without an outbox row that starts the next iteration."""
        return [row["task_id"] for row in await self._fetch("looping", older_than, limit)]

    async def longest_silence(self) -> dict[Phase, float]:
        """For each phase, the longest time in seconds since the last heartbeat of a running attempt."""
        seconds_left = {Phase(row["phase"]): row["left"] for row in await self._fetch("longest_silence")}
        return {phase: max(0.0, self._ttl_of(phase) - seconds) for phase, seconds in seconds_left.items()}

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers that sent a request in the last `within` seconds, by name."""
        return [WorkerState(**row) for row in await self._fetch("workers", within, MAX_WORKERS)]

    async def wait_context(self, task_id: UUID, within: float) -> WaitContext | None:
        """Why a task waits, with workers seen in the last `within` seconds; None without an attempt."""
        return wait_context_from(await self._fetch("wait_context", task_id, within, UNSENT_AFTER), self._ttl_of)

    async def try_lead(self, role: str) -> bool:
        """Whether this process leads, by an advisory lock in a session that stays open."""
        async with self._leader_lock:
            try:
                return await self._lead(role)
            except DatabaseUnavailable as error:
                await self._step_down()
                raise StoreUnavailable(str(error)) from error

    async def _lead(self, role: str) -> bool:
        """A role is kept as long as the session that took its lock responds."""
        if self._session is None:
            self._session = await self._database.session()
        if role in self._roles:
            await self._session.fetch(PING)
            return True
        rows = await self._session.fetch(queries()["try_lead"], role)
        if rows[0]["leads"]:
            self._roles.add(role)
        return role in self._roles

    async def _step_down(self) -> None:
        """Give up every role, and close the session that took the locks."""
        session, self._session = self._session, None
        self._roles.clear()
        if session is not None:
            await session.close()

    def _request_row(self, position: int, request: Claim | Heartbeat) -> dict[str, Any]:
        return {
            "position": position,
            "is_heartbeat": isinstance(request, Heartbeat),
            "ttl": self._ttl_of(request.key.phase),
            "claim_id": request.claim_id,
            **request.key.model_dump(),
            **request.model_dump(include={"fraction", "gpu_seconds"}),
            "checkpoint": own_checkpoint(request.key, request.checkpoint) if isinstance(request, Heartbeat) else None,
        }


def _worker_values(worker: WorkerState, requests: list[dict[str, Any]]) -> tuple[object, ...]:
    """The parameters of the statement `lease`."""
    return (
        worker.worker_id,
        worker.phase.value,
        worker.host,
        worker.slots,
        worker.busy,
        requests,
        worker.free_disk,
        [gpu.model_dump() for gpu in worker.gpus],
        worker.unfit,
    )
