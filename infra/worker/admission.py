"""From a delivery to the answer to its claim: granted, it is for the host to run; else it is settled here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from contracts.commands import PhaseCommand
from contracts.errors import UndecodableMessage
from contracts.leases import Claim, Verdict
from contracts.tasks import Phase
from contracts.wire import decode
from infra.bus.port import Incoming
from infra.ending import end, say_if_broken
from infra.worker.attempt import Attempt
from infra.worker.claims import LeaseClient
from infra.worker.poison import Poison
from infra.worker.slots import Hold

GRACE = 2.0
"""Seconds for which a stopping host awaits the answers to claims that control has heard."""

log = structlog.get_logger(__name__)
Granted = Callable[[Attempt, Incoming, Hold], None]


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A delivery whose claim is out."""

    attempt: Attempt
    message: Incoming
    hold: Hold
    handled: asyncio.Future[None]

    def let_go(self) -> None:
        """End its handler, where that is still there."""
        if not self.handled.done():
            self.handled.set_result(None)


class Admission:
    """Claims what is delivered. `granted` is called in the delivery's own context, and must not fail."""

    def __init__(
        self, phase: Phase, command: type[PhaseCommand], leases: LeaseClient, poison: Poison, granted: Granted
    ) -> None:
        self._phase = phase
        self._command = command
        self._leases = leases
        self._poison = poison
        self._granted = granted
        self._claimed: dict[UUID, _Claimed] = {}
        self._none_claimed = asyncio.Event()
        self._settling: set[asyncio.Task[None]] = set()

    @property
    def attempts(self) -> list[Attempt]:
        """Those whose claims are out."""
        return [claimed.attempt for claimed in self._claimed.values()]

    async def take(self, message: Incoming, hold: Hold) -> None:
        """Handle a delivery until it is granted, or settled. A bus that loses it, and cancels this, loses no claim."""
        try:
            attempt = Attempt(self._decoded(message.body), message.headers)
        except UndecodableMessage as error:
            await asyncio.shield(self._settle(self._bury(message, hold, error)))
        else:
            await self._claim(attempt, message, hold)

    async def close(self) -> None:
        """Hear the answers that are on their way: a grant to a worker that is gone would wait for its ttl.

        The deliveries of claims that nobody has answered by then are given back.
        """
        if self._leases.heard:
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self._all_settled()
        claimed, self._claimed = self._claimed, {}
        for claim_id in claimed:
            self._leases.withdraw(claim_id)
        for unanswered in claimed.values():
            await unanswered.message.requeue()
            unanswered.let_go()
        await end(*self._settling)

    async def _all_settled(self) -> None:
        if self._claimed:
            self._none_claimed.clear()
            await self._none_claimed.wait()
        if self._settling:
            await asyncio.wait(self._settling)

    def _decoded(self, body: bytes) -> PhaseCommand:
        """What the delivery asks for. Raises UndecodableMessage where nobody here can understand it."""
        command: PhaseCommand = decode(body, self._command)
        if command.key.phase is not self._phase:
            raise UndecodableMessage(f"key.phase: got {command.key.phase}, expected {self._phase}")
        return command

    async def _claim(self, attempt: Attempt, message: Incoming, hold: Hold) -> None:
        """Ask for the attempt. What is waited for is only that somebody has taken care of the delivery."""
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        claimed = self._claimed[attempt.claim_id] = _Claimed(attempt, message, hold, handled)
        claim = Claim(key=attempt.key, claim_id=attempt.claim_id)
        context = copy_context()
        self._leases.ask(claim, lambda verdict: context.run(self._answer, claimed, verdict))
        await handled

    def _answer(self, claimed: _Claimed, verdict: Verdict) -> None:
        """Control has answered: granted, the attempt is run, else its delivery is dropped."""
        attempt = claimed.attempt
        del self._claimed[attempt.claim_id]
        if verdict is Verdict.GRANTED and attempt.ended_by is None:
            self._granted(attempt, claimed.message, claimed.hold)
        else:
            log.info("command_dropped", verdict=attempt.ended_by or verdict, key=str(attempt.key))
            self._settle(_drop(claimed.message, claimed.hold))
        claimed.let_go()
        if not self._claimed:
            self._none_claimed.set()

    async def _bury(self, message: Incoming, hold: Hold, error: UndecodableMessage) -> None:
        """Settle poison. Broken off, it gives the delivery back."""
        try:
            await self._poison.settle(message, error)
        except asyncio.CancelledError:
            await message.requeue()
            raise
        finally:
            hold.drop()

    def _settle(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="settling a delivery")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        say_if_broken(task)
        return task


async def _drop(message: Incoming, hold: Hold) -> None:
    await message.ack()
    hold.drop()
