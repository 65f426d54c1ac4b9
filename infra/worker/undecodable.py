"""Handles a command that the worker cannot handle: reports its attempt as failed and dead-letters the command."""

from __future__ import annotations

import json
from functools import partial
from uuid import uuid4

import structlog
from pydantic import ValidationError

from contracts.errors import UndecodableMessage
from contracts.events import PhaseFailed
from contracts.leases import Claim, Heartbeat, LeaseVerdict
from contracts.tasks import AttemptKey, FailureKind, Phase
from contracts.topology import PHASE_QUEUES
from infra.bus.dead_letter import cause_of, dead_letter, reason_of
from infra.bus.port import Bus, IncomingMessage, PublishFailed
from infra.retry import retry
from infra.worker.attempt import trace_headers
from infra.worker.lease_client import Lease, LeaseClient
from infra.worker.spool import MAX_RETRY_PAUSE, Spool, publish_until_confirmed

log = structlog.get_logger(__name__)


class UndecodableCommands:
    """Handles commands that mostly cannot be decoded.

    Without a failed attempt, control would issue the same command again and again.
    """

    def __init__(self, bus: Bus, leases: LeaseClient, spool: Spool, phase: Phase, worker_id: str) -> None:
        self._bus = bus
        self._leases = leases
        self._spool = spool
        self._phase = phase
        self._worker_id = worker_id

    async def handle(self, message: IncomingMessage, error: Exception) -> None:
        """Report the attempt that the command names, if any, as failed, then dead-letter and acknowledge the command.

        The delivery occupies a slot until the end. A crash before the acknowledgement repeats both steps, without harm.
        """
        key = attempt_key_in(message.body, self._phase)
        if key is not None:
            await self._fail(key, message, error)
        queue = PHASE_QUEUES[self._phase].name
        dead_lettering = partial(dead_letter, self._bus, message, queue, reason_of(error), cause_of(error))
        await retry(dead_lettering, PublishFailed, max_pause=MAX_RETRY_PAUSE)

    async def _fail(self, key: AttemptKey, message: IncomingMessage, error: Exception) -> None:
        """Claim the attempt and, if the claim is granted, report it as failed."""
        claim = Claim(key=key, claim_id=uuid4())
        verdict = await self._leases.claim(claim)
        if verdict is not LeaseVerdict.GRANTED:
            log.info("undecodable_command_not_claimed", verdict=verdict, key=str(key))
            return
        heartbeat = Heartbeat(key=key, claim_id=claim.claim_id)
        self._leases.keep_alive(Lease(claim.claim_id, lambda: heartbeat, lambda _: None))
        try:
            spooled = self._spool.keep(self._event(claim, error), trace_headers(message.headers))
            await publish_until_confirmed(self._bus, spooled.message)
            spooled.remove()
        finally:
            self._leases.release(claim.claim_id)

    def _event(self, claim: Claim, error: Exception) -> PhaseFailed:
        undecodable = isinstance(error, UndecodableMessage)
        return PhaseFailed(
            key=claim.key,
            claim_id=claim.claim_id,
            worker_id=self._worker_id,
            failure=FailureKind.DEAD_LETTERED,
            message=f"worker {self._worker_id} cannot {'decode' if undecodable else 'handle'} the command: "
            f"{reason_of(error)}",
            field=error.errors[0].field if isinstance(error, UndecodableMessage) and error.errors else None,
        )


def attempt_key_in(body: bytes, phase: Phase) -> AttemptKey | None:
    """The key of the attempt of `phase` in an invalid command; None if the body contains no such key."""
    try:
        raw = json.loads(body)
        key = AttemptKey.model_validate_json(json.dumps(raw["key"]))
    except (ValidationError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return key if key.phase is phase else None
