"""Claims and heartbeats of one worker: all that wait travel in one request, one request at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog

from contracts.errors import UndecodableMessage
from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseReply, LeaseRequest, Verdict, WorkerState
from contracts.topology import CLAIMS_QUEUE
from contracts.wire import decode, encode
from infra.bus.port import Bus, Outgoing, PublishFailed, RequestTimedOut
from infra.tasks import end, say_if_broken

SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.2, 5.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 2.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Lease:
    """How the host keeps an attempt: `heartbeat` is asked for each beat, `answered` hears every verdict on one."""

    claim_id: UUID
    heartbeat: Callable[[], Heartbeat]
    answered: Callable[[Verdict], None]


class LeaseClient:
    """Asks control for as long as it takes: while control is away, the same claims wait in place."""

    def __init__(self, bus: Bus, worker: Callable[[], WorkerState], ttl: float) -> None:
        self._bus = bus
        self._worker = worker
        self._ttl = ttl
        self._claims: dict[UUID, tuple[Claim, asyncio.Future[Verdict]]] = {}
        self._leases: dict[UUID, Lease] = {}
        self._wake = asyncio.Event()
        self._beat_at = 0.0
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the first, empty request says that this worker is there."""
        self._task = asyncio.create_task(self._serve(), name="leases")
        say_if_broken(self._task)

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            await end(self._task)

    async def claim(self, claim: Claim) -> Verdict:
        """Control's verdict, however long control is away. A lost reply is asked for again, under the same claim id."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._claims[claim.claim_id] = (claim, verdict)
        self._wake.set()
        try:
            return await verdict
        except asyncio.CancelledError:
            if verdict.cancelled():
                raise
            return verdict.result()  # it came while this task was being cancelled; a grant must not be lost
        finally:
            self._claims.pop(claim.claim_id, None)

    def hold(self, lease: Lease) -> None:
        """Send heartbeats for this lease from now on."""
        self._leases[lease.claim_id] = lease

    def release(self, claim_id: UUID) -> None:
        """Send no more of them."""
        self._leases.pop(claim_id, None)

    @property
    def heard(self) -> bool:
        """Whether the last request was answered."""
        return not self._away

    @property
    def _every(self) -> float:
        return self._ttl / 3

    async def _serve(self) -> None:
        backoff = FIRST_BACKOFF
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._beat_at - time.monotonic())):
                    await self._wake.wait()
            if await self._exchange():
                backoff = FIRST_BACKOFF
            else:
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF, self._every)
                self._wake.set()

    async def _exchange(self) -> bool:
        """One request and its reply; False where an answer is missing, and what was asked waits on."""
        self._wake.clear()
        sent = time.monotonic()
        due = sent >= self._beat_at
        request = self._request(beats=due)
        timeout = max(SHORTEST_TIMEOUT, min(LONGEST_TIMEOUT, self._every))
        try:
            reply = decode(await self._bus.request(_outgoing(request, timeout), timeout=timeout), LeaseReply)
        except (RequestTimedOut, PublishFailed, UndecodableMessage) as error:
            self._note(away=True, error=str(error))
            return False
        self._note(away=False)
        if due:
            self._beat_at = sent + self._every
        for answer in reply.answers:
            self._hear(answer)
        return {claim.claim_id for claim in request.claims} <= {answer.claim_id for answer in reply.answers}

    def _request(self, *, beats: bool) -> LeaseRequest:
        return LeaseRequest(
            request_id=uuid4(),
            worker=self._worker(),
            claims=tuple(claim for claim, _ in self._claims.values()),
            heartbeats=tuple(lease.heartbeat() for lease in self._leases.values()) if beats else (),
        )

    def _hear(self, answer: LeaseAnswer) -> None:
        self._ttl = answer.ttl
        if answer.claim_id in self._claims:
            _, verdict = self._claims.pop(answer.claim_id)
            if not verdict.done():
                verdict.set_result(answer.verdict)
        elif answer.claim_id in self._leases:
            self._leases[answer.claim_id].answered(answer.verdict)

    def _note(self, *, away: bool, error: str = "") -> None:
        """Say it once when control goes, and once when it is back."""
        if away and not self._away:
            log.warning("control_does_not_answer", error=error)
        elif self._away and not away:
            log.info("control_answers_again")
        self._away = away


def _outgoing(request: LeaseRequest, timeout: float) -> Outgoing:
    return Outgoing(
        CLAIMS_QUEUE.exchange,
        CLAIMS_QUEUE.binding,
        encode(request),
        str(request.message_id),
        expires=timeout,
        persistent=False,
    )
