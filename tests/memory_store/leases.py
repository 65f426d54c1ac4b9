"""Claims, heartbeats and workers in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from contracts.leases import Claim, Heartbeat, LeaseAnswer, Verdict, WorkerState
from contracts.tasks import ACTIVE, AttemptKey, Phase, TaskStatus
from control.machine.machine import RunState
from control.store.port import Pause, Run, Standing
from tests.memory_store.tables import MemoryBase, RunRow


class MemoryLeases(MemoryBase):
    """`lease`, and the attempts that nobody keeps alive or nobody claimed."""

    async def lease(
        self, worker: WorkerState, claims: Sequence[Claim], beats: Sequence[Heartbeat]
    ) -> list[LeaseAnswer]:
        """Decide claims, then heartbeats, in the order given."""
        self.tables.workers[worker.worker_id] = (worker, self._clock())
        claimed = [self._answer(c.claim_id, c.key, self._claim(c, worker.worker_id)) for c in claims]
        beaten = [self._answer(b.claim_id, b.key, self._beat(b)) for b in beats]
        return [*claimed, *beaten]

    async def expired(self, limit: int) -> list[Run]:
        """Running attempts whose lease has ended."""
        before = self._ago(0.0)
        late = [
            (row.run.lease_expires_at, row.run)
            for row in self.tables.all_runs()
            if row.run.state is RunState.RUNNING and row.run.lease_expires_at and row.run.lease_expires_at < before
        ]
        return [run for _, run in sorted(late, key=lambda found: found[0])][:limit]

    async def unclaimed(self, phase: Phase, older_than: float, limit: int) -> list[Run]:
        """Attempts at a phase, ordered `older_than` seconds ago that nobody claimed and no outbox row will publish."""
        before = self._ago(older_than)
        waiting = {entry.row.message_id for entry in self.tables.outbox.values()}
        found = [
            row
            for row in self.tables.all_runs()
            if row.run.state is RunState.DISPATCHED
            and row.run.key.phase is phase
            and row.ordered_at <= before
            and row.command_id not in waiting
            and self.tables.tasks[row.run.key.task_id].task.status in ACTIVE
        ]
        return [row.run for row in sorted(found, key=lambda row: row.ordered_at)][:limit]

    async def looping(self, older_than: float, limit: int) -> list[UUID]:
        """Tasks LOOPING for `older_than` seconds that no outbox row will turn."""
        before = self._ago(older_than)
        turning = {e.task_id for e in self.tables.outbox.values() if e.row.routing_key == "next_iteration"}
        found = [
            row
            for row in self.tables.tasks.values()
            if row.task.status is TaskStatus.LOOPING and row.updated_at <= before and row.task.task_id not in turning
        ]
        return [row.task.task_id for row in sorted(found, key=lambda row: row.updated_at)][:limit]

    async def silence(self) -> dict[Phase, float]:
        """Seconds since the last heartbeat of the running attempt that was silent longest."""
        now, found = self._clock(), dict[Phase, float]()
        for run in (row.run for row in self.tables.all_runs() if row.run.state is RunState.RUNNING):
            assert run.lease_expires_at is not None, "a running attempt has a lease"
            phase = run.key.phase
            silent = self._ttl_of(phase) - (run.lease_expires_at - now).total_seconds()
            found[phase] = max(0.0, silent, found.get(phase, 0.0))
        return found

    async def standing(self, task_id: UUID, within: float) -> Standing | None:
        """What a task waits for."""
        rows = list(self.tables.runs.get(task_id, {}).values())
        if not rows:
            return None
        run, phase = rows[-1].run, rows[-1].run.key.phase
        there = [worker for worker in await self.workers(within) if worker.phase is phase]
        return Standing(
            now=self._clock(),
            run=run,
            due_at=rows[-1].ordered_at,
            before=rows[-2].run if len(rows) > 1 else None,
            ttl=self._ttl_of(phase),
            workers=len(there),
            slots=sum(worker.slots for worker in there),
            free=sum(max(0, worker.slots - worker.busy) for worker in there),
            pause=self._pause(task_id),
        )

    async def workers(self, within: float) -> list[WorkerState]:
        """Workers heard of lately, by name."""
        since = self._ago(within)
        heard = [worker for worker, at in self.tables.workers.values() if at >= since]
        return sorted(heard, key=lambda worker: worker.worker_id)

    def _ago(self, seconds: float) -> datetime:
        return self._clock() - timedelta(seconds=seconds)

    def _answer(self, claim_id: UUID, key: AttemptKey, verdict: Verdict) -> LeaseAnswer:
        return LeaseAnswer(claim_id=claim_id, verdict=verdict, ttl=self._ttl_of(key.phase))

    def _claim(self, claim: Claim, worker_id: str) -> Verdict:
        row = self.tables.run(claim.key)
        if row is None:
            return Verdict.UNKNOWN
        run = row.run
        if run.state is RunState.DISPATCHED:
            if self._status(row) is TaskStatus.SUSPENDED:
                return Verdict.PAUSE
            row.run = replace(
                run,
                state=RunState.RUNNING,
                worker_id=worker_id,
                claim_id=claim.claim_id,
                claimed_at=self._clock(),
                lease_expires_at=self._until(claim.key),
            )
            return Verdict.GRANTED
        if run.state is not RunState.RUNNING:
            return _ended(run)
        if run.claim_id != claim.claim_id:
            return Verdict.HELD
        row.run = replace(run, lease_expires_at=self._until(claim.key))
        return Verdict.GRANTED

    def _beat(self, beat: Heartbeat) -> Verdict:
        row = self.tables.run(beat.key)
        if row is None:
            return Verdict.UNKNOWN
        run = row.run
        if run.state is RunState.DISPATCHED:
            return Verdict.GRANTED  # its claim is still on its way
        if run.state is not RunState.RUNNING:
            return _ended(run)
        if run.claim_id != beat.claim_id:
            return Verdict.FENCED
        row.run = replace(
            run,
            fraction=run.fraction if beat.fraction is None else beat.fraction,
            checkpoint=beat.checkpoint or run.checkpoint,
            gpu_seconds=max(run.gpu_seconds, beat.gpu_seconds),
            lease_expires_at=self._until(beat.key),
        )
        return Verdict.PAUSE if self._is_pausing(row) else Verdict.GRANTED

    def _until(self, key: AttemptKey) -> datetime:
        return self._clock() + timedelta(seconds=self._ttl_of(key.phase))

    def _status(self, row: RunRow) -> TaskStatus:
        return self.tables.tasks[row.run.key.task_id].task.status

    def _pause(self, task_id: UUID) -> Pause | None:
        if self.tables.tasks[task_id].task.status is not TaskStatus.SUSPENDED:
            return None
        of_task = (row for row in reversed(self.tables.history) if row.task_id == task_id)
        newest = next(row for row in of_task if (row.kind, row.outcome) == ("pause_task", "applied"))
        return Pause(newest.at, newest.actor, newest.reason)

    def _is_pausing(self, row: RunRow) -> bool:
        pausing = self.tables.tasks[row.run.key.task_id].task.pausing
        return pausing and self._status(row) is TaskStatus.SUSPENDED


def _ended(run: Run) -> Verdict:
    return Verdict.CANCELLED if run.state is RunState.CANCELLED else Verdict.FENCED
