"""A command that nobody here understands: its attempt counts as failed, and it is kept among the dead letters."""

from __future__ import annotations

import json
from uuid import uuid4

import structlog
from pydantic import ValidationError

from contracts.errors import UndecodableMessage
from contracts.events import PhaseFailed
from contracts.leases import Claim, Heartbeat, Verdict
from contracts.tasks import AttemptKey, FailureKind, Phase
from contracts.topology import PHASE_QUEUES
from infra.bus.port import Bus, Incoming
from infra.worker.attempt import carried
from infra.worker.claims import Lease, LeaseClient
from infra.worker.publishing import bury, publish
from infra.worker.spool import Spool

log = structlog.get_logger(__name__)


class Poison:
    """Settles such commands. A run left without an end would be ordered again for ever."""

    def __init__(self, bus: Bus, leases: LeaseClient, spool: Spool, phase: Phase, worker_id: str) -> None:
        self._bus = bus
        self._leases = leases
        self._spool = spool
        self._phase = phase
        self._worker_id = worker_id

    async def settle(self, message: Incoming, error: UndecodableMessage) -> None:
        """Fail the attempt that it orders, where it names one, and bury it.

        In this order, so that what is not settled yet takes up a slot; a crash in between does both again, harmlessly.
        """
        key = attempt_of(message.body, self._phase)
        if key is not None:
            await self._fail(key, message, error)
        await bury(self._bus, message, PHASE_QUEUES[self._phase].name, str(error))

    async def _fail(self, key: AttemptKey, message: Incoming, error: UndecodableMessage) -> None:
        """Claim the attempt, and report it as failed where the claim is granted."""
        claim = Claim(key=key, claim_id=uuid4())
        verdict = await self._leases.claim(claim)
        if verdict is not Verdict.GRANTED:
            log.info("poison_not_counted", verdict=verdict, key=str(key))
            return
        beat = Heartbeat(key=key, claim_id=claim.claim_id)
        self._leases.hold(Lease(claim.claim_id, lambda: beat, lambda _: None))
        try:
            spooled = self._spool.keep(self._event(claim, error), carried(message.headers))
            await publish(self._bus, spooled.message)
            spooled.remove()
        finally:
            self._leases.release(claim.claim_id)

    def _event(self, claim: Claim, error: UndecodableMessage) -> PhaseFailed:
        return PhaseFailed(
            key=claim.key,
            claim_id=claim.claim_id,
            worker_id=self._worker_id,
            failure=FailureKind.DEAD_LETTERED,
            message=f"worker {self._worker_id} cannot read the command: {error}",
            field=error.errors[0].field if error.errors else None,
        )


def attempt_of(body: bytes, phase: Phase) -> AttemptKey | None:
    """The attempt of `phase` that a body names, whatever else is wrong with it; None where it names none."""
    try:
        raw = json.loads(body)
        key = AttemptKey.model_validate_json(json.dumps(raw["key"]))
    except (ValidationError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return key if key.phase is phase else None
