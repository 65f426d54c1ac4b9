"""Claims, heartbeats and workers in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseVerdict, WorkerState
from contracts.tasks import ACTIVE, AttemptKey, Phase, TaskStatus
from control.machine.facts import own_checkpoint
from control.machine.machine import AttemptState
from control.store.values import MAX_WORKERS, UNSENT_AFTER, AttemptRecord, Pause, Unfit, WaitContext
from tests.memory_store.tables import AttemptRow, MemoryBase


class MemoryLeases(MemoryBase):
    """`lease`, and the queries for attempts whose lease expired or that were not claimed."""

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], heartbeats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide the claims, then the heartbeats, in the given order."""
        self.tables.workers[worker.worker_id] = (worker, self._clock())
        claim_answers = [self._answer(c.claim_id, c.key, self._claim(c, worker.worker_id)) for c in claims]
        heartbeat_answers = [self._answer(h.claim_id, h.key, self._renew(h)) for h in heartbeats]
        return [*claim_answers, *heartbeat_answers]

    async def expired(self, limit: int) -> list[AttemptRecord]:
        """Running attempts whose lease has expired, first expired first."""
        before = self._ago(0.0)
        expired = [
            (row.attempt.lease_expires_at, row.attempt)
            for row in self.tables.all_attempts()
            if row.attempt.state is AttemptState.RUNNING
            and row.attempt.lease_expires_at
            and row.attempt.lease_expires_at < before
        ]
        return [attempt for _, attempt in sorted(expired, key=lambda pair: pair[0])][:limit]

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[AttemptRecord]:
        """Dispatched attempts at this phase, due for `older_than` seconds, that no outbox row will publish."""
        before = self._ago(older_than)
        queued = {entry.row.message_id for entry in self.tables.outbox.values()}
        unclaimed = [
            row
            for row in self.tables.all_attempts()
            if row.attempt.state is AttemptState.DISPATCHED
            and row.attempt.key.phase is phase
            and row.due_at <= before
            and row.command_id not in queued
            and self.tables.tasks[row.attempt.key.task_id].task.status in ACTIVE
        ]
        return [row.attempt for row in sorted(unclaimed, key=lambda row: row.due_at)][:limit]

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for `older_than` seconds without an outbox row that starts the next iteration."""
        before = self._ago(older_than)
        queued = {e.row.task_id for e in self.tables.outbox.values() if e.row.routing_key == "next_iteration"}
        looping = [
            row
            for row in self.tables.tasks.values()
            if row.task.status is TaskStatus.LOOPING and row.updated_at <= before and row.task.task_id not in queued
        ]
        return [row.task.task_id for row in sorted(looping, key=lambda row: row.updated_at)][:limit]

    async def longest_silence(self) -> dict[Phase, float]:
        """For each phase, the longest time in seconds since the last heartbeat of a running attempt."""
        now, longest = self._clock(), dict[Phase, float]()
        for attempt in (row.attempt for row in self.tables.all_attempts() if row.attempt.state is AttemptState.RUNNING):
            assert attempt.lease_expires_at is not None, "a running attempt has a lease"
            phase = attempt.key.phase
            silence = self._ttl_of(phase) - (attempt.lease_expires_at - now).total_seconds()
            longest[phase] = max(0.0, silence, longest.get(phase, 0.0))
        return longest

    async def wait_context(self, task_id: UUID, within: float) -> WaitContext | None:
        """Why a task waits; None without an attempt."""
        rows = list(self.tables.attempts.get(task_id, {}).values())
        if not rows:
            return None
        attempt, phase = rows[-1].attempt, rows[-1].attempt.key.phase
        of_phase = [worker for worker in await self.workers(within) if worker.phase is phase]
        workers = [worker for worker in of_phase if worker.unfit is None]
        return WaitContext(
            now=self._clock(),
            attempt=attempt,
            due_at=rows[-1].due_at,
            before=rows[-2].attempt if len(rows) > 1 else None,
            ttl=self._ttl_of(phase),
            workers=len(workers),
            slots=sum(worker.slots for worker in workers),
            free=sum(max(0, worker.slots - worker.busy) for worker in workers),
            pause=self._pause(task_id),
            unfit=_unfit(of_phase),
            unsent_since=self._unsent_since(task_id),
        )

    def _unsent_since(self, task_id: UUID) -> datetime | None:
        due = [
            entry.available_at
            for entry in self.tables.outbox.values()
            if entry.row.task_id == task_id and entry.available_at < self._ago(UNSENT_AFTER)
        ]
        return min(due, default=None)

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers that sent a request in the last `within` seconds, by name."""
        since = self._ago(within)
        recent = [worker for worker, at in self.tables.workers.values() if at >= since]
        return sorted(recent, key=lambda worker: worker.worker_id)[:MAX_WORKERS]

    def _ago(self, seconds: float) -> datetime:
        return self._clock() - timedelta(seconds=seconds)

    def _answer(self, claim_id: UUID, key: AttemptKey, verdict: LeaseVerdict) -> LeaseAnswer:
        return LeaseAnswer(claim_id=claim_id, verdict=verdict, ttl=self._ttl_of(key.phase))

    def _claim(self, claim: Claim, worker_id: str) -> LeaseVerdict:
        row = self.tables.attempt(claim.key)
        if row is None:
            return LeaseVerdict.UNKNOWN
        attempt = row.attempt
        if attempt.state is AttemptState.DISPATCHED:
            if self._status(row) is TaskStatus.SUSPENDED:
                return LeaseVerdict.PAUSE
            row.attempt = replace(
                attempt,
                state=AttemptState.RUNNING,
                worker_id=worker_id,
                claim_id=claim.claim_id,
                claimed_at=self._clock(),
                lease_expires_at=self._new_expiry(claim.key),
            )
            return LeaseVerdict.GRANTED
        if attempt.state is not AttemptState.RUNNING:
            return _ended(attempt)
        if attempt.claim_id != claim.claim_id:
            return LeaseVerdict.HELD
        row.attempt = replace(attempt, lease_expires_at=self._new_expiry(claim.key))
        return LeaseVerdict.GRANTED

    def _renew(self, heartbeat: Heartbeat) -> LeaseVerdict:
        row = self.tables.attempt(heartbeat.key)
        if row is None:
            return LeaseVerdict.UNKNOWN
        attempt = row.attempt
        if attempt.state is AttemptState.DISPATCHED:
            return LeaseVerdict.GRANTED  # its claim is still on its way
        if attempt.state is not AttemptState.RUNNING:
            return _ended(attempt)
        if attempt.claim_id != heartbeat.claim_id:
            return LeaseVerdict.FENCED
        row.attempt = replace(
            attempt,
            fraction=attempt.fraction if heartbeat.fraction is None else heartbeat.fraction,
            checkpoint=own_checkpoint(heartbeat.key, heartbeat.checkpoint) or attempt.checkpoint,
            gpu_seconds=max(attempt.gpu_seconds, heartbeat.gpu_seconds),
            lease_expires_at=self._new_expiry(heartbeat.key),
        )
        return LeaseVerdict.PAUSE if self._is_pausing(row) else LeaseVerdict.GRANTED

    def _new_expiry(self, key: AttemptKey) -> datetime:
        return self._clock() + timedelta(seconds=self._ttl_of(key.phase))

    def _status(self, row: AttemptRow) -> TaskStatus:
        return self.tables.tasks[row.attempt.key.task_id].task.status

    def _pause(self, task_id: UUID) -> Pause | None:
        if self.tables.tasks[task_id].task.status is not TaskStatus.SUSPENDED:
            return None
        of_task = (row for row in reversed(self.tables.history) if row.task_id == task_id)
        newest = next(row for row in of_task if (row.kind, row.outcome) == ("pause_task", "applied"))
        return Pause(newest.at, newest.actor, newest.reason)

    def _is_pausing(self, row: AttemptRow) -> bool:
        pausing = self.tables.tasks[row.attempt.key.task_id].task.pausing
        return pausing and self._status(row) is TaskStatus.SUSPENDED


def _unfit(workers: Sequence[WorkerState]) -> Unfit | None:
    reasons = [(worker.worker_id, worker.unfit) for worker in workers if worker.unfit is not None]
    return Unfit(len(reasons), *reasons[0]) if reasons else None


def _ended(attempt: AttemptRecord) -> LeaseVerdict:
    return LeaseVerdict.CANCELLED if attempt.state is AttemptState.CANCELLED else LeaseVerdict.FENCED
