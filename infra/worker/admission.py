"""From a delivery to an attempt: decode the command and claim it."""

from __future__ import annotations

import structlog

from contracts.commands import PhaseCommand
from contracts.errors import UndecodableMessage
from contracts.leases import Claim, Verdict
from contracts.tasks import Phase
from contracts.wire import decode
from infra.bus.port import Incoming
from infra.worker.attempt import Attempt
from infra.worker.claims import LeaseClient
from infra.worker.poison import Poison

log = structlog.get_logger(__name__)


class Admission:
    """Claims what is delivered. `attempts` are those whose claims are out, so that a cancel reaches them."""

    def __init__(self, phase: Phase, command: type[PhaseCommand], leases: LeaseClient, poison: Poison) -> None:
        self._phase = phase
        self._command = command
        self._leases = leases
        self._poison = poison
        self.attempts: list[Attempt] = []

    async def admit(self, message: Incoming) -> Attempt | None:
        """The attempt, if its claim was granted; else None, and the delivery is settled.

        Cancelled while control does not answer, it gives the delivery back.
        """
        try:
            attempt = Attempt(self._decoded(message.body), message.headers)
            granted = await self._claimed(attempt)
        except UndecodableMessage as error:
            await self._poison.settle(message, error)
            return None
        if granted:
            return attempt
        await message.ack()
        return None

    def _decoded(self, body: bytes) -> PhaseCommand:
        """What the delivery asks for. Raises UndecodableMessage if it is no command for this worker."""
        command: PhaseCommand = decode(body, self._command)
        if command.key.phase is not self._phase:
            raise UndecodableMessage(f"key.phase: got {command.key.phase}, expected {self._phase}")
        return command

    async def _claimed(self, attempt: Attempt) -> bool:
        """Whether control grants the attempt, and has not ended it by a signal meanwhile."""
        self.attempts.append(attempt)
        try:
            verdict = await self._leases.claim(Claim(key=attempt.key, claim_id=attempt.claim_id))
        finally:
            self.attempts.remove(attempt)
        if verdict is Verdict.GRANTED and attempt.ended_by is None:
            return True
        log.info("command_dropped", verdict=attempt.ended_by or verdict, key=str(attempt.key))
        return False
