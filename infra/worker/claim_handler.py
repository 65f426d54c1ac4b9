"""Decodes the command of a delivery and claims its attempt."""

from __future__ import annotations

from functools import partial

import structlog

from contracts.commands import PhaseCommand
from contracts.errors import UndecodableMessage
from contracts.leases import Claim, LeaseVerdict
from contracts.tasks import Phase
from contracts.topology import PHASE_QUEUES
from contracts.wire import decode
from infra.bus.handling import Retries
from infra.bus.poison import Poison
from infra.bus.port import IncomingMessage
from infra.worker.attempt import Attempt
from infra.worker.lease_client import LeaseClient
from infra.worker.orders import checked
from infra.worker.undecodable import UndecodableCommands

log = structlog.get_logger(__name__)


class ClaimHandler:
    """Claims delivered commands; `attempts` are those with a pending claim, so that a signal can reach them."""

    def __init__(
        self,
        phase: Phase,
        command: type[PhaseCommand],
        leases: LeaseClient,
        undecodable: UndecodableCommands,
        poison: Poison,
    ) -> None:
        self._phase = phase
        self._command = command
        self._leases = leases
        self._undecodable = undecodable
        self._retries = Retries(poison, PHASE_QUEUES[phase].name, prefetch=1)
        self.attempts: list[Attempt] = []

    async def claim(self, message: IncomingMessage) -> Attempt | None:
        """Claim the attempt of a delivery. Returns None, with the delivery acknowledged, if the claim is not granted.

        A command that cannot be decoded, or fails for an unforeseen reason, is dead-lettered and its attempt reported
        as failed. If this call is cancelled, the caller must requeue the delivery.
        """
        try:
            attempt = await self._retries.run(partial(self._granted, message), message.message_id)
        except Exception as error:  # noqa: BLE001  # without a failed attempt, control would send the command again
            await self._undecodable.handle(message, error)
            return None
        if attempt is None:
            await message.ack()
        return attempt

    async def _granted(self, message: IncomingMessage) -> Attempt | None:
        """The attempt of a delivery if its claim is granted."""
        attempt = Attempt(self._decode(message.body), message.headers)
        return attempt if await self._is_granted(attempt) else None

    def _decode(self, body: bytes) -> PhaseCommand:
        """The command in a body. Raises UndecodableMessage if it is no command for this worker."""
        command: PhaseCommand = decode(body, self._command)
        if command.key.phase is not self._phase:
            raise UndecodableMessage(f"key.phase: got {command.key.phase}, expected {self._phase}")
        return checked(command)

    async def _is_granted(self, attempt: Attempt) -> bool:
        """Claim the attempt, and once more if a signal arrived meanwhile, because the answer may be older than it."""
        claim = Claim(key=attempt.key, claim_id=attempt.claim_id)
        self.attempts.append(attempt)
        try:
            verdict = await self._leases.claim(claim)
            if verdict is LeaseVerdict.GRANTED and attempt.signalled:
                verdict = await self._leases.claim(claim)
        finally:
            self.attempts.remove(attempt)
        if verdict is LeaseVerdict.GRANTED:
            return True
        log.info("command_dropped", verdict=verdict, key=str(attempt.key))
        return False
