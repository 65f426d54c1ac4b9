"""Claims, heartbeats, workers and leadership in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from contracts.leases import Claim, Heartbeat, LeaseAnswer, Verdict, WorkerState
from contracts.tasks import Phase
from control.store.port import Run, Standing, StoreUnavailable
from control.store.postgres_base import PostgresBase
from control.store.queries import queries
from control.store.rows import run_from, standing_from
from infra.database import Database, DatabaseUnavailable, Session

ALIVE = "SELECT 1"


class PostgresLeases(PostgresBase):
    """`lease`, the attempts that nobody keeps alive or nobody claimed, and `lead`."""

    def __init__(self, database: Database, ttl_of: Callable[[Phase], float]) -> None:
        super().__init__(database, ttl_of)
        self._session: Session | None = None
        self._roles: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], beats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide claims, then heartbeats, in the order given."""
        requests: list[Claim | Heartbeat] = [*claims, *beats]
        asked = [self._asked(position, one) for position, one in enumerate(requests)]
        rows = await self._fetch(
            "lease", worker.worker_id, worker.phase.value, worker.host, worker.slots, worker.busy, asked
        )
        return [
            LeaseAnswer(claim_id=one["claim_id"], verdict=Verdict(row["verdict"]), ttl=one["ttl"])
            for one, row in zip(asked, rows, strict=True)
        ]

    async def expired(self, limit: int) -> list[Run]:
        """Running attempts whose lease has ended."""
        return [run_from(row) for row in await self._fetch("expired", limit)]

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[Run]:
        """Attempts at a phase, ordered `older_than` seconds ago that nobody claimed and no outbox row will publish."""
        return [run_from(row) for row in await self._fetch("unclaimed", phase.value, older_than, limit)]

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for `older_than` seconds that no outbox row will turn."""
        return [row["task_id"] for row in await self._fetch("looping", older_than, limit)]

    async def silence(self) -> dict[Phase, float]:
        """Seconds since the last heartbeat of the running attempt that was silent longest."""
        left = {Phase(row["phase"]): row["left"] for row in await self._fetch("silence")}
        return {phase: max(0.0, self._ttl_of(phase) - seconds) for phase, seconds in left.items()}

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers heard of lately, by name."""
        return [WorkerState(**row) for row in await self._fetch("workers", within)]

    async def standing(self, task_id: UUID, within: float) -> Standing | None:
        """What a task waits for."""
        return standing_from(await self._fetch("standing", task_id, within), self._ttl_of)

    async def lead(self, role: str) -> bool:
        """Whether this process leads: an advisory lock of a connection that is kept open for it."""
        async with self._one_at_a_time:
            try:
                return await self._lead(role)
            except DatabaseUnavailable as error:
                await self._step_down()
                raise StoreUnavailable(str(error)) from error

    async def _lead(self, role: str) -> bool:
        """A role once got is kept for as long as its session answers."""
        if self._session is None:
            self._session = await self._database.session()
        if role in self._roles:
            await self._session.fetch(ALIVE)
            return True
        rows = await self._session.fetch(queries()["lead"], role)
        if rows[0]["leads"]:
            self._roles.add(role)
        return role in self._roles

    async def _step_down(self) -> None:
        """Let go of every role, with the session that held them."""
        session, self._session = self._session, None
        self._roles.clear()
        if session is not None:
            await session.close()

    def _asked(self, position: int, one: Claim | Heartbeat) -> dict[str, Any]:
        return {
            "position": position,
            "beat": isinstance(one, Heartbeat),
            "ttl": self._ttl_of(one.key.phase),
            "claim_id": one.claim_id,
            **one.key.model_dump(),
            **one.model_dump(include={"fraction", "checkpoint", "gpu_seconds"}),
        }
