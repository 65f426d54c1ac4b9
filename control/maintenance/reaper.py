"""The reaper: an attempt whose holder went silent is adopted where its result is complete, else tried again."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

import structlog

from contracts.artifacts import attempt_prefix
from contracts.errors import UndecodableMessage
from contracts.events import LeaseLost, PhaseFailed, WorkerEvent
from contracts.tasks import AttemptKey, FailureKind
from contracts.wire import decode
from control.apply.applier import Applier
from control.consumers.leases import LeaseDesk
from control.loops import Periodic
from control.store.port import Run, Store
from infra.artifacts import BadArtifact, read_manifest
from infra.objects import ObjectStore, ObjectStoreUnavailable
from infra.settings import Settings

BATCH = 100

log = structlog.get_logger(__name__)


class Reaper(Periodic):
    """A lease is lost when it has expired by the store's clock and claims were served for one ttl without a gap.

    So an outage of control, database or broker never ends a healthy job.
    """

    def __init__(
        self, store: Store, applier: Applier, desk: LeaseDesk, objects: ObjectStore, settings: Settings
    ) -> None:
        super().__init__("reaper", settings.reaper_tick)
        self._store = store
        self._applier = applier
        self._desk = desk
        self._objects = objects
        self._settings = settings

    async def tick(self) -> None:
        """Look once."""
        serving = self._desk.serving_for(longest_gap=3 * self._settings.reaper_tick)
        if not await self._store.lead(self.name):
            return
        for run in await self._store.expired(BATCH):
            if serving >= self._settings.ttl(run.key.phase):
                await self._reap(run)

    async def _reap(self, run: Run) -> None:
        assert run.claim_id is not None, "a running attempt has a claim"
        try:
            result = await self._result(run.key, run.claim_id)
        except ObjectStoreUnavailable as error:
            log.warning("reaper_waits", key=str(run.key), error=str(error))
            return
        if result is None and not await self._is_still_silent(run):
            return
        event = result or _lost(run, run.claim_id)
        reason = "adopted from its manifest" if result else f"no heartbeat from {run.worker_id}"
        await self._applier.submit(event, actor="reaper", reason=reason)

    async def _is_still_silent(self, run: Run) -> bool:
        """Whether no heartbeat came while the object store was asked."""
        return any((now.key, now.claim_id) == (run.key, run.claim_id) for now in await self._store.expired(BATCH))

    async def _result(self, key: AttemptKey, claim_id: UUID) -> WorkerEvent | None:
        """The completion event in the attempt's manifest, under the claim that holds the attempt now."""
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


def _lost(run: Run, claim_id: UUID) -> LeaseLost:
    return LeaseLost(key=run.key, claim_id=claim_id, checkpoint=run.checkpoint, gpu_seconds=run.gpu_seconds)


def _bad_result(key: AttemptKey, claim_id: UUID, why: str) -> PhaseFailed:
    return PhaseFailed(
        key=key,
        claim_id=claim_id,
        worker_id="reaper",
        failure=FailureKind.BAD_RESULT,
        message=f"the manifest of {attempt_prefix(key)} cannot be used: {why}",
    )
