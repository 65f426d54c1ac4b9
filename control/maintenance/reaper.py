"""The reaper: when a lease is lost, it adopts the attempt's complete result, or has the attempt retried."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

import structlog

from contracts.artifacts import attempt_prefix
from contracts.errors import UndecodableMessage
from contracts.events import LeaseLost, PhaseFailed, WorkerEvent
from contracts.tasks import AttemptKey, FailureKind
from contracts.wire import decode
from control.apply.applier import Applier, EventOutcome
from control.consumers.lease_server import LeaseServer
from control.loops import Periodic
from control.machine.facts import NotOrdered, own_checkpoint
from control.store.port import Store, StoreUnavailable
from control.store.values import AttemptRecord
from infra.artifacts import BadArtifact, read_manifest
from infra.objects import ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings

BATCH = 100
ADOPTED = "complete result adopted from its manifest"

log = structlog.get_logger(__name__)


class Reaper(Periodic):
    """Finds lost leases: expired by the store's clock, while claims were served for one ttl without a gap.

    Therefore an outage of control, the database or the broker never ends a healthy attempt.
    """

    def __init__(
        self, store: Store, applier: Applier, lease_server: LeaseServer, objects: ObjectStore, settings: Settings
    ) -> None:
        super().__init__("reaper", settings.reaper_tick)
        self._store = store
        self._applier = applier
        self._lease_server = lease_server
        self._objects = objects
        self._settings = settings

    async def tick(self) -> None:
        """Check the expired leases once."""
        serving = self._lease_server.serving_for(longest_gap=3 * self._settings.reaper_tick)
        if not await self._store.try_lead(self.name):
            return
        failures = []
        for attempt in await self._store.expired(BATCH):
            if serving >= self._settings.ttl(attempt.key.phase):
                try:
                    await self._reap(attempt)
                except StoreUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001  # raised below: one attempt must not stop the others
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _reap(self, attempt: AttemptRecord) -> None:
        assert attempt.claim_id is not None, "a running attempt has a claim"
        try:
            result = await self._result(attempt.key, attempt.claim_id)
        except ObjectStoreUnavailable as error:
            log.warning("reaper_postponed", key=str(attempt.key), error=str(error))
            return
        if result is not None and await self._adopted(result):
            return
        if await self._is_still_expired(attempt):
            reason = f"no heartbeat from {attempt.worker_id}"
            await self._applier.submit(_lost(attempt, attempt.claim_id), actor="reaper", reason=reason)

    async def _adopted(self, result: WorkerEvent) -> bool:
        """Apply the event of a complete result, or a failure if its facts differ from what was ordered.

        Returns False if it was handled before, for example because a forged event had the same id.
        """
        try:
            answer = await self._applier.submit(result, actor="reaper", reason=ADOPTED)
        except NotOrdered as error:
            failure = _bad_result(result.key, result.claim_id, str(error))
            answer = await self._applier.submit(failure, actor="reaper")
        return answer.outcome is not EventOutcome.DUPLICATE

    async def _is_still_expired(self, attempt: AttemptRecord) -> bool:
        """Whether no heartbeat arrived during the requests to the object store."""
        return any(
            (expired.key, expired.claim_id) == (attempt.key, attempt.claim_id)
            for expired in await self._store.expired(BATCH)
        )

    async def _result(self, key: AttemptKey, claim_id: UUID) -> WorkerEvent | None:
        """The completion event in the attempt's manifest, with the current claim; a failure if it is unusable."""
        try:
            manifest = await read_manifest(self._objects, attempt_prefix(key))
            if manifest is None or manifest.event is None:
                return None
            event: WorkerEvent = decode(manifest.event_bytes(), *get_args(WorkerEvent))
        except (BadArtifact, UndecodableMessage) as error:
            return _bad_result(key, claim_id, str(error))
        if event.key != key:
            return _bad_result(key, claim_id, f"its event is about {event.key}")
        return event.model_copy(update={"claim_id": claim_id})


def _lost(attempt: AttemptRecord, claim_id: UUID) -> LeaseLost:
    checkpoint = own_checkpoint(attempt.key, attempt.checkpoint)
    return LeaseLost(key=attempt.key, claim_id=claim_id, checkpoint=checkpoint, gpu_seconds=attempt.gpu_seconds)


def _bad_result(key: AttemptKey, claim_id: UUID, why: str) -> PhaseFailed:
    return PhaseFailed(
        key=key,
        claim_id=claim_id,
        worker_id="reaper",
        failure=FailureKind.BAD_RESULT,
        message=f"the manifest of {attempt_prefix(key)} cannot be used: {why}",
    )
